package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	minRetryWait = 250 * time.Millisecond
	maxRetryWait = 5 * time.Second
	retryBudget  = 20 * time.Second // from the first failure to the last try's beginning
)

// effect is what a call does, which decides when it may be repeated.
type effect int

const (
	safe          effect = iota // nothing; may be repeated freely
	idempotent                  // the same again changes nothing more; the state is read before
	nonIdempotent               // a repeat may do it twice: only if it was provably not done
)

// paced is a BackOff that never waits less than the cloud asked for and ends
// where the budget would be exceeded.
type cappedBackOff struct {
	backoff.BackOff
	minimum  func() time.Duration
	deadline time.Time // set by the first failure; waiting for one's turn is not counted
}

func (p *cappedBackOff) NextBackOff() time.Duration {
	d := p.BackOff.NextBackOff()
	if d == backoff.Stop {
		return d
	}
	d = max(d, p.minimum())
	if p.deadline.IsZero() {
		p.deadline = time.Now().Add(retryBudget)
	}
	if time.Now().Add(d).After(p.deadline) {
		return backoff.Stop
	}
	return d
}

// repeat makes the call until it succeeds, cannot succeed, or the budget is used
// up, and returns the last error that the call itself gave, even if ctx ended
// in a wait. Before a repeat of a call whose outcome is unknown, done is asked;
// true means that it took effect after all.
func (c *Client) repeat(ctx context.Context, call *call, done func(context.Context) (bool, error), try func(context.Context) error) error {
	var last, latest *Error // what the cloud said last; what hindered us last
	doubt := false          // whether a try may have taken effect
	operation := func() error {
		if latest != nil {
			c.observer.CloudRetry(call.api, call.op, string(latest.Class))
			if doubt && done != nil {
				if ok, err := done(ctx); ok {
					return nil
				} else if err != nil {
					return backoff.Permanent(err)
				}
			}
		}
		err := try(ctx)
		if err == nil {
			return nil
		}
		e, ok := asError(err)
		if !ok {
			e = call.failed(call.unknown(), "", err)
		}
		latest = e
		if last == nil || e.notPermitted || !e.postponed(ctx) {
			last = e
		}
		doubt = doubt || e.OutcomeUnknown()
		if ctx.Err() != nil || !repeatable(e, call.effect) {
			return backoff.Permanent(e)
		}
		return e
	}
	pace := &cappedBackOff{
		BackOff: backoff.NewExponentialBackOff(backoff.WithInitialInterval(minRetryWait),
			backoff.WithMaxInterval(maxRetryWait), backoff.WithMaxElapsedTime(0)),
		minimum: func() time.Duration { return latest.RetryAfter() },
	}
	err := backoff.Retry(operation, backoff.WithContext(pace, ctx))
	if err == nil || last == nil {
		return err
	}
	if doubt && !last.OutcomeUnknown() {
		doubtful := *last
		doubtful.maybeDone, last = true, &doubtful
	}
	if ctx.Err() != nil && !errors.Is(last, ctx.Err()) {
		ended := *last
		if ended.Err = ctx.Err(); last.Err != nil {
			ended.Err = fmt.Errorf("%w; %w", last.Err, ctx.Err())
		}
		return &ended
	}
	return last
}

// putOff reports whether e only says that the call was put off: no news beside what
// the cloud answered before.
func (e *Error) postponed(ctx context.Context) bool {
	return e.notSent && (e.Class == ClassOpen || e.Class == ClassThrottle || ctx.Err() != nil)
}

// again reports whether a call that failed with e may be repeated at once, in
// its own time. What is retryable but not here is given back to the caller.
func repeatable(e *Error, does effect) bool {
	if e.notPermitted || e.Code == CodeListIncomplete {
		return false // the caller does not permit it; or the reader of the list reads it from its beginning
	}
	switch e.Class {
	case ClassThrottle:
		return true
	case ClassRetry, ClassUnknown:
		return does != nonIdempotent || e.notSent
	default:
		return false
	}
}
