package events

import (
	"cmp"
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

// CrashRecords stores at which workers redelivered requests are in flight, to find
// those that crash workers; *ledger.Deliveries implements it. Every error is
// temporary.
type CrashRecords interface {
	// Revise applies edit to the record of the message that r names, stores it, and
	// sets r to it. It calls edit again if the record has changed meanwhile. If
	// edit fails, nothing is changed and its error is returned as it is.
	Revise(ctx context.Context, r *approval.DeliveryRecord, edit func(r *approval.DeliveryRecord) error) error
	// Poison returns the sequence of the dead letter of a request that is poison; 0
	// if it is not.
	Poison(ctx context.Context, requestID string) (deadLetter uint64, err error)
	// SetPoison records it; 0 removes the record. It is safe to repeat.
	SetPoison(ctx context.Context, requestID string, deadLetter uint64) error
}

// A redelivered message is marked as in flight at this instance of the worker before
// it is decoded. The mark is removed however the handling ends. A mark whose instance
// is dead is a strike. With suspectAt strikes a message is a crash suspect: it runs
// isolated from other suspects, so that the next crash is its own. With poisonAt
// strikes, the last of them isolated, it is dead-lettered. A message that always
// crashes its worker thus crashes at most four, because a first delivery leaves no
// mark. Panics are counted directly.
const (
	suspectAt = 2
	poisonAt  = 3 // strikes, or panics
	maxMarks  = 16
)

// deadLetterGrace is how long a message with poisonAt strikes waits before it is
// dead-lettered: a worker that was cut off removes its marks when it is back.
func (c *consumeLoop) deadLetterGrace() time.Duration { return 2 * c.cfg.AckWait }

// retryLaterError gives a message back because of its record.
type retryLaterError struct {
	why   string
	after time.Duration
}

func (e retryLaterError) Error() string             { return e.why }
func (e retryLaterError) RetryAfter() time.Duration { return e.after }

// mark marks the message as in flight here. The error says why it must not be handled
// now.
func (d *delivery) mark(ctx context.Context) error {
	if d.c.present.lapsed() {
		return retryLaterError{"no heartbeat of this worker was stored for one TTL", d.c.present.ttl / 3}
	}
	var skip error
	err := d.revise(ctx, func(r *approval.DeliveryRecord) error {
		var err error
		skip, err = d.checkMarks(ctx, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("mark a message as in flight: %w", err)
	}
	return skip
}

// checkMarks decides by its record whether the message is handled now, and if so adds
// a mark to r. skip says why it is not handled.
func (d *delivery) checkMarks(ctx context.Context, r *approval.DeliveryRecord) (skip, err error) {
	if r.Panics >= poisonAt {
		return tooManyPanics(r.Panics), nil
	}
	var kept []approval.DeliveryMark
	for _, m := range r.Marks {
		if d.c.present.isOwn(m.Instance) {
			continue // left by this process, which is alive
		}
		if !m.Dead {
			is, wait, err := d.c.present.checkLiveness(ctx, m.Instance)
			switch {
			case err != nil:
				return nil, err
			case is == approval.InstanceUnknown:
				return retryLaterError{"waiting for a heartbeat of the worker that had it", wait}, nil
			case is == approval.InstanceStopped:
				continue
			}
			m.Dead = is == approval.InstanceDead
		}
		kept = append(kept, m)
	}
	r.Marks = kept[max(0, len(kept)-maxMarks+1):]
	strikes, last := r.Strikes(), approval.DeliveryMark{}
	for _, m := range r.Marks {
		if m.Dead {
			last = m
		}
	}
	r.Cleared = min(r.Cleared, strikes)
	if strikes >= poisonAt && last.Isolated {
		return d.deadLetterAfter(r), nil
	}
	r.DeadLetterAfter = time.Time{}
	if isolate := strikes >= suspectAt && strikes > r.Cleared; isolate && !d.isolated {
		if wait, ok := d.c.isolation.acquire(d.key); !ok {
			return retryLaterError{"waiting for another crash suspect", wait}, nil
		}
		d.mu.Lock()
		d.isolated = true
		d.mu.Unlock()
		d.c.cfg.Log.Warn().Uint64("stream_sequence", d.key.seq).Int("strikes", strikes).
			Msg("a message is suspected of crashing workers; retried in isolation")
	}
	r.Marks = append(r.Marks, approval.DeliveryMark{Instance: d.c.present.instance(), At: time.Now().UTC(), Isolated: d.isolated})
	return nil, nil
}

// deadLetterAfter returns the error for a message with enough strikes: retry later, and
// after the grace a dead letter.
func (d *delivery) deadLetterAfter(r *approval.DeliveryRecord) error {
	now, grace := time.Now().UTC(), d.c.deadLetterGrace()
	left := r.DeadLetterAfter.Sub(now)
	if r.DeadLetterAfter.IsZero() || left > grace { // or the clock was set back
		r.DeadLetterAfter, left = now.Add(grace), grace
		d.c.cfg.Log.Warn().Uint64("stream_sequence", d.key.seq).Int("strikes", r.Strikes()).Time("dead_letter_after", r.DeadLetterAfter).
			Msg("a message crashes workers; it is dead-lettered unless one of them turns out to be alive")
	}
	if left > 0 {
		return retryLaterError{"suspected poison; waiting in case one of its workers is alive", left}
	}
	var instances []string
	for _, m := range r.Marks {
		if m.Dead {
			instances = append(instances, m.Instance)
		}
	}
	return invalid(ReasonPoison, "", "%d worker processes ended while it was in flight (%s), the last while it was isolated from other "+
		"crash suspects; a request on its first delivery there may have been the cause: if this one is good, replay it",
		len(instances), strings.Join(instances, ", "))
}

func tooManyPanics(n int) *InvalidEventError {
	return invalid(ReasonPoison, "", "its handling panicked %d times", n)
}

// recordRequestID stores the request id of an isolated message: if it crashes this
// worker, it can be dead-lettered without decoding it.
func (d *delivery) recordRequestID(ctx context.Context, requestID string) error {
	d.mu.Lock()
	d.request = requestID
	known := !d.isolated || d.record.RequestID == requestID
	d.mu.Unlock()
	if known {
		return nil
	}
	return d.revise(ctx, func(r *approval.DeliveryRecord) error {
		r.RequestID = requestID
		return nil
	})
}

// panicked counts a panic of this delivery. It returns a dead letter's error if that
// was one too many, else errPanic.
func (d *delivery) panicked() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.didPanic = true
	if n := d.record.Panics + 1; n >= poisonAt {
		return tooManyPanics(n)
	}
	return errPanic
}

// unmark records that the handling ended, before a redelivery can start. survived
// says that the handler returned.
func (d *delivery) unmark(ctx context.Context, survived bool) {
	d.mu.Lock()
	recordUsed, didPanic, request, isolated := d.recordUsed, d.didPanic, d.request, d.isolated
	d.mu.Unlock()
	if !recordUsed && !didPanic && !d.c.isPending(d.key) {
		return // a first delivery leaves no record
	}
	err := d.revise(ctx, func(r *approval.DeliveryRecord) error {
		if didPanic {
			r.Panics++
			r.RequestID = cmp.Or(request, r.RequestID)
		}
		err := d.c.unmark(r)
		if survived && isolated {
			r.Cleared = r.Strikes()
		}
		return err
	})
	if err != nil {
		d.c.queueEdit(d.key, d.c.unmark)
		d.c.warn(err, "removing the mark of a request in flight failed; retrying with the next heartbeat")
	}
}

// removeRecord removes the record of a message that is done.
func (d *delivery) removeRecord(ctx context.Context) {
	d.mu.Lock()
	recordUsed := d.recordUsed
	d.mu.Unlock()
	if !recordUsed && !d.c.isPending(d.key) {
		return
	}
	if err := d.revise(ctx, clearRecord); err != nil {
		d.c.queueEdit(d.key, clearRecord)
		d.c.warn(err, "removing the delivery record of a finished request failed; retrying with the next heartbeat")
	}
}

// revise applies edit to the record of the message.
func (d *delivery) revise(ctx context.Context, edit recordEdit) error {
	d.mu.Lock()
	d.recordUsed = true // even if it fails: the edit may be stored
	r := d.record
	d.mu.Unlock()
	err := d.c.revise(ctx, &r, edit)
	if err == nil {
		d.mu.Lock()
		d.record = r
		d.mu.Unlock()
	}
	return err
}

// recordEdit changes a delivery record. It is safe to repeat.
type recordEdit = func(*approval.DeliveryRecord) error

// unmark removes the marks of this process.
func (c *consumeLoop) unmark(r *approval.DeliveryRecord) error {
	r.Marks = slices.DeleteFunc(r.Marks, func(m approval.DeliveryMark) bool { return c.present.isOwn(m.Instance) })
	return nil
}

func clearRecord(r *approval.DeliveryRecord) error {
	r.Marks, r.Panics = nil, 0
	return nil
}

// moveMarks moves the marks of this process to its new instance, after others have
// declared the former one dead.
func (c *consumeLoop) moveMarks(ctx context.Context) {
	for _, d := range c.inFlight() {
		d.mu.Lock()
		recordUsed := d.recordUsed && !d.settled
		d.mu.Unlock()
		if !recordUsed {
			continue
		}
		err := d.revise(ctx, func(r *approval.DeliveryRecord) error {
			for i, m := range r.Marks {
				if c.present.isOwn(m.Instance) {
					r.Marks[i].Instance, r.Marks[i].Dead = c.present.instance(), false
				}
			}
			return nil
		})
		if err != nil {
			c.warn(err, "moving the marks of requests in flight failed")
			return
		}
	}
}

// maxPendingEdits bounds the messages with edits that are not written yet.
const maxPendingEdits = 1 << 16

// queueEdit keeps an edit that could not be written, for later.
func (c *consumeLoop) queueEdit(key messageKey, edit recordEdit) {
	c.deliveriesMu.Lock()
	defer c.deliveriesMu.Unlock()
	if _, ok := c.pending[key]; ok || len(c.pending) < maxPendingEdits {
		c.pending[key] = edit // the later one includes the earlier
	}
}

func (c *consumeLoop) isPending(key messageKey) bool {
	c.deliveriesMu.Lock()
	defer c.deliveriesMu.Unlock()
	_, ok := c.pending[key]
	return ok
}

// revise applies edit to a record. It supersedes a pending edit: every edit removes
// the marks that this process left.
func (c *consumeLoop) revise(ctx context.Context, r *approval.DeliveryRecord, edit recordEdit) error {
	err := c.records.Revise(ctx, r, edit)
	if err == nil {
		c.deliveriesMu.Lock()
		defer c.deliveriesMu.Unlock()
		delete(c.pending, messageKey{seq: r.Sequence, at: r.StoredAt.UnixNano()})
	}
	return err
}

// flushPendingEdits writes the pending edits of messages that are not in flight here.
func (c *consumeLoop) flushPendingEdits(ctx context.Context) {
	c.deliveriesMu.Lock()
	pending := maps.Clone(c.pending)
	for key := range c.deliveries {
		delete(pending, key)
	}
	c.deliveriesMu.Unlock()
	for key, edit := range pending {
		err := c.revise(ctx, &approval.DeliveryRecord{Sequence: key.seq, StoredAt: time.Unix(0, key.at).UTC()}, edit)
		if err != nil {
			return // the next heartbeat tries again
		}
	}
}

// isolation lets this process handle one crash suspect at a time. Suspects that wait
// hold no slot. It is safe for concurrent use.
type isolation struct {
	mu      sync.Mutex
	busy    bool
	since   time.Time
	mean    time.Duration // of one handling
	waiting map[messageKey]bool
}

// A suspect waits longer the more suspects wait.
const (
	minPause = time.Second
	maxPause = 20 * time.Second
)

// acquire reports whether the suspect may be handled now; else it returns how long to
// wait.
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
	if len(i.waiting) < maxPendingEdits {
		i.waiting[key] = true
	}
	wait = min(max(i.mean*time.Duration(len(i.waiting))/2, minPause), maxPause)
	return wait/2 + rand.N(wait), false //nolint:gosec // jitter
}

// release lets the next suspect be handled.
func (i *isolation) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.busy, i.mean = false, (3*i.mean+time.Since(i.since))/4
	if len(i.waiting) > 0 && time.Since(i.since) > maxPause {
		clear(i.waiting) // other workers may have some of them
	}
}
