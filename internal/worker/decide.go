package worker

import (
	"context"
	"fmt"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// decide asks the policies about a request that is not decided yet, or whose
// decision was made on another connection and of which nothing was done.
func (w *Worker) decide(ctx context.Context, t *task, entry *approval.Entry, facts *snapshot) (ruling, error) {
	r := ruling{decision: &entry.Decision}
	req, doing := &entry.Request, "decide again"
	switch {
	case !entry.Decided():
		r.fresh, req, doing = true, &t.Request, "decide"
	case !t.Request.Creates() && entry.Undone() && facts.State == approval.Pending && !entry.Decision.Facts.Same(facts.Facts):
		r.fresh, r.replaces = true, true
	default:
		return r, nil
	}
	var err error
	if r.decision, err = w.judgeWithin(ctx, req, &facts.Facts); err != nil {
		t.stages.record(approval.StageDecide, err)
		return r, fmt.Errorf("%s: %w", doing, err)
	}
	return r, nil
}

// judgeWithin asks the policies, and keeps limits. A rule with a limit
// accepts only with a reservation; if there is none left, the policies are asked again
// with the limit reached.
func (w *Worker) judgeWithin(ctx context.Context, req *approval.Request, facts *approval.Facts) (*approval.Decision, error) {
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
	counted, err := w.Limiter.Accepted(ctx, req.Target, facts.DomainID, req.EndpointID)
	if err != nil {
		return nil, fmt.Errorf("count the accepted connections: %w", err)
	}
	in.Facts.Accepted = approval.Counted(counted)
	w.limitUsed(&decision, req, facts, counted)
	for decision = judge(w.Policy, in); decision.Limit > 0 && facts.State == approval.Pending; decision = judge(w.Policy, in) {
		ok, err := w.Limiter.Reserve(ctx, *req, facts.DomainID, decision.Limit, counted)
		if err != nil {
			return nil, fmt.Errorf("make a reservation: %w", err)
		}
		if ok {
			w.limitUsed(&decision, req, facts, counted+1)
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

// record writes the decision into the ledger, and returns what stands there:
// another's decision, if two events with the same id came concurrently.
func (w *Worker) record(ctx context.Context, t *task, entry *approval.Entry, facts *snapshot, r ruling) (recorded, error) {
	write := w.recordFirst
	if r.replaces {
		write = w.recordAgain
	}
	rec, err := write(ctx, &t.Request, entry, r.decision)
	t.stages.record(approval.StageDecide, err)
	if err != nil {
		return rec, err
	}
	rec.entry = w.clearUnsent(rec.entry, facts)
	if r.fresh && rec.entry.Result == nil {
		w.Metrics.Decided(&rec.entry.Decision)
	}
	return rec, nil
}

func (w *Worker) recordFirst(ctx context.Context, req *approval.Request, entry *approval.Entry, d *approval.Decision) (recorded, error) {
	stored, other, err := w.Ledger.Record(ctx, req, d)
	if err == nil {
		err = sameSubject(stored, req)
	}
	if err != nil {
		return recorded{entry: entry}, fmt.Errorf("record the decision: %w", err)
	}
	return recorded{entry: stored, other: other}, nil
}

func (w *Worker) recordAgain(ctx context.Context, _ *approval.Request, entry *approval.Entry, d *approval.Decision) (recorded, error) {
	next := *entry
	other, err := w.Ledger.Redecide(ctx, &next, d)
	if err != nil {
		return recorded{entry: &next}, fmt.Errorf("record the new decision: %w", err)
	}
	return recorded{entry: &next, other: other}, nil
}
