package worker

import (
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// stopwatch divides the time of a delivery into stages, in seconds.
type stopwatch struct {
	now  func() time.Time
	last time.Time
	laps map[approval.Stage]float64
}

func newStopwatch(now func() time.Time, d *approval.Delivery) *stopwatch {
	w := &stopwatch{now: now, last: now(), laps: map[approval.Stage]float64{}}
	if queued := w.last.Sub(d.PublishedAt); queued > 0 {
		w.laps[approval.StageQueued] = queued.Seconds()
	}
	return w
}

// lap adds the time since the last lap to stage.
func (w *stopwatch) lap(stage approval.Stage) {
	now := w.now()
	w.laps[stage] += now.Sub(w.last).Seconds()
	w.last = now
}
