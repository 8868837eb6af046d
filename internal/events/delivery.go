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

// inHand is a message from its receipt until it is settled.
type inHand struct {
	c    *consuming
	key  messageKey
	msg  *nats.Msg
	meta *nats.MsgMetadata

	mu        sync.Mutex
	newest    *nats.Msg               // the delivery to settle: the broker may make another meanwhile
	record    approval.DeliveryRecord // as last read or written
	touched   bool                    // the record was read or written
	isolated  bool                    // no other crash suspect is handled by this process meanwhile
	request   string                  // id, once it is decoded
	handled   bool                    // the handler returned
	panicking bool                    // or it panicked
	over      bool                    // settled; what comes later is void
}

// adopt makes msg the delivery to settle, unless h is settled already.
func (h *inHand) adopt(msg *nats.Msg) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.newest = msg
	}
	return !h.over
}

// begin handles msg in a goroutine of its own, which takes over a slot. It
// reports false if there is nothing to do, and the slot stays the caller's.
func (c *consuming) begin(msg *nats.Msg) bool {
	meta, err := msg.Metadata()
	if err != nil {
		c.warn(err, "a message came that is not JetStream's")
		return false
	}
	h := &inHand{
		c: c, key: messageKey{seq: meta.Sequence.Stream, at: meta.Timestamp.UnixNano()},
		msg: msg, meta: meta, newest: msg,
		record: approval.DeliveryRecord{Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp.UTC()},
	}
	c.handMu.Lock()
	before, ok := c.hand[h.key]
	if ok && before.adopt(msg) {
		// The broker took us for lost while we were cut off. The handler is at
		// it still, and settles the newer delivery.
		c.handMu.Unlock()
		return false
	}
	c.hand[h.key] = h
	c.handMu.Unlock()

	c.cfg.Observer.SlotsInUse(1)
	c.done.Go(func() {
		defer func() {
			c.cfg.Observer.SlotsInUse(-1)
			<-c.slots
		}()
		h.settle(h.process())
		if h.isolated {
			c.isolation.release()
		}
		c.handMu.Lock()
		if c.hand[h.key] == h {
			delete(c.hand, h.key)
		}
		c.handMu.Unlock()
	})
	return true
}

// beat tells the broker that the message is still in hand.
func (h *inHand) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		// What is lost here is repaired by the next beat or by a redelivery.
		_ = h.newest.InProgress()
	}
}

// process marks a message that comes again, then decodes, then handles.
func (h *inHand) process() error {
	ctx := h.c.handlers
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if h.meta.NumDelivered > 1 {
		if err := h.mark(ctx); err != nil {
			return err
		}
	}
	return h.run(ctx)
}

// errPanic is what a handler that panicked is taken to have returned.
var errPanic = errors.New("the handler panicked")

// run decodes and handles; a panic of either is an error.
func (h *inHand) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			h.c.cfg.Log.Error().Uint64("stream_sequence", h.key.seq).Str("panic", fmt.Sprintf("%.200v", p)).
				Bytes("stack", debug.Stack()).Msg("handling a request panicked")
			err = h.panicked()
		}
	}()
	req, err := DecodeMessage(h.msg.Subject, h.msg.Header, h.msg.Data, h.c.cfg.Targets)
	if err != nil {
		return err
	}
	if err := h.identify(ctx, req.ID); err != nil {
		return err
	}
	kind := KindConnection
	if req.Creates() {
		kind = KindEndpoint
	}
	h.c.cfg.Observer.Delivered(kind)
	err = h.c.handle(ctx, approval.Delivery{
		Request: req, Attempt: clampInt(h.meta.NumDelivered), PublishedAt: h.meta.Timestamp,
	})
	h.mu.Lock()
	h.handled = true
	h.mu.Unlock()
	return err
}

// settle answers the broker by what became of the message.
func (h *inHand) settle(err error) {
	// The answer must go out also when the handlers' time is up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.c.handlers), settleWithin)
	defer cancel()
	var invalidErr *InvalidEventError
	switch {
	case err == nil:
		h.ack(ctx)
	case errors.As(err, &invalidErr):
		if err := h.c.storeDeadLetter(ctx, h, invalidErr); err != nil {
			h.c.warn(err, "a dead letter cannot be stored; its message comes again")
			h.giveBack(ctx, CauseRetry, h.growing())
			return
		}
		h.c.cfg.Observer.DeadLettered(invalidErr.Reason)
		h.c.cfg.Log.Warn().Uint64("stream_sequence", h.key.seq).Str("reason", invalidErr.Reason).
			Str("field", invalidErr.Field).Str("text", invalidErr.Text).Msg("a message became a dead letter")
		h.ack(ctx)
	case errors.Is(err, errPanic):
		h.giveBack(ctx, CausePanic, h.growing())
	case h.c.handlers.Err() != nil:
		h.giveBack(ctx, CauseStopping, 0)
	default:
		delay := h.growing()
		if e, ok := errors.AsType[interface {
			error
			RetryAfter() time.Duration
		}](err); ok && e.RetryAfter() > 0 {
			delay = e.RetryAfter()
		}
		h.giveBack(ctx, causeOf(err), delay)
	}
}

// growing is 1, 2, 4 and so on up to 60 s, by the number of deliveries.
func (h *inHand) growing() time.Duration {
	const most = time.Minute
	return min(time.Second<<min(h.meta.NumDelivered-1, 6), most)
}

// close makes the caller the one who settles the message; false if it is settled.
func (h *inHand) close() (msg *nats.Msg, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return nil, false
	}
	h.over = true
	return h.newest, true
}

// ack tells the broker that the message is done, and makes sure that it knows. An
// ack that is lost means another delivery, which finds the work done.
func (h *inHand) ack(ctx context.Context) {
	msg, ok := h.close()
	if !ok {
		return
	}
	if err := msg.AckSync(nats.Context(ctx)); err != nil {
		h.unmark(ctx, true)
		h.c.warn(err, "an acknowledgement was lost; its request comes again")
		return
	}
	h.forget(ctx)
}

// giveBack returns the message for another delivery after delay. Its mark is
// removed first.
func (h *inHand) giveBack(ctx context.Context, cause string, delay time.Duration) {
	msg, ok := h.close()
	if !ok {
		return
	}
	h.c.cfg.Observer.GivenBack(cause)
	h.unmark(ctx, h.handled && cause == CauseRetry)
	var err error
	if delay > 0 {
		err = msg.NakWithDelay(delay)
	} else {
		err = msg.Nak()
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		h.c.warn(err, "a request could not be given back; it comes again after the ack wait")
	}
}

// giveBackAll gives back what is in hand, whatever its handler does.
func (c *consuming) giveBackAll() int {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.handlers), settleWithin)
	defer cancel()
	all := c.inFlight()
	for _, h := range all {
		h.giveBack(ctx, CauseStopping, 0)
	}
	return len(all)
}
