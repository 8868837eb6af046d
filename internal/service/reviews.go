package service

import (
	"context"
	"errors"

	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// countReview has counter count what the bus delivers.
func countReview(counter *review.Counter, m *metrics.Metrics) func(context.Context, *events.ReviewMessage) (*events.ReviewRefusal, error) {
	return func(ctx context.Context, in *events.ReviewMessage) (*events.ReviewRefusal, error) {
		err := counter.Handle(ctx, &review.Message{
			Data: in.Data, Signature: in.Signature, Target: in.Target, RequestID: in.RequestID, StoredAt: in.StoredAt, First: in.First,
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
