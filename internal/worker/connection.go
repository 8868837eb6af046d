package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// actOnConnection carries the decision on a connection out, once.
func (w *Worker) actOnConnection(ctx context.Context, t *task, a acted) (acted, error) {
	a, err := w.checkReplaced(ctx, t, a)
	if err != nil || a.end != nil {
		return a, err
	}
	if a.other != nil && a.other.Verdict != a.entry.Decision.Verdict {
		return a.ends(&ending{outcome: approval.OutcomeSuperseded, facts: a.facts.Facts}), nil
	}
	if a.entry.ActedAt.IsZero() && a.other == nil {
		return w.acceptOrReject(ctx, t, a)
	}
	return a, nil
}

// checkReplaced deals with a connection that is pending although an act settled one
// with its endpoint id. It is another connection if the account, the number or the
// time at which it was made are not the same in two looks, and not just after the
// act; else the list shows the past. If this request acted, its connection is gone.
// If another request did, its lock is taken over, and this one may act.
func (w *Worker) checkReplaced(ctx context.Context, t *task, a acted) (acted, error) {
	own := a.other == nil && !a.entry.ActedAt.IsZero()
	if a.facts.State != approval.Pending || !own && (a.other == nil || !a.other.Done()) {
		return a, nil
	}
	settled, actedAt := a.entry, a.entry.ActedAt
	if !own {
		var err error
		if settled, err = w.Ledger.Get(ctx, a.other.RequestID); err != nil {
			return a, fmt.Errorf("read the request that settled the connection: %w", err)
		}
		if settled == nil {
			return a, nil
		}
		actedAt = a.other.At
	}
	if !settled.Decision.Facts.Differs(a.facts.Facts) {
		return a, nil
	}
	if since := w.Now().Sub(actedAt); since < listLag {
		return a, waits(approval.StageVerify, "just_settled", jitter(max(listLag-since, minRetryWait)))
	}
	if err := pause(ctx, confirmLookAfter); err != nil {
		return a, err
	}
	second, err := w.readFacts(ctx, a.entry.Request)
	t.stages.record(approval.StageVerify, err)
	if err != nil {
		return a, err
	}
	if second.State != approval.Pending || !second.Same(a.facts.Facts) {
		return a, waits(approval.StageVerify, "looks_differ", soon())
	}
	if own {
		return a.ends(&ending{outcome: approval.OutcomeGone, facts: second.Facts}), nil
	}
	if err := w.Ledger.Steal(ctx, a.entry, a.other); err != nil {
		return a, fmt.Errorf("steal the lock: %w", err)
	}
	a.facts, a.other = second, nil
	return a, nil
}

// outcomeOf is the end of a request that found its connection settled. That
// someone settled it otherwise takes a second look. If that does not show at all
// what was there just now, one of the looks was at a stale list, and the request
// comes again; what is not listed for as long as waitUntilListed waits is gone.
func (w *Worker) outcomeOf(ctx context.Context, entry *approval.Entry, facts approval.Facts) (*ending, error) {
	want := entry.Decision.Verdict.Goal()
	end := settledAs(want, &facts)
	if end.outcome != approval.OutcomeSuperseded {
		return end, nil
	}
	state, err := w.recheck(ctx, entry)
	if err != nil || state == approval.Pending || state == approval.Absent {
		return nil, looksDiffer(ctx, err)
	}
	facts.State = state
	return settledAs(want, &facts), nil
}

// settledAs is the end of a connection that was not pending any more: what the
// verdict wants is done, and what it does not want is not taken back.
func settledAs(want approval.State, facts *approval.Facts) *ending {
	switch {
	case facts.State == want && want == approval.Accepted:
		return &ending{outcome: approval.OutcomeAccepted, facts: *facts}
	case facts.State == want && want == approval.Rejected:
		return &ending{outcome: approval.OutcomeRejected, facts: *facts}
	case !facts.Found() || facts.State == approval.Deleting:
		return &ending{outcome: approval.OutcomeGone, facts: *facts}
	}
	return &ending{outcome: approval.OutcomeSuperseded, facts: *facts}
}

// followConnection waits for the wanted state until waiting ends, and then has the
// request come again. If another request has acted, this one is not late before
// that is made.
func (w *Worker) followConnection(ctx, waiting context.Context, t *task, a acted) (followed, error) {
	other, facts := a.other, a.facts.Facts
	want := a.entry.Decision.Verdict.Goal()
	since, from := a.entry.ActedAt, a.entry.ActedAt
	if other != nil {
		since = other.At // it has acted, or is about to
		if from = since; from.Before(t.PublishedAt) {
			from = t.PublishedAt // what settled it long ago says nothing of this request's time
		}
	}
	state, entry, err := w.awaitState(ctx, waiting, t, a, want, since)
	f := followed{entry: entry}
	recordConfirm(waiting, t, err)
	if state != approval.Absent || err == nil {
		facts.State = state
	}
	switch {
	case err == nil && state == approval.Failed:
		facts = w.readReason(ctx, &entry.Request, facts)
		f.end = confirmed(want, &facts, other == nil)
	case err == nil:
		f.end = confirmed(want, &facts, other == nil)
	case waiting.Err() == nil || ctx.Err() != nil:
		return f, fmt.Errorf("follow: %w", err)
	case (other == nil || other.Done()) && w.Now().Sub(from) >= w.Limits.ConfirmFor:
		f.end = notConfirmed(entry, &facts)
	default:
		return f, waits(approval.StageConfirm, "not_confirmed_yet", followRetry)
	}
	return f, nil
}

// awaitState waits for the wanted state. Unless that shows immediately, it notes in the
// ledger that the cloud took the act. It returns the entry, also with an error.
func (w *Worker) awaitState(ctx, waiting context.Context, t *task, a acted, want approval.State, since time.Time) (approval.State, *approval.Entry, error) {
	if !a.unsaved {
		state, err := w.Cloud.Await(waiting, a.entry.Request, want, since)
		return state, a.entry, err
	}
	immediately, cancel := context.WithTimeout(waiting, noteActedAfter)
	defer cancel()
	state, err := w.Cloud.Await(immediately, a.entry.Request, want, since)
	if err == nil || immediately.Err() == nil || waiting.Err() != nil {
		return state, a.entry, err
	}
	entry := w.noteActed(ctx, a.entry, t.stages.during(approval.StageConfirm))
	state, err = w.Cloud.Await(waiting, entry.Request, want, since)
	return state, entry, err
}

// noteActed notes that the cloud took the call, and returns what the ledger holds, or
// entry if that fails: it is written again with what follows.
func (w *Worker) noteActed(ctx context.Context, entry *approval.Entry, progress approval.Progress) *approval.Entry {
	next, err := w.update(ctx, entry, func(e *approval.Entry) { e.Progress = progress })
	if err != nil {
		w.Log.Debug().Err(err).Str("request", entry.Request.ID).Str("trace_id", entry.Request.TraceID()).Msg("it could not be noted that the cloud took a call")
	}
	return next
}

// recordConfirm records the time for which a state was waited for. That it did not
// show until waiting ended is no outage.
func recordConfirm(waiting context.Context, t *task, err error) {
	if waiting.Err() != nil {
		err = nil
	}
	t.stages.record(approval.StageConfirm, err)
}

// notConfirmed is the end of a connection whose wanted state does not show in time.
func notConfirmed(entry *approval.Entry, facts *approval.Facts) *ending {
	text := "The cloud took the call, but the connection was not seen to become %s in time; look at it in the console."
	switch {
	case !entry.ActedAt.IsZero():
	case !entry.SentAt.IsZero():
		text = "The call was sent and not answered, and the connection was not seen to become %s in time; look at it in the console."
	default:
		text = "An earlier request settled this connection, and the cloud does not show it as %s; nothing was called for this one. Look at it in the console."
	}
	return &ending{outcome: approval.OutcomeUnknown, facts: *facts, failure: &approval.Failure{
		Code: "not_confirmed", Text: fmt.Sprintf(text, entry.Decision.Verdict.Goal()),
	}}
}

// confirmed is the end of a connection that was followed; acted says that the act
// was this request's.
func confirmed(want approval.State, facts *approval.Facts, acted bool) *ending {
	if facts.State != approval.Failed {
		return settledAs(want, facts)
	}
	text := "The cloud took the call, and then the connection failed"
	if !acted {
		text = "The connection failed; nothing was called for this request"
	}
	return &ending{outcome: approval.OutcomeFailed, facts: *facts, failure: connectionFailed(facts, text)}
}

// connectionFailed is text, with the cloud's own code and reason if it gives them.
func connectionFailed(facts *approval.Facts, text string) *approval.Failure {
	f := &approval.Failure{Code: "connection_failed", Text: text + "."}
	if facts.ErrorCode != "" {
		f.Code = facts.ErrorCode
	}
	if facts.ErrorText != "" {
		f.Text = text + ": " + facts.ErrorText
	}
	return f
}

// readReason returns facts with why the connection failed. That it failed is
// known; a reason that cannot be read is left out.
func (w *Worker) readReason(ctx context.Context, req *approval.Request, facts approval.Facts) approval.Facts {
	now, err := w.Cloud.Facts(ctx, *req)
	if err == nil && now.State == approval.Failed {
		facts.ErrorCode, facts.ErrorText = now.ErrorCode, now.ErrorText
	}
	return facts
}
