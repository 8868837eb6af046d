package worker

import (
	"context"
	"fmt"
	"iter"
	"maps"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// heldIndex knows the requests that ended as held or ignored and may have to be looked
// at again, by target and subject. It follows the results: a request that acts on
// nothing has no lock.
type heldIndex struct {
	position uint64 // in the results
	targets  map[string]map[string]approval.Held
}

// read adds what has ended since the last time.
func (x *heldIndex) read(ctx context.Context, results HeldResults) error {
	position, err := results.Held(ctx, x.position, x.add, approval.OutcomeHeld, approval.OutcomeIgnored)
	x.position = position
	if err != nil {
		return fmt.Errorf("read what is held: %w", err)
	}
	return nil
}

func (x *heldIndex) add(h approval.Held) {
	if x.targets == nil {
		x.targets = map[string]map[string]approval.Held{}
	}
	if x.targets[h.Target] == nil {
		x.targets[h.Target] = map[string]approval.Held{}
	}
	if known, ok := x.targets[h.Target][h.Subject]; !ok || !h.At.Before(known.At) {
		x.targets[h.Target][h.Subject] = h
	}
}

// of yields the subjects of a target.
func (x *heldIndex) of(target string) iter.Seq[string] { return maps.Keys(x.targets[target]) }

func (x *heldIndex) forget(target, subject string) { delete(x.targets[target], subject) }

// standing is the request that stands on a subject: the owner of its lock, or one that
// was held later.
type standing struct {
	approval.Lock                 // as if a request that was held had one; without a RequestID if nothing stands
	entry         *approval.Entry // nil: the ledger has none
}

// maxFollowed bounds the requests of the sweep that follow one another on a subject.
const maxFollowed = 64

// standing returns the request that stands on a subject of t, the last one that
// followed it by the sweep if that has ended.
func (s *Sweep) standing(ctx context.Context, t approval.Target, subject string) (standing, error) {
	lock, ok, err := s.Locks.Lock(ctx, subject)
	if err != nil {
		return standing{}, fmt.Errorf("read the lock: %w", err)
	}
	held, isHeld := s.held.targets[t.Name][subject]
	later := isHeld && (!ok || lock.Outcome != "" && !held.At.Before(lock.At))
	switch {
	case later:
		lock = approval.Lock{RequestID: held.RequestID, Outcome: held.Outcome, At: held.At}
	case !ok:
		return standing{}, nil
	}
	entry, err := s.Locks.Get(ctx, lock.RequestID)
	for n := 0; err == nil && entry != nil && later && n < maxFollowed; n++ {
		var next *approval.Entry
		next, err = s.Locks.Get(ctx, approval.RequestID(SweepSource, entry.Request.ID))
		if next == nil || next.Result == nil {
			break
		}
		entry = next
	}
	if err != nil {
		return standing{}, fmt.Errorf("read the request that stands: %w", err)
	}
	if entry == nil || entry.Request.Subject() != subject || later && entry.Result == nil {
		return standing{Lock: lock}, nil
	}
	if later {
		lock = approval.Lock{RequestID: entry.Request.ID, Verdict: entry.Decision.Verdict, Outcome: entry.Result.Outcome, At: entry.Result.At}
	}
	copied := *entry
	copied.Request.Target = t // as it is configured now, which is what the worker will judge by
	return standing{lock, &copied}, nil
}
