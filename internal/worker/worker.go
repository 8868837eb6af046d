// Package worker is the pipeline of a request: read the facts, decide, record, act,
// follow, publish. The function process shows it from top to bottom.
//
// It uses the cloud, the policies, the ledger and the bus through the small
// interfaces below. Every step is safe to repeat: a request that is delivered again
// continues from what the ledger and the cloud show.
package worker

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// Cloud reads connections and acts on them; *cloud.Client provides it. Calls retry
// temporary errors themselves. They are safe to repeat and for concurrent use.
type Cloud interface {
	// Facts returns facts that are not older than the call. A connection that is not
	// listed has the State Absent, which is no error.
	Facts(ctx context.Context, req approval.Request) (approval.Facts, error)
	// LatestPending returns the facts of req's connection that the latest read of its
	// target showed; false if it was not pending there, or not read. It calls nothing.
	LatestPending(req approval.Request) (approval.Facts, bool)
	// Act returns nil once the cloud took v, which must be Accept or Reject. It
	// asks approval.Permit right before each call that it sends. An error whose
	// OutcomeUnknown is true leaves open whether any of them was carried out.
	Act(ctx context.Context, req *approval.Request, v approval.Verdict) error
	// Await returns the state that the connection ended in: want, or one that
	// contradicts it and is not stale. A ctx that ends first is an error.
	Await(ctx context.Context, req approval.Request, want approval.State, actedAt time.Time) (approval.State, error)
}

// Limiter keeps limits; *cloud.Client and *ledger.Ledger provide its halves.
type Limiter interface {
	// Accepted returns how many connections the account domainID, which was judged, has
	// accepted on t, endpointID aside, by a read that may have ended a few seconds ago. If
	// endpointID does not show, or shows another account, that is an error: it cannot be
	// counted.
	Accepted(ctx context.Context, t approval.Target, domainID, endpointID string) (approval.AccountCount, error)
	// Reserve reports whether req's may be one of at most limit accepted
	// connections of domain on its target. It is approval.ErrCountUnclear if the count
	// does not tell. It is safe to repeat, and requests for one connection share one
	// reservation.
	Reserve(ctx context.Context, req approval.Request, domain string, limit int, counted approval.AccountCount) (bool, error)
}

// Creator makes endpoints; *cloud.Client provides it.
type Creator interface {
	// Look returns what is there, and what of it is not among before. Where the
	// cloud has no way to look it is an error whose NoReadBack is true.
	Look(ctx context.Context, req approval.Request, before []string) (approval.Look, error)
	// Create sends the request once, after asking approval.Permit. An error whose OutcomeUnknown is true
	// leaves open whether it was carried out; any other means it was not.
	Create(ctx context.Context, req approval.Request) (approval.Created, error)
}

// Policy decides, purely; *policy.Source provides it.
type Policy interface {
	Evaluate(in *approval.Input) approval.Decision
}

// Ledger stores what is known of requests; *ledger.Ledger provides it. What a method
// returned without an error is stored. A change of what was changed since it was read is
// refused with approval.ErrConflict.
type Ledger interface {
	// Get returns nil if there is no entry.
	Get(ctx context.Context, requestID string) (*approval.Entry, error)
	// Put stores e, new if its revision is 0, and sets its revision.
	Put(ctx context.Context, e *approval.Entry) error
	// Record is Put of an entry with a new decision, and then Acquire.
	Record(ctx context.Context, e *approval.Entry) (*approval.Lock, error)
	// Acquire locks the subject of e's request. The lock that it returns is another
	// request's, if it keeps this one from acting.
	Acquire(ctx context.Context, e *approval.Entry) (*approval.Lock, error)
	// Steal makes e's request the owner of the lock from.
	Steal(ctx context.Context, e *approval.Entry, from *approval.Lock) error
}

// Results publishes results; *events.Bus provides it. A result that was published
// before is not published again.
type Results interface {
	Publish(ctx context.Context, r approval.Result) error
}

// Tracer makes a span of each stage; *tracing.Tracer provides it.
type Tracer interface {
	// Stage ends the stage before and starts the next one.
	Stage(ctx context.Context, name string) context.Context
}

// stage is ctx within the span of a stage.
func (w *Worker) stage(ctx context.Context, name string) context.Context {
	if w.Tracer == nil {
		return ctx
	}
	return w.Tracer.Stage(ctx, name)
}

// Worker carries requests out. Set its fields before first use.
type Worker struct {
	Cloud   Cloud
	Creator Creator
	Limiter Limiter
	Policy  Policy
	Ledger  Ledger
	Reviews ReviewRecords
	Pauses  Pauses // nil: nothing is ever paused
	Results Results
	Tracer  Tracer // nil: off
	Metrics *metrics.Metrics
	Log     zerolog.Logger
	Now     func() time.Time
	Limits  Limits
	Started time.Time // when this worker began; time in which none ran does not count for MaxAge
	Slots   *TargetSlots
	Targets approval.Targets
	Version string
}

// Handle carries out one delivery and gives one of four answers:
//
//   - done: nil; the result is published, and the delivery can be acknowledged.
//   - invalid: an *IDReusedError or a *TooOldError; it can only become a dead letter.
//   - retry later: a *RetryLaterError with the cause and the time.
//   - stopped: a *RetryLaterError with CauseStopping; ctx ended first, and another
//     worker can go on immediately.
//
// It is safe for concurrent use.
func (w *Worker) Handle(ctx context.Context, d *approval.Delivery) error {
	release, wait := w.Slots.Wait(ctx, d.Request.Target.Name)
	switch {
	case release == nil && ctx.Err() != nil:
		return &RetryLaterError{Cause: CauseStopping, Err: ctx.Err()}
	case release == nil:
		w.Metrics.WaitsUntil(metrics.WaitSlot, w.Now().Add(wait))
		return &RetryLaterError{After: wait, Cause: CauseBusy}
	}
	defer release()

	result, err := w.process(ctx, d, d.Attempt > 1)
	if errors.Is(err, errStored) { // another event with the same id came before
		result, err = w.process(ctx, d, true)
	}
	if later, ok := errors.AsType[*RetryLaterError](err); ok && (later.Cause == CauseRetry || later.Cause == CausePaused) {
		w.Metrics.WaitsUntil(waitCause(later), w.Now().Add(later.After))
	}
	if err != nil {
		return err
	}
	w.finished(result)
	return nil
}
