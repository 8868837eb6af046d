package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"
)

// TestBrokerRestarts goes on with requests while the broker is killed or stopped
// and started again, each time. The worker's container is never started again.
func TestBrokerRestarts(t *testing.T) {
	restarts := 5
	if os.Getenv("FAULT_COUNTS") == "full" {
		restarts = 50
	}
	const resumes = 5 * time.Second // from when the broker is back until the first result
	s := start(t)
	before := s.inspect()
	begin := time.Now()
	p := s.producer()
	// What is asked for first after a restart is there for longer than lists lag.
	strangers := make([]string, restarts+1)
	for i := range strangers {
		strangers[i] = s.connect(stranger)
	}
	fromStranger := func(i int) order {
		return order{id: fmt.Sprintf("first-%d", i), kind: connectionRequested, data: connection(strangers[i]), outcome: "held"}
	}
	visible := fromStranger(restarts)
	p.structured(visible.id, visible.kind, visible.data)
	p.result(visible.id)
	sent := []order{visible}
	var slowest time.Duration
	for i := range restarts {
		for range 12 {
			o := s.order(len(sent))
			p.structured(o.id, o.kind, o.data)
			sent = append(sent, o)
		}
		first := fromStranger(i)
		p.nc.Close()
		grace := time.Duration(i%2) * 10 * time.Second // every other time it is killed
		if err := s.nats.Stop(t.Context(), &grace); err != nil {
			t.Fatal(err)
		}
		away := time.NewTimer(time.Duration(i%4) * 700 * time.Millisecond)
		if i == 1 {
			away.Reset(12 * time.Second) // longer than AckWait
		}
		select {
		case <-away.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
		if err := s.nats.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		p = s.producer()
		back := time.Now()
		p.structured(first.id, first.kind, first.data)
		sent = append(sent, first)
		p.result(first.id)
		slowest = max(slowest, time.Since(back))
	}
	if slowest > resumes {
		t.Errorf("the first result came %s after the broker was back, not within %s", slowest, resumes)
	}

	eventually(t, "everything is settled", s.settled)
	lost, doubled, wrong := p.compare(sent)
	if n := len(p.stored("VPCEP_DEADLETTERS")); n > 0 {
		t.Errorf("%d good requests are dead letters", n)
	}
	s.didOnly(effectsOf(sent))
	s.sameWorker(before)
	t.Logf("\nfailure                              tries  lost  doubled  wrong  time\nF9 broker restarted, as a container  %5d  %4d  %7d  %5d  %.1f s  first result after %.1f s at most, %d requests",
		restarts, lost, doubled, wrong, time.Since(begin).Seconds(), slowest.Seconds(), len(sent))
}

// compare holds the results against what was sent and counts what is amiss.
func (p producer) compare(sent []order) (lost, doubled, wrong int) {
	p.t.Helper()
	ends := map[string][]string{}
	for _, r := range p.results() {
		ends[r.Data.Request.EventID] = append(ends[r.Data.Request.EventID], r.Data.Outcome)
	}
	for _, o := range sent {
		got := ends[o.id]
		delete(ends, o.id)
		switch {
		case len(got) == 0:
			lost++
		case len(got) > 1:
			doubled++
		case got[0] != o.outcome:
			wrong++
		default:
			continue
		}
		p.t.Errorf("request %s has the results %q, want one: %s", o.id, got, o.outcome)
	}
	for _, id := range slices.Sorted(maps.Keys(ends)) {
		wrong++
		p.t.Errorf("there is a result of %s, which was never sent", id)
	}
	return lost, doubled, wrong
}
