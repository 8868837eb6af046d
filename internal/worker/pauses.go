package worker

import (
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Pauses tells on which targets nothing may be done.
type Pauses interface {
	// Of returns what was read last of a target, and whether that is recent enough to act
	// by. It calls nothing.
	Of(target string) (p approval.Pause, fresh bool)
}

// pausedRetry is the time between looks at a request of a target that is paused.
const pausedRetry = 5 * time.Second

// mayAct is nil if something may be done on a target now; else the request comes again.
// The time until then counts as an outage.
func (w *Worker) mayAct(target string) error {
	if w.Pauses == nil {
		return nil
	}
	switch p, fresh := w.Pauses.Of(target); {
	case p.Paused:
		return &RetryLaterError{After: jitter(pausedRetry), Cause: CausePaused, stage: approval.StageOutage, code: "paused"}
	case !fresh:
		return waits(approval.StageOutage, "pause_unknown", soon())
	}
	return nil
}

// waitsPaused is an error for a request by which nothing was done, on a target that is
// paused: it is neither read nor decided, so that the policies of after the pause decide it.
func (w *Worker) waitsPaused(entry *approval.Entry) error {
	untouched := entry.ActedAt.IsZero() && entry.SentAt.IsZero() && (entry.Intent == nil || entry.Intent.Sends == 0)
	if w.Pauses == nil || !untouched {
		return nil
	}
	if p, _ := w.Pauses.Of(entry.Request.Target.Name); !p.Paused {
		return nil
	}
	return w.mayAct(entry.Request.Target.Name)
}

// unpaused is for how long something could be done on a target since it was last paused;
// 0 while that is not known.
func (w *Worker) unpaused(target string) time.Duration {
	const always = 1<<63 - 1
	if w.Pauses == nil {
		return always
	}
	p, fresh := w.Pauses.Of(target)
	switch {
	case p.Paused || !fresh:
		return 0
	case p.At.IsZero():
		return always
	}
	return w.Now().Sub(p.At)
}
