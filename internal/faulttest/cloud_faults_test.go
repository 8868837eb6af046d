package faulttest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// simulated runs f in simulated time, which stands still while anything runs.
func simulated(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// walk are the delays of a cloud that takes its time.
func walk() simulator.Delays {
	return simulator.Delays{Accept: 2 * time.Second, ListLag: time.Second}
}

// mixed asks for n connections of every account, on both targets.
func (r *rig) mixed(n int, prefix string) {
	domains := []string{partner, banned, partner, stranger}
	ends := map[string]approval.Outcome{partner: approval.OutcomeAccepted, banned: approval.OutcomeRejected, stranger: approval.OutcomeHeld}
	for i := range n {
		domain := domains[i%len(domains)]
		target := []string{"payments", "orders"}[i/4%2]
		r.submit(r.event(r.connect(target, domain), fmt.Sprintf("%s-%d", prefix, i), ends[domain]))
	}
}

// TestAPIDown is F6: the API is away for half an hour while requests come.
func TestAPIDown(t *testing.T) {
	together(t)
	requests := times(60, 300, 3000)
	const outage = 30 * time.Minute
	down := map[string]netFault{
		"connection refused": {Refused: true},
		"cut off":            {Before: true},
		"503 of a gateway":   {Status: http.StatusServiceUnavailable, Body: "<html>503 Service Unavailable</html>", Header: map[string]string{"Content-Type": "text/html"}},
		"500 of the API":     {Status: http.StatusInternalServerError, Body: `{"error":{"code":"EndPoint.0001","message":"System error"}}`},
	}
	for name, fault := range down {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulated(t, func(t *testing.T) {
				r := newRig(t, 1, 50, simulator.Config{Delays: walk()}, loadPolicies(t, policies()))
				begin := time.Now()
				var mu sync.Mutex
				probes := map[string][]time.Time{}
				r.fault = func(req *http.Request) netFault {
					if time.Since(begin) >= outage {
						return netFault{}
					}
					mu.Lock()
					defer mu.Unlock()
					probes[api(req)] = append(probes[api(req)], time.Now())
					return fault
				}
				r.mixed(requests, "down")
				f := r.judge()
				if after := time.Since(begin) - outage; after > time.Minute {
					f.wrong("what waited was done %s after the API was back, not within a minute", after)
				}
				for name, at := range probes {
					if most := mostIn(at[min(len(at), 2*8):], time.Second); most > 1 {
						f.wrong("%s was probed %d times within a second", name, most)
					}
				}
				table.add(t, row{Name: "F6 API down 30 min, " + name, Tries: requests, findings: f, Took: time.Since(begin), Note: "simulated time"})
			})
		})
	}
}

// mostIn returns how many of these times, which are in order, lie within any
// span of length d that does not include its end.
func mostIn(times []time.Time, d time.Duration) int {
	most, first := 0, 0
	for i, at := range times {
		for at.Sub(times[first]) >= d {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// TestThrottling is F7: the cloud throttles, in all its disguises.
func TestThrottling(t *testing.T) {
	together(t)
	requests := times(60, 200, 2000)
	disguises := map[string]func() netFault{
		"429 with Retry-After": func() netFault {
			return netFault{Status: http.StatusTooManyRequests, Body: `{"error_code":"APIGW.0308","error_msg":"Throttled"}`, Header: map[string]string{"Retry-After": "7"}}
		},
		"400 EndPoint.0022": func() netFault {
			return netFault{Status: http.StatusBadRequest, Body: `{"error":{"code":"EndPoint.0022","message":"Too many requests"}}`}
		},
		"500 APIG.9008": func() netFault {
			return netFault{Status: http.StatusInternalServerError, Body: `{"error_code":"APIG.9008","error_msg":"Too many requests"}`, Header: map[string]string{"Retry-After": "3"}}
		},
	}
	for name, disguise := range disguises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulated(t, func(t *testing.T) {
				const rate, burst = 20, 2
				r := newRig(t, 1, rate, simulator.Config{Delays: walk()}, loadPolicies(t, policies()))
				begin := time.Now()
				var mu sync.Mutex
				var early []string
				calls, told, until := map[string][]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
				dice := rand.New(rand.NewPCG(1, 2))
				r.fault = func(req *http.Request) netFault {
					mu.Lock()
					defer mu.Unlock()
					name, now := api(req), time.Now()
					// What was sent before the answer came could not follow it.
					if now.After(told[name]) && now.Before(until[name]) {
						early = append(early, fmt.Sprintf("%s was called %s before its Retry-After", name, until[name].Sub(now)))
					}
					calls[name] = append(calls[name], now)
					if dice.IntN(5) > 0 {
						return netFault{}
					}
					f := disguise()
					if s, err := strconv.Atoi(f.Header["Retry-After"]); err == nil {
						told[name], until[name] = now, now.Add(time.Duration(s)*time.Second)
					}
					return f
				}
				r.mixed(requests, "throttled")
				f := r.judge()
				f.Wrong = append(f.Wrong, early...)
				for name, at := range calls {
					if most := mostIn(at, time.Second); most > rate+burst {
						f.wrong("%s was called %d times within a second, the rate is %d", name, most, rate)
					}
				}
				table.add(t, row{Name: "F7 throttled, " + name, Tries: requests, findings: f, Took: time.Since(begin), Note: "simulated time"})
			})
		})
	}
}

// TestLostAnswers is F8: the cloud does what it was asked, and the answer is
// lost, for every call that changes something.
func TestLostAnswers(t *testing.T) {
	together(t)
	requests := times(120, 400, 18_000) // of which about six in ten lose an answer
	simulated(t, func(t *testing.T) {
		r := newRig(t, 2, 500, simulator.Config{Delays: walk()}, loadPolicies(t, policies()))
		begin := time.Now()
		var mu sync.Mutex
		lost := 0
		dice := rand.New(rand.NewPCG(3, 4))
		r.fault = func(req *http.Request) netFault {
			if req.Method != http.MethodPost || strings.HasSuffix(req.URL.Path, "/batch-query") {
				return netFault{}
			}
			mu.Lock()
			defer mu.Unlock()
			if dice.IntN(3) > 0 {
				lost++
				return netFault{After: true}
			}
			return netFault{}
		}
		for i := range requests {
			id := fmt.Sprintf("lost-%d", i)
			switch i % 4 {
			case 0, 1:
				domain, end := partner, approval.OutcomeAccepted
				if i%3 == 0 {
					domain, end = banned, approval.OutcomeRejected
				}
				r.submit(r.event(r.connect([]string{"payments", "orders"}[i/4%2], domain), id, end))
			case 2:
				r.submit(r.event(r.creation("functions"), id, approval.OutcomeCreated))
			case 3:
				r.submit(r.event(r.creation("hosts"), id, approval.OutcomeCreated))
			}
		}
		f := r.judge()
		if n := r.sim.Counters().Reversals; n > 0 {
			f.wrong("%d actions turned an earlier one round", n)
		}
		table.add(t, row{Name: "F8 answers lost after the deed", Tries: lost, findings: f, Took: time.Since(begin), Note: "simulated time"})
	})
}

// TestLostAnswerThatNobodyCanLookFor is the rest of F8: DataArts Insight has no
// call that shows what was created, so a lost answer ends as unknown, unsent.
func TestLostAnswerThatNobodyCanLookFor(t *testing.T) {
	t.Parallel()
	simulated(t, func(t *testing.T) {
		r := newRig(t, 2, 500, simulator.Config{Delays: walk()}, loadPolicies(t, policies()))
		begin := time.Now()
		r.fault = func(req *http.Request) netFault { return netFault{After: req.Method == http.MethodPost} }
		const kinds = 8
		for i := range kinds {
			r.submit(r.event(r.creation("insight"), fmt.Sprintf("blind-%d", i), approval.OutcomeUnknown))
		}
		f := r.judge()
		if n := r.sim.Counters().Count(simulator.EffectCreate, ""); n != kinds {
			f.doubled("%d creations were asked for and %d were sent", kinds, n)
		}
		table.add(t, row{Name: "F8 lost answers of DataArts Insight", Tries: kinds, findings: f, Took: time.Since(begin), Note: "simulated time"})
	})
}
