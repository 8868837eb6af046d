package worker

import (
	"sync"
	"time"
)

// TargetSlots divides the slots among the targets, so that a slow one cannot take
// them all: some are reserved for each, and of the rest one target gets at most
// half. Callers without a slot are told to retry after about one mean handling time
// per busy slot. It is safe for concurrent use.
type TargetSlots struct {
	now      func() time.Time
	mu       sync.Mutex
	reserved int // slots for each target
	free     int // slots that are shared and not in use
	burst    int // most shared slots of one target
	targets  map[string]*usage
}

// usage is what one target uses.
type usage struct {
	used int
	mean time.Duration // moving average of the handling time
	due  time.Time     // when the last caller without a slot retries
}

// NewTargetSlots divides slots among that many targets. One slot in sixteen is kept
// free, for deliveries that only learn when to retry.
func NewTargetSlots(slots, targets int, now func() time.Time) *TargetSlots {
	slots = max(1, slots-max(1, slots/16))
	targets = max(1, targets)
	reserved := slots / (4 * targets)
	free := slots - reserved*targets
	burst := free
	if targets > 1 {
		burst = (free + 1) / 2 // the rest is for the others when this one is slow
	}
	return &TargetSlots{now: now, reserved: reserved, free: free, burst: burst, targets: map[string]*usage{}}
}

// Acquire takes a slot for target. If there is none, release is nil and wait says
// when to retry.
func (s *TargetSlots) Acquire(target string) (release func(), wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.targets[target]
	if t == nil {
		t = &usage{mean: minRetryWait}
		s.targets[target] = t
	}
	now := s.now()
	if t.used >= s.reserved {
		if s.free == 0 || t.used-s.reserved >= s.burst {
			return nil, t.retryAfter(now)
		}
		s.free--
	}
	t.used++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.used > s.reserved {
			s.free++
		}
		t.used--
		t.mean += (s.now().Sub(now) - t.mean) / 8
	}, 0
}

// retryAfter is when the next caller without a slot may retry.
func (t *usage) retryAfter(now time.Time) time.Duration {
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
		return jitter(longest) // many retry then, so they are spread
	}
	return max(t.due.Sub(now), minBusyWait)
}
