package events

import (
	"sync"
	"time"
)

// troubleLines is how many lines the bus logs about trouble in a window of a
// minute, so at most twice as many in any minute.
const troubleLines = 10

// limiter allows a number of things in each window of time and counts the rest.
type limiter struct {
	most   int
	window time.Duration

	mu      sync.Mutex
	began   time.Time
	allowed int
	missed  int
}

func newLimiter(most int, window time.Duration) *limiter {
	return &limiter{most: most, window: window}
}

// allow reports whether one more is allowed, and how many were not since the
// last that was.
func (l *limiter) allow() (ok bool, missed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.began) >= l.window {
		l.began, l.allowed = now, 0
	}
	if l.allowed >= l.most {
		l.missed++
		return false, 0
	}
	l.allowed++
	missed, l.missed = l.missed, 0
	return true, missed
}
