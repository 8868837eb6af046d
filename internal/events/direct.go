package events

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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

// maxSlow is how many times a part of a long read may be asked for again.
const maxSlow = 5

// patient is direct for long reads: it asks again if the broker does not answer in time,
// which a busy one does now and then. more says that there were more than fit.
func (b *Bus) patient(ctx context.Context, stream string, gets ...directGet) (out []message, more bool, err error) {
	err = patiently(ctx, func() error {
		var left int
		out, left, err = b.direct(ctx, stream, gets...)
		more = left > 0 && len(out) > 0
		return err
	})
	return out, more, err
}

func patiently(ctx context.Context, read func() error) (err error) {
	for range maxSlow + 1 {
		if err = read(); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// direct reads stored messages without a consumer, which the client library can do for
// single ones only, and returns how many did not fit. Several reads are sent together; those of
// single messages leave out what is not stored.
func (b *Bus) direct(ctx context.Context, stream string, gets ...directGet) (out []message, left int, err error) {
	subject := b.api("DIRECT.GET." + stream)
	err = b.abortOnDenial(ctx, subject, func(ctx context.Context) error {
		out, left, err = b.readDirect(ctx, subject, gets)
		return err
	})
	return out, left, err
}

// readDirect waits at most directWithin for each message.
func (b *Bus) readDirect(ctx context.Context, subject string, gets []directGet) (out []message, left int, err error) {
	room := 16
	for _, get := range gets {
		room += get.Batch + 1
	}
	inbox, msgs := b.nc.NewInbox(), make(chan *nats.Msg, room)
	sub, err := b.nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return nil, 0, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // nothing depends on the end of a read
	for _, get := range gets {
		body, err := json.Marshal(get)
		if err != nil {
			return nil, 0, err
		}
		if err := b.nc.PublishRequest(subject, inbox, body); err != nil {
			return nil, 0, err
		}
	}
	silence := time.NewTimer(directWithin)
	defer silence.Stop()
	for answered := 0; answered < len(gets); {
		var m *nats.Msg
		select {
		case <-ctx.Done():
			return out, 0, ctx.Err()
		case <-silence.C:
			return out, 0, fmt.Errorf("the broker sent nothing for %s: %w", directWithin, context.DeadlineExceeded)
		case m = <-msgs:
			silence.Reset(directWithin)
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
			if gets[0].Batch == 0 {
				answered++
			}
			continue
		}
		answered++
		switch status := m.Header.Get("Status"); status {
		case "404":
		case "204":
			if left, err = strconv.Atoi(m.Header.Get("Nats-Num-Pending")); err != nil {
				return out, 0, fmt.Errorf("read how many messages are left: %w", err)
			}
		case "503":
			return out, 0, ErrNotDirect
		default:
			return out, 0, fmt.Errorf("unexpected status %.20q from the broker: %.200q", status, m.Header.Get("Description"))
		}
	}
	return out, left, nil
}
