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
	opts := readOptions{stream: RequestsStream, from: info.AckFloor.Stream + 1}
	return info.NumAckPending + int(info.NumPending), func(yield func(Unacknowledged, error) bool) { //nolint:gosec // no stream holds more
		for msg, err := range b.read(ctx, opts) {
			if err != nil {
				yield(Unacknowledged{}, fmt.Errorf("list waiting requests: %w", err))
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
