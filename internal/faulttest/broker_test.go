package faulttest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// TestDuplicates is F2: events come again, side by side and much later, while
// the broker is restarted three times.
func TestDuplicates(t *testing.T) {
	together(t)
	events := times(1000, 5000, 100_000)
	if counts.least() {
		events = 400
	}
	w := newWorld(t, simulator.Config{})
	for i := range 2 {
		w.start(fmt.Sprintf("replica-%d", i), options{slots: 256, rate: 5000}).ready()
	}
	ask := func(i int) approval.Request {
		id := fmt.Sprintf("twice-%d", i)
		switch i % 5 {
		case 0:
			return w.ask(w.connect("payments", stranger), id, approval.OutcomeHeld)
		case 1:
			return w.ask(w.connect("orders", partner), id, approval.OutcomeAccepted)
		case 2:
			return w.ask(w.connect("payments", banned), id, approval.OutcomeRejected)
		case 3:
			return w.ask(w.creation("functions"), id, approval.OutcomeCreated)
		}
		return w.ask(w.creation("hosts"), id, approval.OutcomeCreated)
	}
	var sent []approval.Request
	repeated := 0
	for i := range events {
		if i%10 >= 7 {
			w.send(sent[(i*7919)%len(sent)])
			repeated++
		} else {
			sent = append(sent, ask(i))
		}
		if (i+1)%(events/4) == 0 && i+1 < events {
			w.broker.Restart()
		}
		if (i+1)%10_000 == 0 { // no service has lists as long as all of this would make them
			w.settled(10 * time.Minute)
			for _, c := range w.sim.Connections("") {
				w.sim.Delete(c.ID)
			}
		}
	}
	w.settled(10 * time.Minute)
	// The repeats that are left make no further ends: let them pass, too.
	await(t, 10*time.Minute, "the consumer has delivered everything", func() bool { return w.drained() })
	f := w.judge()
	table.add(t, row{Name: "F2 duplicates, broker restarted thrice", Tries: events, findings: f, Took: w.took(), Note: fmt.Sprintf("%d repeats", repeated)})
}

// drained reports whether no request is left with the consumer.
func (w *world) drained() bool {
	c, err := w.js.Consumer(w.t.Context(), requestsStream, consumerName)
	if err != nil {
		return false
	}
	info := c.CachedInfo()
	return info.NumPending == 0 && info.NumAckPending == 0
}

// TestBrokerRestarts is F9: the broker goes and comes under load; the same is
// done with containers in internal/e2e.
func TestBrokerRestarts(t *testing.T) {
	t.Parallel()
	restarts := times(2, 5, 50)
	if counts.least() {
		restarts = 1 // which takes longest
	}
	w := newWorld(t, simulator.Config{})
	p := w.start("worker", options{}).ready()
	var f findings
	var slowest time.Duration
	for i := range restarts {
		w.mixed(12, fmt.Sprintf("restart-%d", i))
		w.broker.Stop()
		before := strings.Count(p.log.String(), "\n")
		down := 2 * time.Second
		if i == 0 {
			down = 12 * time.Second // longer than AckWait
		}
		pass(t.Context(), down)
		if lines := strings.Count(p.log.String(), "\n") - before; lines > 20 {
			f.wrong("restart %d: %d log lines in %s without a broker, more than 20", i, lines, down)
		}
		if !p.answers("/livez") || !until(t.Context(), 20*time.Second, func() bool { return !p.answers("/readyz") }) {
			f.wrong("restart %d: without a broker the worker must be alive and not ready", i)
		}
		w.broker.Start()
		back := time.Now()
		r := w.ask(w.connect("payments", banned), fmt.Sprintf("first-%d", i), approval.OutcomeRejected)
		if !until(t.Context(), time.Minute, func() bool { return w.hasResult(r) }) {
			f.lost("restart %d: the first request after it has no result", i)
		}
		slowest = max(slowest, turns.own(back, time.Now()))
	}
	if timed() && slowest > 5*time.Second {
		f.wrong("the first request was done %s after the broker was back, not within 5 s", slowest)
	}
	if p.ended() {
		f.wrong("the worker ended while the broker was away")
	}
	w.settled(time.Minute)
	f.join(w.judge())
	table.add(t, row{Name: "F9 broker restarted", Tries: restarts, findings: f, Took: w.took(), Note: fmt.Sprintf("first result after %.1f s at most", slowest.Seconds())})
}

// hasResult reports whether r has ended in a result.
func (w *world) hasResult(r approval.Request) bool {
	s, err := w.js.Stream(w.t.Context(), resultsStream)
	if err != nil {
		return false
	}
	info, err := s.Info(w.t.Context(), jetstream.WithSubjectFilter("vpcep.results.*.*."+r.ID))
	return err == nil && len(info.State.Subjects) > 0
}

// TestBrokerRolledBack is F10: the broker comes back as it was a while ago, and
// has forgotten requests, decisions and results that it had acknowledged.
func TestBrokerRolledBack(t *testing.T) {
	t.Parallel()
	n := times(5, 10, 200)
	const interval = 5 * time.Second
	old := time.Now().Add(-time.Hour)
	w := newWorld(t, simulator.Config{})
	connect := func(domain string) approval.Request {
		return w.connectAs("payments", simulator.Connection{DomainID: domain, State: simulator.PendingAcceptance, CreatedAt: old})
	}
	batch := func(name string, domain string, end approval.Outcome) []approval.Request {
		var out []approval.Request
		for i := range n {
			out = append(out, w.ask(connect(domain), fmt.Sprintf("%s-%d", name, i), end))
		}
		return out
	}
	patience := time.Duration(times(60, 60, 180)) * time.Second
	p := w.start("before", options{slots: 256}).ready()
	batch("remembered", partner, approval.OutcomeAccepted)
	batch("remembered-no", banned, approval.OutcomeRejected)
	w.settled(patience)

	// What comes now will be forgotten: the settled, and the pending.
	w.broker.Stop()
	snapshot := w.dir + "/snapshot"
	if err := os.CopyFS(snapshot, os.DirFS(w.dir+"/jetstream")); err != nil {
		t.Fatal(err)
	}
	w.broker.Start()
	w.forget(batch("settled", partner, ""))
	await(t, patience, "what will be forgotten is settled", func() bool { return w.stored(resultsStream) >= 3*n })
	if _, _, err := p.terminate(15 * time.Second); err != nil {
		t.Fatal(err)
	}
	known, err := w.look()
	if err != nil {
		t.Fatal(err)
	}
	var pending []approval.Request
	pending = append(pending, batch("pending", partner, "")...)
	pending = append(pending, batch("pending-no", banned, "")...)
	w.forget(pending)
	w.broker.Stop()
	if err := os.RemoveAll(w.dir + "/jetstream"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(snapshot, w.dir+"/jetstream"); err != nil {
		t.Fatal(err)
	}
	w.broker.Start()

	told := w.stored(requestsStream)
	w.start("after", options{sweep: interval.String(), slots: 256}).ready()
	back := time.Now() // for who works again; a start takes as long as the machine does
	for _, r := range pending {
		end := approval.OutcomeAccepted
		if w.truths[r.Subject()].Denied {
			end = approval.OutcomeRejected
		}
		found := "vpcep-approver/sweep"
		w.note(asked{RequestID: approval.RequestID(found, r.Target.Name+"/"+r.EndpointID), Subject: r.Subject(), Mark: r.EndpointID, Outcomes: []approval.Outcome{end}})
	}
	until(t.Context(), patience, func() bool { return w.stored(requestsStream) >= told+len(pending) })
	swept := turns.own(back, time.Now())
	w.settled(patience)
	h, err := w.look()
	if err != nil {
		t.Fatal(err)
	}
	for id, versions := range known.Entries { // that were there when it was done
		if _, ok := h.Entries[id]; !ok {
			h.Entries[id] = versions
		}
	}
	f := check(h)
	if timed() && swept > interval+5*time.Second {
		f.wrong("the sweep had found what was forgotten %s after the broker was back, not within its interval of %s", swept, interval)
	}
	table.add(t, row{Name: "F10 broker rolled back", Tries: 5 * n, findings: f, Took: w.took(), Note: fmt.Sprintf("all found after %.1f s", swept.Seconds())})
}

// forget takes requests out of what was asked: the broker will not know of them.
func (w *world) forget(requests []approval.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := map[string]bool{}
	for _, r := range requests {
		gone[r.ID] = true
	}
	var kept []asked
	for _, a := range w.asked {
		if !gone[a.RequestID] {
			kept = append(kept, a)
		}
	}
	w.asked = kept
}

// forgetBad takes the bad events out of what was asked.
func (w *world) forgetBad() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = slices.DeleteFunc(w.asked, func(a asked) bool { return a.Bad })
}

// TestConsumerDeleted is F12: the consumer, the stream of dead letters and the
// requests themselves are deleted under a running worker.
func TestConsumerDeleted(t *testing.T) {
	t.Parallel()
	deletions := []struct {
		name string
		do   func(w *world) error
	}{
		{"consumer", func(w *world) error { return w.js.DeleteConsumer(w.t.Context(), requestsStream, consumerName) }},
		{"dead letters", func(w *world) error {
			w.forgetBad() // they were deleted
			return w.js.DeleteStream(w.t.Context(), deadStream)
		}},
		{"requests", func(w *world) error { return w.js.DeleteStream(w.t.Context(), requestsStream) }},
	}
	for _, tt := range deletions {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, simulator.Config{})
			p := w.start("worker", options{}).ready()
			w.mixed(12, "before")
			w.settled(30 * time.Second)
			var f findings
			var slowest time.Duration
			tries := times(1, 2, 20)
			for i := range tries {
				if err := tt.do(w); err != nil {
					t.Fatal(err)
				}
				gone := time.Now()
				w.mixed(6, fmt.Sprintf("after-%d", i))
				w.malformed(fmt.Sprintf("after-%d", i))
				w.settled(time.Minute)
				slowest = max(slowest, turns.own(gone, time.Now()))
			}
			if timed() && slowest > 10*time.Second {
				f.wrong("what came after the deletion was done after %s, not within 10 s", slowest)
			}
			if !strings.Contains(p.log.String(), `"level":"warn"`) && !strings.Contains(p.log.String(), `"level":"error"`) {
				f.wrong("no line of the log warns of the deletion")
			}
			f.join(w.judge())
			table.add(t, row{Name: "F12 deleted: " + tt.name, Tries: tries, findings: f, Took: w.took(), Note: fmt.Sprintf("all done %.1f s after it", slowest.Seconds())})
		})
	}
}

// TestResultsFull is F16: the stream of results takes no more, and later does.
func TestResultsFull(t *testing.T) {
	t.Parallel()
	n := times(30, 60, 5000)
	w := newWorld(t, simulator.Config{})
	room := jetstream.StreamConfig{
		Name: resultsStream, Subjects: []string{"vpcep.results.>"}, Discard: jetstream.DiscardNew,
		MaxMsgs: 10, MaxAge: 90 * 24 * time.Hour, AllowDirect: true,
	}
	if _, err := w.js.CreateStream(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	p := w.start("worker", options{slots: 256}).ready()
	w.mixed(n, "full")
	await(t, 2*time.Minute, "the results are full", func() bool { return w.stored(resultsStream) >= 10 })
	pass(t.Context(), 5*time.Second)
	var f findings
	c, err := w.js.Consumer(t.Context(), requestsStream, consumerName)
	if err != nil {
		t.Fatal(err)
	}
	info := c.CachedInfo()
	if acked := n - info.NumAckPending - int(info.NumPending); acked > 10 {
		f.lost("%d requests were acknowledged and there was room for 10 results", acked)
	}
	if !until(t.Context(), time.Minute, func() bool { return p.metric("vpcep_approver_results_published_total", `result="error"`) > 0 }) {
		f.wrong("no metric tells that results cannot be published")
	}
	memory := p.memory()
	room.MaxMsgs = -1
	if _, err := w.js.UpdateStream(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	w.settled(time.Duration(times(90, 90, 900)) * time.Second)
	f.join(w.judge())
	table.add(t, row{Name: "F16 results full", Tries: n, findings: f, Took: w.took(), Note: fmt.Sprintf("%d MiB", memory>>20)})
}
