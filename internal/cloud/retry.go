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
	retryBudget  = 20 * time.Second // from the first failure to the start of the last attempt
)

// effect says when a call may be repeated, in the terms of HTTP.
type effect int

const (
	safe          effect = iota // changes nothing
	idempotent                  // a repeat changes nothing more; the state is read before it
	nonIdempotent               // repeated only if it was certainly not carried out
)

// cappedBackOff waits at least minimum and stops where it would exceed retryBudget.
type cappedBackOff struct {
	backoff.BackOff
	minimum  func() time.Duration
	deadline time.Time // set by the first failure, so that the wait before the first call does not count
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

// repeat calls try until it succeeds, cannot succeed, or retryBudget is used up. It
// returns the last error of the call itself, even if ctx ended during a wait. Before
// it repeats a call whose outcome is unknown it calls done, which reports whether the
// call took effect.
func (c *Client) repeat(ctx context.Context, call *call, done func(context.Context) (bool, error), try func(context.Context) error) error {
	var last, latest *Error // the last error of the cloud; the last error of all
	maybeDone := false      // an attempt may have taken effect
	operation := func() error {
		if latest != nil {
			c.observer.CloudRetry(call.api, call.op, string(latest.Class))
			if maybeDone && done != nil {
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
		maybeDone = maybeDone || e.OutcomeUnknown()
		if ctx.Err() != nil || !repeatable(e, call.effect) {
			return backoff.Permanent(e)
		}
		return e
	}
	wait := &cappedBackOff{
		BackOff: backoff.NewExponentialBackOff(backoff.WithInitialInterval(minRetryWait),
			backoff.WithMaxInterval(maxRetryWait), backoff.WithMaxElapsedTime(0)),
		minimum: func() time.Duration { return latest.RetryAfter() },
	}
	err := backoff.Retry(operation, backoff.WithContext(wait, ctx))
	if err == nil || last == nil {
		return err
	}
	if maybeDone && !last.OutcomeUnknown() {
		uncertain := *last
		uncertain.maybeDone, last = true, &uncertain
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

// postponed reports whether e only says that the call was not made yet. Such an error
// does not replace an earlier one of the cloud.
func (e *Error) postponed(ctx context.Context) bool {
	return e.notSent && (e.Class == ClassOpen || e.Class == ClassThrottle || ctx.Err() != nil)
}

// repeatable reports whether repeat may make the call again after e. Other retryable
// errors are for the caller to retry.
func repeatable(e *Error, of effect) bool {
	if e.notPermitted || e.Code == CodeListIncomplete {
		return false // the caller forbids it, or the list must be read from its first page
	}
	switch e.Class {
	case ClassThrottle:
		return true
	case ClassRetry, ClassUnknown:
		return of != nonIdempotent || e.notSent
	default:
		return false
	}
}
