// Package simulator is a simulated Huawei Cloud: VPCEP, APIG, FunctionGraph,
// HSS, DataArts Insight and IAM behind one http.Handler. It is written from the
// API reference alone and shares nothing with the client, so that a mistake in
// one of them shows against the other. It checks signatures and tokens,
// validates parameters, walks connections through their states on a clock that
// is passed in, counts what it was asked, and misbehaves on demand.
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

// The APIs, as faults and counters name them.
const (
	VPCEP           = "vpcep"
	APIG            = "apig"
	FunctionGraph   = "functiongraph"
	HSS             = "hss"
	DataArtsInsight = "dataartsinsight"
	IAM             = "iam"
)

// maxBody is the largest body that a signed request may have, in bytes.
const maxBody = 12 << 20

// Config says how the cloud behaves. The zero value is a cloud without delays
// and faults that knows only the credentials of DefaultAuth.
type Config struct {
	Seed    uint64 // of all ids and of the faults' dice
	Delays  Delays
	Auth    Auth   // zero: DefaultAuth
	Region  string // empty: cn-north-4
	Faults  []Fault
	Now     func() time.Time // nil: time.Now
	Latency time.Duration    // of every answer
	Admin   bool             // serve the calls below /_sim/

	DomainID         string // the caller's account; empty: made from Seed
	DataArtsDomainID string // the account that DataArts Insight connects from; empty: made from Seed
	DataSources      bool   // every DataArts Insight endpoint is used by a data source at once, and so is listed
	SmallMarkers     bool   // marker ids begin at 1 and not beyond what 32 bits hold
	RepeatOK         bool   // VPCEP answers 200 and not EndPoint.2014 to a receive of what is accepted
	NestedErrors     bool   // VPCEP refuses in the newer shape {"error": {"code", "message"}}
	Journal          int    // how many of the last calls Counters tells one by one
}

// Delays are how long things take. Zero: no time.
type Delays struct {
	Visible time.Duration // from the creation of an endpoint until lists show it
	Create  time.Duration // from creating to pendingAcceptance, or to accepted where no approval is needed
	Accept  time.Duration // from receive, which leads to creating, to accepted
	Delete  time.Duration // from deleting to gone
	ListLag time.Duration // how old the state is that lists show
}

// Simulator is the cloud. All of it may be used concurrently.
type Simulator struct {
	cfg    Config
	now    func() time.Time
	routes []route

	mu       sync.Mutex // guards all below
	ids      *rand.Rand
	created  int64 // endpoints so far
	cloud    cloud
	keyring  keyring
	faults   []*activeFault
	tally    tally
	inFlight map[string]int
}

// New returns a cloud with nothing in it.
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
		ids:      rand.New(rand.NewPCG(cfg.Seed, 0x5eed)), //nolint:gosec // G404: ids of a simulation are to repeat
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

// call is one request on its way through the cloud.
type call struct {
	route
	request      *http.Request
	path         map[string]string // the variable segments of the path
	body         []byte
	now          time.Time
	listAt       time.Time // the moment whose state lists show
	unknownState bool      // lists show a state that no reference knows
	listFaults   []*Fault  // that falsify lists
	id           string    // the request id
	entry        *Call     // in the journal; nil: there is none
}

// answer is what the cloud says to a call.
type answer struct {
	status int
	header map[string]string
	body   any    // JSON; nil: none
	raw    []byte // instead of body
}

// ok is a successful answer.
func ok(body any) answer { return answer{status: http.StatusOK, body: body} }

// ServeHTTP answers one call of any of the APIs, or of the admin calls. Where a
// fault cuts the connection and there is none to take over, it panics with
// http.ErrAbortHandler, as handlers do that end without an answer; who calls it
// without a server must recover from that.
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

// do carries c out: credentials first, then the deed.
func (s *Simulator) do(c *call, p plan) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now = s.now() // the answer may have waited
	c.listAt = c.now.Add(-s.cfg.Delays.ListLag - p.stale)
	c.unknownState, c.listFaults = p.unknownState, p.listFaults
	if !c.open && !s.cfg.Auth.None {
		if refused := s.authenticate(c); refused != nil {
			return *refused
		}
	}
	return c.serve(s, c)
}

// write sends a as the answer to c.
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
	// A client that has gone hears nothing; there is nobody to tell.
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
