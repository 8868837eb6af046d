package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// mostSends bounds how often a creation is sent: each time only after looking
// for the one before, and finding nothing, for as long as Limits.Settle.
const mostSends = 3

// create carries a decision on a creation out. What was sent and not answered
// is looked for before anything is sent again; where nobody can look, it ends
// as unknown.
func (w *Worker) create(ctx context.Context, d *approval.Delivery, entry *approval.Entry, other *approval.Claim, watch *stopwatch) (*ending, error) {
	defer watch.lap(approval.StageAct)
	switch entry.Decision.Verdict {
	case approval.Hold:
		return &ending{outcome: approval.OutcomeHeld}, nil
	case approval.Ignore:
		return &ending{outcome: approval.OutcomeIgnored}, nil
	case approval.Reject:
		return &ending{outcome: approval.OutcomeRefused}, nil
	case approval.Accept:
	}
	if other != nil && !other.Settled() {
		if err := w.relieve(ctx, d, other); err != nil {
			return nil, err
		}
		return nil, &LaterError{After: spread(2 * time.Second), Cause: CauseRetry, Err: errors.New("another request is making the same endpoint")}
	}
	if entry.Intent == nil {
		if end := w.outdated(entry, &approval.Facts{ReadAt: w.Now()}); end != nil {
			return end, nil
		}
	}
	if entry.Intent == nil || entry.Intent.Created == nil {
		end, err := w.send(ctx, entry, other)
		if end != nil || err != nil {
			return end, err
		}
	}
	watch.lap(approval.StageAct)
	return w.followCreated(ctx, entry, watch)
}

// relieve goes on with the request that holds a claim if nothing was done about
// it for long: its event may be lost, and it would bar all others for ever.
func (w *Worker) relieve(ctx context.Context, d *approval.Delivery, holder *approval.Claim) error {
	entry, err := w.Ledger.Get(ctx, holder.RequestID)
	if err != nil {
		return fmt.Errorf("read the request that holds the claim: %w", err)
	}
	if entry == nil || entry.Result != nil {
		return nil
	}
	last := holder.At
	if entry.Intent != nil {
		last = entry.Intent.At
	}
	if w.Now().Sub(last) < stalled {
		return nil
	}
	its := *d
	its.Request = entry.Request
	result, err := w.settle(ctx, &its, newStopwatch(w.Now, &its))
	if err != nil {
		return fmt.Errorf("go on with request %s, which holds the claim: %w", holder.RequestID, err)
	}
	w.finished(result)
	return nil
}

// send makes the endpoint unless it is there. It returns how the request ends
// if that is known without following: nil means entry.Intent.Created is set.
func (w *Worker) send(ctx context.Context, entry *approval.Entry, other *approval.Claim) (*ending, error) {
	var before []string
	if entry.Intent != nil {
		before = entry.Intent.Before
	}
	look, err := w.Creator.Look(ctx, entry.Request, before)
	blind := err != nil && !mayPass(err)
	if err != nil && !blind {
		return nil, fmt.Errorf("look for the endpoint: %w", err)
	}
	made, err := w.madeBefore(ctx, entry.Request, other, look, blind)
	if err != nil {
		return nil, err
	}
	if made != nil {
		return &ending{outcome: approval.OutcomeCreated, created: made, facts: approval.Facts{State: made.State}}, nil
	}
	if other != nil && other.Settled() && w.Now().Sub(other.At) < w.Limits.Settle {
		// What another request made just now may not show yet.
		return nil, &LaterError{After: spread(w.Limits.Settle / 4), Cause: CauseRetry}
	}
	if intent := entry.Intent; intent != nil && intent.Sends > 0 {
		switch {
		case look.Created != nil:
			return nil, w.noteCreated(ctx, entry, *look.Created)
		case !blind && w.Now().Sub(intent.At) < w.sendFor()+w.Limits.Settle:
			return nil, &LaterError{After: spread(w.Limits.Settle / 4), Cause: CauseRetry}
		case blind || look.Partial || intent.Sends >= mostSends:
			return &ending{outcome: approval.OutcomeUnknown, failure: unanswered(&entry.Request)}, nil
		}
	}

	if other != nil { // only one of those who found it gone may make it anew
		if err := w.Ledger.TakeOver(ctx, entry, other); err != nil {
			return nil, fmt.Errorf("take the claim over: %w", err)
		}
	}
	intent := approval.Intent{Before: look.Keys}
	if entry.Intent != nil {
		intent = *entry.Intent
	}
	intent.At = w.Now()
	intent.Sends++
	if err := w.noteIntent(ctx, entry, intent); err != nil {
		return nil, err
	}
	late := w.Now().Sub(intent.At)
	if late > w.Limits.FactsFor {
		// This worker was stopped in between, and another may have taken over:
		// the note that nothing was sent tells.
		intent.Sends--
		if err := w.noteIntent(ctx, entry, intent); err != nil {
			return nil, err
		}
		return nil, &LaterError{After: spread(time.Second), Cause: CauseRetry}
	}
	// Whoever takes over waits for Settle from when nothing of this send can be
	// under way any more, for a list may show that moment late.
	sending, cancel := context.WithTimeout(ctx, w.sendFor()-max(late, 0))
	defer cancel()
	created, err := w.Creator.Create(sending, entry.Request)
	if err == nil {
		return nil, w.noteCreated(ctx, entry, created)
	}
	if e, ok := errors.AsType[interface {
		error
		OutcomeUnknown() bool
	}](err); ok && !e.OutcomeUnknown() {
		intent.Sends--
		if noted := w.noteIntent(ctx, entry, intent); noted != nil {
			return nil, errors.Join(err, noted)
		}
		return nil, fmt.Errorf("create: %w", err)
	}
	// Retrying means looking first, whatever the error itself thinks of it.
	return nil, &LaterError{After: spread(w.Limits.Settle / 4), Cause: CauseRetry, Err: fmt.Errorf("create: %w", err)}
}

// sendFor is how long after its intent was noted a creation may be under way.
func (w *Worker) sendFor() time.Duration { return w.Limits.Settle * 2 / 3 }

// madeBefore returns what an earlier request for the same endpoint made, unless
// it is gone. Where the product has no way to look, the connection on our own
// target tells, and else the ledger's word is all there is.
func (w *Worker) madeBefore(ctx context.Context, req approval.Request, other *approval.Claim, look approval.Look, blind bool) (*approval.Created, error) {
	if other == nil || other.Created == nil {
		return nil, nil
	}
	made := *other.Created
	made.Existing = true
	if !blind {
		there := made.EndpointID == "" && len(look.Keys) > 0 || slices.Contains(look.Keys, made.EndpointID)
		if !there {
			return nil, nil
		}
		return &made, nil
	}
	connection, ours := w.connectionOf(req, made)
	if !ours {
		return &made, nil
	}
	facts, err := w.Cloud.Facts(ctx, connection)
	if err != nil {
		return nil, fmt.Errorf("look for the endpoint: %w", err)
	}
	switch facts.State {
	case approval.Absent, approval.Deleting, approval.Failed, approval.Rejected:
		return nil, nil
	default:
	}
	made.State = facts.State
	return &made, nil
}

func (w *Worker) noteIntent(ctx context.Context, entry *approval.Entry, intent approval.Intent) error {
	last := entry.Intent
	entry.Intent = &intent
	if err := w.Ledger.Update(ctx, entry); err != nil {
		entry.Intent = last
		return fmt.Errorf("note the intent: %w", err)
	}
	return nil
}

func (w *Worker) noteCreated(ctx context.Context, entry *approval.Entry, created approval.Created) error {
	intent := *entry.Intent
	intent.Created = &created
	entry.ActedAt = w.Now()
	return w.noteIntent(ctx, entry, intent)
}

// followCreated waits until the endpoint shows, where it can show: among the
// connections of a target of ours, or in the product's own read-back.
func (w *Worker) followCreated(ctx context.Context, entry *approval.Entry, watch *stopwatch) (*ending, error) {
	w.Metrics.Waiting(1)
	defer w.Metrics.Waiting(-1)
	defer watch.lap(approval.StageConfirm)
	created := *entry.Intent.Created
	end := &ending{outcome: approval.OutcomeCreated, created: &created}

	waiting, cancel := context.WithTimeout(ctx, w.Limits.HoldSlot)
	defer cancel()
	connection, ours := w.connectionOf(entry.Request, created)
	var why *approval.Failure
	var err error
	if ours {
		created.State, err = w.Cloud.Await(waiting, connection, approval.Accepted, time.Time{})
	} else {
		why, err = w.readBack(waiting, entry, &created)
	}
	end.facts.State = created.State
	switch {
	case err == nil && ours && created.State != approval.Accepted:
		end.outcome = confirmed(approval.Accepted, &approval.Facts{State: created.State}).outcome
		end.failure = notConnected(created.State, nil)
		return end, nil
	case err == nil && broken(created.State):
		end.outcome, end.failure = approval.OutcomeFailed, notConnected(created.State, why)
		return end, nil
	case err == nil:
		return end, nil
	case ctx.Err() != nil || waiting.Err() == nil:
		return nil, fmt.Errorf("follow: %w", err)
	case w.Now().Sub(entry.ActedAt) < w.confirmCreated(ours):
		return nil, &LaterError{After: 10 * time.Second, Cause: CauseRetry}
	}
	if created.State == approval.Deleting {
		end.outcome, end.failure = approval.OutcomeFailed, notConnected(created.State, nil)
		return end, nil
	}
	// The API answered that it is done; that it cannot be seen is told, not judged.
	return end, nil
}

// broken reports whether an endpoint in state s connects nothing.
func broken(s approval.State) bool { return s == approval.Failed || s == approval.Rejected }

// notConnected says that an endpoint was created and is of no use. why is what the
// cloud says of it, if it says anything.
func notConnected(s approval.State, why *approval.Failure) *approval.Failure {
	f := approval.Failure{Code: "not_connected", Text: fmt.Sprintf("The endpoint was created, but its connection ended %q.", s)}
	if why != nil {
		if why.Code != "" {
			f.Code = why.Code
		}
		if why.Text != "" {
			f.Text = strings.TrimSuffix(f.Text, ".") + ": " + why.Text
		}
	}
	return &f
}

// confirmCreated is how long a created endpoint is followed. One that must be
// approved by our own rules has its own request, which may be held for long.
func (w *Worker) confirmCreated(ours bool) time.Duration {
	if ours {
		return w.Limits.ConfirmFor
	}
	return min(w.Limits.ConfirmFor, 4*w.Limits.Settle)
}

// connectionOf returns the request that names the connection which created made
// on one of our own targets, if it did.
func (w *Worker) connectionOf(req approval.Request, created approval.Created) (approval.Request, bool) {
	if req.Creation.DataArtsInsight == nil || created.EndpointID == "" {
		return approval.Request{}, false
	}
	service := req.Creation.DataArtsInsight.ServiceID()
	for _, t := range w.Targets.Connections() {
		if t.Kind == approval.Service && t.ID == service || t.Kind == approval.Gateway && t.ServiceID == service {
			return approval.Request{ID: req.ID, Target: t, EndpointID: created.EndpointID}, true
		}
	}
	return approval.Request{}, false
}

// readBack looks until the product shows what it created in a state that is final,
// and adds what it shows to created. Where nobody can look, the answer of the API is
// all there is. why is what the cloud says of a state that is a failure.
func (w *Worker) readBack(ctx context.Context, entry *approval.Entry, created *approval.Created) (why *approval.Failure, err error) {
	for wait := time.Second; ; wait = min(2*wait, 10*time.Second) {
		look, err := w.Creator.Look(ctx, entry.Request, entry.Intent.Before)
		switch {
		case err != nil && !mayPass(err) || created.Existing:
			return nil, nil
		case err != nil:
			return nil, err
		case look.Created != nil:
			if created.EndpointID == "" {
				created.EndpointID = look.Created.EndpointID
			}
			created.State = look.Created.State
			if created.State == "" || created.State == approval.Accepted || broken(created.State) {
				return look.Failure, nil
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// unanswered says what an operator should check after an answer was lost.
func unanswered(r *approval.Request) *approval.Failure {
	text := "The answer to the creation was lost and cannot be read back. Check "
	switch r.Target.Kind {
	case approval.FunctionGraph:
		text += "the VPC endpoints of the project for one in this VPC and subnet"
	case approval.HSS:
		text += "the endpoint state of these servers in HSS"
	default:
		text += "the connections of the endpoint service for a new one of DataArts Insight"
	}
	return &approval.Failure{Code: "answer_lost", Text: text + ", then send a new request if it is not there."}
}
