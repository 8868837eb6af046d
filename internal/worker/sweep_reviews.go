package worker

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// SweptReviews reads and removes records of reviews; ledger.Reviews provides it.
type SweptReviews interface {
	// ReviewRecords yields the records of a target. An error of one is no end of the list.
	ReviewRecords(ctx context.Context, target string) iter.Seq2[*approval.ReviewRecord, error]
	// DropReview removes r, and leaves what was written since it was read.
	DropReview(ctx context.Context, r *approval.ReviewRecord) error
}

// reviews looks at what waits for a review on t. It submits what the reviews decide by
// now, such as after a change of the policies, and removes what waits no more. pending
// has the facts of the pending connections by subject; nil: t creates endpoints.
func (s *Sweep) reviews(ctx context.Context, t approval.Target, pending map[string]approval.Facts, listed time.Time, before map[string]submitted) error {
	var failed sweepErrors
	for record, err := range s.Reviews.ReviewRecords(ctx, t.Name) {
		if err == nil {
			err = s.review(ctx, t, record, pending, listed, before)
		}
		if failed.add("a review", err); failed.enough() {
			break
		}
	}
	return failed.join()
}

func (s *Sweep) review(ctx context.Context, t approval.Target, record *approval.ReviewRecord, pending map[string]approval.Facts, listed time.Time, before map[string]submitted) error {
	facts, shown := pending[record.Request.Subject()]
	if !shown {
		if err := s.reviewSettled(ctx, t, record, listed); err != nil || pending != nil {
			return err
		}
	}
	in := &approval.Input{Request: record.Request, Facts: facts, Now: s.Now(), Reviews: &record.Reviews}
	in.Request.Target = t // as it is configured now, which is what the worker will judge by
	if d := judge(s.Policy, in); !d.Verdict.Acts() || d.Reviews == nil {
		return nil
	}
	again := approval.ReviewedRequest(record)
	again.Target = t
	return s.submit(ctx, again, "reviewed", before[again.ID])
}

// reviewSettled removes record if what stands on its subject is not held any more.
// What is held and not pending any more is submitted by settledElsewhere, and removed
// when that request ends.
func (s *Sweep) reviewSettled(ctx context.Context, t approval.Target, record *approval.ReviewRecord, listed time.Time) error {
	if listed.Sub(record.Reviews.HeldAt) < eventGrace {
		return nil
	}
	stands, err := s.standing(ctx, t, record.Request.Subject())
	if err != nil {
		return err
	}
	switch stands.Outcome {
	case "", approval.OutcomeHeld, approval.OutcomeIgnored, approval.OutcomeFailed, approval.OutcomeUnknown:
		return nil // under way, or it may still wait for somebody
	default:
	}
	if err := s.Reviews.DropReview(ctx, record); err != nil {
		return fmt.Errorf("remove the reviews of request %s: %w", record.Request.ID, err)
	}
	return nil
}
