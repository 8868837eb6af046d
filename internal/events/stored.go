package events

import (
	"context"
	"fmt"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// StoredRequests calls each with the requests that the broker keeps, oldest first, from
// behind a position; 0: all. It returns the position of the last one that was read, also
// with an error. It needs no consumer and changes nothing. What is no request about a
// configured target is left out.
func (b *Bus) StoredRequests(ctx context.Context, after uint64, each func(approval.Request)) (last uint64, err error) {
	for more := true; more; {
		batch, next, err := b.patient(ctx, RequestsStream, directGet{From: after + 1, Next: RequestsSubject + ".>", Batch: directBatch, MaxBytes: directMaxBytes})
		if err != nil {
			return after, fmt.Errorf("read the stored requests: %w", err)
		}
		more = next
		for _, m := range batch {
			after = m.sequence
			if r, err := DecodeMessage(m.Subject, m.Header, m.Data, b.cfg.Targets); err == nil {
				each(r)
			}
		}
	}
	return after, nil
}
