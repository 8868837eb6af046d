package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// verify reads the facts. An endpoint that is not listed yet is waited for.
func (w *Worker) verify(ctx context.Context, t *task, entry *approval.Entry) (verified, error) {
	v := verified{entry: entry}
	if err := w.waitsPaused(entry); err != nil {
		return v, err
	}
	facts, err := w.recentFacts(t, entry), error(nil)
	if facts == nil {
		facts, err = w.readFacts(ctx, t.Request)
	}
	t.stages.record(approval.StageVerify, err)
	if err != nil {
		return v, err
	}
	v.facts = facts
	if !t.Request.Creates() && entry.ActedAt.IsZero() {
		if v, err = w.waitUntilListed(ctx, t, v); err != nil || v.end != nil {
			return v, err
		}
	}
	v.entry = w.clearUnsent(v.entry, facts)
	return v, nil
}

// recentFacts returns what a read for other requests has just shown of a pending
// connection, so that each request of a long queue need not wait for a read; nil if there
// is none. It is for a request of which nothing was done: one that may have acted needs a
// read that is younger than its act. Another request that acted has the lock.
func (w *Worker) recentFacts(t *task, entry *approval.Entry) *snapshot {
	if t.Request.Creates() || t.stored || entry.Revision > 0 {
		return nil
	}
	facts, ok := w.Cloud.LatestPending(t.Request)
	age := w.Now().Sub(facts.ReadAt)
	if !ok || age < 0 || age > min(recentFacts, w.Limits.FactsMaxAge) {
		return nil
	}
	return &snapshot{Facts: facts, at: facts.ReadAt}
}

func (w *Worker) readFacts(ctx context.Context, req approval.Request) (*snapshot, error) {
	at := w.Now()
	facts, err := w.Cloud.Facts(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("facts: %w", err)
	}
	// The wait for the turn at the API makes facts no older.
	if read := facts.ReadAt; read.After(at) && !read.After(w.Now()) {
		at = read
	}
	return &snapshot{Facts: facts, at: at}, nil
}

// waitUntilListed ends a request whose endpoint is not listed, or has it come
// again for as long as the endpoint may still appear.
func (w *Worker) waitUntilListed(ctx context.Context, t *task, v verified) (verified, error) {
	facts := &v.facts.Facts
	switch facts.State {
	case approval.Pending, approval.Accepted, approval.Rejected:
		return v, nil
	case approval.Failed:
		v.end = &ending{outcome: approval.OutcomeFailed, facts: *facts, failure: connectionFailed(facts, "The cloud reports that the endpoint failed; it can only be deleted and created again")}
		return v, nil
	case approval.Absent, approval.Deleting:
		// A clock that is set ahead must not end what was hardly looked for.
		if w.age(t.Delivery) >= w.Limits.Visible && lookedFor(t.Attempt) >= w.Limits.Visible/2 {
			var err error
			v.end, err = w.confirmAbsent(ctx, v.entry, facts)
			return v, err
		}
	case approval.Creating:
	}
	// Creating precedes pendingAcceptance, and a state that is not documented is
	// never final.
	if w.overdue(t) {
		v.end = &ending{outcome: approval.OutcomeFailed, facts: *facts, failure: &approval.Failure{
			Code: "not_pending", Text: "The connection never came to wait for acceptance.",
		}}
		return v, nil
	}
	return v, waits(approval.StageVerify, "not_visible", backoff(t.Attempt, minLookWait, maxLookWait))
}

// lookedFor is how long an endpoint has been looked for at least by this
// delivery, counted by the waits between the deliveries and not by a clock.
func lookedFor(attempt int) time.Duration {
	const enough = time.Hour
	sum, wait := time.Duration(0), minLookWait
	for n := 1; n < attempt && sum < enough; n++ {
		sum += wait
		wait = min(2*wait, maxLookWait)
	}
	return sum
}

// confirmAbsent ends a request whose endpoint should be listed by now and is not,
// unless a second look finds it, which is an error.
func (w *Worker) confirmAbsent(ctx context.Context, entry *approval.Entry, facts *approval.Facts) (*ending, error) {
	state, err := w.recheck(ctx, entry)
	if err == nil && (state == approval.Absent || state == approval.Deleting) {
		return &ending{outcome: approval.OutcomeGone, facts: *facts}, nil
	}
	return nil, looksDiffer(ctx, err)
}

// looksDiffer has a request come again whose second look agrees with nothing, or met err.
func looksDiffer(ctx context.Context, err error) *RetryLaterError {
	later := waits(approval.StageVerify, "looks_differ", soon())
	if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		later.Err = err
	}
	return later
}

// recheck returns the state of a connection that did not show as pending, once
// two reads agree that it is not: one look may be at a stale list, the more so
// after an act that may have been done.
func (w *Worker) recheck(ctx context.Context, entry *approval.Entry) (approval.State, error) {
	waiting, cancel := context.WithTimeout(ctx, w.Limits.SlotTimeout)
	defer cancel()
	return w.Cloud.Await(waiting, entry.Request, approval.Pending, entry.SentAt)
}

// clearUnsent takes an act as not done whose connection is pending still after all
// the time in which the act could be under way and a list show the past.
func (w *Worker) clearUnsent(entry *approval.Entry, facts *snapshot) *approval.Entry {
	if entry.SentAt.IsZero() || facts.State != approval.Pending || !entry.ActedAt.IsZero() || w.maybeUnderWay(entry) {
		return entry
	}
	cleared := *entry
	cleared.SentAt = time.Time{}
	return &cleared
}

// maybeUnderWay reports whether an act of entry that may have been done may not
// show yet.
func (w *Worker) maybeUnderWay(entry *approval.Entry) bool {
	return entry.ActedAt.IsZero() && !entry.SentAt.IsZero() && w.Now().Sub(entry.SentAt) < actWithin+listLag
}
