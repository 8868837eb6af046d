package worker

import "sync"

// Shares divides the slots among the targets, so that a slow one cannot take
// them all: each has some of its own, and the rest goes to whoever comes.
type Shares struct {
	mu   sync.Mutex
	own  int            // slots that each target has to itself
	free int            // slots for all
	used map[string]int // by target
}

// NewShares divides slots among that many targets. One slot in sixteen stays
// out, for taking requests that must be given back at once.
func NewShares(slots, targets int) *Shares {
	slots = max(1, slots-max(1, slots/16))
	targets = max(1, targets)
	own := slots / (2 * targets)
	return &Shares{own: own, free: slots - own*targets, used: map[string]int{}}
}

// take returns how to give the slot back, or false if target may have no more.
func (s *Shares) take(target string) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used[target] >= s.own {
		if s.free == 0 {
			return nil, false
		}
		s.free--
	}
	s.used[target]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.used[target] > s.own {
			s.free++
		}
		s.used[target]--
	}, true
}
