package cloud

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const fleetTTL = 6 * time.Second

// fleet is a number of workers that count each other every third of the TTL, and call as
// often as they may.
type fleet struct {
	mu    sync.Mutex
	alive map[int]time.Time // latest heartbeat
	times []time.Time       // of the calls
}

// run runs a worker until ctx ends. Its heartbeat is seen for one TTL longer.
func (f *fleet) run(ctx context.Context, t *testing.T, id int, perSecond float64) {
	c := client(t, script(func(*http.Request, string) (*http.Response, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.times = append(f.times, time.Now())
		return says(200, rowsJSON(0))
	}), func(cfg *Config) { cfg.RatePerSecond = perSecond })
	share := NewFleetShare(c, fleetTTL)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			f.mu.Lock()
			n, before, now := 0, 0, time.Now()
			f.alive[id] = now
			for other, at := range f.alive {
				if now.Sub(at) < fleetTTL {
					n++
					if other < id {
						before++
					}
				}
			}
			f.mu.Unlock()
			share.Count(n, before)
			if sleep(ctx, fleetTTL/3) != nil {
				return
			}
		}
	})
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Pending(ctx, service()); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// calls returns the number of calls in each second from begin on.
func (f *fleet) calls(begin time.Time, seconds int) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]int, seconds)
	for _, at := range f.times {
		if i := int(at.Sub(begin) / time.Second); i < seconds {
			out[i]++
		}
	}
	return out
}

// TestRateIsThatOfTheFleet: workers that come and go call together no more often than one
// may, and use the rate once they know of each other.
func TestRateIsThatOfTheFleet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate = 50
		f := &fleet{alive: map[int]time.Time{}}
		begin := time.Now()
		var wg sync.WaitGroup
		start := func(id int) context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() { f.run(ctx, t, id, rate) })
			return cancel
		}
		first := start(1)
		_ = sleep(t.Context(), 10*time.Second)
		second := start(2)
		_ = sleep(t.Context(), 20*time.Second) // 30 s
		first()
		_ = sleep(t.Context(), 20*time.Second) // 50 s
		third, fourth := start(3), start(4)
		_ = sleep(t.Context(), 20*time.Second) // 70 s
		second()
		third()
		fourth()
		wg.Wait()
		calls := f.calls(begin, 70)
		t.Log(calls)
		slices.SortFunc(f.times, time.Time.Compare)
		if most := busiest(f.times, time.Second); most > rate {
			t.Errorf("%d calls within a second", most)
		}
		sum := func(from, to int) (n int) {
			for _, c := range calls[from:to] {
				n += c
			}
			return n / (to - from)
		}
		for _, tt := range []struct {
			name          string
			from, to      int
			least, atMost int
		}{
			{"one worker, immediately", 0, 10, 49, 51},
			{"a second one that has no share yet", 13, 16, 24, 26},
			{"two workers", 18, 30, 48, 50},
			{"the other is gone, for less than one TTL more", 31, 40, 24, 26},
			{"one worker", 45, 50, 49, 51},
			{"three workers", 60, 70, 48, 50},
		} {
			if n := sum(tt.from, tt.to); n < tt.least || n > tt.atMost {
				t.Errorf("%s: %d calls a second, want %d to %d", tt.name, n, tt.least, tt.atMost)
			}
		}
	})
}

// TestUnknownFleet: a fleet that cannot be counted does not shrink.
func TestUnknownFleet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, newWorld())
		rate := func() float64 { return c.hosts[APIVPCEP].limit.perSecond() }
		share := NewFleetShare(c, fleetTTL)
		share.Unknown()
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Facts(short, connect(service())); err == nil {
			t.Error("a call before the workers were counted")
		}
		share.Count(2, 1)
		_ = sleep(t.Context(), fleetTTL)
		share.Count(2, 1)
		for range 2 {
			share.Unknown()
			if rate() != 500 {
				t.Errorf("%v calls a second", rate())
			}
			_ = sleep(t.Context(), fleetTTL/3)
		}
		_ = sleep(t.Context(), fleetTTL)
		share.Unknown()
		if got := rate(); got < 333 || got > 334 {
			t.Errorf("%v calls a second after one TTL without a count", got)
		}
		if _, err := c.Facts(t.Context(), connect(service())); err != nil {
			t.Error(err)
		}
	})
}
