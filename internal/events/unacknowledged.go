package events

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Unacknowledged is a stored request that may not be acknowledged yet.
type Unacknowledged struct {
	Request   approval.Request
	Sequence  uint64    // in the stream
	StoredAt  time.Time // when the bus took it
	Delivered bool      // whether it was delivered to a worker
}

// Unacknowledged yields the requests from the first unacknowledged one on, oldest first,
// and returns how many are unacknowledged in total. Some of the delivered ones may be
// settled; the ledger knows. Invalid messages are left out; they are dead-lettered.
func (b *Bus) Unacknowledged(ctx context.Context) (all int, _ iter.Seq2[Unacknowledged, error], err error) {
	info, err := b.consumerInfo(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("list waiting requests: %w", err)
	}
	if info == nil {
		return 0, func(func(Unacknowledged, error) bool) {}, nil
	}
	return info.NumAckPending + int(info.NumPending), func(yield func(Unacknowledged, error) bool) { //nolint:gosec // no stream holds more
		// Without a consumer: who may create one on this stream may replace that of the workers.
		for from, more := info.AckFloor.Stream+1, true; more; {
			var batch []message
			var err error
			batch, more, err = b.patient(ctx, RequestsStream, directGet{From: from, Next: RequestsSubject + ".>", Batch: directBatch, MaxBytes: directMaxBytes})
			if err != nil {
				yield(Unacknowledged{}, fmt.Errorf("list waiting requests: %w", err))
				return
			}
			for _, m := range batch {
				from = m.sequence + 1
				r, err := DecodeRequest(m.Header, m.Data, b.cfg.Targets)
				if err != nil {
					continue
				}
				if !yield(Unacknowledged{Request: r, Sequence: m.sequence, StoredAt: m.at, Delivered: m.sequence <= info.Delivered.Stream}, nil) {
					return
				}
			}
		}
	}, nil
}
