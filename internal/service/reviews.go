package service

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// countReview has counter count what the bus delivers.
func countReview(counter *review.Counter, m *metrics.Metrics) func(context.Context, *events.ReviewMessage) (*events.ReviewRefusal, error) {
	return func(ctx context.Context, in *events.ReviewMessage) (*events.ReviewRefusal, error) {
		err := counter.Handle(ctx, &review.Message{
			Data: in.Data, Signature: in.Signature, Target: in.Target, RequestID: in.RequestID,
			Sequence: in.Sequence, StoredAt: in.StoredAt,
		})
		refused, ok := errors.AsType[*review.RefusedError](err)
		if !ok {
			return nil, err
		}
		m.ReviewRefused()
		return &events.ReviewRefusal{
			RequestID: in.RequestID, Target: in.Target, Reviewer: refused.Reviewer, Code: refused.Code, Text: refused.Text,
		}, nil
	}
}

// measureReviews sets how many requests of each target wait for a review, and since
// when. If a record cannot be read, neither is known.
func measureReviews(ctx context.Context, records iter.Seq2[*approval.ReviewRecord, error], set *policy.Set, targets approval.Targets, m *metrics.Metrics) {
	items, err := review.WorkList(ctx, records, set, time.Now())
	counts, oldest := map[string]int{}, map[string]time.Time{}
	for _, item := range items {
		name := item.Request.Target.Name
		if counts[name]++; counts[name] == 1 { // the oldest comes first
			oldest[name] = item.Reviews.HeldAt
		}
	}
	for _, t := range targets {
		n := counts[t.Name]
		if err != nil {
			n = -1
		}
		m.ReviewsWaiting(t.Name, n, oldest[t.Name])
	}
}
