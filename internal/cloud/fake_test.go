package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const (
	project   = "0123456789abcdef0123456789abcdef"
	serviceID = "4189d3c2-8882-4871-a3c2-d380272eed88"
	gatewayID = "eddc4d25480b4cd6b512f270a1b8b341"
	endpoint  = "705290f3-0d00-41f2-aedc-71f09844e879"
	domainID  = "fedcba9876543210fedcba9876543210"
)

func service() approval.Target {
	return approval.Target{Name: "payments", Kind: approval.Service, ID: serviceID, ProjectID: project}
}

func gateway() approval.Target {
	return approval.Target{Name: "orders", Kind: approval.Gateway, ID: gatewayID, ProjectID: project}
}

func connect(t approval.Target) approval.Request {
	return approval.Request{ID: "r", Target: t, EndpointID: endpoint}
}

// script is a cloud in memory: a function of the request and its body.
type script func(r *http.Request, body string) (*http.Response, error)

func (s script) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return s(r, string(body))
}

// says makes an answer; header holds pairs.
func says(status int, body string, header ...string) (*http.Response, error) {
	h := http.Header{"X-Request-Id": {"req-1"}}
	for pair := range slices.Chunk(header, 2) {
		h.Set(pair[0], pair[1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func errorJSON(code string) string {
	return fmt.Sprintf(`{"error_code":%q,"error_msg":"text with the password hunter2"}`, code)
}

func rowsJSON(total int, rows ...string) string {
	return fmt.Sprintf(`{"connections":[%s],"total_count":%d,"total":%d,"size":%d}`, strings.Join(rows, ","), total, total, len(rows))
}

func rowJSON(id string, state approval.State) string {
	return fmt.Sprintf(`{"id":%q,"marker_id":422321321312321321,"created_at":"2018-01-30T07:42:01Z","domain_id":%q,"status":%q}`, id, domainID, state)
}

func aksk() (Credentials, error) {
	return Credentials{AccessKey: "AKEXAMPLE0000000001", SecretKey: "SKEXAMPLE0000000000000000000000000000001"}, nil
}

// client makes one that calls rt; edits change the configuration.
func client(t testing.TB, rt http.RoundTripper, edits ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		Region: "cn-north-4", RatePerSecond: 1000, Transport: rt,
		Auth: Auth{Mode: ModeAKSK, Source: aksk},
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return c
}

// watcher is an Observer that remembers.
type watcher struct {
	mu      sync.Mutex
	calls   []string // "api operation class"
	retries int
	unknown int
	listed  []string // "target complete"
	open    int
	breaker []string
	creds   []string
	faults  []string
	pauses  []time.Duration
}

func (w *watcher) note(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }

func (w *watcher) CloudCall(api, op, class string, _ time.Duration) {
	w.note(func() { w.calls = append(w.calls, api+" "+op+" "+class) })
}
func (w *watcher) CloudRetry(string, string, string) { w.note(func() { w.retries++ }) }
func (w *watcher) CloudThrottled(_ string, d time.Duration) {
	w.note(func() { w.pauses = append(w.pauses, d) })
}
func (w *watcher) CloudInFlight(_ string, d int) { w.note(func() { w.open += d }) }
func (w *watcher) CloudBreaker(api, s string) {
	w.note(func() { w.breaker = append(w.breaker, api+" "+s) })
}
func (w *watcher) CloudUnknownState(string) { w.note(func() { w.unknown++ }) }
func (w *watcher) CloudList(target string, complete bool) {
	w.note(func() { w.listed = append(w.listed, fmt.Sprintf("%s %t", target, complete)) })
}

func (w *watcher) CredentialState(s string, _ time.Time, _ *Error) {
	w.note(func() { w.creds = append(w.creds, s) })
}

func (w *watcher) OperatorFault(target string, f approval.OperatorFault) {
	w.note(func() {
		w.faults = append(w.faults, fmt.Sprintf("%s %s %s %s %s", target, f.API, f.Operation, f.Code, f.RequestID))
	})
}

func (w *watcher) told() []string { w.mu.Lock(); defer w.mu.Unlock(); return slices.Clone(w.faults) }

func (w *watcher) OperatorFaultOver(api, target string) {
	w.note(func() { w.faults = append(w.faults, fmt.Sprintf("%s %s over", target, api)) })
}

// world is a small cloud with one list of connections. Its faults are set by the test.
type world struct {
	mu     sync.Mutex
	rows   map[string]approval.State
	ready  map[string]time.Time // until then what is accepted shows as creating
	takes  time.Duration        // from the act to accepted
	order  []string
	acts   map[string]int // by endpoint
	lists  int
	calls  []time.Time
	onAct  func(n int, r *http.Request) (*http.Response, error, bool) // true: answer this instead
	onList func(n int, r *http.Request) (*http.Response, error, bool)
}

func newWorld(ids ...string) *world {
	w := &world{rows: map[string]approval.State{}, ready: map[string]time.Time{}, acts: map[string]int{}}
	for _, id := range ids {
		w.rows[id] = approval.Pending
		w.order = append(w.order, id)
	}
	return w
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	return script(w.answer).RoundTrip(r)
}

func (w *world) answer(r *http.Request, body string) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, time.Now())
	if r.Method == http.MethodPost {
		var in struct {
			Action    string
			Endpoints []string
		}
		_ = json.NewDecoder(bytes.NewReader([]byte(body))).Decode(&in)
		id := in.Endpoints[0]
		w.acts[id]++
		if w.onAct != nil {
			if res, err, ok := w.onAct(w.acts[id], r); ok {
				return res, err
			}
		}
		w.do(id, in.Action)
		return says(200, rowsJSON(1, rowJSON(id, w.rows[id])))
	}
	w.lists++
	if w.onList != nil {
		if res, err, ok := w.onList(w.lists, r); ok {
			return res, err
		}
	}
	return says(200, w.list(r))
}

func (w *world) do(id, action string) {
	w.ready[id] = time.Now().Add(w.takes)
	w.rows[id] = approval.Accepted
	if action == "reject" {
		w.rows[id] = approval.Rejected
	}
}

func (w *world) list(r *http.Request) string {
	q := r.URL.Query()
	var rows []string
	for _, id := range w.order {
		s, there := w.rows[id]
		if s == approval.Accepted && time.Now().Before(w.ready[id]) {
			s = approval.Creating
		}
		if there && (q.Get("id") == "" || q.Get("id") == id) && (q.Get("status") == "" || q.Get("status") == string(s)) {
			rows = append(rows, rowJSON(id, s))
		}
	}
	offset, limit := 0, 10
	_, _ = fmt.Sscan(q.Get("offset"), &offset)
	_, _ = fmt.Sscan(q.Get("limit"), &limit)
	total := len(rows)
	rows = rows[min(offset, total):]
	return rowsJSON(total, rows[:min(limit, len(rows))]...)
}

func (w *world) set(id string, s approval.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows[id] = s
}

// ids makes n endpoint ids.
func ids(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("705290f3-0d00-41f2-aedc-%012x", i)
	}
	return out
}

// after calls f when d has passed, unless ctx ends before.
func after(ctx context.Context, d time.Duration, f func()) {
	go func() {
		if sleep(ctx, d) == nil {
			f()
		}
	}()
}
