package faulttest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// plainOnly skips what the plain run measures, as CI does before the run with the
// race detector: that slows the cloud down a lot and changes nothing in the
// worker, which is a binary of its own.
func plainOnly(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("measured without the race detector")
	}
}

// peak is the most that p has ever held of the machine's memory, in bytes, with
// what it has in memory of its own executable. Broker and cloud are in the test's
// own process.
func (p *process) peak() int64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Skipf("this system does not tell the memory of a process: %v", err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		p.t.Fatalf("read the memory of worker %s: %v", p.name, err)
	}
	return kib << 10
}

// pile hands in n events about these connections, in turn, without waiting for
// each: what is asked of them is how much of them a worker keeps in memory.
func (w *world) pile(n int, about []approval.Request) {
	w.t.Helper()
	js, err := jetstream.New(w.broker.Connect(), jetstream.WithPublishAsyncMaxPending(1000), jetstream.WithPublishAsyncTimeout(time.Minute))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range n {
		r := about[i%len(about)]
		r.Source, r.EventID, r.Time = source, fmt.Sprintf("pile-%d", i), w.begin
		msg := &nats.Msg{
			Subject: "vpcep.requests." + r.Target.Name, Header: nats.Header{"Content-Type": {"application/cloudevents+json"}}, Data: eventJSON(r),
		}
		if _, err := js.PublishMsgAsync(msg, jetstream.WithStallWait(time.Minute)); err != nil {
			w.t.Fatalf("publish event %d: %v", i, err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-w.t.Context().Done():
		w.t.Fatal(w.t.Context().Err())
	}
	await(w.t, time.Minute, "all events are stored", func() bool { return w.stored(requestsStream) == n })
}

// TestMemoryOfABacklog: a worker keeps no more of a long queue than it works on.
func TestMemoryOfABacklog(t *testing.T) {
	together(t)
	plainOnly(t)
	queued, span := times(5_000, 20_000, 1_000_000), time.Duration(times(3, 5, 120))*time.Second
	if counts.least() {
		queued = 2_000
	}
	const most = 256 << 20
	w := newWorld(t, simulator.Config{})
	var about []approval.Request
	for range 1000 {
		about = append(about, w.connect("payments", stranger))
	}
	w.pile(queued, about)
	p := w.start("worker", options{}).ready()
	pass(t.Context(), span)
	var f findings
	if p.ended() {
		f.wrong("the worker has ended")
	}
	ended := w.stored(resultsStream)
	if ended < int(span.Seconds()) {
		f.wrong("%d of %d requests have ended within %s: it was not at work", ended, queued, span)
	}
	// What has no result stays with the broker: nothing is given up to save memory.
	if n := w.stored(requestsStream); n != queued {
		f.wrong("the broker holds %d of %d requests", n, queued)
	}
	if n := w.stored(deadStream); n != 0 {
		f.wrong("%d requests became dead letters", n)
	}
	peak := p.peak()
	if peak > most {
		f.wrong("the worker held up to %d MiB, more than %d", peak>>20, most>>20)
	}
	table.add(t, row{Name: "memory before a backlog", Tries: queued, findings: f, Took: w.took(), Note: fmt.Sprintf("at most %d MiB, %d ended in %s", peak>>20, ended, span)})
}

// TestMemoryOfCallsInFlight: 1,024 concurrent calls of a slow cloud take little, also
// if each has a connection with TLS to itself. The peak varies by some MiB with what
// the collector has left at that moment, so the least of up to three rounds counts.
func TestMemoryOfCallsInFlight(t *testing.T) {
	counted(t)
	together(t)
	plainOnly(t)
	const most = 100 << 20
	r, peak := callsInFlight(t)
	for round := 1; round < 3 && peak > most && r.none(); round++ {
		t.Logf("round %d: %.1f MiB", round, float64(peak)/(1<<20))
		r, peak = callsInFlight(t)
	}
	if peak > most {
		r.wrong("the worker held up to %.1f MiB, more than %d", float64(peak)/(1<<20), most>>20)
	}
	table.add(t, r)
}

// callsInFlight returns the most memory, in bytes, that a worker of its own needed.
func callsInFlight(t *testing.T) (row, int64) {
	t.Helper()
	const calls, requests = 1024, 1100
	w := newWorld(t, simulator.Config{})
	// The lists are quick, so that all come to the act at the same time.
	w.sim.Inject(simulator.Fault{API: simulator.VPCEP, Operation: "AcceptOrRejectEndpoint", Kind: simulator.Slow, Delay: 15 * time.Second})
	for i := range requests {
		w.ask(w.connect("payments", partner), fmt.Sprintf("flight-%d", i), approval.OutcomeAccepted)
	}
	api, ca := w.secure()
	p := w.start("worker", options{api: api, ca: ca, slots: 4096, rate: 1000, env: []string{"APPROVER_CLOUD_CONCURRENCY=1024", "GOMAXPROCS=2"}}).ready()
	at := 0
	await(t, time.Minute, "calls fill the room that they have", func() bool {
		at = max(at, int(p.metric("vpcep_approver_cloud_calls_in_flight", `api="vpcep"`)))
		return at >= calls
	})
	w.sim.ClearFaults()
	w.settled(2 * time.Minute)
	f, peak := w.judge(), p.peak()
	p.kill()
	return row{Name: "memory of calls in flight", Tries: requests, findings: f, Took: w.took(), Note: fmt.Sprintf("at most %.1f MiB, %d concurrent calls", float64(peak)/(1<<20), at)}, peak
}
