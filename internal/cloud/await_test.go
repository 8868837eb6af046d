package cloud

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// moment is what the list shows from a time after the start on.
type moment struct {
	at    time.Duration
	state approval.State
}

func TestAwait(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tests := []struct {
		name          string
		shows         []moment
		want          approval.State
		acted         time.Duration // before the start; negative: nothing was acted
		ends          approval.State
		after, before time.Duration
		unknown       bool
	}{
		{"there already", []moment{{0, approval.Accepted}}, approval.Accepted, 0, approval.Accepted, 0, 0, false},
		{"on its way", []moment{{0, approval.Pending}, {s, approval.Creating}, {5 * s, approval.Accepted}}, approval.Accepted, 0, approval.Accepted, 5 * s, 9 * s, false},
		{"a stale list after an accept", []moment{{0, approval.Rejected}, {20 * s, approval.Accepted}}, approval.Accepted, 0, approval.Accepted, 20 * s, 40 * s, false},
		{"a stale list after a reject", []moment{{0, approval.Accepted}, {28 * s, approval.Rejected}}, approval.Rejected, 0, approval.Rejected, 28 * s, 45 * s, false},
		{"settled otherwise", []moment{{0, approval.Rejected}}, approval.Accepted, 0, approval.Rejected, 30 * s, 50 * s, false},
		{"settled otherwise, acted long ago", []moment{{0, approval.Rejected}}, approval.Accepted, time.Hour, approval.Rejected, s / 2, 2 * s, false},
		{"settled otherwise, nothing acted", []moment{{0, approval.Accepted}}, approval.Rejected, -1, approval.Accepted, s / 2, 2 * s, false},
		{"one contrary read is none", []moment{{0, approval.Rejected}, {s / 2, approval.Pending}, {2 * s, approval.Accepted}}, approval.Accepted, time.Hour, approval.Accepted, 2 * s, 4 * s, false},
		{"two different ones are none", []moment{{0, approval.Rejected}, {s / 2, approval.Failed}, {2 * s, approval.Accepted}}, approval.Accepted, time.Hour, approval.Accepted, 2 * s, 4 * s, false},
		{"failed", []moment{{0, approval.Creating}, {2 * s, approval.Failed}}, approval.Accepted, 0, approval.Failed, 30 * s, 50 * s, false},
		{"vanished", []moment{{0, approval.Creating}, {3 * s / 2, approval.Deleting}, {4 * s, approval.Absent}}, approval.Accepted, 0, approval.Absent, 30 * s, 50 * s, false},
		{"never seen", nil, approval.Accepted, 0, approval.Absent, 30 * s, 50 * s, false},
		{"never seen, nothing acted", nil, approval.Pending, -1, approval.Absent, s / 2, 2 * s, false},
		{"seen late", []moment{{20 * s, approval.Accepted}}, approval.Accepted, 0, approval.Accepted, 20 * s, 40 * s, false},
		{"a state of a later version", []moment{{0, "warmingUp"}, {60 * s, approval.Accepted}}, approval.Accepted, time.Hour, approval.Accepted, 60 * s, 80 * s, true},
		{"deleting is not the end", []moment{{0, approval.Deleting}, {60 * s, approval.Accepted}}, approval.Accepted, time.Hour, approval.Accepted, 60 * s, 80 * s, false},
		{"wanted to be away", []moment{{0, approval.Deleting}, {3 * s / 2, approval.Absent}}, approval.Absent, time.Hour, approval.Absent, 3 * s, 8 * s, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				w := &watcher{}
				c := client(t, script(func(*http.Request, string) (*http.Response, error) {
					var state approval.State
					for _, m := range tt.shows {
						if time.Since(start) >= m.at {
							state = m.state
						}
					}
					if state == approval.Absent {
						return says(200, rowsJSON(0))
					}
					return says(200, rowsJSON(1, rowJSON(endpoint, state)))
				}), func(cfg *Config) { cfg.Observer = w })
				acted := start.Add(-tt.acted)
				if tt.acted < 0 {
					acted = time.Time{}
				}
				got, err := c.Await(t.Context(), connect(gateway()), tt.want, acted)
				took := time.Since(start)
				if err != nil || got != tt.ends || took < tt.after || took > tt.before+time.Millisecond {
					t.Errorf("%q after %v, %v, want %q after %v to %v", got, took, err, tt.ends, tt.after, tt.before)
				}
				if (w.unknown > 0) != tt.unknown {
					t.Errorf("%d unknown states were told", w.unknown)
				}
			})
		})
	}
}

func TestAwaitEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(endpoint)
		c := client(t, w)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		state, err := c.Await(ctx, connect(service()), approval.Accepted, time.Now())
		e, ok := asError(err)
		if state != approval.Pending || !errors.Is(err, context.DeadlineExceeded) || !ok || !e.Retryable() {
			t.Errorf("%q, %v", state, err)
		}
		if w.lists < 6 || w.lists > 9 {
			t.Errorf("%d reads in a minute", w.lists)
		}
	})
}

// TestManyAwait: the cost of following grows with targets, not with requests.
func TestManyAwait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := ids(400)
		w := newWorld(all...)
		c := client(t, w, func(cfg *Config) { cfg.RatePerSecond = 10 })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		after(ctx, 100*time.Second, func() {
			for _, id := range all {
				w.set(id, approval.Accepted)
			}
		})
		errs := make(chan error, len(all))
		for _, id := range all {
			go func() {
				_, err := c.Await(ctx, approval.Request{Target: gateway(), EndpointID: id}, approval.Accepted, time.Now())
				errs <- err
			}()
		}
		for range all {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if most := int(120*maxRefillRate) + minCapacity + 1; w.lists > most {
			t.Errorf("%d reads, want at most %d", w.lists, most)
		}
	})
}

func TestAwaitReadFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, script(func(*http.Request, string) (*http.Response, error) { return says(404, errorJSON("APIC.7302")) }))
		_, err := c.Await(t.Context(), connect(gateway()), approval.Accepted, time.Now())
		if e, ok := asError(err); !ok || !e.Retryable() || e.Class != ClassOperator || e.Code != "APIC.7302" || e.Gone() {
			t.Errorf("error %v", err)
		}
	})
}
