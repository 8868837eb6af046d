package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The states that the API knows.
const (
	pending  = "pendingAcceptance"
	accepted = "accepted"
	rejected = "rejected"
)

// fakeAPI speaks the wire of VPCEP's connection lists and actions, and nothing else.
// It is much cheaper than the simulator, so that on a shared machine the contenders
// are measured and not the cloud: it checks no signatures, never fails, and an
// action is done when it is answered.
type fakeAPI struct {
	latency time.Duration

	mu       sync.Mutex
	services map[string]*service
	stats    apiStats
	began    time.Time
}

// service is one endpoint service.
type service struct {
	rows    []*connection // the oldest first
	byID    map[string]*connection
	byState map[string]int
	updates []update // the oldest first; those of rows that changed again are skipped
}

// connection is a row of a list.
type connection struct {
	id, domain, state string
	marker            int
	created, updated  time.Time
	changes           int // number of updates
	row               []byte
}

type update struct {
	*connection
	change int
}

// apiStats is what was called.
type apiStats struct {
	Calls    map[string]int `json:"calls"` // by operation
	Others   map[string]int `json:"others"`
	InFlight int            `json:"in_flight"`
	Peak     int            `json:"peak"` // most calls in flight
	Slots    []int          `json:"slots"`
}

// slot is the unit of apiStats.Slots.
const slot = 100 * time.Millisecond

// total returns the number of calls.
func (s apiStats) total() int {
	n := 0
	for _, calls := range s.Calls {
		n += calls
	}
	return n
}

// busiest returns the most calls within any second.
func (s apiStats) busiest() int {
	const second = int(time.Second / slot)
	best, sum := 0, 0
	for i, n := range s.Slots {
		sum += n
		if i >= second {
			sum -= s.Slots[i-second]
		}
		best = max(best, sum)
	}
	return best
}

// serveAPI is the process of the API. It prints its address and serves until ctx ends.
func serveAPI(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet(childAPI, flag.ContinueOnError)
	latency := flags.Duration("latency", 0, "delay added to every response")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "listening on http://%s\n", l.Addr()); err != nil {
		return err
	}
	server := &http.Server{Handler: newFakeAPI(*latency), ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // nothing waits for the last calls
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newFakeAPI(latency time.Duration) http.Handler {
	a := &fakeAPI{latency: latency, services: map[string]*service{}, began: time.Now()}
	a.stats.Calls, a.stats.Others = map[string]int{}, map[string]int{}
	mux := http.NewServeMux()
	const base = "/v1/{project}/vpc-endpoint-services/{service}"
	mux.Handle("GET "+base+"/connections", a.call("list", a.list))
	mux.Handle("POST "+base+"/connections/action", a.call("action", a.action))
	mux.Handle("GET "+base, a.call("service", a.show))
	mux.HandleFunc("POST /bench/connections", a.connect)
	mux.HandleFunc("GET /bench/stats", a.statistics)
	mux.HandleFunc("/", a.unknown)
	return mux
}

// call counts and delays a call of the API.
func (a *fakeAPI) call(op string, do http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.stats.Calls[op]++
		a.stats.InFlight++
		a.stats.Peak = max(a.stats.Peak, a.stats.InFlight)
		for at := int(time.Since(a.began) / slot); len(a.stats.Slots) <= at; {
			a.stats.Slots = append(a.stats.Slots, 0)
		}
		a.stats.Slots[len(a.stats.Slots)-1]++
		a.mu.Unlock()
		if a.latency > 0 {
			_ = wait(r.Context(), a.latency) // the answer to a caller that left is lost anyway
		}
		w.Header().Set("Content-Type", "application/json")
		do(w, r)
		a.mu.Lock()
		a.stats.InFlight--
		a.mu.Unlock()
	})
}

func refuse(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error_code":%q,"error_msg":%q}`, code, text)
}

// unknown counts what this API does not have.
func (a *fakeAPI) unknown(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.stats.Others[r.Method+" "+r.URL.Path]++
	a.mu.Unlock()
	refuse(w, http.StatusNotFound, "APIGW.0101", "The API does not exist.")
}

func (a *fakeAPI) show(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, `{"id":%q,"approval_enabled":true}`, r.PathValue("service"))
}

// of returns a service, which is made by the first use of its id. The caller holds a.mu.
func (a *fakeAPI) of(id string) *service {
	s := a.services[id]
	if s == nil {
		s = &service{byID: map[string]*connection{}, byState: map[string]int{}}
		a.services[id] = s
	}
	return s
}

// set puts c into a state. The caller holds a.mu.
func (s *service) set(c *connection, state string, at time.Time) {
	if c.changes++; c.changes > 1 {
		s.byState[c.state]--
	}
	c.state, c.updated = state, at
	s.byState[state]++
	s.updates = append(s.updates, update{c, c.changes})
	const layout = "2006-01-02T15:04:05Z"
	c.row = fmt.Appendf(nil, `{"id":%q,"marker_id":%d,"created_at":%q,"updated_at":%q,"domain_id":%q,"status":%q,"description":""}`,
		c.id, c.marker, c.created.UTC().Format(layout), c.updated.UTC().Format(layout), c.domain, c.state)
}

// selection is what a list shows.
type selection struct {
	id, state         string
	limit, offset     int
	byUpdate, ascends bool
}

func selectionOf(r *http.Request) (selection, error) {
	q := r.URL.Query()
	number := func(name string, otherwise int) (int, error) {
		if q.Get(name) == "" {
			return otherwise, nil
		}
		return strconv.Atoi(q.Get(name))
	}
	s := selection{id: q.Get("id"), state: q.Get("status"), ascends: q.Get("sort_dir") == "asc"}
	s.byUpdate = q.Get("sort_key") == "update_at" || q.Get("sort_key") == "updated_at"
	var err1, err2 error
	s.limit, err1 = number("limit", 10)
	s.offset, err2 = number("offset", 0)
	if s.limit < 0 || s.limit > 1000 || s.offset < 0 {
		err1 = errors.New("out of range")
	}
	return s, errors.Join(err1, err2)
}

func (a *fakeAPI) list(w http.ResponseWriter, r *http.Request) {
	sel, err := selectionOf(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "EndPoint.0006", "The parameter limit is invalid.")
		return
	}
	a.mu.Lock()
	body := a.of(r.PathValue("service")).page(sel)
	a.mu.Unlock()
	_, _ = w.Write(body) // the caller may have left
}

// page returns the response to a list call. The caller holds the lock.
func (s *service) page(sel selection) []byte {
	body := append(make([]byte, 0, 300*min(sel.limit, len(s.rows))+64), `{"connections":[`...)
	total, shown, skipped := 0, 0, 0
	add := func(c *connection) bool {
		switch {
		case sel.state != "" && c.state != sel.state:
		case skipped < sel.offset:
			skipped++
		default:
			if shown > 0 {
				body = append(body, ',')
			}
			body = append(body, c.row...)
			shown++
		}
		return shown < sel.limit && skipped+shown < total
	}
	switch c := s.byID[sel.id]; {
	case sel.id != "":
		if c != nil && (sel.state == "" || c.state == sel.state) {
			total = 1
			add(c)
		}
	default:
		total = len(s.rows)
		if sel.state != "" {
			total = s.byState[sel.state]
		}
		if sel.limit > 0 && total > sel.offset {
			s.walk(sel, add)
		}
	}
	return fmt.Appendf(body, `],"total_count":%d}`, total)
}

// walk calls add for each connection in the order of sel, until it returns false.
func (s *service) walk(sel selection, add func(*connection) bool) {
	n := len(s.rows)
	if sel.byUpdate {
		n = len(s.updates)
	}
	for i := range n {
		at := n - 1 - i
		if sel.ascends {
			at = i
		}
		if sel.byUpdate {
			if u := s.updates[at]; u.change != u.changes {
				continue
			} else if !add(u.connection) {
				return
			}
		} else if !add(s.rows[at]) {
			return
		}
	}
}

func (a *fakeAPI) action(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Action    string   `json:"action"`
		Endpoints []string `json:"endpoints"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || len(body.Endpoints) != 1 || body.Action != "receive" && body.Action != "reject" {
		refuse(w, http.StatusBadRequest, "EndPoint.0002", "The request body is invalid.")
		return
	}
	state := rejected
	if body.Action == "receive" {
		state = accepted
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.of(r.PathValue("service"))
	c := s.byID[body.Endpoints[0]]
	switch {
	case c == nil:
		refuse(w, http.StatusNotFound, "EndPoint.2006", "The endpoint does not exist.")
	case c.state == accepted && state == accepted:
		refuse(w, http.StatusBadRequest, "EndPoint.2014", "The endpoint has been connected.")
	default:
		s.set(c, state, time.Now())
		_, _ = fmt.Fprintf(w, `{"connections":[%s]}`, c.row)
	}
}

// connections is what the bench asks this API to make.
type connections struct {
	Service string    `json:"service"`
	State   string    `json:"state"`
	First   int       `json:"first"` // number of the first endpoint
	Count   int       `json:"count"`
	Newest  time.Time `json:"newest"` // when the last was made, each one a second after the one before
	Step    int       `json:"step"`   // seconds between two
}

func (a *fakeAPI) connect(w http.ResponseWriter, r *http.Request) {
	var in connections
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, http.StatusBadRequest, "bench", err.Error())
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.of(in.Service)
	for i := range in.Count {
		n := in.First + i
		c := &connection{
			id: endpointID(n), domain: domainID(n % domains), marker: 16_777_000 + n,
			created: in.Newest.Add(-time.Duration((in.Count-1-i)*in.Step) * time.Second),
		}
		s.rows = append(s.rows, c)
		s.byID[c.id] = c
		s.set(c, in.State, c.created)
	}
}

func (a *fakeAPI) statistics(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a.stats) // the caller may have left
}

// mean returns the calls a second from the first to the last one.
func (s apiStats) mean() float64 {
	first := slices.IndexFunc(s.Slots, func(n int) bool { return n > 0 })
	if first < 0 {
		return 0
	}
	return float64(s.total()) / (float64(len(s.Slots)-first) * slot.Seconds())
}
