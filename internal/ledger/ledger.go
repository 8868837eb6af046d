// Package ledger remembers what was decided, before it is done. It is a bucket
// of JetStream's key-value store in which every change is compare-and-set: a
// writer that was overtaken is refused and changes nothing.
//
// Keys:
//
//	request.<request id>        all that is known of a request (approval.Entry)
//	lock.<subject>              which request owns a connection or creation (approval.Lock)
//	limit.<target>.<domain>     connections that take part in a limit
//	lease.<name>                who does a job that one replica shall do
//	delivery.<stream sequence>  where a request that was delivered again is in flight (approval.DeliveryRecord)
//	poison.<request id>         which dead letter a request became that crashed workers
//	review.<subject>            what people said of a held request (approval.ReviewRecord)
//
// A second bucket, whose values end by themselves, has the heartbeats of the workers:
//
//	worker.<instance>           what a worker says of itself (approval.WorkerStatus)
//
// A request's entry is always written before the lock that names it, so that a
// lock can be followed to its decision whatever is cut off in between.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// ErrConflict says that someone else changed what was to be written. Nothing was
// written; read it again and go on from there.
var ErrConflict = errors.New("the ledger was changed by another worker meanwhile")

// Observer receives what happens; *metrics.Metrics implements it.
type Observer interface {
	LedgerConflict()    // a write lost against another worker's
	LedgerWriteFailed() // a write failed for another reason
}

// Ledger is the record of decisions. It is safe for concurrent use; each
// error but of a request without an id may pass, and what a method has returned
// without an error is stored.
type Ledger struct {
	kv        jetstream.KeyValue
	obs       Observer
	reserving chan struct{} // holds a token: reservations of one process take turns
}

// tries bounds how often a change is made again that lost against another.
const tries = 64

// New returns the ledger in kv. obs may be nil.
func New(kv jetstream.KeyValue, obs Observer) *Ledger {
	if obs == nil {
		obs = noObserver{}
	}
	return &Ledger{kv: kv, obs: obs, reserving: make(chan struct{}, 1)}
}

type noObserver struct{}

func (noObserver) LedgerConflict()    {}
func (noObserver) LedgerWriteFailed() {}

// Get returns the entry of a request; nil if there is none.
func (l *Ledger) Get(ctx context.Context, requestID string) (*approval.Entry, error) {
	key, err := requestKey(requestID)
	if err != nil {
		return nil, err
	}
	var wire storedEntry
	rev, ok, err := l.read(ctx, key, &wire)
	if err != nil || !ok {
		return nil, err
	}
	return wire.entry(rev), nil
}

// Record keeps d as the decision on req unless an earlier one stands, and
// returns the entry with the one that stands; see Redecide for when another takes
// its place. It then locks the subject of req for it. The lock that is returned is another request's and keeps this one from
// acting; nil if there is none.
//
// Cut off at any point and called again, Record goes on from what is stored.
func (l *Ledger) Record(ctx context.Context, req *approval.Request, d *approval.Decision) (*approval.Entry, *approval.Lock, error) {
	entry, err := l.record(ctx, req, d)
	if err != nil {
		return nil, nil, err
	}
	other, err := l.lock(ctx, entry)
	if err != nil {
		return nil, nil, err
	}
	return entry, other, nil
}

// record writes the decision into the entry unless there is one.
func (l *Ledger) record(ctx context.Context, req *approval.Request, d *approval.Decision) (*approval.Entry, error) {
	key, err := requestKey(req.ID)
	if err != nil {
		return nil, err
	}
	for range tries {
		entry, err := l.Get(ctx, req.ID)
		if err != nil || entry != nil && (entry.Decided() || entry.Request.Subject() != req.Subject()) {
			return entry, err
		}
		if entry == nil {
			entry = &approval.Entry{Request: *req}
		}
		entry.Decision = *d
		entry.Decision.ID = approval.DecisionID(req.ID)
		entry.Revision, err = l.put(ctx, key, entry)
		if !errors.Is(err, ErrConflict) {
			return entry, err
		}
	}
	return nil, fmt.Errorf("%s after %d tries: %w", key, tries, ErrConflict)
}

// put stores e, which was read at e.Revision; 0: there was nothing.
func (l *Ledger) put(ctx context.Context, key string, e *approval.Entry) (uint64, error) {
	if e.Revision == 0 {
		return l.create(ctx, key, newStoredEntry(e))
	}
	return l.update(ctx, key, newStoredEntry(e), e.Revision)
}

// Note stores e, and sets its revision, unless it was changed since it was read,
// which is ErrConflict. Unlike Update it also stores an entry that is new, which
// need not be decided yet.
func (l *Ledger) Note(ctx context.Context, e *approval.Entry) error {
	key, err := requestKey(e.Request.ID)
	if err != nil {
		return err
	}
	rev, err := l.put(ctx, key, e)
	if err != nil {
		return err
	}
	e.Revision = rev
	return nil
}

// Redecide puts d in the place of e's decision, of which certainly nothing was
// done, and into e, unless the entry was changed since it was read, which is
// ErrConflict. The lock that is returned is another request's, as Record returns it.
func (l *Ledger) Redecide(ctx context.Context, e *approval.Entry, d *approval.Decision) (*approval.Lock, error) {
	key, err := requestKey(e.Request.ID)
	if err != nil {
		return nil, err
	}
	if !e.Undone() || e.Revision == 0 {
		return nil, fmt.Errorf("%s: its decision stands, for something was done by it: %w", key, ErrConflict)
	}
	next := *e
	next.Decision = *d
	next.Decision.ID = approval.DecisionID(e.Request.ID)
	if next.Revision, err = l.put(ctx, key, &next); err != nil {
		return nil, err
	}
	*e = next
	return l.lock(ctx, e)
}

// lock makes e's request the owner of its subject unless another request's lock
// blocks it, which it then returns.
func (l *Ledger) lock(ctx context.Context, e *approval.Entry) (*approval.Lock, error) {
	mine := approval.Lock{RequestID: e.Request.ID, Verdict: e.Decision.Verdict, Digest: e.Decision.Digest, At: e.Decision.At}
	mine = ended(mine, e.Result)
	subject := e.Request.Subject()
	for range tries {
		standing, ok, err := l.Lock(ctx, subject)
		if err != nil {
			return nil, err
		}
		switch {
		case ok && standing.RequestID == mine.RequestID && (standing.Verdict == mine.Verdict || standing.Outcome != ""):
			return nil, nil
		case ok && standing.RequestID == mine.RequestID: // it was decided again
			_, err = l.update(ctx, lockKey(subject), newStoredLock(mine), standing.Revision)
		case ok && standing.Blocks():
			return &standing, nil
		case ok && e.Result != nil:
			return nil, nil // what has ended has no lock over a later request's
		case ok:
			_, err = l.update(ctx, lockKey(subject), newStoredLock(mine), standing.Revision)
		default:
			_, err = l.create(ctx, lockKey(subject), newStoredLock(mine))
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s after %d tries: %w", lockKey(subject), tries, ErrConflict)
}

// Steal makes e's request the owner of its subject in place of the lock
// from, unless that was changed since it was read, which is ErrConflict. It is
// for what the owner of a lock had made and is not there any more.
func (l *Ledger) Steal(ctx context.Context, e *approval.Entry, from *approval.Lock) error {
	mine := approval.Lock{RequestID: e.Request.ID, Verdict: e.Decision.Verdict, Digest: e.Decision.Digest, At: e.Decision.At}
	_, err := l.update(ctx, lockKey(e.Request.Subject()), newStoredLock(mine), from.Revision)
	return err
}

// Update stores e, and sets its revision, unless it was changed since it was
// read, which is ErrConflict. An entry with a result ends the lock on its
// subject too; if only that fails, e is stored, and the next reader of the lock
// ends it.
func (l *Ledger) Update(ctx context.Context, e *approval.Entry) error {
	key, err := requestKey(e.Request.ID)
	if err != nil {
		return err
	}
	if e.Revision == 0 {
		return fmt.Errorf("%s was never recorded: %w", key, ErrConflict)
	}
	rev, err := l.update(ctx, key, newStoredEntry(e), e.Revision)
	if err != nil {
		return err
	}
	e.Revision = rev
	if e.Result != nil {
		if _, _, err := l.Lock(ctx, e.Request.Subject()); err != nil {
			return fmt.Errorf("release the lock: %w", err)
		}
	}
	return nil
}

// Lock returns the lock on a subject and whether there is one. A lock whose
// request has ended, by a worker that was cut off before it could say so, is
// ended first. A lock whose request is not in the ledger counts as failed.
func (l *Ledger) Lock(ctx context.Context, subject string) (approval.Lock, bool, error) {
	for range tries {
		var wire storedLock
		rev, ok, err := l.read(ctx, lockKey(subject), &wire)
		if err != nil || !ok {
			return approval.Lock{}, false, err
		}
		c := wire.lock(rev)
		if c.Outcome != "" {
			return c, true, nil
		}
		e, err := l.Get(ctx, c.RequestID)
		switch {
		case err != nil:
			return approval.Lock{}, false, err
		case e == nil:
			c.Outcome = approval.OutcomeFailed
			return c, true, nil
		case e.Result == nil:
			return c, true, nil
		}
		c = ended(c, e.Result)
		c.Revision, err = l.update(ctx, lockKey(subject), newStoredLock(c), rev)
		if !errors.Is(err, ErrConflict) {
			return c, err == nil, err
		}
	}
	return approval.Lock{}, false, fmt.Errorf("%s after %d tries: %w", lockKey(subject), tries, ErrConflict)
}

// ended is c after its request has ended in r; c itself if r is nil.
func ended(c approval.Lock, r *approval.Result) approval.Lock {
	if r != nil {
		c.Outcome, c.Created, c.At = r.Outcome, r.Created, r.At
	}
	return c
}

// Lease reports whether the instance holder has name to itself for the next ttl: it was free,
// or its time was up, or the instance had it already and renews it. A clock that is
// wrong can at most let two have it, or nobody for one ttl; what is done under a
// lease must bear that.
func (l *Ledger) Lease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	key, now := "lease."+name, time.Now()
	want := storedLease{V: format, Holder: holder, Until: now.Add(ttl).UTC()}
	var have storedLease
	rev, ok, err := l.read(ctx, key, &have)
	if err != nil {
		return false, err
	}
	if !ok {
		_, err = l.create(ctx, key, want)
	} else {
		// An end further away than any lease lasts was written by a wrong clock.
		taken := now.Before(have.Until) && have.Until.Sub(now) <= 2*ttl
		if have.Holder != holder && taken {
			return false, nil
		}
		_, err = l.update(ctx, key, want, rev)
	}
	if errors.Is(err, ErrConflict) {
		return false, nil // another was quicker
	}
	return err == nil, err
}
