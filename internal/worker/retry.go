package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// Causes of giving a request back.
const (
	CauseBusy  = "busy"  // its target has no slot left
	CauseRetry = "retry" // it met an error that a retry may fix, or it waits for the cloud

	CausePaused = "paused" // an operator has paused its target

	CauseStopping = "stopping" // the worker stops
)

// RetryLaterError says that a request is not done, and when to deliver it again.
type RetryLaterError struct {
	After time.Duration
	Cause string // one of the Cause constants
	Err   error  // what it met; nil if it only waits

	stage approval.Stage // in which it waits, if it only waits
	code  string         // what for, in snake_case
}

func (l *RetryLaterError) Error() string {
	if l.Err == nil {
		return fmt.Sprintf("retry in %s (%s)", l.After, l.Cause)
	}
	return fmt.Sprintf("retry in %s (%s): %v", l.After, l.Cause, l.Err)
}

// Unwrap returns what the request met.
func (l *RetryLaterError) Unwrap() error { return l.Err }

// RetryAfter returns when to deliver the request again.
func (l *RetryLaterError) RetryAfter() time.Duration { return l.After }

// GivenBack returns the cause, for counting.
func (l *RetryLaterError) GivenBack() string { return l.Cause }

// waits is a RetryLaterError of a request that only waits.
func waits(stage approval.Stage, code string, after time.Duration) *RetryLaterError {
	return &RetryLaterError{After: after, Cause: CauseRetry, stage: stage, code: code}
}

// waitCause is why the request waits, in the words of the metrics.
func waitCause(later *RetryLaterError) string {
	_, operator := operatorFault(later.Err)
	_, cloud := failureOf(later.Err)
	switch {
	case later.Cause == CausePaused:
		return metrics.WaitPaused
	case operator:
		return metrics.WaitOperator
	case cloud:
		return metrics.WaitCloud
	case later.Err != nil:
		return metrics.WaitInternal
	case later.stage == approval.StageVerify:
		return metrics.WaitListing
	case later.stage == approval.StageConfirm:
		return metrics.WaitConfirmation
	}
	return metrics.WaitOther
}

// isWait reports whether err is a wait and nothing that failed.
func isWait(err error) bool {
	later, ok := errors.AsType[*RetryLaterError](err)
	return ok && later.Err == nil
}

// retryLater returns what the handler answers to err, and notes why the request
// waits. An invalid one is not retried, and one that was taken for new and is not is
// handled from its beginning.
func (w *Worker) retryLater(ctx context.Context, t *task, entry *approval.Entry, err error) error {
	switch {
	case isInvalid(err):
		return err
	case errors.Is(err, errStored), !t.stored && entry.Revision == 0 && errors.Is(err, approval.ErrConflict):
		return errStored
	}
	later := laterOf(ctx, t.Attempt, err)
	_, unsent := errors.AsType[*unsentError](err)
	w.noteWait(ctx, t, entry, later, unsent)
	return later
}

// laterOf turns err into when to deliver the request again: at the time that the
// error names, or after a wait that grows with the deliveries. When the process stops,
// another one gets it immediately.
func laterOf(ctx context.Context, attempt int, err error) *RetryLaterError {
	if later, ok := errors.AsType[*RetryLaterError](err); ok {
		return later
	}
	if ctx.Err() != nil {
		return &RetryLaterError{Cause: CauseStopping, Err: err}
	}
	after := backoff(attempt, minRetryWait, maxRetryWait)
	if e, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		after = max(after, jitter(e.RetryAfter()))
	}
	return &RetryLaterError{After: after, Cause: CauseRetry, Err: err}
}

// backoff returns first, then twice as much with each attempt up to most, with
// jitter, so that requests that failed together do not come back together.
func backoff(attempt int, first, most time.Duration) time.Duration {
	wait := first << min(max(attempt-1, 0), 16)
	return jitter(min(wait, most))
}

// jitter returns between d and 1.25 d.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*float64(d)/4) //nolint:gosec // jitter needs no secrecy
}
