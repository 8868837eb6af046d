package simulator

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The states of a connection, and gone for one that is deleted.
const (
	Creating          = "creating"
	PendingAcceptance = "pendingAcceptance"
	Accepted          = "accepted"
	Rejected          = "rejected"
	Failed            = "failed"
	Deleting          = "deleting"
	gone              = ""
)

// oddState is a state that no reference knows, for the fault UnknownState.
const undocumentedState = "switchingPool"

// firstMarker is the marker id of the first endpoint: as large as the one in the
// reference's own example, beyond what 32 bits or a float64 can hold.
const firstMarker = 422321321312321321

// Service is an endpoint service that others connect to.
type Service struct {
	ID, Name            string
	ProjectID, DomainID string // of the owner
	ApprovalEnabled     bool
}

// Gateway is a dedicated API gateway. Its connections are those of the service
// ServiceID; if that is empty the gateway has a service of its own, which VPCEP
// does not show and only APIG decides.
type Gateway struct {
	ID, ProjectID, ServiceID, DomainID string
}

// Project is a project of the caller's account, in the region of its name.
type Project struct {
	ID, Name string
}

// Connection is an endpoint as it really is, whatever lists show.
type Connection struct {
	ID          string // made if empty
	DomainID    string // account of the endpoint's owner; made if empty
	State       string // for Connect empty: it walks from creating; else it is in this state at once
	ServiceID   string
	MarkerID    int64
	CreatedAt   time.Time // for Connect zero: now; later than now: it does not exist until then
	UpdatedAt   time.Time
	Description string
	ProjectID   string // where the endpoint is, if that is known
	VpcID       string
	SubnetID    string
	AcceptEnds  string // the state that receive leads to; empty: accepted
}

// cloud is all that exists.
type cloud struct {
	services  map[string]*service // by id
	order     []*service          // those that VPCEP shows, as they were added
	gateways  map[string]*gatewayOf
	projects  []Project
	endpoints map[string]*endpoint // by id
	local     []*endpoint          // those in a known project, as they were made
	functions map[string]*endpoint // FunctionGraph's, by project, vpc and subnet
	hosts     []hostEndpoint
	insight   []insightEndpoint
}

type gatewayOf struct {
	Gateway
	service *service
}

type service struct {
	Service
	createdAt time.Time
	endpoints []*endpoint // as they were made
}

// fullName is the name that consumers use.
func (v *service) fullName(region string) string {
	if v.Name == "" {
		return region + "." + v.ID
	}
	return region + "." + v.Name + "." + v.ID
}

// endpoint is an endpoint, which its service shows as a connection.
type endpoint struct {
	Connection
	service     *service // nil: someone else's, which nobody sees here
	serviceName string
	ip          string
	shownAt     time.Time  // lists do not show it before
	timeline    []step     // in order of time, the future among them
	decidedBy   string     // effective deed that decided it last
	becomes     []Identity // in the order in which they were told
}

// Identity is what tells an endpoint from another of the same id. Members that are
// zero stay as they are.
type Identity struct {
	At        time.Time // zero: now
	DomainID  string
	MarkerID  int64
	CreatedAt time.Time
}

// as is e with the identity that it has at t.
func (e *endpoint) identityAt(t time.Time) Connection {
	c := e.Connection
	for _, i := range e.becomes {
		if i.At.After(t) {
			continue
		}
		c.DomainID, c.MarkerID = cmp.Or(i.DomainID, c.DomainID), cmp.Or(i.MarkerID, c.MarkerID)
		if !i.CreatedAt.IsZero() {
			c.CreatedAt = i.CreatedAt
		}
	}
	return c
}

// Reidentify gives the connection with this id another identity, as if it had been
// deleted and another one created under its id. It reports whether there is one.
func (s *Simulator) Reidentify(id string, to Identity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.cloud.endpoints[id]
	if e == nil {
		return false
	}
	if to.At.IsZero() {
		to.At = s.now()
	}
	e.becomes = append(e.becomes, to)
	return true
}

// SetApproval switches the approval of a service on or off, for what connects from
// now on, and reports whether there is one.
func (s *Simulator) SetApproval(serviceID string, enabled bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.cloud.services[serviceID]
	if v == nil {
		return false
	}
	v.ApprovalEnabled = enabled
	return true
}

// step is the beginning of a state.
type step struct {
	at    time.Time
	state string
}

func newCloud() cloud {
	return cloud{
		services:  map[string]*service{},
		gateways:  map[string]*gatewayOf{},
		endpoints: map[string]*endpoint{},
		functions: map[string]*endpoint{},
	}
}

// at returns the state at t and since when; gone if there is none.
func (e *endpoint) stateAt(t time.Time) step {
	for _, s := range slices.Backward(e.timeline) {
		if !s.at.After(t) {
			return s
		}
	}
	return step{}
}

// shown returns the state that a list shows which is as old as t.
func (e *endpoint) shown(t time.Time) step {
	if t.Before(e.shownAt) {
		return step{}
	}
	return e.stateAt(t)
}

// goOn replaces what would come after now by steps.
func (e *endpoint) replaceFuture(now time.Time, steps ...step) {
	e.timeline = slices.DeleteFunc(e.timeline, func(s step) bool { return s.at.After(now) })
	e.timeline = append(e.timeline, steps...)
}

// newHex returns a new id of 32 hexadecimal digits.
func (s *Simulator) newHex() string {
	return fmt.Sprintf("%016x%016x", s.ids.Uint64(), s.ids.Uint64())
}

// newUUID returns a new id in the form of a UUID.
func (s *Simulator) newUUID() string {
	raw, _ := hex.DecodeString(s.newHex()) // newHex is hexadecimal
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
}

// AddService adds v; one with the same id is replaced, with all its connections.
func (s *Simulator) AddService(v Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cloud.order = slices.DeleteFunc(s.cloud.order, func(old *service) bool { return old.ID == v.ID })
	added := &service{Service: v, createdAt: s.now()}
	s.cloud.services[v.ID] = added
	s.cloud.order = append(s.cloud.order, added)
}

// AddGateway adds g. A service that it names and that is not there yet is added,
// with approval switched on.
func (s *Simulator) AddGateway(g Gateway) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := &gatewayOf{Gateway: g}
	switch {
	case g.ServiceID == "":
		of.service = &service{Service: Service{ID: s.newUUID(), Name: "apig", ProjectID: g.ProjectID, DomainID: g.DomainID, ApprovalEnabled: true}, createdAt: s.now()}
	case s.cloud.services[g.ServiceID] != nil:
		of.service = s.cloud.services[g.ServiceID]
	default:
		of.service = &service{Service: Service{ID: g.ServiceID, Name: "apig", ProjectID: g.ProjectID, DomainID: g.DomainID, ApprovalEnabled: true}, createdAt: s.now()}
		s.cloud.services[g.ServiceID] = of.service
		s.cloud.order = append(s.cloud.order, of.service)
	}
	s.cloud.gateways[g.ID] = of
}

// AddProject adds p. As long as there is none, any project id is good.
func (s *Simulator) AddProject(p Project) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cloud.projects = append(s.cloud.projects, p)
}

// Connect makes an endpoint on the service or gateway with this id, as a
// consumer in another account would. The zero Connection comes back for an id
// that is neither.
func (s *Simulator) Connect(serviceOrGatewayID string, c Connection) Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := s.cloud.services[serviceOrGatewayID]
	if g := s.cloud.gateways[serviceOrGatewayID]; g != nil {
		to = g.service
	}
	if to == nil {
		return Connection{}
	}
	return s.connect(to, c).snapshot(s.now())
}

// connect makes an endpoint on to, or on a service of someone else if to is nil.
// An endpoint that has the same id already is returned as it is.
func (s *Simulator) connect(to *service, c Connection) *endpoint {
	if c.ID == "" {
		c.ID = s.newUUID()
	}
	if old := s.cloud.endpoints[c.ID]; old != nil {
		return old
	}
	if c.DomainID == "" {
		c.DomainID = s.newHex()
	}
	if c.CreatedAt.IsZero() {
		c.CreatedAt = s.now()
	}
	s.created++
	first := int64(firstMarker)
	if s.cfg.SmallMarkers {
		first = 1
	}
	c.MarkerID = cmp.Or(c.MarkerID, first+s.created-1)
	begin, delays := c.CreatedAt, s.cfg.Delays
	e := &endpoint{Connection: c, service: to, shownAt: begin.Add(delays.Visible)}
	e.ip = fmt.Sprintf("192.168.%d.%d", s.created/250%250, s.created%250+2)
	next := Accepted
	if to != nil {
		e.ServiceID, e.serviceName = to.ID, to.fullName(s.cfg.Region)
		to.endpoints = append(to.endpoints, e)
		if to.ApprovalEnabled {
			next = PendingAcceptance
		}
	}
	if c.State == "" {
		e.timeline = []step{{begin, Creating}, {begin.Add(delays.Create), next}}
	} else {
		e.timeline = []step{{begin, c.State}}
	}
	s.cloud.endpoints[c.ID] = e
	if c.ProjectID != "" {
		s.cloud.local = append(s.cloud.local, e)
	}
	return e
}

// snapshot is e as it really is at t.
func (e *endpoint) snapshot(t time.Time) Connection {
	c, now := e.identityAt(t), e.stateAt(t)
	c.State, c.UpdatedAt = now.state, now.at
	return c
}

// Connection returns the connection with this id as it really is, which lists
// may not show yet. It is not ok for one that never was or is gone.
func (s *Simulator) Connection(id string) (Connection, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.cloud.endpoints[id]
	if e == nil || e.stateAt(s.now()).state == gone {
		return Connection{}, false
	}
	return e.snapshot(s.now()), true
}

// Connections returns all connections of the service or gateway with this id
// as they really are, in the order they were made; all there are if id is empty.
func (s *Simulator) Connections(serviceOrGatewayID string) []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := serviceOrGatewayID
	if g := s.cloud.gateways[id]; g != nil {
		id = g.service.ID
	}
	var out []Connection
	for _, e := range s.cloud.endpoints {
		if (id == "" || e.ServiceID == id) && e.stateAt(s.now()).state != gone {
			out = append(out, e.snapshot(s.now()))
		}
	}
	slices.SortFunc(out, func(a, b Connection) int { return cmp.Compare(a.MarkerID, b.MarkerID) })
	return out
}

// SetState puts the connection with this id into state from now on, and reports
// whether there is one. It counts as nobody's deed.
func (s *Simulator) SetState(id, state string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.cloud.endpoints[id]
	if e == nil {
		return false
	}
	e.replaceFuture(s.now(), step{s.now(), state})
	return true
}

// Delete deletes the endpoint with this id, as its owner would, and reports
// whether there is one: it is deleting for Delays.Delete and then gone.
func (s *Simulator) Delete(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.cloud.endpoints[id]
	if e == nil || e.stateAt(s.now()).state == gone {
		return false
	}
	s.remove(e)
	return true
}

func (s *Simulator) remove(e *endpoint) {
	now := s.now()
	e.replaceFuture(now, step{now, Deleting}, step{now.Add(s.cfg.Delays.Delete), gone})
}

// owned returns the service id in the project, nil if there is none that VPCEP shows.
func (s *Simulator) ownedService(project, id string) *service {
	if v := s.cloud.services[id]; v != nil && v.ProjectID == project {
		return v
	}
	return nil
}

// named returns the service with this id, or this full name, whose last part is
// the id; nil if there is none.
func (s *Simulator) serviceByName(id, name string) *service {
	if id == "" {
		id = name[strings.LastIndex(name, ".")+1:]
	}
	v := s.cloud.services[id]
	if v == nil || name != "" && name != v.fullName(s.cfg.Region) {
		return nil
	}
	return v
}
