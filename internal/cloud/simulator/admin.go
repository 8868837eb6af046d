package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// adminPrefix is the path prefix of the admin API. No cloud API uses it.
const adminPrefix = "/_sim/"

func isAdmin(path string) bool { return strings.HasPrefix(path, adminPrefix) }

// adminFault is a fault in the admin API: either a string as for ParseFault, or its
// fields, with durations such as "1.5s".
type adminFault struct {
	Fault       string  `json:"fault,omitempty"`
	API         string  `json:"api,omitempty"`
	Operation   string  `json:"operation,omitempty"`
	Kind        string  `json:"kind,omitempty"`
	Count       int     `json:"count,omitempty"`
	Probability float64 `json:"probability,omitempty"`
	After       string  `json:"after,omitempty"`
	For         string  `json:"for,omitempty"`
	Status      int     `json:"status,omitempty"`
	Code        string  `json:"code,omitempty"`
	RetryAfter  string  `json:"retry_after,omitempty"`
	Delay       string  `json:"delay,omitempty"`
	Rows        int     `json:"rows,omitempty"`
	Field       string  `json:"field,omitempty"`
	Done        bool    `json:"done,omitempty"`
}

// read returns a as a Fault.
func (a adminFault) read() (Fault, error) {
	if a.Fault != "" {
		if a != (adminFault{Fault: a.Fault}) {
			return Fault{}, fmt.Errorf("fault cannot be combined with other members")
		}
		return ParseFault(a.Fault)
	}
	f := Fault{
		API: a.API, Operation: a.Operation, Kind: FaultKind(a.Kind), Count: a.Count,
		Probability: a.Probability, Status: a.Status, Code: a.Code, Rows: a.Rows, Field: a.Field, Done: a.Done,
	}
	for _, t := range []struct {
		name, text string
		to         *time.Duration
	}{{"after", a.After, &f.After}, {"for", a.For, &f.For}, {"retry_after", a.RetryAfter, &f.RetryAfter}, {"delay", a.Delay, &f.Delay}} {
		if t.text == "" {
			continue
		}
		d, err := time.ParseDuration(t.text)
		if err != nil {
			return Fault{}, fmt.Errorf("%s: invalid duration %q, want one such as 1.5s", t.name, t.text)
		}
		*t.to = d
	}
	return f, f.Check()
}

func adminFaultOf(f Fault) adminFault {
	text := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return adminFault{
		API: f.API, Operation: f.Operation, Kind: string(f.Kind), Count: f.Count, Probability: f.Probability,
		After: text(f.After), For: text(f.For), Status: f.Status, Code: f.Code,
		RetryAfter: text(f.RetryAfter), Delay: text(f.Delay), Rows: f.Rows, Field: f.Field, Done: f.Done,
	}
}

// adminConnection is a connection in the admin API. Target, the id of a service or
// gateway, is only used in requests.
type adminConnection struct {
	Target      string    `json:"target,omitempty"`
	ID          string    `json:"id,omitempty"`
	DomainID    string    `json:"domain_id,omitempty"`
	State       string    `json:"state,omitempty"`
	ServiceID   string    `json:"service_id,omitempty"`
	MarkerID    int64     `json:"marker_id,omitempty"`
	CreatedAt   time.Time `json:"created_at,omitzero"`
	UpdatedAt   time.Time `json:"updated_at,omitzero"`
	Description string    `json:"description,omitempty"`
	ProjectID   string    `json:"project_id,omitempty"`
	VpcID       string    `json:"vpc_id,omitempty"`
	SubnetID    string    `json:"subnet_id,omitempty"`
	AcceptEnds  string    `json:"accept_ends,omitempty"`
}

func adminConnectionOf(c Connection) adminConnection {
	return adminConnection{
		ID: c.ID, DomainID: c.DomainID, State: c.State, ServiceID: c.ServiceID, MarkerID: c.MarkerID,
		CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, Description: c.Description,
		ProjectID: c.ProjectID, VpcID: c.VpcID, SubnetID: c.SubnetID, AcceptEnds: c.AcceptEnds,
	}
}

type adminService struct {
	ID              string `json:"id"`
	Name            string `json:"name,omitempty"`
	ProjectID       string `json:"project_id"`
	DomainID        string `json:"domain_id,omitempty"`
	ApprovalEnabled bool   `json:"approval_enabled"`
}

type adminGateway struct {
	ID        string `json:"id"`
	ProjectID string `json:"project_id"`
	ServiceID string `json:"service_id,omitempty"`
	DomainID  string `json:"domain_id,omitempty"`
}

type adminEffect struct {
	Kind       string    `json:"kind"`
	Key        string    `json:"key"`
	EndpointID string    `json:"endpoint_id,omitempty"`
	API        string    `json:"api"`
	Operation  string    `json:"operation"`
	At         time.Time `json:"at"`
}

type adminCall struct {
	API       string    `json:"api"`
	Operation string    `json:"operation"`
	At        time.Time `json:"at"`
	Status    int       `json:"status"`
	Fault     string    `json:"fault,omitempty"`
}

type adminCounters struct {
	Calls       map[string]int `json:"calls"`
	Statuses    map[string]int `json:"statuses"`
	Faults      map[string]int `json:"faults"`
	MaxInFlight map[string]int `json:"max_in_flight"`
	Effects     []adminEffect  `json:"effects"`
	Reversals   int            `json:"contrary"`
	Repeats     int            `json:"repeats"`
	Refused     int            `json:"refused"`
	Locks       int            `json:"locks"`
	Journal     []adminCall    `json:"journal,omitempty"`
}

type adminState struct {
	Now         time.Time         `json:"now"`
	Services    []adminService    `json:"services"`
	Gateways    []adminGateway    `json:"gateways"`
	Connections []adminConnection `json:"connections"`
	Tokens      int               `json:"tokens"`
}

type adminError struct {
	Error string `json:"error"`
}

// serveAdmin serves the calls below /_sim/, which docs/simulator.md describes.
func (s *Simulator) serveAdmin(w http.ResponseWriter, r *http.Request) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_sim/state", func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, s.adminState()) })
	mux.HandleFunc("GET /_sim/counters", func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, s.adminCounters()) })
	mux.HandleFunc("DELETE /_sim/counters", func(w http.ResponseWriter, _ *http.Request) {
		s.ResetCounters()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /_sim/faults", func(w http.ResponseWriter, _ *http.Request) {
		out := []adminFault{}
		for _, f := range s.Faults() {
			out = append(out, adminFaultOf(f))
		}
		writeAdmin(w, http.StatusOK, out)
	})
	mux.HandleFunc("POST /_sim/faults", s.adminInject)
	mux.HandleFunc("DELETE /_sim/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /_sim/services", s.adminAddService)
	mux.HandleFunc("PUT /_sim/services/{id}", s.adminSetApproval)
	mux.HandleFunc("POST /_sim/gateways", s.adminAddGateway)
	mux.HandleFunc("POST /_sim/connections", s.adminConnect)
	mux.HandleFunc("GET /_sim/connections/{id}", func(w http.ResponseWriter, r *http.Request) { s.adminShow(w, r.PathValue("id")) })
	mux.HandleFunc("PUT /_sim/connections/{id}", s.adminChange)
	mux.HandleFunc("DELETE /_sim/connections/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !s.Delete(r.PathValue("id")) {
			writeAdmin(w, http.StatusNotFound, adminError{"connection not found"})
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.ServeHTTP(w, r)
}

// writeAdmin writes the response to an admin call.
func writeAdmin(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have disconnected
}

// readAdmin decodes the body of an admin call strictly into to. On failure it writes
// the error and returns false.
func readAdmin(w http.ResponseWriter, r *http.Request, to any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		writeAdmin(w, http.StatusBadRequest, adminError{"invalid body: " + err.Error()})
		return false
	}
	return true
}

func (s *Simulator) adminInject(w http.ResponseWriter, r *http.Request) {
	var body adminFault
	if !readAdmin(w, r, &body) {
		return
	}
	f, err := body.read()
	if err != nil {
		writeAdmin(w, http.StatusBadRequest, adminError{err.Error()})
		return
	}
	s.Inject(f)
	writeAdmin(w, http.StatusCreated, adminFaultOf(f))
}

func (s *Simulator) adminAddService(w http.ResponseWriter, r *http.Request) {
	body := adminService{ApprovalEnabled: true}
	if !readAdmin(w, r, &body) {
		return
	}
	if body.ID == "" || body.ProjectID == "" {
		writeAdmin(w, http.StatusBadRequest, adminError{"id and project_id are required"})
		return
	}
	s.AddService(Service(body))
	writeAdmin(w, http.StatusCreated, body)
}

func (s *Simulator) adminSetApproval(w http.ResponseWriter, r *http.Request) {
	var body struct {
		ApprovalEnabled *bool `json:"approval_enabled"`
	}
	if !readAdmin(w, r, &body) {
		return
	}
	switch {
	case body.ApprovalEnabled == nil:
		writeAdmin(w, http.StatusBadRequest, adminError{"approval_enabled is required"})
	case !s.SetApproval(r.PathValue("id"), *body.ApprovalEnabled):
		writeAdmin(w, http.StatusNotFound, adminError{"service not found"})
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Simulator) adminAddGateway(w http.ResponseWriter, r *http.Request) {
	var body adminGateway
	if !readAdmin(w, r, &body) {
		return
	}
	if body.ID == "" || body.ProjectID == "" {
		writeAdmin(w, http.StatusBadRequest, adminError{"id and project_id are required"})
		return
	}
	s.AddGateway(Gateway(body))
	writeAdmin(w, http.StatusCreated, body)
}

func (s *Simulator) adminConnect(w http.ResponseWriter, r *http.Request) {
	var body adminConnection
	if !readAdmin(w, r, &body) {
		return
	}
	c := s.Connect(body.Target, Connection{
		ID: body.ID, DomainID: body.DomainID, State: body.State, MarkerID: body.MarkerID, CreatedAt: body.CreatedAt,
		Description: body.Description, ProjectID: body.ProjectID, VpcID: body.VpcID, SubnetID: body.SubnetID, AcceptEnds: body.AcceptEnds,
	})
	if c.ID == "" {
		writeAdmin(w, http.StatusNotFound, adminError{fmt.Sprintf("service or gateway %q not found; GET /_sim/state lists them", body.Target)})
		return
	}
	writeAdmin(w, http.StatusCreated, adminConnectionOf(c))
}

func (s *Simulator) adminShow(w http.ResponseWriter, id string) {
	c, found := s.Connection(id)
	if !found {
		writeAdmin(w, http.StatusNotFound, adminError{"connection not found"})
		return
	}
	writeAdmin(w, http.StatusOK, adminConnectionOf(c))
}

// adminChange sets the state or the identity of a connection.
func (s *Simulator) adminChange(w http.ResponseWriter, r *http.Request) {
	var body struct {
		State     string    `json:"state"`
		DomainID  string    `json:"domain_id"`
		MarkerID  int64     `json:"marker_id"`
		CreatedAt time.Time `json:"created_at"`
	}
	if !readAdmin(w, r, &body) {
		return
	}
	id, to := r.PathValue("id"), Identity{DomainID: body.DomainID, MarkerID: body.MarkerID, CreatedAt: body.CreatedAt}
	changed := true
	switch {
	case body.State == "" && to == (Identity{}):
		writeAdmin(w, http.StatusBadRequest, adminError{"state, domain_id, marker_id or created_at is required; use DELETE to delete a connection"})
		return
	case to != (Identity{}):
		changed = s.Reidentify(id, to)
	}
	if changed && body.State != "" {
		changed = s.SetState(id, body.State)
	}
	if !changed {
		writeAdmin(w, http.StatusNotFound, adminError{"connection not found"})
		return
	}
	s.adminShow(w, id)
}

func (s *Simulator) adminState() adminState {
	out := adminState{Services: []adminService{}, Gateways: []adminGateway{}, Connections: []adminConnection{}}
	for _, c := range s.Connections("") {
		out.Connections = append(out.Connections, adminConnectionOf(c))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Now = s.now()
	for _, v := range s.cloud.order {
		out.Services = append(out.Services, adminService(v.Service))
	}
	for _, g := range s.cloud.gateways {
		out.Gateways = append(out.Gateways, adminGateway(g.Gateway))
	}
	slices.SortFunc(out.Gateways, func(a, b adminGateway) int { return strings.Compare(a.ID, b.ID) })
	out.Tokens = s.keyring.tokenCount(out.Now)
	return out
}

func (s *Simulator) adminCounters() adminCounters {
	c := s.Counters()
	out := adminCounters{
		Calls: c.Calls, Statuses: c.Statuses, Faults: c.Faults, MaxInFlight: c.MaxInFlight, Effects: []adminEffect{},
		Reversals: c.Reversals, Repeats: c.Repeats, Refused: c.Refused, Locks: c.Locks,
	}
	for _, e := range c.Effects {
		out.Effects = append(out.Effects, adminEffect(e))
	}
	for _, x := range c.Journal {
		out.Journal = append(out.Journal, adminCall(x))
	}
	return out
}
