package cloud

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestActGoesThrough: each connection is decided through the right API.
func TestActGoesThrough(t *testing.T) {
	t.Parallel()
	ours := gateway()
	ours.ServiceID = serviceID
	for _, tt := range []struct {
		target approval.Target
		want   string
	}{
		{service(), "vpcep AcceptOrRejectEndpoint ok"},
		{ours, "vpcep AcceptOrRejectEndpoint ok"},
		{gateway(), "apig AcceptOrRejectEndpointConnections ok"},
	} {
		w := &watcher{}
		c := client(t, newWorld(endpoint), func(cfg *Config) { cfg.Observer = w })
		if err := c.Act(t.Context(), new(connect(tt.target)), approval.Accept); err != nil || len(w.calls) != 1 || w.calls[0] != tt.want {
			t.Errorf("%v, calls %q, want %q", err, w.calls, tt.want)
		}
	}
}

// TestRequestsPayForReads: each request adds to the read budget of its target.
func TestRequestsPayForReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, newWorld(endpoint))
		l, err := c.reader(new(connect(service())))
		if err != nil {
			t.Fatal(err)
		}
		for range minCapacity / 2 {
			l.rows.budget.Borrow()
		}
		before := l.rows.budget.tokens
		if _, err := c.Facts(t.Context(), connect(service())); err != nil || l.rows.budget.tokens <= before-1 {
			t.Errorf("%v, %v tokens in the budget, before %v", err, l.rows.budget.tokens, before)
		}
	})
}

// TestLostAnswer: the cloud carries out decisions and the responses are lost,
// repeatedly. No decision takes effect twice, and no call fails.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := ids(200)
		w := newWorld(all...)
		w.onAct = func(n int, _ *http.Request) (*http.Response, error, bool) {
			if n > 1 {
				return nil, nil, false
			}
			return nil, errors.New("connection reset by peer"), true
		}
		cloudOf := script(func(r *http.Request, body string) (*http.Response, error) {
			res, err := w.answer(r, body)
			if err != nil { // lost, but done
				var id string
				_, _ = fmt.Sscanf(body, `{"action":"receive","endpoints":[%q`, &id)
				w.set(id, approval.Creating)
			}
			return res, err
		})
		c := client(t, cloudOf, func(cfg *Config) { cfg.Concurrency = 4 })
		slots := make(chan struct{}, 4) // few in a row, so that the breaker stays closed
		var wg sync.WaitGroup
		failed := 0
		for _, id := range all {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				req := approval.Request{Target: service(), EndpointID: id}
				var err error
				for range 50 { // as the worker does: look first, then act
					f, ferr := c.Facts(t.Context(), req)
					if ferr == nil && f.State != approval.Pending {
						err = nil
						break
					}
					if err = ferr; err == nil {
						err = c.Act(t.Context(), &req, approval.Accept)
					}
					if err == nil {
						break
					}
					e, ok := asError(err)
					if !ok || !e.Retryable() {
						t.Errorf("%s: %v", id, err)
						break
					}
					_ = sleep(t.Context(), max(e.RetryAfter(), minRetryWait))
				}
				if err != nil {
					failed++
				}
			})
		}
		wg.Wait()
		for _, id := range all {
			if w.acts[id] != 1 || w.rows[id] != approval.Creating {
				t.Errorf("%s: %d acts, state %q", id, w.acts[id], w.rows[id])
			}
		}
		if failed > 0 {
			t.Errorf("%d failed", failed)
		}
	})
}

// TestActAfterUnknownOutcome: the list is read before a repeat.
func TestActAfterUnknownOutcome(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		verdict approval.Verdict
		shows   approval.State
		acts    int
		ok      bool
	}{
		{"accepted: done", approval.Accept, approval.Accepted, 1, true},
		{"creating: accepted a moment ago", approval.Accept, approval.Creating, 1, true},
		{"rejected: done", approval.Reject, approval.Rejected, 1, true},
		{"pending: once more", approval.Accept, approval.Pending, 2, true},
		{"rejected by another: left alone", approval.Accept, approval.Rejected, 1, false},
		{"accepted by another: left alone", approval.Reject, approval.Accepted, 1, false},
		{"creating is no rejection", approval.Reject, approval.Creating, 1, false},
		{"not shown: not now", approval.Accept, approval.Absent, 1, false},
		{"unknown: not now", approval.Reject, "warmingUp", 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(endpoint)
				w.set(endpoint, tt.shows)
				if tt.shows == approval.Absent {
					delete(w.rows, endpoint)
				}
				w.onAct = func(n int, _ *http.Request) (*http.Response, error, bool) {
					res, err := says(504, errorJSON("EndPoint.0013"))
					return res, err, n == 1
				}
				c := client(t, w)
				err := c.Act(t.Context(), new(connect(gateway())), tt.verdict)
				if (err == nil) != tt.ok || w.acts[endpoint] != tt.acts {
					t.Errorf("%v after %d acts", err, w.acts[endpoint])
				}
				if e, ok := asError(err); err != nil && (!ok || e.Code != "EndPoint.0013" || !e.Retryable() || !e.OutcomeUnknown()) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestActErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, code  string
		status      int
		shows       approval.State
		verdict     approval.Verdict
		ok          bool
		retry, gone bool
	}{
		{"connected already, the list confirms", "EndPoint.2014", 400, approval.Accepted, approval.Accept, true, false, false},
		{"connected already, being set up", "Endpoint.2014", 400, approval.Creating, approval.Accept, true, false, false},
		{"connected already, the list is stale", "EndPoint.2014", 400, approval.Pending, approval.Accept, false, true, false},
		{"connected already is no rejection", "EndPoint.2014", 400, approval.Accepted, approval.Reject, false, true, false},
		{"gone", "EndPoint.2006", 404, approval.Pending, approval.Accept, false, false, true},
		{"being deleted", "EndPoint.2018", 400, approval.Deleting, approval.Accept, false, false, true},
		{"not of the service", "EndPoint.2013", 400, approval.Pending, approval.Accept, false, true, false},
		{"no permission", "EndPoint.0004", 403, approval.Pending, approval.Reject, false, true, false},
		{"an unknown refusal", "EndPoint.9876", 403, approval.Pending, approval.Accept, false, true, false},
		{"a quota", "EndPoint.1018", 400, approval.Pending, approval.Accept, false, true, false},
		{"frozen, which is the requester's", "EndPoint.2015", 400, approval.Pending, approval.Accept, false, false, false},
		{"something is not found, and the list shows the connection", "EndPoint.0005", 404, approval.Pending, approval.Accept, false, true, false},
		{"something is not found, nor does the list show it", "EndPoint.0005", 404, approval.Absent, approval.Accept, false, false, true},
		{"no such API here", "APIGW.0101", 404, approval.Pending, approval.Accept, false, true, false},
		{"busy", "APIC.7701", 409, approval.Pending, approval.Accept, false, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(endpoint)
				if w.set(endpoint, tt.shows); tt.shows == approval.Absent {
					delete(w.rows, endpoint)
				}
				w.onAct = func(int, *http.Request) (*http.Response, error, bool) {
					res, err := says(tt.status, errorJSON(tt.code))
					return res, err, true
				}
				c := client(t, w)
				err := c.Act(t.Context(), new(connect(service())), tt.verdict)
				if (err == nil) != tt.ok || w.acts[endpoint] != 1 {
					t.Fatalf("%v after %d acts", err, w.acts[endpoint])
				}
				if e, ok := asError(err); err != nil && (!ok || e.Retryable() != tt.retry || e.Gone() != tt.gone || e.OutcomeUnknown() || e.Failure().RequestID != "req-1") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
	c := client(t, newWorld(endpoint))
	for _, v := range []approval.Verdict{approval.Hold, approval.Ignore, ""} {
		if err := c.Act(t.Context(), new(connect(service())), v); err == nil {
			t.Errorf("verdict %q was carried out", v)
		}
	}
	if err := c.Act(t.Context(), new(creation(approval.HSS)), approval.Accept); err == nil {
		t.Error("a creation was accepted")
	}
}

// TestActPassesThrottling: throttled decisions are repeated without a read, because
// they had no effect.
func TestActPassesThrottling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(endpoint)
		w.onAct = func(n int, _ *http.Request) (*http.Response, error, bool) {
			res, err := says(400, errorJSON("EndPoint.0022"))
			return res, err, n < 3
		}
		c := client(t, w)
		if err := c.Act(t.Context(), new(connect(service())), approval.Reject); err != nil || w.acts[endpoint] != 3 || w.lists != 0 {
			t.Errorf("%v, %d acts, %d lists", err, w.acts[endpoint], w.lists)
		}
	})
}
