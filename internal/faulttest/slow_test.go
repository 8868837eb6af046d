package faulttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// TestSlowAPILeavesOthersAlone is F5 in simulated time: of the worker's slots only some
// wait for the slow API, and requests to others take no longer than without.
func TestSlowAPILeavesOthersAlone(t *testing.T) {
	together(t)
	queued, asked := times(200, 400, 10_000), times(50, 50, 1000)
	simulated(t, func(t *testing.T) {
		r := newRig(t, 1, 50, simulator.Config{Delays: walk()}, loadPolicies(t, policies()))
		r.replicas[0].Slots = worker.NewTargetSlots(64, len(targets()), time.Now)
		begin := time.Now()
		var slow atomic.Bool // lists are read by goroutines that outlive a request
		r.fault = func(req *http.Request) netFault {
			if api(req) == cloud.APIAPIG && slow.Load() {
				return netFault{Delay: 20 * time.Second}
			}
			return netFault{}
		}
		var f findings
		measure := func(prefix string) time.Duration {
			var took []time.Duration
			var all []approval.Request
			for i := range asked {
				domain := []string{banned, stranger}[i%2]
				req := r.event(r.connect("payments", domain), fmt.Sprintf("%s-%d", prefix, i), verdicts[domain])
				r.submit(req)
				all = append(all, req)
				pass(t.Context(), 100*time.Millisecond)
			}
			pass(t.Context(), time.Minute)
			for _, req := range all {
				versions, err := r.versions(req.ID)
				if err != nil || r.outcome(req.ID) == "" {
					f.lost("%s has not ended after a minute: %v", req.EventID, err)
					continue
				}
				took = append(took, versions[len(versions)-1].At.Sub(req.Time))
			}
			if !f.none() {
				return time.Hour
			}
			slices.Sort(took)
			return took[len(took)*99/100]
		}
		normal := measure("normal")
		slow.Store(true)
		for i := range queued {
			r.submit(r.event(r.connect("orders", banned), fmt.Sprintf("slow-%d", i), approval.OutcomeRejected))
		}
		slowed := measure("slowed")
		waited := queued - r.sim.Counters().Count(simulator.EffectReject, simulator.APIG)
		slow.Store(false)
		f.join(r.judge())
		if slowed > 2*normal {
			f.wrong("with a slow API 99 of 100 requests took up to %s, without up to %s", slowed, normal)
		}
		if waited == 0 {
			f.wrong("nothing waited for the slow API")
		}
		table.add(t, row{Name: "F5 one slow API", Tries: queued + 2*asked, findings: f, Took: time.Since(begin), Note: fmt.Sprintf("p99 %s, without %s, %d waited, simulated time", slowed, normal, waited)})
	})
}

// TestSlowAPI is F5: one API takes 20 s for each answer, with a queue before it;
// requests to others are as quick as ever. It measures a worker, so nothing else runs
// meanwhile.
func TestSlowAPI(t *testing.T) {
	counted(t) // it needs the machine for itself; TestSlowAPILeavesOthersAlone does not
	queued, asked := times(0, 400, 10_000), times(0, 50, 1000)
	const every = 100 * time.Millisecond
	w := newWorld(t, simulator.Config{})
	p := w.start("worker", options{slots: 256}).ready()
	measure := func(prefix string) time.Duration {
		ids := map[string]bool{}
		for i := range asked {
			ids[w.ask(w.connect("payments", []string{banned, stranger}[i%2]), fmt.Sprintf("%s-%d", prefix, i)).ID] = true
			pass(t.Context(), every)
		}
		var took []time.Duration
		await(t, 2*time.Minute, "all of "+prefix, func() bool {
			took = took[:0]
			for _, l := range w.lives(ids) {
				took = append(took, l.ended.Sub(l.asked))
			}
			return len(took) == len(ids)
		})
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	normal := measure("normal")
	w.sim.Inject(simulator.Fault{API: simulator.APIG, Kind: simulator.Slow, Delay: 20 * time.Second})
	for i := range queued {
		w.ask(w.connect("orders", banned), fmt.Sprintf("slow-%d", i), approval.OutcomeRejected)
	}
	// What else the machine does touches one round, what the API does touches all.
	slowed := measure("slowed-0")
	for i := 1; i < 3 && slowed > 2*normal; i++ {
		slowed = min(slowed, measure(fmt.Sprintf("slowed-%d", i)))
	}
	memory := p.peak()
	w.sim.ClearFaults()
	w.settled(time.Duration(times(0, 120, 1800)) * time.Second)
	f := w.judge()
	if timed() && slowed > 2*normal {
		f.wrong("with a slow API 99 of 100 requests took up to %s, without up to %s", slowed, normal)
	}
	if memory > 256<<20 {
		f.wrong("the worker held up to %d MiB, more than 256", memory>>20)
	}
	table.add(t, row{Name: "F5 one slow API", Tries: queued + 2*asked, findings: f, Took: w.took(), Note: fmt.Sprintf("p99 %.0f ms, without %.0f ms; %d MiB", slowed.Seconds()*1000, normal.Seconds()*1000, memory>>20)})
}

// lifespan is when the broker stored a request's event and its result.
type lifespan struct{ asked, ended time.Time }

// lives returns the lives of those of these requests that have ended.
func (w *world) lives(ids map[string]bool) map[string]lifespan {
	begun, out := map[string]time.Time{}, map[string]lifespan{}
	if err := w.read(requestsStream, nil, func(m jetstream.Msg) {
		meta, err := m.Metadata()
		var body struct{ ID string }
		if err == nil && json.Unmarshal(m.Data(), &body) == nil {
			begun[approval.RequestID(source, body.ID)] = meta.Timestamp
		}
	}); err != nil {
		return nil
	}
	if err := w.read(resultsStream, nil, func(m jetstream.Msg) {
		meta, err := m.Metadata()
		id := m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:]
		if err == nil && ids[id] {
			out[id] = lifespan{asked: begun[id], ended: meta.Timestamp}
		}
	}); err != nil {
		return nil
	}
	return out
}
