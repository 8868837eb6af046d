package simulator

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The states of a connection.
const (
	Creating          = "creating"
	PendingAcceptance = "pendingAcceptance"
	Accepted          = "accepted"
	Rejected          = "rejected"
	Failed            = "failed"
	Deleting          = "deleting"
	gone              = ""
)

// undocumentedState is the state that the fault UnknownState shows.
const undocumentedState = "switchingPool"

// firstMarker is the marker id of the first endpoint. Like the example of the reference,
// it is too large for 32 bits or a float64.
const firstMarker = 422321321312321321

// Service is an endpoint service.
type Service struct {
	ID, Name            string
	ProjectID, DomainID string // of the owner
	ApprovalEnabled     bool
}

// Gateway is a dedicated API gateway. Its connections are those of the service
// ServiceID. If that is empty, the gateway has an internal service, whose connections
// only APIG shows and decides.
type Gateway struct {
	ID, ProjectID, ServiceID, DomainID string
}

// Project is a project of the caller's account. Its name is that of its region.
type Project struct {
	ID, Name string
}

// Connection is the true state of an endpoint, which lists may not show.
type Connection struct {
	ID          string // generated if empty
	DomainID    string // account of the endpoint's owner; generated if empty
	State       string // for Connect: the initial state; empty: creating, followed by the next ones
	ServiceID   string
	MarkerID    int64
	CreatedAt   time.Time // for Connect: may be in the future; zero: now
	UpdatedAt   time.Time
	Description string
	ProjectID   string // project of the endpoint; may be empty
	VpcID       string
	SubnetID    string
	AcceptEnds  string // final state after receive; empty: accepted
}

// cloud holds all resources.
type cloud struct {
	services  map[string]*service // by id
	order     []*service          // those that VPCEP shows, in order of addition
	gateways  map[string]*gatewayOf
	projects  []Project
	endpoints map[string]*endpoint // by id
	local     []*endpoint          // those in a known project, in order of creation
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
	endpoints []*endpoint // in order of creation
}

// fullName returns the name that consumers use.
func (v *service) fullName(region string) string {
	if v.Name == "" {
		return region + "." + v.ID
	}
	return region + "." + v.Name + "." + v.ID
}

// endpoint is an endpoint, which is a connection of its service.
type endpoint struct {
	Connection
	service     *service // nil: a service outside this cloud
	serviceName string
	ip          string
	shownAt     time.Time  // when lists begin to show it
	timeline    []step     // states in order of time, including future ones
	decidedBy   string     // kind of the last decision that changed it
	becomes     []Identity // in order of addition
}

// Identity distinguishes endpoints of the same id. Zero fields stay unchanged.
type Identity struct {
	At        time.Time // zero: now
	DomainID  string
	MarkerID  int64
	CreatedAt time.Time
}

// identityAt returns e with its identity at t.
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

// Reidentify changes the identity of a connection, as if it had been deleted and another
// one created with the same id. It reports whether the connection exists.
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

// SetApproval sets whether new connections of a service need a decision. It reports
// whether the service exists.
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

// step is the start of a state.
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

// stateAt returns the state at t and its start; gone if there is none.
func (e *endpoint) stateAt(t time.Time) step {
	for _, s := range slices.Backward(e.timeline) {
		if !s.at.After(t) {
			return s
		}
	}
	return step{}
}

// shown returns the state in a list that shows the time t.
func (e *endpoint) shown(t time.Time) step {
	if t.Before(e.shownAt) {
		return step{}
	}
	return e.stateAt(t)
}

// replaceFuture replaces the states after now by steps.
func (e *endpoint) replaceFuture(now time.Time, steps ...step) {
	e.timeline = slices.DeleteFunc(e.timeline, func(s step) bool { return s.at.After(now) })
	e.timeline = append(e.timeline, steps...)
}

// newHex returns a new id of 32 hexadecimal digits.
func (s *Simulator) newHex() string {
	return fmt.Sprintf("%016x%016x", s.ids.Uint64(), s.ids.Uint64())
}

// newUUID returns a new UUID.
func (s *Simulator) newUUID() string {
	raw, _ := hex.DecodeString(s.newHex()) // newHex returns hexadecimal digits
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
}

// AddService adds v. It replaces a service with the same id and all its connections.
func (s *Simulator) AddService(v Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cloud.order = slices.DeleteFunc(s.cloud.order, func(old *service) bool { return old.ID == v.ID })
	added := &service{Service: v, createdAt: s.now()}
	s.cloud.services[v.ID] = added
	s.cloud.order = append(s.cloud.order, added)
}

// AddGateway adds g, and its service if that does not exist, with approval enabled.
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

// AddProject adds p. Without projects, any project id is valid.
func (s *Simulator) AddProject(p Project) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cloud.projects = append(s.cloud.projects, p)
}

// Connect creates an endpoint for a service or gateway, as a consumer in another account
// would. It returns the zero Connection if there is no such service or gateway.
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

// connect creates an endpoint for to; nil is a service outside this cloud. If an endpoint
// with the same id exists, connect returns it.
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

// snapshot returns the true state of e at t.
func (e *endpoint) snapshot(t time.Time) Connection {
	c, now := e.identityAt(t), e.stateAt(t)
	c.State, c.UpdatedAt = now.state, now.at
	return c
}

// Connection returns the true state of a connection, which lists may not show yet. The
// result is false if the connection does not exist.
func (s *Simulator) Connection(id string) (Connection, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.cloud.endpoints[id]
	if e == nil || e.stateAt(s.now()).state == gone {
		return Connection{}, false
	}
	return e.snapshot(s.now()), true
}

// Connections returns the true state of all connections of a service or gateway, in order
// of creation; of all services if the id is empty.
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

// SetState sets the state of a connection. It reports whether the connection exists. The
// change is not counted as an effect.
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

// Delete deletes an endpoint, as its owner would: its state is deleting for
// Delays.Delete. It reports whether the endpoint exists.
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

// ownedService returns the service with this id in the project, or nil.
func (s *Simulator) ownedService(project, id string) *service {
	if v := s.cloud.services[id]; v != nil && v.ProjectID == project {
		return v
	}
	return nil
}

// serviceByName returns the service with this id or full name, or nil. The last part of
// the full name is the id.
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
