package events

import (
	"sync"
	"time"
)

// maxWarnings is how many warnings the bus logs in a window of a minute, so at most
// twice as many in any minute.
const maxWarnings = 10

// logLimiter allows a number of log lines in each window and counts the rest. It is
// safe for concurrent use.
type logLimiter struct {
	limit  int
	window time.Duration

	mu      sync.Mutex
	began   time.Time
	allowed int
	missed  int
}

func newLogLimiter(limit int, window time.Duration) *logLimiter {
	return &logLimiter{limit: limit, window: window}
}

// allow reports whether one more line is allowed, and how many were suppressed since
// the last one.
func (l *logLimiter) allow() (ok bool, missed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.began) >= l.window {
		l.began, l.allowed = now, 0
	}
	if l.allowed >= l.limit {
		l.missed++
		return false, 0
	}
	l.allowed++
	missed, l.missed = l.missed, 0
	return true, missed
}
