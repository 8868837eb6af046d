package cloud

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// busiest returns the largest number of times within any window.
func busiest(times []time.Time, window time.Duration) int {
	most := 0
	for i, from := range times {
		n := 0
		for _, at := range times[i:] {
			if at.Sub(from) < window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func TestRateHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var times []time.Time
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
			return says(200, rowsJSON(0))
		}), func(cfg *Config) { cfg.RatePerSecond = 10 })
		if n := failures(callAll(t.Context(), c, 100)); n != 0 {
			t.Errorf("%d failures", n)
		}
		if n := busiest(times, time.Second); n > 10 {
			t.Errorf("%d calls within a second", n)
		}
		if took := times[99].Sub(times[0]); took > 10*countedFor {
			t.Errorf("100 calls took %v", took)
		}
	})
}

func TestConcurrencyHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
			n := now.Add(1)
			defer now.Add(-1)
			most.Store(max(most.Load(), n))
			_ = sleep(r.Context(), time.Second)
			return says(200, rowsJSON(0))
		}), func(cfg *Config) { cfg.Concurrency, cfg.RatePerSecond = 7, 10000 })
		callAll(t.Context(), c, 50)
		if most.Load() != 7 {
			t.Errorf("%d concurrent calls", most.Load())
		}
	})
}

// TestThrottling: every form of throttling pauses the host, no call is made before the
// end of the pause, and all calls succeed.
func TestThrottling(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, code string
		status     int
		after      time.Duration
	}{
		{"429", "APIGW.0308", 429, 0},
		{"429 without a code", "", 429, 3 * time.Second},
		{"429 with Retry-After", "APIG.0308", 429, 7 * time.Second},
		{"400", "EndPoint.0022", 400, 0},
		{"500", "APIG.9008", 500, 4 * time.Second},
		{"503 that names a time", "", 503, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var times []time.Time
				var until time.Time
				early := 0
				c := client(t, script(func(*http.Request, string) (*http.Response, error) {
					mu.Lock()
					times = append(times, time.Now())
					n := len(times)
					if time.Now().Before(until) {
						early++
					}
					mu.Unlock()
					_ = sleep(t.Context(), 20*time.Millisecond) // the next one waits for the rate meanwhile
					mu.Lock()
					defer mu.Unlock()
					if n == 20 || n == 60 {
						until = time.Now().Add(minThrottlePause)
						header := []string{}
						if tt.after > 0 {
							header = []string{"Retry-After", strconv.Itoa(int(tt.after.Seconds()))}
							until = time.Now().Add(tt.after)
						}
						return says(tt.status, errorJSON(tt.code), header...)
					}
					return says(200, rowsJSON(0))
				}), func(cfg *Config) { cfg.RatePerSecond = 20 })
				if n := failures(callAll(t.Context(), c, 100)); n != 0 {
					t.Errorf("%d did not finish", n)
				}
				if early > 0 {
					t.Errorf("%d calls came before their time", early)
				}
				if n := busiest(times, time.Second); n > 20 {
					t.Errorf("%d calls within a second", n)
				}
			})
		})
	}
}

// TestRateFallsAndRises: throttling halves the rate once for each wave, and the
// configured rate is back half a minute later.
func TestRateFallsAndRises(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{}
		l := newLimit("x", 100, 64, w)
		start := time.Now()
		_ = sleep(t.Context(), time.Second)
		l.throttled(start, 0) // a wave: all of them began before the first answer
		first := l.limiter.Limit()
		for range 30 {
			l.throttled(start, 0)
		}
		if first != 50 || l.limiter.Limit() != 50 {
			t.Errorf("the rate fell to %v, then %v", first, l.limiter.Limit())
		}
		_ = sleep(t.Context(), 3*time.Second)
		second := l.throttled(time.Now(), 0)
		if l.limiter.Limit() >= 50 || second < 2*minThrottlePause {
			t.Errorf("a second wave: rate %v, pause %v", l.limiter.Limit(), second)
		}
		_ = sleep(t.Context(), second)
		low := l.limiter.Limit()
		_ = sleep(t.Context(), recoveryTime/4)
		if err := l.acquire(t.Context(), laneRead, false); err != nil {
			t.Fatal(err)
		}
		l.release()
		if at := l.limiter.Limit(); at < low+24 || at > low+26 {
			t.Errorf("after a quarter of the time %v, from %v", at, low)
		}
		_ = sleep(t.Context(), recoveryTime)
		l.next()
		if at := l.limiter.Limit(); at != 100 {
			t.Errorf("in the end %v", at)
		}
		for range 100 {
			l.throttled(time.Now(), 0)
		}
		if at := l.limiter.Limit(); at < 100.0/maxRateCut {
			t.Errorf("the rate fell to %v", at)
		}
	})
}

// TestLongPause: a long pause is returned as an error with its time.
func TestLongPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			calls++
			return says(429, "", "Retry-After", "600")
		}))
		for range 3 {
			_, err := c.Create(t.Context(), creation(approval.HSS))
			if e, ok := asError(err); !ok || e.Class != ClassThrottle || e.RetryAfter() != 10*time.Minute || e.OutcomeUnknown() {
				t.Errorf("error %v, retry after %v", err, e.RetryAfter())
			}
		}
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
		if _, err := c.Facts(t.Context(), connect(service())); !is(err, ClassThrottle) {
			t.Errorf("another host: %v", err) // it answers so itself
		}
	})
}

func TestLimitEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimit("x", 0.01, 1, noopObserver{})
		if err := l.acquire(t.Context(), laneRead, false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 3 {
			if err := l.acquire(ctx, laneRead, false); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("enter: %v", err)
			}
		}
		l.release()
		if err := l.acquire(ctx, laneRead, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("enter: %v", err)
		}
	})
}

// TestBreaker: an API that is down for half an hour is probed once a second at
// most, no request fails, and calls resume immediately when it is back.
func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var times []time.Time
		down := true
		w := &watcher{}
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
			if down {
				return says(503, "")
			}
			return says(200, rowsJSON(0))
		}), func(cfg *Config) { cfg.Observer, cfg.RatePerSecond = w, 100 })
		begin := time.Now()
		for time.Since(begin) < 30*time.Minute {
			for _, err := range callAll(t.Context(), c, 16) {
				if e, ok := asError(err); !ok || !e.Retryable() || e.OutcomeUnknown() || e.Class == ClassOpen && (e.RetryAfter() < time.Second || e.RetryAfter() > 25*time.Second) {
					t.Fatalf("error %v", err)
				}
			}
			_ = sleep(t.Context(), 500*time.Millisecond)
		}
		open := slices.IndexFunc(w.breaker, func(s string) bool { return s == "vpcep open" })
		if open < 0 {
			t.Fatal("the breaker never opened")
		}
		if n := busiest(times[breakerFailures:], time.Second); n > 1 {
			t.Errorf("%d probes within a second", n)
		}
		if n := len(times); n < 600 {
			t.Errorf("only %d probes in half an hour", n)
		}
		down = false
		_ = sleep(t.Context(), time.Second)
		callAll(t.Context(), c, 1)
		if n := failures(callAll(t.Context(), c, 16)); n != 0 {
			t.Errorf("%d failures once it is back", n)
		}
		if last := w.breaker[len(w.breaker)-1]; last != "vpcep closed" {
			t.Errorf("last state %q", last)
		}
	})
}

// TestOpenBreakerAnswersAtOnce: a call that an open breaker refuses does not queue.
func TestOpenBreakerAnswersAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, script(func(*http.Request, string) (*http.Response, error) { return says(503, "") }),
			func(cfg *Config) { cfg.RatePerSecond = 1 })
		for range breakerFailures {
			_, _ = c.Create(t.Context(), creation(approval.HSS))
		}
		begin := time.Now()
		for range 20 {
			_, err := c.Create(t.Context(), creation(approval.HSS))
			if e, ok := asError(err); !ok || e.Class != ClassOpen || e.OutcomeUnknown() {
				t.Errorf("error %v", err)
			}
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestBreakerStopsTheQueue: calls that wait for the rate when the breaker opens
// are not made.
func TestBreakerStopsTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		good := int32(5)
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			if calls.Add(1) <= good {
				return says(200, rowsJSON(0))
			}
			return says(503, "")
		}), func(cfg *Config) { cfg.RatePerSecond = 10 })
		begin := time.Now()
		callAll(t.Context(), c, 200)
		if n, most := int(calls.Load())-int(good), breakerFailures+int(time.Since(begin).Seconds())+2; n > most {
			t.Errorf("%d calls to a dead API in %v", n, time.Since(begin))
		}
	})
}

// TestSlowRateOfOneAPI: HSS admits 5 calls a minute. Creations succeed at that rate, each
// with a read before and after; no call waits for minutes, none fails, and other APIs
// keep their own rate.
func TestSlowRateOfOneAPI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var times []time.Time
		created := map[string]int{}
		c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if !strings.HasPrefix(r.URL.Host, "hss.") {
				return says(200, rowsJSON(0))
			}
			times = append(times, time.Now())
			_, host, _ := strings.Cut(body, `["`)
			host, _, _ = strings.Cut(host, `"`)
			if !strings.HasSuffix(r.URL.Path, "batch-query") {
				created[host]++
				return says(200, "")
			}
			if created[host] == 0 {
				return says(200, `{"data_list":[]}`)
			}
			return says(200, fmt.Sprintf(`{"data_list":[{"host_id":%q,"status":"accepted"}]}`, host))
		}), func(cfg *Config) { cfg.RatePerSecond, cfg.Rates = 100, map[string]float64{APIHSS: 5.0 / 60} })

		const requests = 12
		var longest atomic.Int64
		// try makes a call as the worker does: what is put off comes again later.
		try := func(call func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			begin := time.Now()
			err := call(ctx)
			longest.Store(max(longest.Load(), int64(time.Since(begin))))
			if err == nil {
				return nil
			}
			e, ok := asError(err)
			if !ok || !e.Retryable() || e.OutcomeUnknown() {
				t.Errorf("error %v", err)
			}
			_ = sleep(t.Context(), max(time.Second, e.RetryAfter()))
			return err
		}
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range requests {
			wg.Go(func() {
				req := creation(approval.HSS)
				req.Creation.HSS.HostIDs, req.Creation.HSS.VPCs = []string{ids(requests)[i]}, nil
				sent := false
				for time.Since(begin) < time.Hour {
					var look approval.Look
					if try(func(ctx context.Context) (err error) { look, err = c.Look(ctx, req, nil); return err }) != nil {
						continue
					}
					if look.Created != nil {
						return
					}
					if !sent {
						sent = try(func(ctx context.Context) error { _, err := c.Create(ctx, req); return err }) == nil
					}
				}
			})
		}
		for range 20 { // others do not wait for it
			if n := failures(callAll(t.Context(), c, 50)); n > 0 {
				t.Errorf("%d calls of another API failed", n)
			}
			_ = sleep(t.Context(), time.Second)
		}
		wg.Wait()
		if n := busiest(times, time.Minute); n > 5 {
			t.Errorf("%d calls within a minute", n)
		}
		if took := time.Duration(longest.Load()); took > 35*time.Second {
			t.Errorf("a call took %s", took)
		}
		for host, n := range created {
			if n != 1 {
				t.Errorf("%s was created %d times", host, n)
			}
		}
		// 3 calls each at 12 s are the least.
		if took := time.Since(begin); took > 2*requests*36*time.Second || len(created) != requests {
			t.Errorf("%d created after %s with %d calls", len(created), took, len(times))
		}
		t.Logf("%d creations took %s with %d calls; the longest call took %s", requests, time.Since(begin), len(times), time.Duration(longest.Load()))
	})
}

// TestSlowRateDoesNotHoldUpANewKey: the first call with a new key is not one that waits
// for a slow rate.
func TestSlowRateDoesNotHoldUpANewKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{cred: key("OLD")}
		c := client(t, script(func(*http.Request, string) (*http.Response, error) { return fine() }), func(cfg *Config) {
			cfg.Auth.Source, cfg.Rates = v.read, map[string]float64{APIHSS: 5.0 / 60}
		})
		if err := callOf(t.Context(), c, APIHSS, project); err != nil {
			t.Fatal(err)
		}
		_ = sleep(t.Context(), checkInterval)
		v.put(key("NEW"))
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := callOf(t.Context(), c, APIHSS, project); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		begin := time.Now()
		if err := callOf(t.Context(), c, APIVPCEP, project); err != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		wg.Wait()
	})
}

// TestSharesOfARate: the workers together have all of the rate, and no more calls within
// a second than it allows; with more workers than calls each has one.
func TestSharesOfARate(t *testing.T) {
	t.Parallel()
	for _, fleet := range []float64{0.5, 1, 1.5, 10, 50, 999} {
		l := newLimit("x", fleet, 1, noopObserver{})
		for workers := 1; workers <= 60; workers++ {
			sum, most := 0.0, 0
			for rank := range workers {
				rate, calls := l.shareOf(workers, rank)
				if calls < 1 {
					t.Fatalf("%v a second: worker %d of %d may make no call", fleet, rank, workers)
				}
				sum, most = sum+float64(rate), most+calls
			}
			if allowed := max(workers, int(math.Ceil(fleet))); most > allowed || sum > fleet*1.0001 || sum < fleet*0.998 {
				t.Errorf("%v a second: %d workers have %d calls within a second and %v in the mean", fleet, workers, most, sum)
			}
		}
	}
}

// TestUnusedCallsDoNotCount: what was let pass and not sent leaves its place in the second
// to the next call.
func TestUnusedCallsDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimit("x", 10, 64, noopObserver{})
		sent := 0
		for begin := time.Now(); time.Since(begin) < 10*time.Second; {
			if err := l.acquire(t.Context(), laneRead, false); err != nil {
				t.Fatal(err)
			}
			l.releaseUnused()
			if err := l.acquire(t.Context(), laneRead, false); err != nil {
				t.Fatal(err)
			}
			l.sent(time.Now())
			l.release()
			sent++
		}
		if sent < 97 || sent > 100 {
			t.Errorf("%d calls in 10 s, want nearly 100", sent)
		}
		// All that may pass within a second are about to be sent.
		_ = sleep(t.Context(), countedFor)
		for range 10 {
			if err := l.acquire(t.Context(), laneRead, false); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			_ = sleep(t.Context(), 5*time.Second)
			l.releaseUnused()
		}()
		begin := time.Now()
		if err := l.acquire(t.Context(), laneRead, false); err != nil || time.Since(begin) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}
