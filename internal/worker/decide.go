package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// decide asks the policies about a request that is not decided yet, or whose
// decision was made on another connection and of which nothing was done.
func (w *Worker) decide(ctx context.Context, t *task, entry *approval.Entry, facts *snapshot) (ruling, error) {
	r := ruling{entry: entry}
	req, doing := &entry.Request, "decide again"
	switch {
	case !entry.Decided():
		r.fresh, req, doing = true, &t.Request, "decide"
	case !t.Request.Creates() && entry.Undone() && facts.State == approval.Pending && !entry.Decision.Facts.Same(facts.Facts):
		r.fresh = true
	}
	if r.fresh {
		decision, err := w.judgeWithin(ctx, t, entry, req, &facts.Facts)
		t.stages.record(approval.StageDecide, err)
		if err != nil {
			return r, fmt.Errorf("%s: %w", doing, err)
		}
		next := *entry
		next.Request, next.Decision = *req, *decision
		next.Decision.ID = approval.DecisionID(entry.Request.ID)
		r.entry = &next
	}
	end, err := w.withoutAct(ctx, t, r.entry, facts)
	if end != nil {
		end.ruling = &r
	}
	return ruling{entry: r.entry, fresh: r.fresh, end: end}, err
}

// withoutAct is the end of a request that nothing is to be done for: by its verdict, or
// because its connection is settled. nil if there is something to be done.
func (w *Worker) withoutAct(ctx context.Context, t *task, entry *approval.Entry, facts *snapshot) (*ending, error) {
	switch verdict := entry.Decision.Verdict; {
	case verdict == approval.Ignore:
		return &ending{outcome: approval.OutcomeIgnored, facts: facts.Facts}, nil
	case t.Request.Creates() && verdict == approval.Reject:
		return &ending{outcome: approval.OutcomeRefused}, nil
	case !t.Request.Creates() && entry.ActedAt.IsZero() && facts.State != approval.Pending:
		return w.outcomeOf(ctx, entry, facts.Facts)
	case verdict == approval.Hold:
		return &ending{outcome: approval.OutcomeHeld, facts: facts.Facts}, nil
	}
	return nil, nil //nolint:nilnil // there is no end
}

// judgeWithin asks the policies, and keeps limits. A rule with a limit
// accepts only with a reservation; if there is none left, the policies are asked again
// with the limit reached.
func (w *Worker) judgeWithin(ctx context.Context, t *task, entry *approval.Entry, req *approval.Request, facts *approval.Facts) (*approval.Decision, error) {
	in := &approval.Input{Request: *req, Facts: *facts, Now: w.Now()}
	decision := judge(w.Policy, in)
	var err error
	if in.Reviews, err = w.reviewsOf(ctx, req, &decision); err != nil {
		return nil, err
	}
	if in.Reviews != nil {
		decision = judge(w.Policy, in)
	}
	if !decision.NeedsCount {
		return &decision, nil
	}
	if err := w.mustBeNew(ctx, t, entry); err != nil {
		return nil, err
	}
	counted, err := w.Limiter.Accepted(ctx, req.Target, facts.DomainID, req.EndpointID)
	if err != nil {
		return nil, fmt.Errorf("count the accepted connections: %w", err)
	}
	in.Facts.Accepted = approval.Counted(counted.Accepted)
	w.limitUsed(&decision, req, facts, counted.Accepted)
	for decision = judge(w.Policy, in); decision.Limit > 0 && facts.State == approval.Pending; decision = judge(w.Policy, in) {
		ok, err := w.Limiter.Reserve(ctx, *req, facts.DomainID, decision.Limit, counted)
		switch {
		case errors.Is(err, approval.ErrCountUnclear):
			return nil, waits(approval.StageDecide, "count_unclear", soon())
		case err != nil:
			return nil, fmt.Errorf("make a reservation: %w", err)
		case ok:
			w.limitUsed(&decision, req, facts, counted.Accepted+1)
			return &decision, nil
		}
		w.limitUsed(&decision, req, facts, decision.Limit)
		in.Facts.Accepted = approval.Counted(decision.Limit) // the list does not show all of them yet
	}
	return &decision, nil
}

func (w *Worker) limitUsed(d *approval.Decision, req *approval.Request, facts *approval.Facts, used int) {
	w.Metrics.LimitUsed(d, req.Target.Name, approval.CanonicalID(facts.DomainID), used, d.Limit)
}

// mustBeNew is errStored if the ledger has an entry of a request that was taken for
// new. A reservation must not be made for one that has ended.
func (w *Worker) mustBeNew(ctx context.Context, t *task, entry *approval.Entry) error {
	if t.stored || entry.Revision > 0 {
		return nil
	}
	found, err := w.Ledger.Get(ctx, t.Request.ID)
	switch {
	case err != nil:
		return fmt.Errorf("read the ledger: %w", err)
	case found != nil:
		return errStored
	}
	return nil
}

// judge asks the policies. Nothing is done to a connection that cannot be distinguished
// from another one with its id.
func judge(p Policy, in *approval.Input) approval.Decision {
	d := p.Evaluate(in)
	if in.Request.Creates() || in.Facts.State != approval.Pending || in.Facts.Identified() || !d.Verdict.Acts() && !d.NeedsCount {
		return d
	}
	d.Verdict, d.Policy, d.Rule, d.Contact, d.Limit, d.NeedsCount = approval.Hold, "", "", "", 0, false
	d.Reasons = []approval.Reason{{
		Code: approval.ReasonFactMissing, Text: "The cloud does not show the account and the number of this endpoint, so nothing is done.",
	}}
	return d
}

// record writes the decision into the ledger and locks the subject of the request. That
// an accept or reject may be sent from now on is written with it.
func (w *Worker) record(ctx context.Context, t *task, r ruling, facts *snapshot) (recorded, error) {
	if !r.fresh {
		other, err := w.Ledger.Acquire(ctx, r.entry)
		t.stages.record(approval.StageDecide, err)
		if err != nil {
			err = fmt.Errorf("lock the subject: %w", err)
		}
		return recorded{entry: r.entry, other: other}, err
	}
	next, noted := *r.entry, time.Time{}
	next.Wait = nil
	if !t.Request.Creates() && facts.State == approval.Pending {
		noted = w.Now()
		next.SentAt, next.Progress = noted, t.stages.progress(approval.StageAct)
	}
	other, err := w.Ledger.Record(ctx, &next)
	t.stages.record(approval.StageDecide, err)
	next.SentAt = time.Time{} // this worker knows that it is not sent yet
	switch {
	case err == nil:
		w.Metrics.Decided(&next.Decision)
	case next.Revision == r.entry.Revision: // it is not known to be stored
		return recorded{entry: r.entry}, fmt.Errorf("record the decision: %w", err)
	default:
		err = fmt.Errorf("lock the subject: %w", err)
	}
	return recorded{entry: &next, other: other, noted: noted}, err
}
