package faulttest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// takeover is the time within which another worker has to go on: AckWait of the
// consumer and two seconds.
const takeover = 12 * time.Second

// TestKilled is F1: workers die by SIGKILL at each named point, each with
// requests in progress, and another one goes on.
func TestKilled(t *testing.T) {
	t.Parallel()
	tries := times(1, 3, 100)
	at := points()
	switch { // the next test runs at each point
	case counts.least(): // decided, done, and told
		at = []string{"after-record", "after-act", "after-publish"}
	case counts.short:
		// What was sent there is looked for over most of a minute.
		at = slices.DeleteFunc(at, func(point string) bool { return point == "before-create" })
	}
	for _, point := range at {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			cfg := simulator.Config{}
			if strings.HasSuffix(point, "-note") { // nothing is noted of an act that shows immediately
				cfg.Delays.Accept = 700 * time.Millisecond
			}
			k := &killing{world: newWorld(t, cfg), point: point}
			for k.done < tries {
				k.wave(min(tries-k.done, 3))
			}
			f := k.judge()
			if timed() && k.longest > takeover+time.Second { // until it is seen from here
				f.wrong("what was in progress resumed %s after the death, not within %s", k.longest.Round(time.Millisecond), takeover)
			}
			note := fmt.Sprintf("taken over after %.1f s at most", k.longest.Seconds())
			if k.creations() {
				note = "what was sent is looked for before it is sent again"
			}
			table.add(t, row{Name: "F1 SIGKILL " + point, Tries: tries, findings: f, Took: k.took(), Note: note})
		})
	}
}

// TestDeathAtEachPoint is F1 in simulated time, with requests of all kinds: each dies
// once at each point.
func TestDeathAtEachPoint(t *testing.T) {
	together(t)
	requests := times(30, 100, 1000)
	for _, point := range points() {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			simulated(t, func(t *testing.T) {
				r := newRig(t, 2, 50, simulator.Config{Delays: walk()}, loadPolicies(t, policies()))
				begin := time.Now()
				var mu sync.Mutex
				died := map[string]bool{}
				r.doom = func(at string, req approval.Request) doom {
					mu.Lock()
					defer mu.Unlock()
					if at != point || died[req.ID] {
						return doom{}
					}
					died[req.ID] = true
					return doom{Kill: true}
				}
				for i := range requests {
					id := fmt.Sprintf("death-%d", i)
					switch i % 4 {
					case 0:
						r.submit(r.event(r.connect("payments", partner), id, approval.OutcomeAccepted))
					case 1:
						r.submit(r.event(r.connect("orders", banned), id, approval.OutcomeRejected))
					default: // not those that nobody can look for, which end as unknown
						r.submit(r.event(r.creation([]string{"functions", "hosts"}[i%2]), id, approval.OutcomeCreated))
					}
				}
				f := r.judge()
				if len(died) < requests/5 {
					f.wrong("%d of %d requests died", len(died), requests)
				}
				table.add(t, row{Name: "F1 death " + point, Tries: len(died), findings: f, Took: time.Since(begin), Note: "simulated time"})
			})
		})
	}
}

// killing is a world in which workers die at one point.
type killing struct {
	*world
	point   string
	done    int // workers killed
	batches int
	longest time.Duration // from the last death until all connections were settled, without the start of who did it
}

// creations reports whether creations are among the requests. What was sent and
// not answered is looked for over most of a minute, so only the points of
// creations wait for that.
func (k *killing) creations() bool { return strings.HasSuffix(k.point, "create") }

func (k *killing) requests() {
	k.t.Helper()
	for i := range 6 {
		id := fmt.Sprintf("%s-%d-%d", k.point, k.batches, i)
		target := []string{"payments", "orders"}[i%2]
		switch {
		case i < 2 && k.creations():
			k.ask(k.creation([]string{"functions", "hosts"}[i]), id, approval.OutcomeCreated)
		case i == 4:
			k.ask(k.connect(target, banned), id, approval.OutcomeRejected)
		case i == 5:
			k.ask(k.connect(target, stranger), id, approval.OutcomeHeld)
		default:
			k.ask(k.connect(target, partner), id, approval.OutcomeAccepted)
		}
	}
	k.batches++
}

// wave starts n workers that die, gives them requests until they have, and then
// lets another one finish.
func (k *killing) wave(n int) {
	k.t.Helper()
	var doomed []*process
	for i := range n {
		doomed = append(doomed, k.start(fmt.Sprintf("doomed-%d", k.done+i), options{env: []string{"FAILPOINT_AT=" + k.point}}))
	}
	for _, p := range doomed {
		p.ready()
	}
	dead := func() (n int) {
		for _, p := range doomed {
			if p.ended() {
				n++
			}
		}
		return n
	}
	for _, p := range doomed {
		if p.ended() {
			continue
		}
		before := dead()
		k.requests()
		if !until(k.t.Context(), time.Minute, func() bool {
			now := dead()
			if !p.ended() && (k.ends() >= k.wanted() || k.creations() && now > before) {
				k.requests() // the others took them all, or died of them: what they sent is not sent again soon
				before = now
			}
			return p.ended()
		}) {
			k.t.Fatalf("worker %s did not come to %s:\n%s", p.name, k.point, tail(p.log.String(), 10))
		}
	}
	k.done += n
	died := time.Now()
	heir := k.start(fmt.Sprintf("heir-%d", k.done), options{}).ready()
	defer heir.kill()
	ready := time.Now()
	k.settled(3 * time.Minute) // a creation is looked for long before it is sent again
	if k.creations() {
		return
	}
	// AckWait goes on while the heir starts; what it does after that takes two seconds.
	late := turns.own(ready, time.Now()) - max(0, ackWait-ready.Sub(died))
	k.longest = max(k.longest, ackWait+max(0, late))
}
