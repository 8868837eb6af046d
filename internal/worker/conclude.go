package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// ending is how a request ended, before it is written down.
type ending struct {
	outcome approval.Outcome
	facts   approval.Facts // the last that were seen
	failure *approval.Failure
	created *approval.Created
	// undecided says that nothing was done, and that nothing was known by which to
	// do anything.
	undecided bool
	// ruling is set where the decision is not recorded yet, or its lock may not be.
	ruling *ruling
}

// conclude writes down how a request ended, or has it come again because of err,
// and publishes the result.
func (w *Worker) conclude(ctx context.Context, t *task, entry *approval.Entry, end *ending, err error) (*approval.Result, error) {
	ctx = w.stage(ctx, "conclude")
	if err != nil {
		if end, err = w.endOf(ctx, t, entry, err); err != nil {
			return nil, w.retryLater(ctx, t, entry, err)
		}
	}
	ended, err := w.writeResult(ctx, t, entry, end)
	if err != nil {
		return nil, w.retryLater(ctx, t, entry, fmt.Errorf("record the result: %w", err))
	}
	return w.publish(ctx, t, ended)
}

// publish publishes the result of entry.
func (w *Worker) publish(ctx context.Context, t *task, entry *approval.Entry) (*approval.Result, error) {
	if err := w.Results.Publish(ctx, *entry.Result); err != nil {
		return nil, w.retryLater(ctx, t, entry, fmt.Errorf("publish the result: %w", err))
	}
	return entry.Result, nil
}

// writeResult writes the result into the ledger, with the decision if that is not there
// yet. A request that ended before it was decided, or by errors alone, gets a decision
// that acts on nothing. It returns what the ledger holds then.
func (w *Worker) writeResult(ctx context.Context, t *task, entry *approval.Entry, end *ending) (*approval.Entry, error) {
	next := *entry
	write := w.Ledger.Put
	switch r := end.ruling; {
	case r != nil:
		next = *r.entry
		if !next.Request.Creates() && next.Decision.Verdict.Acts() {
			// What settled the connection stays so: no later request undoes it.
			write = func(ctx context.Context, e *approval.Entry) error {
				_, err := w.Ledger.Record(ctx, e)
				return err
			}
		}
	case !entry.Decided() || end.undecided:
		next.Decision = *undecided(entry, end, w.Now())
	}
	t.stages.record(approval.StageDecide, nil)
	if err := w.noteReview(ctx, t, &next, end); err != nil {
		return entry, err
	}
	next.Progress, next.Wait = t.stages.progress(approval.StageOutage), nil
	next.Result = &approval.Result{
		Request:    next.Request,
		Decision:   next.Decision,
		Outcome:    end.outcome,
		State:      end.facts.State,
		Failure:    end.failure,
		Created:    end.created,
		Attempts:   t.Attempt,
		Reversible: end.reversible(&next.Request),
		Seconds:    t.stages.seconds,
		Version:    w.Version,
		At:         w.Now(),
	}
	if err := write(ctx, &next); err != nil {
		return entry, err
	}
	if r := end.ruling; r != nil && r.fresh {
		w.Metrics.Decided(&next.Decision)
	}
	return &next, nil
}

// undecided is the decision of a request that could not be decided.
func undecided(entry *approval.Entry, end *ending, now time.Time) *approval.Decision {
	d := &approval.Decision{ID: approval.DecisionID(entry.Request.ID), Verdict: approval.Hold, Facts: end.facts, At: now, Reasons: []approval.Reason{{
		Code: approval.ReasonNotDecided, Text: "The request ended before it could be decided.",
	}}}
	switch {
	case entry.Decided():
		d.Reasons[0].Text = "Until its time was up only errors were met, and nothing was done."
	case end.outcome == approval.OutcomeGone:
		d.Reasons[0] = approval.Reason{Code: approval.ReasonNotVisible, Text: "The endpoint does not show in the connections of the target."}
	}
	return d
}

// reversible reports whether the cloud still has a call that turns the outcome
// round: an accepted connection can be rejected and a rejected one accepted, also
// if it is only known that it may be, and of the creations FunctionGraph alone can
// delete.
func (e *ending) reversible(r *approval.Request) bool {
	switch e.outcome {
	case approval.OutcomeAccepted, approval.OutcomeRejected:
		return true
	case approval.OutcomeUnknown:
		return !r.Creates()
	case approval.OutcomeCreated:
		return r.Target.Kind == approval.FunctionGraph
	default:
		return false
	}
}

// endOf returns how a request ends that met err, or err if a retry can help. No error
// ever decides a request; it only ends one that cannot be carried out. What was done
// before the error stays reported, and only an error of the act itself can mean that
// it was not done.
func (w *Worker) endOf(ctx context.Context, t *task, entry *approval.Entry, err error) (*ending, error) {
	if isInvalid(err) || ctx.Err() != nil || entry.Result != nil {
		return nil, err
	}
	_, acting := errors.AsType[*actError](err)
	intent := entry.Intent
	switch {
	case !t.Request.Creates() && !entry.ActedAt.IsZero():
		if w.Now().Sub(entry.ActedAt) < w.Limits.ConfirmFor {
			return nil, err
		}
		w.logGivenUp(t, err)
		return notConfirmed(entry, &approval.Facts{}), nil
	case intent != nil && intent.Created != nil:
		if w.Now().Sub(entry.ActedAt) < w.confirmCreated(entry) {
			return nil, err
		}
		w.logGivenUp(t, err)
		return &ending{outcome: approval.OutcomeCreated, created: intent.Created, facts: approval.Facts{State: intent.Created.State}}, nil
	case (!acting || mayPass(err) || isGone(err) || !entry.SentAt.IsZero()) && !w.overdue(t):
		return nil, err
	}
	w.logGivenUp(t, err)
	failure := approval.Failure{Code: "gave_up", Text: "The request met errors only until its time was up."}
	if f, ok := failureOf(err); ok {
		failure = f
	}
	if o, ok := operatorFault(err); ok {
		failure = approval.Failure{Code: o.Code, Text: o.Text, RequestID: o.RequestID}
	}
	switch {
	case intent != nil && intent.Sends > 0:
		return &ending{outcome: approval.OutcomeUnknown, failure: unanswered(&entry.Request)}, nil
	case !entry.SentAt.IsZero():
		return notConfirmed(entry, &approval.Facts{}), nil
	case acting:
		return &ending{outcome: approval.OutcomeFailed, failure: &failure}, nil
	}
	return &ending{outcome: approval.OutcomeHeld, failure: &failure, undecided: true}, nil
}

// logGivenUp logs that a request is given up.
func (w *Worker) logGivenUp(t *task, err error) {
	w.Log.Warn().Str("request", t.Request.ID).Str("trace_id", t.Request.TraceID()).Str("target", t.Request.Target.Name).
		Str("endpoint", t.Request.EndpointID).Err(err).Msg("a request cannot be carried out")
}

// overdue reports whether a request has been tried for as long as it may be. Its
// deliveries alone do not tell, for it may have been given back untried.
func (w *Worker) overdue(t *task) bool {
	tried := min(w.age(t.Delivery), w.Now().Sub(w.Started), w.unpaused(t.Request.Target.Name))
	return tried >= w.Limits.MaxAge && t.Attempt >= minAttempts
}

// age is how long ago the event was made, as far as the bus can vouch for it:
// what the event itself says of its time decides nothing.
func (w *Worker) age(d *approval.Delivery) time.Duration { return w.Now().Sub(d.PublishedAt) }

// finished counts and logs the end of a request.
func (w *Worker) finished(r *approval.Result) {
	w.Metrics.Finished(r)
	level, failure, created, total := zerolog.InfoLevel, approval.Failure{}, approval.Created{}, 0.0
	if r.Failure != nil {
		level, failure = zerolog.WarnLevel, *r.Failure
	}
	if r.Created != nil {
		created = *r.Created
	}
	for _, s := range r.Seconds {
		total += s
	}
	w.Log.WithLevel(level).Str("request", r.Request.ID).Str("source", r.Request.Source).Str("event", r.Request.EventID).
		Str("target", r.Request.Target.Name).Str("endpoint", r.Request.EndpointID).Str("domain", r.Decision.Facts.DomainID).
		Str("decision", r.Decision.ID).Str("verdict", string(r.Decision.Verdict)).Str("policy", r.Decision.Policy).Str("rule", r.Decision.Rule).
		Str("reasons", codes(r.Decision.Reasons)).Str("digest", r.Decision.Digest).Str("outcome", string(r.Outcome)).Str("state", string(r.State)).
		Str("error", failure.Code).Str("cloud_request", failure.RequestID).
		Str("created_endpoint", created.EndpointID).Str("created_id", created.ID).
		Int("attempts", r.Attempts).Str("trace_id", r.Request.TraceID()).Float64("seconds", total).Msg("finished")
}

func codes(reasons []approval.Reason) string {
	out := make([]string, len(reasons))
	for i, r := range reasons {
		out[i] = string(r.Code)
	}
	return strings.Join(out, ",")
}
