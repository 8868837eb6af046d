package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Causes of giving a request back.
const (
	CauseBusy  = "busy"  // its target has no share of the slots left
	CauseRetry = "retry" // it met an error that may pass, or it waits for the cloud
)

// LaterError says that a request is not done and when it shall come again.
type LaterError struct {
	After time.Duration
	Cause string // one of the Cause constants
	Err   error  // what it met; nil if it only waits

	stage approval.Stage // in which it waits, if it only waits
	code  string         // what for, in snake_case
}

func (l *LaterError) Error() string {
	if l.Err == nil {
		return fmt.Sprintf("come again in %s (%s)", l.After, l.Cause)
	}
	return fmt.Sprintf("come again in %s (%s): %v", l.After, l.Cause, l.Err)
}

// Unwrap returns what the request met.
func (l *LaterError) Unwrap() error { return l.Err }

// RetryAfter returns when the request shall come again.
func (l *LaterError) RetryAfter() time.Duration { return l.After }

// GivenBack returns the cause, for counting.
func (l *LaterError) GivenBack() string { return l.Cause }

// waits is a LaterError of a request that only waits.
func waits(stage approval.Stage, code string, after time.Duration) *LaterError {
	return &LaterError{After: after, Cause: CauseRetry, stage: stage, code: code}
}

// isWait reports whether err is a wait and nothing that failed.
func isWait(err error) bool {
	later, ok := errors.AsType[*LaterError](err)
	return ok && later.Err == nil
}

// again turns err into when a delivery shall come again: at the time the error names, or
// after a wait that grows with the deliveries. A process that is stopping lets
// it come again immediately, elsewhere.
func (w *Worker) again(ctx context.Context, attempt int, err error) *LaterError {
	if later, ok := errors.AsType[*LaterError](err); ok {
		return later
	}
	if ctx.Err() != nil {
		return &LaterError{Cause: CauseRetry, Err: err}
	}
	after := growing(attempt, time.Second, 30*time.Second)
	if e, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		after = max(after, spread(e.RetryAfter()))
	}
	return &LaterError{After: after, Cause: CauseRetry, Err: err}
}

// growing returns first, then twice as much with each attempt up to most, all
// spread so that requests that failed together do not come back together.
func growing(attempt int, first, most time.Duration) time.Duration {
	wait := first << min(max(attempt-1, 0), 16)
	return spread(min(wait, most))
}

// spread returns between d and 1.25 d.
func spread(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*float64(d)/4) //nolint:gosec // jitter needs no secrecy
}
