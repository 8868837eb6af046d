package faulttest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// TestStalled is F3: a replica is stopped at a point with requests in progress for
// three times AckWait, others do its work, and then it wakes and goes on.
func TestStalled(t *testing.T) {
	t.Parallel()
	stops := []string{"before-act", "before-record", "before-result"}
	switch {
	case counts.full:
		stops = points()[:14] // creations take their own time
	case !counts.ci:
		stops = stops[:1]
	}
	stopped := 3 * ackWait
	if counts.least() {
		stopped = ackWait + time.Second // until others do its work
	}
	for _, point := range stops {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			k := &killing{world: newWorld(t, simulator.Config{}), point: point}
			sleeper := k.start("sleeper", options{env: []string{"FAILPOINT_AT=" + point, "FAILPOINT_DO=stop", "FAILPOINT_ONCE=" + k.dir + "/stopped"}}).ready()
			k.requests()
			await(t, time.Minute, "the replica is stopped at "+point, sleeper.stopped)
			asleep := time.Now()
			k.start("heir", options{}).ready()
			if !k.settled(time.Minute) {
				t.Error("the other replica did not do the work of the stalled one")
			}
			pass(t.Context(), stopped-time.Since(asleep))
			sleeper.wake()
			// It has to find out that it is late, and settle what it holds.
			await(t, time.Minute, "the stalled replica has nothing in progress", func() bool {
				return sleeper.metric("vpcep_approver_requests_in_flight") == 0 && sleeper.answers("/readyz")
			})
			f := k.judge()
			table.add(t, row{
				Name: "F3 stalled at " + point, Tries: k.wanted(), findings: f, Took: k.took(),
				Note: fmt.Sprintf("%.0f late writes refused", sleeper.metric("vpcep_approver_ledger_conflicts_total")),
			})
		})
	}
}

// TestRollingRestarts is F20: three replicas are restarted one after the other,
// under load, and every one drains in time.
func TestRollingRestarts(t *testing.T) {
	t.Parallel()
	restarts := times(3, 4, 60) // 20 times each of three
	if counts.least() {
		restarts = 1
	}
	w := newWorld(t, simulator.Config{Delays: simulator.Delays{Accept: 300 * time.Millisecond}})
	replicas := make([]*process, 3)
	for i := range replicas {
		replicas[i] = w.start(fmt.Sprintf("replica-%d", i), options{})
	}
	for _, p := range replicas {
		p.ready()
	}
	var f findings
	var slowest time.Duration
	for i := range restarts {
		w.mixed(20, fmt.Sprintf("rolling-%d", i))
		asked := time.Now()
		took, code, err := replicas[i%3].terminate(time.Minute)
		took -= turns.lost(asked, asked.Add(took))
		slowest = max(slowest, took)
		switch {
		case err != nil:
			f.wrong("restart %d: %v", i, err)
		case timed() && took > 15*time.Second:
			f.wrong("restart %d: the replica ended %s after SIGTERM, not within 15 s", i, took)
		case code != 0:
			f.wrong("restart %d: the replica ended with %d:\n%s", i, code, tail(replicas[i%3].log.String(), 5))
		}
		replicas[i%3] = w.start(fmt.Sprintf("replica-%d", i+3), options{}).ready()
	}
	w.settled(time.Minute)
	f.join(w.judge())
	table.add(t, row{Name: "F20 rolling restarts", Tries: restarts, findings: f, Took: w.took(), Note: fmt.Sprintf("slowest drain %.1f s", slowest.Seconds())})
}

// TestPoison is F4: events that are malformed, that make the handler panic and
// that kill the process, among good ones, which go on as without them.
func TestPoison(t *testing.T) {
	together(t)
	good, killers := times(60, 120, 4000), times(1, 2, 20)
	const every = 100 * time.Millisecond
	w := newWorld(t, simulator.Config{})
	poisoned := options{env: []string{
		"FAILPOINT_AT=before-facts", "FAILPOINT_EVENT=killer",
		"FAILPOINT_B_AT=before-facts", "FAILPOINT_B_DO=panic", "FAILPOINT_B_EVENT=panicker",
	}}
	replicas := []*process{w.start("replica-0", poisoned), w.start("replica-1", poisoned)}
	for _, p := range replicas {
		p.ready()
	}
	killed, deaths := 0, 0
	supervise := func() { // starts again what has died
		for i, p := range replicas {
			if p.ended() {
				deaths++
				replicas[i] = w.start(fmt.Sprintf("replica-%d", i+2*deaths), poisoned)
			}
		}
	}
	// load hands in the good ones, and the bad in between, and returns how long
	// after the first event each of the good ended, in order.
	load := func(name string, bad func(i int)) []time.Duration {
		ids := map[string]bool{}
		for i := range good {
			id := fmt.Sprintf("%s-%d", name, i)
			switch target := []string{"payments", "orders"}[i%2]; i / 2 % 3 {
			case 0:
				ids[w.ask(w.connect(target, partner), id, approval.OutcomeAccepted).ID] = true
			case 1:
				ids[w.ask(w.connect(target, banned), id, approval.OutcomeRejected).ID] = true
			default:
				ids[w.ask(w.connect(target, stranger), id, approval.OutcomeHeld).ID] = true
			}
			if i%(good/killers) == good/killers/2 {
				bad(i * killers / good)
			}
			supervise()
			pass(t.Context(), every)
		}
		until(t.Context(), 3*time.Minute, func() bool {
			supervise()
			return w.ends() >= w.wanted() && w.missing(w.dead()) == 0
		})
		first := time.Now()
		lives := w.lives(ids)
		for _, l := range lives {
			if l.asked.Before(first) {
				first = l.asked
			}
		}
		var ends []time.Duration
		for _, l := range lives {
			ends = append(ends, l.ended.Sub(first))
		}
		slices.Sort(ends)
		return ends
	}
	alone := load("alone", func(int) {})
	if len(alone) < good {
		t.Fatalf("without poison %d of %d requests have ended", len(alone), good)
	}
	among := load("among", func(i int) {
		if !counts.least() { // it is known by three deaths, AckWait and a TTL apart
			w.poison(fmt.Sprintf("killer-%d", i), "poison")
			killed++
		}
		w.poison(fmt.Sprintf("panicker-%d", i), "poison")
		w.malformed(fmt.Sprintf("malformed-%d", i))
	})
	// What ended among poison in the time in which all end without it.
	inTime, _ := slices.BinarySearch(among, alone[len(alone)-1]+1)
	share := 100 * float64(inTime) / float64(good)
	replayed := w.replayConvicted()
	f := w.judge()
	if most := 4 * killed; deaths > most { // a first delivery leaves no mark
		f.wrong("%d killers ended the process %d times, more than four times each", killed, deaths)
	}
	note := fmt.Sprintf("%d killers, %d deaths", killed, deaths)
	if most := good * 5 / 100; replayed > most {
		f.wrong("killers convicted %d good requests, more than 5 %% of %d", replayed, good)
	}
	if replayed > 0 {
		note += fmt.Sprintf("; %d good ones that shared a process with a killer, replayed", replayed)
	}
	if counts.full { // the others are over before the dead's requests have come back
		note += fmt.Sprintf("; %.1f %% of the good ones done in the time of all without poison", share)
		if share < 95 {
			f.wrong("among poison %.1f %% of the good requests were done in the time of all without poison, less than 95 %%", share)
		}
	}
	table.add(t, row{Name: "F4 poison among good ones", Tries: w.wanted(), findings: f, Took: w.took(), Note: note})
}

// replayConvicted replays the dead letters of good requests, as an operator would,
// and waits for their results. A killer that a process gets for the first time can
// convict the suspect that is isolated there: the dead letter says that it may be a
// mistake, and nothing is lost.
func (w *world) replayConvicted() int {
	w.t.Helper()
	good := map[string]bool{}
	for _, a := range w.asked {
		good[a.Mark] = !a.Bad && a.Mark != ""
	}
	var numbers []string
	if err := w.read(deadStream, nil, func(m jetstream.Msg) {
		if meta, err := m.Metadata(); err == nil && good[m.Headers().Get(markHeader)] && m.Subject() == "vpcep.deadletters.poison" {
			numbers = append(numbers, strconv.FormatUint(meta.Sequence.Stream, 10))
		}
	}); err != nil {
		w.t.Fatal(err)
	}
	if len(numbers) == 0 {
		return 0
	}
	for _, n := range numbers {
		if out, code := w.command(options{}, "deadletters", "show", n); code != 0 || !strings.Contains(out, "may") {
			w.t.Errorf("dead letter %s of a good request does not say that it may be a mistake: %s", n, out)
		}
	}
	if out, code := w.command(options{}, append([]string{"deadletters", "replay"}, numbers...)...); code != 0 {
		w.t.Fatalf("replay %q: exit %d, %s", numbers, code, out)
	}
	w.settled(time.Minute)
	return len(numbers)
}

// poison submits an event that is well-formed and must end as a dead letter.
func (w *world) poison(eventID, reason string) {
	w.t.Helper()
	r := w.connect("payments", partner)
	r.Source, r.EventID, r.Time = source, eventID, time.Now().UTC()
	r.ID = approval.RequestID(source, eventID)
	w.note(asked{RequestID: r.ID, Subject: r.Subject(), Mark: eventID, Bad: true, Reason: reason})
	w.send(r)
}

// malformed hands in something that is no event.
func (w *world) malformed(mark string) {
	w.t.Helper()
	w.note(asked{Mark: mark, Bad: true, Reason: "unreadable"})
	w.publish("vpcep.requests.payments", map[string][]string{markHeader: {mark}}, []byte(strings.Repeat("{", 10)))
}
