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
	breakerFailures = 8           // in a row, until it opens
	probeInterval   = time.Second // between probes while it is open
	maxOpenWait     = 15 * time.Second
)

// breaker stops calls to an API host that does not work. While it is open one
// call a second is let through as a probe, and its success closes it.
type breaker struct {
	api    string
	two    *gobreaker.TwoStepCircuitBreaker[struct{}]
	opened atomic.Int64 // when it opened first, in Unix nanoseconds; 0 while closed
}

// errNoAnswerKnown tells the breaker that nothing was learned about the API.
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

// check returns an error if a call would be refused now.
func (b *breaker) check() error {
	if b.two.State() == gobreaker.StateOpen {
		return b.refusal()
	}
	return nil
}

// allow returns an error if the call must not be made; else what came of it has
// to be told to done.
func (b *breaker) allow() (done func(error), err error) {
	if done, err = b.two.Allow(); err != nil {
		return nil, b.refusal()
	}
	return done, nil
}

// refusal asks to wait the longer the API has been down, so that a backlog does
// not knock at a closed door every second.
func (b *breaker) refusal() *Error {
	wait := probeInterval
	if at := b.opened.Load(); at != 0 {
		wait = min(max(wait, time.Since(time.Unix(0, at))/4), maxOpenWait)
	}
	wait += rand.N(wait / 2) //nolint:gosec // jitter is no secret
	return &Error{API: b.api, Class: ClassOpen, Text: "the API does not work; it is probed once a second", Wait: wait, notSent: true}
}

// verdict is what an answer tells the breaker about the API.
func breakerResult(ctx context.Context, e *Error) error {
	switch {
	case e == nil:
		return nil
	case ctx.Err() != nil && e.Status == 0:
		return errInconclusive
	case e.Code == CodeListIncomplete: // of one target; the API works
		return nil
	case e.Class == ClassRetry || e.Class == ClassUnknown:
		return e
	}
	return nil
}
