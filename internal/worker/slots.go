package worker

import (
	"context"
	"slices"
	"sync"
	"time"
)

// TargetSlots divides the slots among the targets, so that a slow one cannot take
// them all: some are reserved for each, and of the rest one target gets at most
// half, unless it is fast: what it takes is soon free again. Callers without a slot
// wait, first come first served, or are told to retry after about one mean handling
// time per busy slot. It is safe for concurrent use.
type TargetSlots struct {
	now      func() time.Time
	mu       sync.Mutex
	reserved int // slots for each target
	free     int // slots that are shared and not in use
	burst    int // most shared slots of one target that is not fast
	targets  map[string]*usage

	open    bool          // callers may wait
	retry   time.Time     // until then they are told to retry instead
	waiters []*waiter     // oldest first
	left    chan struct{} // gets a token when one of them leaves
}

// usage is what one target uses.
type usage struct {
	used    int
	handled bool          // whether anything was
	mean    time.Duration // moving average of the handling time
	due     time.Time     // when the last caller without a slot retries
	refused time.Time     // when one was last told to retry
}

// waiter is a caller that waits for a slot.
type waiter struct {
	target *usage
	answer chan answer // of size 1
}

type answer struct {
	release func()
	retry   time.Duration
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
	return &TargetSlots{now: now, reserved: reserved, free: free, burst: burst, targets: map[string]*usage{}, left: make(chan struct{}, 1)}
}

// Acquire takes a slot for target. If there is none, release is nil and retryAfter says
// when to retry.
func (s *TargetSlots) Acquire(target string) (release func(), retryAfter time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.usage(target)
	if s.has(t) {
		return s.take(t), 0
	}
	return nil, s.refuse(t)
}

// Wait is Acquire, and waits for a slot unless callers are told to retry. If ctx ends
// first, release is nil.
func (s *TargetSlots) Wait(ctx context.Context, target string) (release func(), retryAfter time.Duration) {
	s.mu.Lock()
	t := s.usage(target)
	switch {
	case s.has(t):
		defer s.mu.Unlock()
		if now := s.now(); now.Before(s.retry) && now.Sub(t.refused) > retryFor {
			s.retry = now.Add(retryFor) // others are served meanwhile, so it is worth it
		}
		return s.take(t), 0
	case !s.open || s.now().Before(s.retry):
		defer s.mu.Unlock()
		return nil, s.refuse(t)
	}
	w := &waiter{target: t, answer: make(chan answer, 1)}
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	select {
	case a := <-w.answer:
		return a.release, a.retry
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiters, w); i >= 0 {
		s.leave(i, answer{})
	} else if a := <-w.answer; a.release != nil {
		s.put(t)
	}
	return nil, 0
}

// Open lets callers wait; Close tells them, and those that wait, to retry.
func (s *TargetSlots) Open() { s.set(true, time.Time{}) }

// Close is the opposite of Open.
func (s *TargetSlots) Close() { s.set(false, time.Time{}) }

// Refuse tells those that wait to retry, and callers as well for a while: as long as
// others are served meanwhile.
func (s *TargetSlots) Refuse() { s.set(true, s.now().Add(retryFor)) }

func (s *TargetSlots) set(open bool, retry time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.retry = open, retry
	for len(s.waiters) > 0 && (!open || !retry.IsZero()) {
		s.leave(0, answer{retry: s.refuse(s.waiters[0].target)})
	}
}

// Waiting returns how many callers wait.
func (s *TargetSlots) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiters)
}

// Left gets a token when a caller does not wait any more.
func (s *TargetSlots) Left() <-chan struct{} { return s.left }

// CanRun reports whether there is a slot for target.
func (s *TargetSlots) CanRun(target string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(s.usage(target))
}

func (s *TargetSlots) usage(target string) *usage {
	t := s.targets[target]
	if t == nil {
		t = &usage{mean: minRetryWait}
		s.targets[target] = t
	}
	return t
}

func (s *TargetSlots) has(t *usage) bool {
	fast := t.handled && t.mean < fastBelow
	return t.used < s.reserved || s.free > 0 && (fast || t.used-s.reserved < s.burst)
}

// take takes a slot that t has.
func (s *TargetSlots) take(t *usage) (release func()) {
	if t.used >= s.reserved {
		s.free--
	}
	t.used++
	since := s.now()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.handled = true
		t.mean += (s.now().Sub(since) - t.mean) / 8
		s.put(t)
	}
}

// put gives a slot of t back, and serves those that wait and can have one now: several, if t
// has become fast.
func (s *TargetSlots) put(t *usage) {
	if t.used > s.reserved {
		s.free++
	}
	t.used--
	for i := 0; i < len(s.waiters); {
		target := s.waiters[i].target
		if !s.has(target) {
			i++
			continue
		}
		s.leave(i, answer{release: s.take(target)})
	}
}

// leave answers waiter number i.
func (s *TargetSlots) leave(i int, a answer) {
	s.waiters[i].answer <- a
	s.waiters = slices.Delete(s.waiters, i, i+1)
	select {
	case s.left <- struct{}{}:
	default:
	}
}

// refuse is when the next caller without a slot may retry.
func (s *TargetSlots) refuse(t *usage) time.Duration {
	now := s.now()
	t.refused = now
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
