package worker

import (
	"maps"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// stopwatch divides the time of a request into stages, in seconds. It goes on
// from what earlier deliveries left in the ledger.
type stopwatch struct {
	now    func() time.Time
	last   time.Time
	laps   map[approval.Stage]float64
	unsent bool // the ledger holds a SentAt that is known to be void
}

func newStopwatch(now func() time.Time, d *approval.Delivery, entry *approval.Entry) *stopwatch {
	w := &stopwatch{now: now, last: now(), laps: map[approval.Stage]float64{}}
	taken, since, next := d.PublishedAt, w.last, approval.StageQueued
	switch p := entry.Progress; {
	case !p.Until.IsZero():
		maps.Copy(w.laps, p.Seconds)
		taken, next = p.Until, p.Next
	case entry.Decided(): // by a worker that could not say more
		taken, next = entry.Decision.At, approval.StageAct
		w.add(approval.StageQueued, entry.Decision.At.Sub(d.PublishedAt))
	}
	w.add(next, since.Sub(taken))
	return w
}

// add counts d for stage. A clock that was set back takes nothing away.
func (w *stopwatch) add(stage approval.Stage, d time.Duration) {
	w.laps[stage] += max(d, 0).Seconds()
}

// lap adds the time since the last lap to stage, or to the outage if it was spent
// on what failed with err.
func (w *stopwatch) lap(stage approval.Stage, err error) {
	now := w.now()
	if err != nil && !isWait(err) {
		stage = approval.StageOutage
	}
	w.add(stage, now.Sub(w.last))
	w.last = now
}

// during is progress in the midst of a stage, of which nobody knows yet how it ends.
func (w *stopwatch) during(stage approval.Stage) approval.Progress {
	p := w.progress(stage)
	if now := w.now(); now.After(w.last) {
		p.Seconds[stage] += now.Sub(w.last).Seconds()
		p.Until = now
	}
	return p
}

// progress is what the ledger shall hold of the time so far, if from now on the
// request is in stage next.
func (w *stopwatch) progress(next approval.Stage) approval.Progress {
	return approval.Progress{Seconds: maps.Clone(w.laps), Until: w.last, Next: next}
}
