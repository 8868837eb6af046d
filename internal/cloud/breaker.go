package cloud

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	breakerFailures = 8           // consecutive, until it opens
	probeInterval   = time.Second // between probes while it is open
	maxOpenWait     = 15 * time.Second
)

// breaker is a circuit breaker for an API host. While it is open it admits one call a
// second as a probe, whose success closes it. It is safe for concurrent use.
type breaker struct {
	api    string
	two    *gobreaker.TwoStepCircuitBreaker[struct{}]
	opened atomic.Int64 // Unix nanoseconds since when it is open; 0 while closed
}

// errInconclusive is the result of a call that says nothing about the API.
var errInconclusive = errors.New("given up by the caller")

func newBreaker(api string, obs Observer) *breaker {
	b := &breaker{api: api}
	b.two = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        api,
		MaxRequests: 1,
		Timeout:     probeInterval,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerFailures },
		IsExcluded:  func(err error) bool { return errors.Is(err, errInconclusive) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch to {
			case gobreaker.StateClosed:
				b.opened.Store(0)
			case gobreaker.StateOpen:
				if from == gobreaker.StateClosed {
					b.opened.Store(time.Now().UnixNano())
				}
			case gobreaker.StateHalfOpen:
			}
			obs.CloudBreaker(api, to.String())
		},
	})
	obs.CloudBreaker(api, b.two.State().String())
	return b
}

// check returns an error while the breaker is open.
func (b *breaker) check() error {
	if b.two.State() == gobreaker.StateOpen {
		return b.refusal()
	}
	return nil
}

// allow returns an error if the call must not be made. Otherwise the caller must pass
// its result to report.
func (b *breaker) allow() (report func(error), err error) {
	if report, err = b.two.Allow(); err != nil {
		return nil, b.refusal()
	}
	return report, nil
}

// refusal is the error of a call that is not made. Its wait grows with the time that
// the API is down, so that a backlog does not retry every second.
func (b *breaker) refusal() *Error {
	wait := probeInterval
	if at := b.opened.Load(); at != 0 {
		wait = min(max(wait, time.Since(time.Unix(0, at))/4), maxOpenWait)
	}
	wait += rand.N(wait / 2) //nolint:gosec // jitter is no secret
	return &Error{API: b.api, Class: ClassOpen, Text: "the circuit breaker is open because the API keeps failing; it is probed once a second", Wait: wait, notSent: true}
}

// breakerResult is what the result of a call says about the API.
func breakerResult(ctx context.Context, e *Error) error {
	switch {
	case e == nil:
		return nil
	case ctx.Err() != nil && e.Status == 0:
		return errInconclusive
	case e.Code == CodeListIncomplete: // concerns one target; the API works
		return nil
	case e.Class == ClassRetry || e.Class == ClassUnknown:
		return e
	}
	return nil
}
