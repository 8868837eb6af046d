package worker

import (
	"context"
	"errors"
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
}

// conclude writes the result into the ledger, where the first one stands. A
// request that ended before it was decided gets a decision that acts on nothing.
func (w *Worker) conclude(ctx context.Context, d *approval.Delivery, entry *approval.Entry, end *ending, watch *stopwatch) error {
	if entry.Decision.ID == "" {
		undecided := &approval.Decision{Verdict: approval.Hold, Facts: end.facts, At: w.Now(), Reasons: []approval.Reason{{
			Code: approval.ReasonNotDecided, Text: "The request ended before it could be decided.",
		}}}
		if end.outcome == approval.OutcomeGone {
			undecided.Reasons[0] = approval.Reason{Code: approval.ReasonNotVisible, Text: "The endpoint does not show in the connections of the target."}
		}
		if _, err := w.record(ctx, &d.Request, undecided, entry); err != nil || entry.Result != nil {
			return err
		}
		if entry.Decision.Verdict.Acts() { // another worker decided it meanwhile, and may be at it
			return &LaterError{After: spread(time.Second), Cause: CauseRetry}
		}
	}
	entry.Result = &approval.Result{
		Request:    entry.Request,
		Decision:   entry.Decision,
		Outcome:    end.outcome,
		State:      end.facts.State,
		Failure:    end.failure,
		Created:    end.created,
		Attempts:   d.Attempt,
		Reversible: end.reversible(&entry.Request),
		Seconds:    watch.laps,
		Version:    w.Version,
		At:         w.Now(),
	}
	return w.Ledger.Update(ctx, entry)
}

// reversible reports whether the cloud still has a call that turns the outcome
// round: an accepted connection can be rejected and a rejected one accepted,
// and of the creations FunctionGraph alone can delete.
func (e *ending) reversible(r *approval.Request) bool {
	switch e.outcome {
	case approval.OutcomeAccepted, approval.OutcomeRejected:
		return true
	case approval.OutcomeCreated:
		return r.Target.Kind == approval.FunctionGraph
	default:
		return false
	}
}

// endOf tells how a request ends that met err, or returns err if it may pass:
// no error ever decides a request, it only ends one that cannot be carried out.
// What was done by then is not denied because of it.
func (w *Worker) endOf(ctx context.Context, d *approval.Delivery, entry *approval.Entry, err error) (*ending, error) {
	if _, reused := errors.AsType[*IDReusedError](err); reused || ctx.Err() != nil {
		return nil, err
	}
	if e, ok := errors.AsType[interface {
		error
		Gone() bool
	}](err); ok && e.Gone() {
		return &ending{outcome: approval.OutcomeGone}, nil
	}
	following := !entry.ActedAt.IsZero() && w.Now().Sub(entry.ActedAt) < w.Limits.ConfirmFor
	if mayPass(err) && (following || !w.overdue(d)) {
		return nil, err
	}
	if intent := entry.Intent; intent != nil {
		switch {
		case intent.Created != nil:
			return &ending{outcome: approval.OutcomeCreated, created: intent.Created, facts: approval.Facts{State: intent.Created.State}}, nil
		case intent.Sends > 0:
			return &ending{outcome: approval.OutcomeUnknown, failure: unanswered(&entry.Request)}, nil
		}
	}
	failure := approval.Failure{Code: "gave_up", Text: "The request met errors only until its time was up."}
	if e, ok := errors.AsType[interface {
		error
		Failure() approval.Failure
	}](err); ok {
		failure = e.Failure()
	}
	w.Log.Warn().Str("request", d.Request.ID).Str("target", d.Request.Target.Name).
		Str("endpoint", d.Request.EndpointID).Err(err).Msg("a request cannot be carried out")
	return &ending{outcome: approval.OutcomeFailed, failure: &failure}, nil
}

// fewestTries is how often a request is tried however old it was when it was
// first delivered: a worker may have been away for longer than any limit.
const fewestTries = 5

// overdue reports whether a request has been tried for as long as it may be. Its
// deliveries alone do not tell, for it may have been given back untried.
func (w *Worker) overdue(d *approval.Delivery) bool {
	tried := min(w.age(d), w.Now().Sub(w.Started))
	return tried >= w.Limits.MaxAge && d.Attempt >= fewestTries
}

// mayPass reports whether trying again can help. An error that does not say
// otherwise may pass; what bounds the tries is the age of the request.
func mayPass(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err)
	return !ok || e.Retryable()
}

// age is how long ago the event was made, as far as the bus can vouch for it:
// what the event itself says of its time decides nothing.
func (w *Worker) age(d *approval.Delivery) time.Duration { return w.Now().Sub(d.PublishedAt) }

// finished counts and logs the end of a request.
func (w *Worker) finished(r *approval.Result) {
	w.Metrics.Finished(*r)
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
		Int("attempts", r.Attempts).Str("traceparent", r.Request.TraceParent).Float64("seconds", total).Msg("finished")
}

func codes(reasons []approval.Reason) string {
	out := make([]string, len(reasons))
	for i, r := range reasons {
		out[i] = string(r.Code)
	}
	return strings.Join(out, ",")
}
