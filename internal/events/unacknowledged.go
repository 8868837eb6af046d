package events

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Unacknowledged is a stored request that no worker may have acknowledged yet.
type Unacknowledged struct {
	Request   approval.Request
	Sequence  uint64    // in the stream
	StoredAt  time.Time // when the bus took it
	Delivered bool      // a worker was given it; if not, it is still in the queue
}

// Unacknowledged yields the requests from the first that the consumer waits for
// an acknowledgement of, oldest first, and returns how many are not acknowledged
// in all. Among those that were delivered some may be settled: the ledger tells.
// Messages that are no requests are left out; they become dead letters.
func (b *Bus) Unacknowledged(ctx context.Context) (all int, _ iter.Seq2[Unacknowledged, error], err error) {
	info, err := b.consumerInfo(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("look for requests that wait: %w", err)
	}
	if info == nil {
		return 0, func(func(Unacknowledged, error) bool) {}, nil
	}
	what := reading{stream: RequestsStream, from: info.AckFloor.Stream + 1}
	return info.NumAckPending + int(info.NumPending), func(yield func(Unacknowledged, error) bool) { //nolint:gosec // no stream holds more
		for msg, err := range b.read(ctx, what) {
			if err != nil {
				yield(Unacknowledged{}, fmt.Errorf("look for requests that wait: %w", err))
				return
			}
			r, err := DecodeRequest(msg.Header, msg.Data, b.cfg.Targets)
			if err != nil {
				continue
			}
			if !yield(Unacknowledged{Request: r, Sequence: msg.sequence, StoredAt: msg.at, Delivered: msg.sequence <= info.Delivered.Stream}, nil) {
				return
			}
		}
	}, nil
}
