package worker

import (
	"context"
	"fmt"
	"slices"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// ReviewRecords stores what people said of held requests; ledger.Reviews provides it.
type ReviewRecords interface {
	// Review returns nil if nobody can review subject.
	Review(ctx context.Context, subject string) (*approval.ReviewRecord, error)
	// PutReview stores r, and sets its revision, unless it was changed since it was read.
	PutReview(ctx context.Context, r *approval.ReviewRecord) error
	// DropReview removes r, and leaves what was written since it was read.
	DropReview(ctx context.Context, r *approval.ReviewRecord) error
}

// reviewsOf returns what people said of req, which d holds and people may decide;
// nil if they said nothing.
func (w *Worker) reviewsOf(ctx context.Context, req *approval.Request, d *approval.Decision) (*approval.Reviews, error) {
	if len(d.Review) == 0 {
		return nil, nil
	}
	record, err := w.Reviews.Review(ctx, req.Subject())
	if err != nil {
		return nil, fmt.Errorf("read the reviews: %w", err)
	}
	if record == nil || len(record.Reviews.Said) == 0 {
		return nil, nil
	}
	return &record.Reviews, nil
}

// noteReview opens or ends the reviews of a request that ends by end. What is held
// and can be reviewed is on the work list before its result is published.
func (w *Worker) noteReview(ctx context.Context, t *task, entry *approval.Entry, end *ending) error {
	if end.outcome == approval.OutcomeHeld && (len(entry.Decision.Review) > 0 || entry.Decision.Reviews != nil) {
		// A request that ended before must not be put on the list again.
		if err := w.mustBeNew(ctx, t, entry); err != nil {
			return err
		}
		return w.openReview(ctx, entry)
	}
	if slices.Contains([]approval.Outcome{approval.OutcomeHeld, approval.OutcomeIgnored, approval.OutcomeFailed, approval.OutcomeUnknown}, end.outcome) {
		return nil // it may still wait for somebody
	}
	if entry.Request.Source != approval.SweepSource && entry.Decision.Reviews == nil {
		return nil // the sweep removes what nobody reviewed
	}
	if err := w.mustBeNew(ctx, t, entry); err != nil {
		return err
	}
	record, err := w.Reviews.Review(ctx, entry.Request.Subject())
	switch {
	case err != nil || record == nil:
	case end.outcome == approval.OutcomeSuperseded && end.facts.State == approval.Pending:
		// Another request was about to do otherwise, and may end without doing it.
		if entry.Request.ID == approval.ReviewedRequest(record).ID {
			record.Closed, record.Round = "", record.Round+1
			err = w.Reviews.PutReview(ctx, record)
		}
	default:
		err = w.Reviews.DropReview(ctx, record)
	}
	if err != nil {
		return fmt.Errorf("end the reviews: %w", err)
	}
	return nil
}

// openReview puts entry on the work list of reviewers. What was said of the very
// same connection or creation before stays.
func (w *Worker) openReview(ctx context.Context, entry *approval.Entry) error {
	fresh := approval.ReviewRecord{Request: entry.Request, Facts: entry.Decision.Facts, Reviews: approval.Reviews{HeldAt: w.Now().UTC()}}
	if !fresh.ToReview().Known() {
		return nil
	}
	record, err := w.Reviews.Review(ctx, entry.Request.Subject())
	if err != nil {
		return fmt.Errorf("read the reviews: %w", err)
	}
	switch {
	case record == nil:
		record = &fresh
	case record.ToReview() != fresh.ToReview():
		fresh.Revision = record.Revision
		record = &fresh
	case record.Closed == "" && entry.Request.ID != approval.ReviewedRequest(record).ID:
		return nil
	default:
		// Its reviews do not suffice any more. If they do later, that is another request.
		record.Closed, record.Round = "", record.Round+1
	}
	if err := w.Reviews.PutReview(ctx, record); err != nil {
		return fmt.Errorf("put it on the work list of reviewers: %w", err)
	}
	return nil
}
