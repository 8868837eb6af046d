package worker

import (
	"sync"
	"time"
)

// Shares divides the slots among the targets, so that a slow one cannot take
// them all: each has some of its own, and of the rest one gets at most half. Who
// finds none is told when to come again: one after the other, at the pace at
// which the target's slots become free, so that they are neither idle nor
// besieged.
type Shares struct {
	now     func() time.Time
	mu      sync.Mutex
	own     int // slots that each target has to itself
	free    int // slots for all
	most    int // of them for one target
	targets map[string]*share
}

// share is what one target has.
type share struct {
	used int
	mean time.Duration // that a request is in hand, as of late
	due  time.Time     // when the last one that was sent away comes again
}

// NewShares divides slots among that many targets. One slot in sixteen stays
// out, for taking requests that must be given back at once.
func NewShares(slots, targets int, now func() time.Time) *Shares {
	slots = max(1, slots-max(1, slots/16))
	targets = max(1, targets)
	own := slots / (4 * targets)
	free := slots - own*targets
	most := free
	if targets > 1 {
		most = (free + 1) / 2 // the rest is for the others when this one is slow
	}
	return &Shares{now: now, own: own, free: free, most: most, targets: map[string]*share{}}
}

// take returns how to give the slot back, or, if target may have no more now,
// nil and how long to wait.
func (s *Shares) take(target string) (release func(), wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.targets[target]
	if t == nil {
		t = &share{mean: minRetryWait}
		s.targets[target] = t
	}
	now := s.now()
	if t.used >= s.own {
		if s.free == 0 || t.used-s.own >= s.most {
			return nil, t.turn(now)
		}
		s.free--
	}
	t.used++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.used > s.own {
			s.free++
		}
		t.used--
		t.mean += (s.now().Sub(now) - t.mean) / 8
	}, 0
}

// turn is when the next who was sent away may come again.
func (t *share) turn(now time.Time) time.Duration {
	if t.due.Before(now) {
		t.due = now
	}
	t.due = t.due.Add(t.mean / time.Duration(max(t.used, 1)))
	longest := maxBusyWait
	if t.mean >= slowAfter {
		longest = maxBusyWaitSlow
	}
	if t.due.Sub(now) > longest {
		t.due = now.Add(longest)
		return jitter(longest) // many come then; not all at once
	}
	return max(t.due.Sub(now), minBusyWait)
}
