package events

import (
	"sync"
	"time"
)

// maxWarnings is how many lines the bus logs about trouble in a window of a
// minute, so at most twice as many in any minute.
const maxWarnings = 10

// logLimiter allows a number of things in each window of time and counts the rest.
type logLimiter struct {
	most   int
	window time.Duration

	mu      sync.Mutex
	began   time.Time
	allowed int
	missed  int
}

func newLogLimiter(most int, window time.Duration) *logLimiter {
	return &logLimiter{most: most, window: window}
}

// allow reports whether one more is allowed, and how many were not since the
// last that was.
func (l *logLimiter) allow() (ok bool, missed int) {
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
