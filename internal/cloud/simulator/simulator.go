// Package simulator simulates Huawei Cloud: VPCEP, APIG, FunctionGraph, HSS, DataArts
// Insight and IAM behind one http.Handler. It is written from the API reference alone
// and shares no code with the client, so that tests of one against the other find
// mistakes in both. It checks signatures and tokens, validates parameters, moves
// connections through their states on a given clock, counts calls, and fails on demand.
package simulator

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The names of the APIs in faults and counters.
const (
	VPCEP           = "vpcep"
	APIG            = "apig"
	FunctionGraph   = "functiongraph"
	HSS             = "hss"
	DataArtsInsight = "dataartsinsight"
	IAM             = "iam"
)

// maxBody is the maximum body size of a signed request, in bytes.
const maxBody = 12 << 20

// Config configures a Simulator. The zero value has no delays and no faults, and accepts
// the credentials of DefaultAuth.
type Config struct {
	Seed    uint64 // random seed for ids and faults
	Delays  Delays
	Auth    Auth   // zero: DefaultAuth
	Region  string // empty: cn-north-4
	Faults  []Fault
	Now     func() time.Time // nil: time.Now
	Latency time.Duration    // delay added to every response
	Admin   bool             // serve the admin API below /_sim/

	DomainID         string // the caller's account; empty: generated
	DataArtsDomainID string // the account of DataArts Insight; empty: generated
	DataSources      bool   // each DataArts Insight endpoint has a data source, and so is listed
	SmallMarkers     bool   // marker ids start at 1; default: larger than 32 bits
	RepeatOK         bool   // VPCEP responds with 200, not EndPoint.2014, to receive on an accepted connection
	NestedErrors     bool   // VPCEP errors have the newer form {"error": {"code", "message"}}
	Journal          int    // number of calls in Counters.Journal
}

// Delays are the durations of state changes.
type Delays struct {
	Visible time.Duration // from the creation of an endpoint until lists show it
	Create  time.Duration // from creating to pendingAcceptance, or to accepted if no approval is needed
	Accept  time.Duration // from receive to accepted
	Delete  time.Duration // from deleting until the endpoint is gone
	ListLag time.Duration // age of the state that lists show
}

// Simulator is a simulated cloud. It is safe for concurrent use.
type Simulator struct {
	cfg    Config
	now    func() time.Time
	routes []route

	mu       sync.Mutex // guards the fields below
	ids      *rand.Rand
	created  int64 // number of endpoints
	cloud    cloud
	keyring  keyring
	faults   []*activeFault
	tally    tally
	inFlight map[string]int
}

// New returns an empty cloud.
func New(cfg Config) *Simulator {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Region == "" {
		cfg.Region = "cn-north-4"
	}
	if cfg.Auth == (Auth{}) {
		cfg.Auth = DefaultAuth()
	}
	s := &Simulator{
		cfg:      cfg,
		now:      cfg.Now,
		routes:   routes(),
		ids:      rand.New(rand.NewPCG(cfg.Seed, 0x5eed)), //nolint:gosec // G404: a simulation must be repeatable
		cloud:    newCloud(),
		keyring:  newKeyring(cfg.Auth),
		tally:    newTally(cfg.Journal),
		inFlight: map[string]int{},
	}
	if s.cfg.DomainID == "" {
		s.cfg.DomainID = s.newHex()
	}
	if s.cfg.DataArtsDomainID == "" {
		s.cfg.DataArtsDomainID = s.newHex()
	}
	for _, f := range cfg.Faults {
		s.Inject(f)
	}
	return s
}

// call is one request.
type call struct {
	route
	request      *http.Request
	path         map[string]string // the variable segments of the path
	body         []byte
	now          time.Time
	listAt       time.Time // lists show the state of this time
	unknownState bool      // lists show an undocumented state
	listFaults   []*Fault  // faults that change lists
	id           string    // the request id
	entry        *Call     // in the journal; may be nil
}

// answer is the response to a call.
type answer struct {
	status int
	header map[string]string
	body   any    // JSON; nil: none
	raw    []byte // instead of body
}

// ok returns a successful response.
func ok(body any) answer { return answer{status: http.StatusOK, body: body} }

// ServeHTTP serves the APIs and the admin API. If a fault closes a connection that cannot
// be hijacked, it panics with http.ErrAbortHandler. Callers without a server must recover
// from that.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Admin && isAdmin(r.URL.Path) {
		s.serveAdmin(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	c := &call{request: r, body: body}
	var found bool
	c.route, c.path, found = s.match(r)

	s.mu.Lock()
	c.now, c.id = s.now(), s.newHex()
	p := s.plan(c.route, c.now)
	s.began(c, p)
	s.mu.Unlock()
	defer s.ended(c.route)

	wait(r.Context(), s.cfg.Latency)
	switch {
	case err != nil:
		s.write(w, c, gateway(http.StatusRequestEntityTooLarge, "APIGW.0201", "The request body is too large", c.id))
		return
	case !found:
		s.write(w, c, gateway(http.StatusNotFound, "APIGW.0101", "The API does not exist or has not been published in the environment", c.id))
		return
	}
	s.respond(r.Context(), w, c, p)
}

// do checks the credentials of c and carries it out.
func (s *Simulator) do(c *call, p plan) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now = s.now() // it may have waited
	c.listAt = c.now.Add(-s.cfg.Delays.ListLag - p.stale)
	c.unknownState, c.listFaults = p.unknownState, p.listFaults
	if !c.open && !s.cfg.Auth.None {
		if refused := s.authenticate(c); refused != nil {
			return *refused
		}
	}
	return c.serve(s, c)
}

// write sends a as the response to c.
func (s *Simulator) write(w http.ResponseWriter, c *call, a answer) {
	s.mu.Lock()
	s.tally.finished(c, a.status)
	s.mu.Unlock()
	h := w.Header()
	h.Set("Server", "CloudWAF")
	if c.api == IAM {
		h.Set("X-IAM-Trace-Id", c.id)
	} else {
		h.Set("X-Request-Id", c.id)
	}
	body := a.raw
	if a.body != nil {
		var err error
		if body, err = json.Marshal(a.body); err != nil {
			a.status, body = http.StatusInternalServerError, nil
		}
		h.Set("Content-Type", "application/json")
	}
	for name, value := range a.header {
		h.Set(name, value)
	}
	if a.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(a.status)
	// The client may have disconnected.
	_, _ = w.Write(body)
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
