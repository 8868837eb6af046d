package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const (
	directBatch    = 256     // messages of one direct read
	directScan     = 1024    // the same where all are read
	directMaxBytes = 4 << 20 // of one direct read, about
	directWithin   = 5 * time.Second
)

// ErrNotDirect means that a stream does not answer direct reads.
var ErrNotDirect = errors.New("the stream does not answer direct reads")

// directGet is the broker's JSApiMsgGetRequest, as far as it is used.
type directGet struct {
	From     uint64   `json:"seq,omitzero"`
	Next     string   `json:"next_by_subj,omitzero"`
	Last     string   `json:"last_by_subj,omitzero"`
	LastOf   []string `json:"multi_last,omitzero"`
	Batch    int      `json:"batch,omitzero"`
	MaxBytes int      `json:"max_bytes,omitzero"`
}

// direct reads stored messages without a consumer, which the client library can do
// for single ones only. more says that there were more than fit.
func (b *Bus) direct(ctx context.Context, stream string, get directGet) (out []message, more bool, err error) {
	out, left, err := b.directLeft(ctx, stream, get)
	return out, left > 0 && len(out) > 0, err
}

// directLeft is direct with the number of messages that did not fit.
func (b *Bus) directLeft(ctx context.Context, stream string, get directGet) (out []message, left int, err error) {
	ctx, cancel := context.WithTimeout(ctx, directWithin)
	defer cancel()
	subject := b.api("DIRECT.GET." + stream)
	err = b.abortOnDenial(ctx, subject, func(ctx context.Context) error {
		out, left, err = b.readDirect(ctx, subject, get)
		return err
	})
	return out, left, err
}

func (b *Bus) readDirect(ctx context.Context, subject string, get directGet) (out []message, left int, err error) {
	body, err := json.Marshal(get)
	if err != nil {
		return nil, 0, err
	}
	inbox, msgs := b.nc.NewInbox(), make(chan *nats.Msg, get.Batch+16)
	sub, err := b.nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return nil, 0, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // nothing depends on the end of a read
	if err := b.nc.PublishRequest(subject, inbox, body); err != nil {
		return nil, 0, err
	}
	for {
		var m *nats.Msg
		select {
		case <-ctx.Done():
			return out, 0, ctx.Err()
		case m = <-msgs:
		}
		// A stored message may have any header, so what only the broker adds comes first.
		if subject := m.Header.Get(jetstream.SubjectHeader); subject != "" && m.Header.Get(jetstream.SequenceHeader) != "" {
			at, timeErr := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
			sequence, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
			if err := errors.Join(err, timeErr); err != nil {
				return out, 0, fmt.Errorf("read a stored message: %w", err)
			}
			m.Subject = subject
			out = append(out, message{m, sequence, at})
			if get.Batch == 0 {
				return out, 0, nil
			}
			continue
		}
		switch status := m.Header.Get("Status"); status {
		case "404":
			return out, 0, nil
		case "204":
			left, err := strconv.Atoi(m.Header.Get("Nats-Num-Pending"))
			if err != nil {
				return out, 0, fmt.Errorf("read how many messages are left: %w", err)
			}
			return out, left, nil
		case "503":
			return out, 0, ErrNotDirect
		default:
			return out, 0, fmt.Errorf("unexpected status %.20q from the broker: %.200q", status, m.Header.Get("Description"))
		}
	}
}

// Held yields the requests that ended with an outcome, oldest first, from behind a
// position; 0: all that are stored. If the stream of results was made again, it
// begins at its beginning. An error is the last item. Results that are no results of a
// worker are left out.
func (b *Bus) Held(ctx context.Context, outcome approval.Outcome, after uint64) iter.Seq2[approval.Held, error] {
	return func(yield func(approval.Held, error) bool) {
		filter := resultSubject(string(outcome), "*", "*")
		for from, more := after+1, true; more; {
			var batch []message
			var err error
			batch, more, err = b.direct(ctx, ResultsStream, directGet{From: from, Next: filter, Batch: directBatch, MaxBytes: directMaxBytes})
			if err == nil && len(batch) == 0 && from > 1 && from == after+1 {
				var last []message
				if last, _, err = b.direct(ctx, ResultsStream, directGet{Last: filter}); err == nil && len(last) > 0 && last[0].sequence < after {
					from, after, more = 1, 0, true
					continue
				}
			}
			if err != nil {
				yield(approval.Held{}, fmt.Errorf("read the results that are %s: %w", outcome, err))
				return
			}
			for _, m := range batch {
				from = m.sequence + 1
				r, err := DecodeResult(m.Header, m.Data)
				if err != nil || m.Subject != resultSubject(string(outcome), r.Request.Target.Name, r.Decision.ID) {
					continue
				}
				held := approval.Held{
					RequestID: r.Request.ID, Subject: r.Request.Subject(), Target: r.Request.Target.Name,
					Outcome: outcome, At: r.At, Position: m.sequence,
				}
				if !yield(held, nil) {
					return
				}
			}
		}
	}
}
