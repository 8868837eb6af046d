package faulttest

import (
	"context"
	"testing"
	"time"
)

// until waits for ok, asked every few milliseconds, and reports whether it came
// within the time. Other processes can be waited for in no other way.
func until(ctx context.Context, within time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok() {
			return true
		}
		select {
		case <-ctx.Done():
			return ok()
		case <-tick.C:
		}
	}
}

// await is until that ends the test if it does not come.
func await(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	if !until(t.Context(), within, ok) {
		t.Fatalf("after %s still not: %s", within, what)
	}
}

// pass lets d pass while something is cut off or stopped.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
