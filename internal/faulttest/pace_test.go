package faulttest

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// pace measures how late this process gets its turn, so that a bound of some seconds
// means the worker's time and not that of a machine that is busy with something else.
type pace struct {
	mu    sync.Mutex
	lates []late
}

// late is a turn that came late.
type late struct {
	due time.Time
	by  time.Duration
}

// A turn counts as late from this on; less is what any bound has to bear.
const lateFrom = 50 * time.Millisecond

// watch measures until the process ends.
func (p *pace) watch() {
	const every = 20 * time.Millisecond
	timer := time.NewTimer(every)
	for {
		due := time.Now().Add(every)
		timer.Reset(every)
		<-timer.C
		if by := time.Since(due); by >= lateFrom {
			p.mu.Lock()
			p.lates = append(p.lates, late{due, by})
			p.mu.Unlock()
		}
	}
}

// lost is the time from begin to end in which this process had to wait for its turn.
func (p *pace) lost(begin, end time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum time.Duration
	for _, l := range slices.Backward(p.lates) {
		from, to := l.due, l.due.Add(l.by)
		if to.Before(begin) {
			break
		}
		if from.Before(begin) {
			from = begin
		}
		if to.After(end) {
			to = end
		}
		sum += max(0, to.Sub(from))
	}
	return sum
}

// own is what a span is without the time that the machine took away.
func (p *pace) own(begin, end time.Time) time.Duration { return end.Sub(begin) - p.lost(begin, end) }

// timed reports whether the time that something took is judged: not with the race
// detector, which slows broker and cloud down in the test's own process. .ci/run
// judges it in the run without.
func timed() bool { return !raceDetector }

func TestPace(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	p := &pace{lates: []late{{at(10), 2 * time.Second}, {at(20), 4 * time.Second}, {at(40), time.Second}}}
	for _, tt := range []struct{ begin, end, lost int }{{0, 9, 0}, {0, 30, 6}, {11, 22, 3}, {21, 22, 1}, {12, 20, 0}, {13, 100, 5}} {
		if got, want := p.lost(at(tt.begin), at(tt.end)), time.Duration(tt.lost)*time.Second; got != want {
			t.Errorf("from %d to %d s %s were lost, want %s", tt.begin, tt.end, got, want)
		}
	}
}
