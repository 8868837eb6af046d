package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The broker counts deliveries, and does not tell those that we gave back from
// those that a worker took with it when it died. So each giving back is noted,
// and what was not noted counts as a crash. A message with quarantineAt crashes
// is handled with nothing else in hand, so that the next crash is its own; it is
// given up only after such a crash. A message that kills its worker thus kills
// three, and its neighbours survive. Whose panic it is needs no such proof.
//
// A broker in trouble takes no notes, so a crash may be none: a worker that
// could not note that it lives remembers it, and does so later (see testify).
// To give it time, what is about to be given up is first left alone for a while.
const (
	quarantineAt = 2
	poisonAt     = 3 // crashes, or panics
)

// doubtFor is for how long that is: survivors look each half of AckWait.
func (c *consuming) doubtFor() time.Duration { return 2 * c.cfg.AckWait }

// recall reads what is known of the message's earlier deliveries.
func (h *inHand) recall(ctx context.Context) error {
	past := record{history: h.c.blank(h.key)}
	if h.meta.NumDelivered > 1 {
		var err error
		if past, err = h.c.recorded(ctx, h.key); err != nil {
			return fmt.Errorf("read how often the message was given back: %w", err)
		}
	}
	past.survive(h.c.survivedOf(h.key)...)
	h.know(past)
	return nil
}

func (h *inHand) know(past record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past, h.known = past, true
}

// quarantine notes that this delivery is handled alone, before it is.
func (h *inHand) quarantine(ctx context.Context, crashes uint64) error {
	h.c.cfg.Log.Warn().Uint64("stream_sequence", h.key.seq).Uint64("crashes", crashes).
		Msg("a message is handled alone, for workers ended while it was in hand")
	return h.write(ctx, func(p *history) { p.quarantine(h.meta.NumDelivered) })
}

// identify notes which request it is that is handled alone: who finds it to be a
// killer had better not decode it.
func (h *inHand) identify(ctx context.Context, requestID string) error {
	h.mu.Lock()
	h.request = requestID
	alone, known := h.isAlone, h.past.Request == requestID
	h.mu.Unlock()
	if !alone || known {
		return nil
	}
	return h.write(ctx, func(p *history) { p.Request = requestID })
}

// write changes the history of what is in hand, for its handler's goroutine.
func (h *inHand) write(ctx context.Context, edit func(*history)) error {
	h.mu.Lock()
	past := h.past
	h.mu.Unlock()
	past, err := h.c.revise(ctx, h.key, &past, edit)
	if err == nil {
		h.know(past)
	}
	return err
}

// doubted gives back what seems to be a killer, until those who survived it have
// had time to say so.
type doubted struct{ left time.Duration }

func (doubted) Error() string {
	return "workers seem to have ended of it; waiting whether one says that it did not"
}
func (d doubted) RetryAfter() time.Duration { return d.left }

// condemned is what becomes of a message after enough crashes: nobody handles
// it any more, and unless a survivor speaks up it is given up.
func (h *inHand) condemned(ctx context.Context, crashes uint64) error {
	wait := h.c.doubtFor()
	if h.past.Doubted == h.past.Alone {
		// A clock that was set back says nothing.
		if passed := time.Since(h.past.Since); passed >= 0 && passed < wait {
			return doubted{left: wait - passed}
		}
		return reject(ReasonPoison, "", "the process ended %d times while it was in hand, the last time with nothing else in hand", crashes)
	}
	err := h.write(ctx, func(p *history) { p.Doubted, p.Since = p.Alone, time.Now().UTC() })
	if err != nil {
		return err
	}
	h.c.cfg.Log.Warn().Uint64("stream_sequence", h.key.seq).Uint64("crashes", crashes).
		Msg("a message seems to end the workers that handle it; it becomes a dead letter unless one that lives says otherwise")
	return doubted{left: wait}
}

// panicked counts a panic of this delivery, and gives the message up if it was
// one too many.
func (h *inHand) panicked() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.panics++
	if n := h.past.Panics + h.panics; n >= poisonAt {
		return rejectPanics(n)
	}
	return errPanic
}

func rejectPanics(n uint64) error {
	return reject(ReasonPoison, "", "its handling panicked %d times", n)
}

// note writes that the deliveries of h ended in good order, or have been counted.
func (h *inHand) note(ctx context.Context) {
	h.mu.Lock()
	past, own, known, panics, request := h.past, h.own, h.known, h.panics, h.request
	h.mu.Unlock()
	if !known { // the bucket did not answer before, and the broker is not to wait for it
		h.c.remember(h.key, own)
		return
	}
	_, err := h.c.revise(ctx, h.key, &past, func(p *history) {
		p.survive(own...)
		if panics > 0 {
			p.Panics, p.Request = p.Panics+panics, request
		}
	})
	if err != nil {
		h.c.remember(h.key, own)
		h.c.warn(err, "that a request was given back could not be noted; it is noted later")
		return
	}
	h.c.release(h.key)
}

// erase removes a key of the ledger's bucket without leaving a marker behind.
func (b *Bus) erase(ctx context.Context, key string) error {
	s, err := b.js.Stream(ctx, bucketStream)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject("$KV."+LedgerBucket+"."+key))
	}
	if err != nil {
		return fmt.Errorf("remove %s from the bucket: %w", key, err)
	}
	return nil
}

// conflicting reports whether a write lost against another one.
func conflicting(err error) bool {
	// The second is of a cluster in which another write of the key is under way.
	const mismatch, constantMismatch = jetstream.JSErrCodeStreamWrongLastSequence, 10164
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return errors.Is(err, jetstream.ErrKeyExists) || ok && (refused.ErrorCode == mismatch || refused.ErrorCode == constantMismatch)
}
