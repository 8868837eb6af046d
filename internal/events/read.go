package events

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	readBatch      = 128              // messages of a pull
	readerIdle     = 30 * time.Second // after which the broker drops the consumer of a reader that was killed
	readerTries    = 3                // of a scan, without a message in between
	readerRetry    = 250 * time.Millisecond
	maxReaderRetry = 5 * time.Second // the longest pause of a reader that follows
	deleteWithin   = 2 * time.Second
	scanPull       = time.Second // a pull of a scan; nothing new is waited for
)

// reading says what is read of a stream.
type reading struct {
	stream   string
	subjects []string // all if empty
	since    time.Time
	from     uint64 // sequence to begin with; 0: as the others say
	onlyNew  bool
	follow   bool // goes on with what comes, until the context ends
}

// message is a stored message with where it was stored.
type message struct {
	*nats.Msg
	sequence uint64
	at       time.Time
}

// reader reads a stream with a consumer of its own, which it deletes.
//
// The library's ordered consumer leaves its consumer on the broker, does not stop
// while it makes a new one, and counts on messages that may be deleted meanwhile.
type reader struct {
	b        *Bus
	what     reading
	consumer string // name; empty: there is none
	next     uint64 // sequence to go on from; 0: as what says
	pending  bool   // whether there was more when last told
}

// read yields the stored messages, oldest first, and goes on with new ones if
// follow is set. Else it ends after those that are there, or with an error if the
// broker does not send them. It resumes after the broker was away.
func (b *Bus) read(ctx context.Context, what reading) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		r := &reader{b: b, what: what, next: what.from}
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
			if denied || b.nc.IsClosed() || r.next == 0 || !what.follow && failed >= readerTries {
				yield(message{}, apiError("read the stream "+what.stream, err))
				return
			}
			r.close(ctx) // it may be gone, or be of no use
			select {
			case <-ctx.Done():
			case <-time.After(min(readerRetry<<min(failed-1, 8), maxReaderRetry)):
			}
		}
	}
}

// errStopped says that whoever reads wants no more.
var errStopped = errors.New("stopped")

// step makes one pull, and the consumer before it if there is none. more is false
// at the end of what is to be read.
func (r *reader) step(ctx context.Context, yield func(message) bool) (more bool, err error) {
	ctx, done := r.b.cancelOnDenial(ctx)
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
		if !r.pending && !r.what.follow {
			return false, nil
		}
	}
	got, err := r.pull(ctx, yield)
	switch {
	case errors.Is(err, errStopped):
		return false, nil
	case err != nil:
		return false, err
	case r.what.follow:
		return true, nil
	case got > 0:
		return r.pending, nil
	}
	// Nothing came in time: either the rest was deleted meanwhile, or the broker
	// is slow, and only the broker knows.
	info, err := r.b.js.Consumer(ctx, r.what.stream, r.consumer)
	if err != nil {
		return false, err
	}
	if info.CachedInfo().NumPending > 0 {
		return false, errors.New("the broker does not send what is stored")
	}
	return false, nil
}

// open makes the consumer.
func (r *reader) open(ctx context.Context) error {
	cfg := jetstream.ConsumerConfig{
		Name: "vpcep-reader-" + rand.Text(), AckPolicy: jetstream.AckNonePolicy, MaxDeliver: -1,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: readerIdle,
	}
	switch {
	case r.next > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.next
	case r.what.onlyNew:
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	case !r.what.since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &r.what.since
	}
	if len(r.what.subjects) == 1 {
		cfg.FilterSubject = r.what.subjects[0]
	} else {
		cfg.FilterSubjects = r.what.subjects
	}
	c, err := r.b.js.CreateConsumer(ctx, r.what.stream, cfg)
	if err != nil {
		return err
	}
	info := c.CachedInfo()
	r.consumer, r.pending = info.Name, info.NumPending > 0
	// Where it starts: made again, it goes on from there and leaves nothing out.
	r.next = max(r.next, info.Delivered.Stream+1)
	return nil
}

// pull asks for messages and yields those that come. It ends when all have come
// that were asked for, when the broker says that there are no more for now, and
// with the last that is stored unless it follows.
func (r *reader) pull(ctx context.Context, yield func(message) bool) (got int, err error) {
	inbox, came := r.b.nc.NewInbox(), make(chan *nats.Msg, readBatch+16)
	sub, err := r.b.nc.ChanSubscribe(inbox, came)
	if err != nil {
		return 0, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // nothing depends on the end of a read
	wait, heartbeat := scanPull, time.Duration(0)
	if r.what.follow {
		wait, heartbeat = pullFor, pullHeartbeat
	}
	if err := r.b.requestBatch(r.what.stream, r.consumer, inbox, readBatch, wait, heartbeat); err != nil {
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
		case msg := <-came:
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
			if !r.pending && !r.what.follow {
				return got, nil
			}
			silence.Reset(2 * pullHeartbeat) // yield may take long
		}
	}
	return got, nil
}

// close deletes the consumer, also after ctx has ended. If that cannot be done the
// broker does it by itself after readerIdle.
func (r *reader) close(ctx context.Context) {
	if r.consumer == "" || !r.b.nc.IsConnected() {
		r.consumer = ""
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWithin)
	defer cancel()
	ctx, done := r.b.cancelOnDenial(ctx)
	defer done()
	_ = r.b.js.DeleteConsumer(ctx, r.what.stream, r.consumer) // best effort, see above
	r.consumer = ""
}

// cancelOnDenial is a context that ends when the broker denies to ask something of
// JetStream, or to hear the answer. It is for commands, which ask one thing at a
// time. The caller calls done when it has its answer.
func (b *Bus) cancelOnDenial(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	b.asking.Add(1)
	stop := b.denials.watch(func(e *DeniedError) {
		if e.Operation == "subscribe" && strings.HasPrefix(e.Subject, b.inboxPrefix()) || strings.HasPrefix(e.Subject, b.api("")) {
			cancel(e)
		}
	})
	return ctx, func() {
		stop()
		b.asking.Add(-1)
		cancel(nil)
	}
}
