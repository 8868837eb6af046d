// Package ledger remembers what was decided, before it is done. It is a bucket
// of JetStream's key-value store in which every change is compare-and-set: a
// writer that was overtaken is refused and changes nothing.
//
// Keys:
//
//	request.<4>.<request id>    all that is known of a request (approval.Entry), behind the first 4 characters of its id
//	lock.<subject>              which request owns a connection or creation (approval.Lock)
//	limit.<target>.<domain>     connections that take part in a limit
//	lease.<name>                who does a job that one replica shall do
//	delivery.<stream sequence>  where a request that was delivered again is in flight (approval.DeliveryRecord)
//	poison.<request id>         which dead letter a request became that crashed workers
//	pause                       on which targets nothing may be done (approval.Pauses)
//	review.<subject>            what people said of a held request (approval.ReviewRecord)
//
// A second bucket, whose values end by themselves, has the heartbeats of the workers:
//
//	worker.<instance>           what a worker says of itself (approval.WorkerStatus)
//
// A request's entry is always written before the lock that names it, so that a
// lock can be followed to its decision whatever is cut off in between. The lock is
// written when it changes hands, and not when its request ends: the entry says that.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

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

// Put stores e, and sets its revision, unless the entry was changed since e was read,
// which is approval.ErrConflict. At revision 0 there must be no entry.
func (l *Ledger) Put(ctx context.Context, e *approval.Entry) error {
	key, err := requestKey(e.Request.ID)
	if err != nil {
		return err
	}
	write := l.update
	if e.Revision == 0 {
		write = func(ctx context.Context, key string, v any, _ uint64) (uint64, error) { return l.create(ctx, key, v) }
	}
	rev, err := write(ctx, key, e, e.Revision)
	if err != nil {
		return err
	}
	e.Revision = rev
	return nil
}

// Record is Put of an entry whose decision is new, and then locks its subject for it.
// The lock that is returned is another request's and keeps this one from acting; nil if
// there is none. If only the lock cannot be written, the revision of e is set.
func (l *Ledger) Record(ctx context.Context, e *approval.Entry) (*approval.Lock, error) {
	if err := l.Put(ctx, e); err != nil {
		return nil, err
	}
	mine := lockFor(e)
	// Most subjects have no lock yet, and to create one tells.
	_, err := l.tryCreate(ctx, lockKey(e.Request.Subject()), newStoredLock(mine))
	if !errors.Is(err, approval.ErrConflict) {
		return nil, l.observed(err)
	}
	return l.Acquire(ctx, e)
}

// Acquire makes e's request the owner of its subject unless another request's lock
// blocks it, which it then returns. It may be repeated.
func (l *Ledger) Acquire(ctx context.Context, e *approval.Entry) (*approval.Lock, error) {
	mine, subject := lockFor(e), e.Request.Subject()
	for range tries {
		standing, ok, err := l.Lock(ctx, subject)
		if err != nil {
			return nil, err
		}
		switch {
		case ok && standing.RequestID == mine.RequestID:
			return nil, nil
		case ok && standing.Blocks():
			return &standing, nil
		case ok && e.Result != nil:
			return nil, nil // what has ended has no lock over a later request's
		case ok:
			_, err = l.update(ctx, lockKey(subject), newStoredLock(mine), standing.Revision)
		default:
			_, err = l.create(ctx, lockKey(subject), newStoredLock(mine))
		}
		if !errors.Is(err, approval.ErrConflict) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s after %d tries: %w", lockKey(subject), tries, approval.ErrConflict)
}

// lockFor is the lock of e's request.
func lockFor(e *approval.Entry) approval.Lock {
	mine := approval.Lock{RequestID: e.Request.ID, Verdict: e.Decision.Verdict, Digest: e.Decision.Digest, At: e.Decision.At}
	return ended(mine, e.Result)
}

// Steal makes e's request the owner of its subject in place of the lock
// from, unless that was changed since it was read, which is approval.ErrConflict. It is
// for what the owner of a lock had made and is not there any more.
func (l *Ledger) Steal(ctx context.Context, e *approval.Entry, from *approval.Lock) error {
	_, err := l.update(ctx, lockKey(e.Request.Subject()), newStoredLock(lockFor(e)), from.Revision)
	return err
}

// Lock returns the lock on a subject and whether there is one. What was decided on its
// request, and how that ended, is read from the entry of the request. A lock whose
// request is not in the ledger counts as failed.
func (l *Ledger) Lock(ctx context.Context, subject string) (approval.Lock, bool, error) {
	var wire storedLock
	rev, ok, err := l.read(ctx, lockKey(subject), &wire)
	if err != nil || !ok {
		return approval.Lock{}, false, err
	}
	lock := wire.lock(rev)
	if lock.Outcome != "" {
		return lock, true, nil
	}
	e, err := l.Get(ctx, lock.RequestID)
	switch {
	case err != nil:
		return approval.Lock{}, false, err
	case e == nil:
		lock.Outcome = approval.OutcomeFailed
	default:
		lock.Verdict, lock.Digest, lock.At = e.Decision.Verdict, e.Decision.Digest, e.Decision.At
		lock = ended(lock, e.Result)
	}
	return lock, true, nil
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
	if errors.Is(err, approval.ErrConflict) {
		return false, nil // another was quicker
	}
	return err == nil, err
}
