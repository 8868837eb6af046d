package events

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// CrashRecords keeps where requests that were delivered again are in flight, so
// that one which crashes workers is found; *ledger.Deliveries provides it. Every
// error may pass.
type CrashRecords interface {
	// Revise changes the record of the message that r names by edit, and makes r
	// what is stored then. edit is called again if the record has changed
	// meanwhile; its error is returned as it is, and nothing is changed.
	Revise(ctx context.Context, r *approval.DeliveryRecord, edit func(r *approval.DeliveryRecord) error) error
	// Poison returns the number of the dead letter that a request became as
	// poison; 0 if it did not.
	Poison(ctx context.Context, requestID string) (deadLetter uint64, err error)
	// SetPoison records that; 0 removes the record. It may be repeated.
	SetPoison(ctx context.Context, requestID string, deadLetter uint64) error
}

// A message that is delivered again is marked as in flight at this instance of
// the worker before anything of it is looked at, and the mark is removed however
// its handling ends. A mark whose instance is dead is a strike. With suspectAt
// strikes a message is a crash suspect: no other suspect is handled by the same
// process meanwhile, so that the next crash is its own. With poisonAt strikes, the
// last of them in isolation, it becomes a dead letter. A killer thus costs at most
// four processes, for a first delivery leaves no mark. Panics are counted as they
// are.
const (
	suspectAt = 2
	poisonAt  = 3 // strikes, or panics
	mostMarks = 16
)

// graceFor is how long a message with poisonAt strikes is left alone before it is
// a dead letter: a worker that was cut off removes its marks when it is back.
func (c *consuming) graceFor() time.Duration { return 2 * c.cfg.AckWait }

// retryLaterError gives a message back because of what is recorded of it.
type retryLaterError struct {
	why   string
	after time.Duration
}

func (e retryLaterError) Error() string             { return e.why }
func (e retryLaterError) RetryAfter() time.Duration { return e.after }

// mark marks the message as in flight here. The error says why it is not to be
// handled now.
func (h *inHand) mark(ctx context.Context) error {
	if h.c.present.lapsed() {
		return retryLaterError{"no heartbeat of this worker was stored for long", h.c.present.ttl / 3}
	}
	var verdict error
	err := h.revise(ctx, func(r *approval.DeliveryRecord) error {
		var err error
		verdict, err = h.judge(ctx, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("mark a message as in flight: %w", err)
	}
	return verdict
}

// judge decides by its record whether the message is handled now, and if so marks
// it in r. verdict says why not; an error that nothing can be said.
func (h *inHand) judge(ctx context.Context, r *approval.DeliveryRecord) (verdict, err error) {
	if r.Panics >= poisonAt {
		return tooManyPanics(r.Panics), nil
	}
	var kept []approval.DeliveryMark
	for _, m := range r.Marks {
		if h.c.present.own(m.Instance) {
			continue // left by this process, which lives
		}
		if !m.Dead {
			is, wait, err := h.c.present.judge(ctx, m.Instance)
			switch {
			case err != nil:
				return nil, err
			case is == approval.InstanceUnknown:
				return retryLaterError{"waiting for a sign of life of the worker that had it", wait}, nil
			case is == approval.InstanceStopped:
				continue
			}
			m.Dead = is == approval.InstanceDead
		}
		kept = append(kept, m)
	}
	r.Marks = kept[max(0, len(kept)-mostMarks+1):]
	strikes, last := r.Strikes(), approval.DeliveryMark{}
	for _, m := range r.Marks {
		if m.Dead {
			last = m
		}
	}
	r.Cleared = min(r.Cleared, strikes)
	if strikes >= poisonAt && last.Isolated {
		return h.deadLetterAfter(r), nil
	}
	r.DeadLetterAfter = time.Time{}
	if isolate := strikes >= suspectAt && strikes > r.Cleared; isolate && !h.isolated {
		if wait, ok := h.c.isolation.acquire(h.key); !ok {
			return retryLaterError{"waiting for another crash suspect", wait}, nil
		}
		h.mu.Lock()
		h.isolated = true
		h.mu.Unlock()
		h.c.cfg.Log.Warn().Uint64("stream_sequence", h.key.seq).Int("strikes", strikes).
			Msg("a message is suspected of crashing workers; retried in isolation")
	}
	r.Marks = append(r.Marks, approval.DeliveryMark{Instance: h.c.present.instance(), At: time.Now().UTC(), Isolated: h.isolated})
	return nil, nil
}

// deadLetterAfter is what becomes of a message with enough strikes.
func (h *inHand) deadLetterAfter(r *approval.DeliveryRecord) error {
	now, grace := time.Now().UTC(), h.c.graceFor()
	left := r.DeadLetterAfter.Sub(now)
	if r.DeadLetterAfter.IsZero() || left > grace { // a clock that was set back says nothing
		r.DeadLetterAfter, left = now.Add(grace), grace
		h.c.cfg.Log.Warn().Uint64("stream_sequence", h.key.seq).Int("strikes", r.Strikes()).Time("dead_letter_after", r.DeadLetterAfter).
			Msg("a message crashes workers; it becomes a dead letter unless one of them turns out to live")
	}
	if left > 0 {
		return retryLaterError{"taken for poison; waiting whether one of its workers lives", left}
	}
	var instances []string
	for _, m := range r.Marks {
		if m.Dead {
			instances = append(instances, m.Instance)
		}
	}
	return invalid(ReasonPoison, "", "%d worker processes ended while it was in flight (%s), the last while it was isolated from other "+
		"crash suspects; a request that came there for the first time may have been the cause: if this one is good, replay it",
		len(instances), strings.Join(instances, ", "))
}

func tooManyPanics(n int) *InvalidEventError {
	return invalid(ReasonPoison, "", "its handling panicked %d times", n)
}

// identify records which request it is that is handled in isolation: if it
// crashes this worker, the message can be dead-lettered without decoding it.
func (h *inHand) identify(ctx context.Context, requestID string) error {
	h.mu.Lock()
	h.request = requestID
	known := !h.isolated || h.record.RequestID == requestID
	h.mu.Unlock()
	if known {
		return nil
	}
	return h.revise(ctx, func(r *approval.DeliveryRecord) error {
		r.RequestID = requestID
		return nil
	})
}

// panicked counts a panic of this delivery, and gives the message up if it was
// one too many.
func (h *inHand) panicked() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.panicking = true
	if n := h.record.Panics + 1; n >= poisonAt {
		return tooManyPanics(n)
	}
	return errPanic
}

// unmark records that the handling ended, before another delivery can begin.
// survived: the message went through its handling.
func (h *inHand) unmark(ctx context.Context, survived bool) {
	h.mu.Lock()
	touched, panicking, request, isolated := h.touched, h.panicking, h.request, h.isolated
	h.mu.Unlock()
	if !touched && !panicking && !h.c.isPending(h.key) {
		return // of a first delivery nothing is written
	}
	err := h.revise(ctx, func(r *approval.DeliveryRecord) error {
		if panicking {
			r.Panics++
			r.RequestID = cmpOr(request, r.RequestID)
		}
		err := h.c.unmark(r)
		if survived && isolated {
			r.Cleared = r.Strikes()
		}
		return err
	})
	if err != nil {
		h.c.remember(h.key, h.c.unmark)
		h.c.warn(err, "that a request is not in flight any more could not be recorded; that is tried again")
	}
}

// forget removes the record of a message that is done.
func (h *inHand) forget(ctx context.Context) {
	h.mu.Lock()
	touched := h.touched
	h.mu.Unlock()
	if !touched && !h.c.isPending(h.key) {
		return
	}
	if err := h.revise(ctx, empty); err != nil {
		h.c.remember(h.key, empty)
		h.c.warn(err, "the delivery record of a request that is done could not be removed; that is tried again")
	}
}

// revise changes the record of the message.
func (h *inHand) revise(ctx context.Context, edit recordEdit) error {
	h.mu.Lock()
	h.touched = true // also if it fails: the change may be stored all the same
	r := h.record
	h.mu.Unlock()
	err := h.c.revise(ctx, &r, edit)
	if err == nil {
		h.mu.Lock()
		h.record = r
		h.mu.Unlock()
	}
	return err
}

// recordEdit changes a delivery record; it may be called again.
type recordEdit = func(*approval.DeliveryRecord) error

// unmark removes the marks of this process.
func (c *consuming) unmark(r *approval.DeliveryRecord) error {
	r.Marks = slices.DeleteFunc(r.Marks, func(m approval.DeliveryMark) bool { return c.present.own(m.Instance) })
	return nil
}

func empty(r *approval.DeliveryRecord) error {
	r.Marks, r.Panics = nil, 0
	return nil
}

// markAgain puts the marks of this process under its new instance, after others
// have taken the former one for dead.
func (c *consuming) markAgain(ctx context.Context) {
	for _, h := range c.inFlight() {
		h.mu.Lock()
		touched := h.touched && !h.over
		h.mu.Unlock()
		if !touched {
			continue
		}
		err := h.revise(ctx, func(r *approval.DeliveryRecord) error {
			for i, m := range r.Marks {
				if c.present.own(m.Instance) {
					r.Marks[i].Instance, r.Marks[i].Dead = c.present.instance(), false
				}
			}
			return nil
		})
		if err != nil {
			c.warn(err, "that a request is still in flight here could not be recorded")
			return
		}
	}
}

// mostPending bounds the messages whose records are to be changed later.
const mostPending = 1 << 16

// remember keeps a change of a record that could not be written, for later.
func (c *consuming) remember(key messageKey, edit recordEdit) {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	if _, ok := c.pending[key]; ok || len(c.pending) < mostPending {
		c.pending[key] = edit // the later one includes the earlier
	}
}

func (c *consuming) isPending(key messageKey) bool {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	_, ok := c.pending[key]
	return ok
}

// revise changes a record, by what could not be written before, too. What this
// process left behind goes with any change, because the message is in flight here now.
func (c *consuming) revise(ctx context.Context, r *approval.DeliveryRecord, edit recordEdit) error {
	err := c.records.Revise(ctx, r, edit)
	if err == nil {
		c.handMu.Lock()
		defer c.handMu.Unlock()
		delete(c.pending, messageKey{seq: r.Sequence, at: r.StoredAt.UnixNano()})
	}
	return err
}

// revisePending writes what could not be written before, of messages that are not
// in flight here.
func (c *consuming) revisePending(ctx context.Context) {
	c.handMu.Lock()
	pending := maps.Clone(c.pending)
	for key := range c.hand {
		delete(pending, key)
	}
	c.handMu.Unlock()
	for key, edit := range pending {
		err := c.revise(ctx, &approval.DeliveryRecord{Sequence: key.seq, StoredAt: time.Unix(0, key.at).UTC()}, edit)
		if err != nil {
			return // the next heartbeat tries again
		}
	}
}

// isolation lets one crash suspect at a time be handled by this process. Those
// that have to wait hold no slot meanwhile. It is safe for concurrent use.
type isolation struct {
	mu      sync.Mutex
	busy    bool
	since   time.Time
	mean    time.Duration // of one handling
	waiting map[messageKey]bool
}

// The pause of a suspect that has to wait grows with the number of those before it.
const (
	leastPause = time.Second
	mostPause  = 20 * time.Second
)

// acquire reports whether the suspect may be handled now, or how long it waits.
func (i *isolation) acquire(key messageKey) (wait time.Duration, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.busy {
		i.busy, i.since = true, time.Now()
		delete(i.waiting, key)
		return 0, true
	}
	if i.waiting == nil {
		i.waiting = map[messageKey]bool{}
	}
	if len(i.waiting) < mostPending {
		i.waiting[key] = true
	}
	wait = min(max(i.mean*time.Duration(len(i.waiting))/2, leastPause), mostPause)
	return wait/2 + rand.N(wait), false //nolint:gosec // it spreads them
}

// release lets the next suspect be handled.
func (i *isolation) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.busy, i.mean = false, (3*i.mean+time.Since(i.since))/4
	if len(i.waiting) > 0 && time.Since(i.since) > mostPause {
		clear(i.waiting) // some went to other workers
	}
}
