package events

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	readBatch      = 128              // messages of a pull
	readerIdle     = 30 * time.Second // after which the broker deletes the consumer of a killed reader
	readerTries    = 3                // failed attempts of a scan, without a message in between
	readerRetry    = 250 * time.Millisecond
	maxReaderRetry = 5 * time.Second // the longest pause between attempts
	deleteWithin   = 2 * time.Second
	scanPull       = time.Second // of a scan's pull, which does not wait for new messages
)

// readOptions selects what to read of a stream.
type readOptions struct {
	stream   string
	subjects []string // all if empty
	since    time.Time
	from     uint64 // first sequence; 0: unset
	onlyNew  bool
	follow   bool // continue with new messages until the context ends
}

// message is a stored message with its position and time.
type message struct {
	*nats.Msg
	sequence uint64
	at       time.Time
}

// reader reads a stream with a consumer of its own, which it deletes.
//
// The client library's ordered consumer is not used: it leaves its consumer on the
// broker, does not stop while it creates a new one, and waits for messages that may be
// deleted meanwhile.
type reader struct {
	b        *Bus
	opts     readOptions
	consumer string // name; empty: there is none
	next     uint64 // next sequence; 0: as opts says
	pending  bool   // whether the broker had more messages at the last one
}

// read yields the stored messages, oldest first, and continues with new ones if follow
// is set. Else it ends after the last stored one, or with an error if the broker does
// not send them. It resumes after the broker was down.
func (b *Bus) read(ctx context.Context, opts readOptions) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		r := &reader{b: b, opts: opts, next: opts.from}
		defer r.close(ctx)
		failed := 0
		for {
			before := r.next
			more, err := r.step(ctx, func(m message) bool { return yield(m, nil) })
			if err == nil && !more {
				return
			}
			if r.next != before {
				failed = 0
			}
			switch {
			case ctx.Err() != nil:
				yield(message{}, ctx.Err())
				return
			case err == nil:
				continue
			}
			failed++
			_, denied := errors.AsType[*DeniedError](err)
			if denied || b.nc.IsClosed() || r.next == 0 || !opts.follow && failed >= readerTries {
				yield(message{}, apiError("read the stream "+opts.stream, err))
				return
			}
			r.close(ctx) // the consumer may be deleted or broken
			select {
			case <-ctx.Done():
			case <-time.After(min(readerRetry<<min(failed-1, 8), maxReaderRetry)):
			}
		}
	}
}

// errStopped means that the caller stopped the iteration.
var errStopped = errors.New("stopped")

// step does one pull, after creating the consumer if there is none. more is false at
// the end.
func (r *reader) step(ctx context.Context, yield func(message) bool) (more bool, err error) {
	ctx, done := r.b.cancelOnDenial(ctx, r.opts.stream)
	defer func() {
		if denied, ok := errors.AsType[*DeniedError](context.Cause(ctx)); ok && err != nil {
			err = denied
		}
		done()
	}()
	if r.consumer == "" {
		if err := r.open(ctx); err != nil {
			return false, err
		}
		if !r.pending && !r.opts.follow {
			return false, nil
		}
	}
	got, err := r.pull(ctx, yield)
	switch {
	case errors.Is(err, errStopped):
		return false, nil
	case err != nil:
		return false, err
	case r.opts.follow:
		return true, nil
	case got > 0:
		return r.pending, nil
	}
	// Nothing arrived in time: either the rest was deleted meanwhile, or the broker is
	// slow. Ask it.
	info, err := r.b.js.Consumer(ctx, r.opts.stream, r.consumer)
	if err != nil {
		return false, err
	}
	if info.CachedInfo().NumPending > 0 {
		return false, errors.New("the broker does not send the stored messages")
	}
	return false, nil
}

// open creates the consumer.
func (r *reader) open(ctx context.Context) error {
	cfg := jetstream.ConsumerConfig{
		Name: "vpcep-reader-" + rand.Text(), AckPolicy: jetstream.AckNonePolicy, MaxDeliver: -1,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: readerIdle,
	}
	switch {
	case r.next > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.next
	case r.opts.onlyNew:
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	case !r.opts.since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &r.opts.since
	}
	if len(r.opts.subjects) == 1 {
		cfg.FilterSubject = r.opts.subjects[0]
	} else {
		cfg.FilterSubjects = r.opts.subjects
	}
	c, err := r.b.js.CreateConsumer(ctx, r.opts.stream, cfg)
	if err != nil {
		return err
	}
	info := c.CachedInfo()
	r.consumer, r.pending = info.Name, info.NumPending > 0
	// A consumer that replaces this one must start at the same message.
	r.next = max(r.next, info.Delivered.Stream+1)
	return nil
}

// pull requests a batch and yields its messages. It ends when the batch is complete,
// when the broker has no more for now, and after the last stored message unless it
// follows.
func (r *reader) pull(ctx context.Context, yield func(message) bool) (got int, err error) {
	inbox, msgs := r.b.nc.NewInbox(), make(chan *nats.Msg, readBatch+16)
	sub, err := r.b.nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return 0, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // nothing depends on the end of a read
	wait, heartbeat := scanPull, time.Duration(0)
	if r.opts.follow {
		wait, heartbeat = pullFor, pullHeartbeat
	}
	if err := r.b.requestBatch(r.opts.stream, r.consumer, inbox, readBatch, wait, heartbeat); err != nil {
		return 0, err
	}
	silence := time.NewTimer(2 * pullHeartbeat)
	defer silence.Stop()
	for got < readBatch {
		select {
		case <-ctx.Done():
			return got, ctx.Err()
		case <-silence.C:
			return got, errNoHeartbeat
		case msg := <-msgs:
			silence.Reset(2 * pullHeartbeat)
			if msg.Reply == "" {
				if over, err := parseStatus(msg.Header); over || err != nil {
					return got, err
				}
				continue
			}
			meta, err := msg.Metadata()
			if err != nil {
				return got, fmt.Errorf("read a stored message: %w", err)
			}
			if meta.Sequence.Stream < r.next {
				continue
			}
			got++
			r.next, r.pending = meta.Sequence.Stream+1, meta.NumPending > 0
			if !yield(message{msg, meta.Sequence.Stream, meta.Timestamp}) {
				return got, errStopped
			}
			if !r.pending && !r.opts.follow {
				return got, nil
			}
			silence.Reset(2 * pullHeartbeat) // yield may be slow
		}
	}
	return got, nil
}

// close deletes the consumer, even after ctx has ended. If that fails, the broker
// deletes it after readerIdle.
func (r *reader) close(ctx context.Context) {
	if r.consumer == "" || !r.b.nc.IsConnected() {
		r.consumer = ""
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWithin)
	defer cancel()
	ctx, done := r.b.cancelOnDenial(ctx, r.opts.stream)
	defer done()
	_ = r.b.js.DeleteConsumer(ctx, r.opts.stream, r.consumer) // best effort, see above
	r.consumer = ""
}

// cancelOnDenial returns a context that is canceled when the broker denies a request to
// JetStream about one of these streams, or the subscription to its reply. A denial does not
// say whose request it was: it ends all that are sent about the stream at that moment. Call
// done after the reply.
func (b *Bus) cancelOnDenial(ctx context.Context, streams ...string) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	b.asking.Add(1)
	stop := b.denials.watch(func(e *DeniedError) {
		operation, isAPI := strings.CutPrefix(e.Subject, b.api(""))
		ours := func(token string) bool { return slices.Contains(streams, token) }
		if e.Operation == "subscribe" && strings.HasPrefix(e.Subject, b.inboxPrefix()) || isAPI && slices.ContainsFunc(strings.Split(operation, "."), ours) {
			cancel(e)
		}
	})
	return ctx, func() {
		stop()
		b.asking.Add(-1)
		cancel(nil)
	}
}

// orDenied runs do, and cancels it as cancelOnDenial does. Then the error is the denial.
func (b *Bus) orDenied(ctx context.Context, do func(context.Context) error, streams ...string) error {
	ctx, done := b.cancelOnDenial(ctx, streams...)
	defer done()
	err := do(ctx)
	if denied, ok := errors.AsType[*DeniedError](context.Cause(ctx)); ok && err != nil {
		return denied
	}
	return err
}
