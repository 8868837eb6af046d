package events

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// delivery is a message from its receipt until it is settled. It is safe for
// concurrent use.
type delivery struct {
	c    *consumeLoop
	key  messageKey
	msg  *nats.Msg
	meta *nats.MsgMetadata

	mu         sync.Mutex
	latest     *nats.Msg               // the delivery to settle: the broker may redeliver meanwhile
	record     approval.DeliveryRecord // as last read or written
	recordUsed bool                    // whether the record was read or written
	isolated   bool                    // whether this process handles no other crash suspect meanwhile
	request    string                  // id, once it is decoded
	handled    bool                    // whether the handler returned
	didPanic   bool                    // whether the handler panicked
	settled    bool                    // whether an answer was sent; later ones are ignored
}

// replace makes msg the delivery to settle, unless d is settled already.
func (d *delivery) replace(msg *nats.Msg) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.settled {
		d.latest = msg
	}
	return !d.settled
}

// start has a goroutine handle msg, which takes over a slot. It
// reports false if there is nothing to do; the caller then keeps the slot.
func (c *consumeLoop) start(msg *nats.Msg) bool {
	meta, err := msg.Metadata()
	if err != nil {
		c.warn(err, "received a message that is not from JetStream")
		return false
	}
	d := &delivery{
		c: c, key: messageKey{seq: meta.Sequence.Stream, at: meta.Timestamp.UnixNano()},
		msg: msg, meta: meta, latest: msg,
		record: approval.DeliveryRecord{Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp.UTC()},
	}
	c.deliveriesMu.Lock()
	earlier, ok := c.deliveries[d.key]
	if ok && earlier.replace(msg) {
		// The worker was cut off for longer than AckWait. The handler still runs
		// and settles the newer delivery.
		c.deliveriesMu.Unlock()
		return false
	}
	c.deliveries[d.key] = d
	c.deliveriesMu.Unlock()

	c.cfg.Observer.SlotsInUse(1)
	c.done.Add(1)
	select {
	case c.next <- d:
	default:
		go c.handleAll(d)
	}
	return true
}

// maxResting is how many goroutines wait for the next delivery at most.
const maxResting = 64

// handleAll handles d, and then other deliveries until enough goroutines wait for one: the
// stack of a new goroutine would have to grow again for each.
func (c *consumeLoop) handleAll(d *delivery) {
	for {
		c.handleOne(d)
		select {
		case c.resting <- struct{}{}:
		default:
			return
		}
		select {
		case d = <-c.next:
		case <-c.handlers.Done():
			d = nil
		}
		<-c.resting
		if d == nil {
			return
		}
	}
}

// handleOne handles d until it is settled, and gives its slot back.
func (c *consumeLoop) handleOne(d *delivery) {
	defer c.done.Done()
	defer func() {
		c.cfg.Observer.SlotsInUse(-1)
		<-c.slots
	}()
	d.settle(d.process())
	if d.isolated {
		c.isolation.release()
	}
	c.deliveriesMu.Lock()
	defer c.deliveriesMu.Unlock()
	if c.deliveries[d.key] == d {
		delete(c.deliveries, d.key)
	}
}

// inProgress tells the broker that the message is still being handled.
func (d *delivery) inProgress() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.settled {
		// If it is lost, the next one or a redelivery follows.
		_ = d.latest.InProgress()
	}
}

// process marks a redelivered message as in flight, then decodes and handles it.
func (d *delivery) process() error {
	ctx := d.c.handlers
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if d.meta.NumDelivered > 1 {
		if err := d.mark(ctx); err != nil {
			return err
		}
	}
	return d.run(ctx)
}

// errPanic stands for the error of a handler that panicked.
var errPanic = errors.New("the handler panicked")

// run decodes and handles the message. A panic of either becomes an error.
func (d *delivery) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.c.cfg.Log.Error().Uint64("stream_sequence", d.key.seq).Str("panic", fmt.Sprintf("%.200v", p)).
				Bytes("stack", debug.Stack()).Msg("handling a request panicked")
			err = d.panicked()
		}
	}()
	decoded, err := d.decode()
	if err != nil {
		return err
	}
	if err := d.recordRequestID(ctx, decoded.Request.ID); err != nil {
		return err
	}
	kind := KindConnection
	if decoded.Request.Creates() {
		kind = KindEndpoint
	}
	d.c.cfg.Observer.Delivered(kind)
	err = d.c.handle(ctx, decoded)
	d.mu.Lock()
	d.handled = true
	d.mu.Unlock()
	return err
}

// decode returns a pointer to keep the stack of its caller small, which exists for as
// long as the message is handled.
func (d *delivery) decode() (*approval.Delivery, error) {
	req, err := DecodeMessage(d.msg.Subject, d.msg.Header, d.msg.Data, d.c.cfg.Targets)
	if err != nil {
		return nil, err
	}
	return &approval.Delivery{Request: req, Attempt: clampInt(d.meta.NumDelivered), PublishedAt: d.meta.Timestamp}, nil
}

// settle acknowledges, dead-letters or naks the message, by the result of process.
func (d *delivery) settle(err error) {
	// The answer must be sent even if the handlers' context has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.c.handlers), settleWithin)
	defer cancel()
	var invalidErr *InvalidEventError
	switch {
	case err == nil:
		d.ack(ctx)
	case errors.As(err, &invalidErr):
		if err := d.c.storeDeadLetter(ctx, d, invalidErr); err != nil {
			d.c.warn(err, "storing a dead letter failed; its message is redelivered")
			d.nak(ctx, CauseRetry, d.backoff())
			return
		}
		d.c.cfg.Observer.DeadLettered(invalidErr.Reason)
		d.c.cfg.Log.Warn().Uint64("stream_sequence", d.key.seq).Str("reason", invalidErr.Reason).
			Str("field", invalidErr.Field).Str("text", invalidErr.Text).Msg("dead-lettered a message")
		d.ack(ctx)
	case errors.Is(err, errPanic):
		d.nak(ctx, CausePanic, d.backoff())
	case d.c.handlers.Err() != nil:
		d.nak(ctx, CauseStopping, 0)
	default:
		delay := d.backoff()
		if e, ok := errors.AsType[interface {
			error
			RetryAfter() time.Duration
		}](err); ok && e.RetryAfter() > 0 {
			delay = e.RetryAfter()
		}
		d.nak(ctx, causeOf(err), delay)
	}
}

// backoff is 1, 2, 4 and so on up to 60 s, by the number of deliveries.
func (d *delivery) backoff() time.Duration {
	return min(time.Second<<min(d.meta.NumDelivered-1, 6), time.Minute)
}

// finish marks the message as settled and returns the delivery to answer. ok is
// false if it was settled before.
func (d *delivery) finish() (msg *nats.Msg, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.settled {
		return nil, false
	}
	d.settled = true
	return d.latest, true
}

// ack acknowledges the message. It waits for the broker's confirmation only where a
// record of the delivery is removed after it: if the acknowledgement of another is
// lost, a redelivery finds the work done.
func (d *delivery) ack(ctx context.Context) {
	msg, ok := d.finish()
	if !ok {
		return
	}
	d.mu.Lock()
	acknowledge := func() error { return msg.Ack() }
	if d.recordUsed {
		acknowledge = func() error { return msg.AckSync(nats.Context(ctx)) }
	}
	d.mu.Unlock()
	if err := acknowledge(); err != nil {
		d.unmark(ctx, true)
		d.c.warn(err, "acknowledging a request failed; it is redelivered")
		return
	}
	d.removeRecord(ctx)
}

// nak asks for a redelivery after delay. It removes the message's mark first.
func (d *delivery) nak(ctx context.Context, cause string, delay time.Duration) {
	msg, ok := d.finish()
	if !ok {
		return
	}
	d.c.cfg.Observer.GivenBack(cause)
	d.unmark(ctx, d.handled && cause == CauseRetry)
	var err error
	if delay > 0 {
		err = msg.NakWithDelay(delay)
	} else {
		err = msg.Nak()
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		d.c.warn(err, "giving a request back failed; it is redelivered after the ack wait")
	}
}

// nakAll naks every delivery, whether or not its handler has returned.
func (c *consumeLoop) nakAll() int {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.handlers), settleWithin)
	defer cancel()
	all := c.inFlight()
	for _, d := range all {
		d.nak(ctx, CauseStopping, 0)
	}
	return len(all)
}
