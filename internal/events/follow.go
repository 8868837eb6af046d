package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// ResultFilter chooses results; the zero value chooses all that are stored.
type ResultFilter struct {
	RequestID string             // of this request only
	Target    string             // name
	Outcomes  []approval.Outcome // any of these; none means all but ShadowOutcome
	Since     time.Time          // published at or after
	New       bool               // none that are stored already
	Follow    bool               // goes on with those to come, until ctx ends
}

// Results yields the results that f chooses, oldest first. An error is the last
// thing it yields, unless it is of one result that cannot be read.
func (b *Bus) Results(ctx context.Context, f ResultFilter) iter.Seq2[approval.Result, error] {
	what := reading{stream: ResultsStream, follow: f.Follow}
	target, request := cmp.Or(f.Target, "*"), cmp.Or(f.RequestID, "*")
	outcomes := f.Outcomes
	if len(outcomes) == 0 {
		outcomes = approval.Outcomes() // what shadow policies would have said is no outcome
	}
	for _, o := range outcomes {
		decision := request
		if o == ShadowOutcome && f.RequestID != "" {
			decision += "-shadow"
		}
		what.subjects = append(what.subjects, resultSubject(string(o), target, decision))
	}
	if what.onlyNew = f.New; !f.New {
		what.since = f.Since
	}
	return func(yield func(approval.Result, error) bool) {
		for _, name := range []string{f.Target, f.RequestID} {
			if name != "" && token(name) != nil {
				yield(approval.Result{}, fmt.Errorf("follow results: %w", token(name)))
				return
			}
		}
		if slices.ContainsFunc(f.Outcomes, func(o approval.Outcome) bool {
			return o != ShadowOutcome && !slices.Contains(approval.Outcomes(), o)
		}) {
			yield(approval.Result{}, fmt.Errorf("follow results: %q has something that is no outcome", f.Outcomes))
			return
		}
		for msg, err := range b.read(ctx, what) {
			if err != nil {
				yield(approval.Result{}, fmt.Errorf("follow results: %w", err))
				return
			}
			r, err := DecodeResult(msg.Header, msg.Data)
			if !yield(r, err) {
				return
			}
		}
	}
}

// ResultWait waits for the result of one request. It needs the right to read the
// stored results, or else to subscribe to them. Close ends it.
type ResultWait struct {
	b       *Bus
	request string
	sub     *nats.Subscription // nil: the stored results can be read
	came    chan *nats.Msg
}

// WaitFor prepares to wait for the result of a request. Call it before the request
// is submitted: who may only subscribe sees nothing of the past.
func (b *Bus) WaitFor(ctx context.Context, requestID string) (*ResultWait, error) {
	w := &ResultWait{b: b, request: requestID}
	var err error
	for _, err = range b.Results(ctx, ResultFilter{RequestID: requestID}) {
		if err != nil {
			break
		}
	}
	if _, denied := errors.AsType[*DeniedError](err); !denied {
		return w, err
	}
	w.came = make(chan *nats.Msg, 16)
	if w.sub, err = b.nc.ChanSubscribe(resultSubject("*", "*", approval.DecisionID(requestID)), w.came); err != nil {
		return nil, fmt.Errorf("wait for the result of request %s: %w", requestID, err)
	}
	return w, nil
}

// Result returns the result once there is one.
func (w *ResultWait) Result(ctx context.Context) (approval.Result, error) {
	if w.sub == nil {
		for r, err := range w.b.Results(ctx, ResultFilter{RequestID: w.request, Follow: true}) {
			return r, err
		}
		return approval.Result{}, fmt.Errorf("request %s: the results ended without it", w.request)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer w.b.denials.watch(func(e *DeniedError) {
		if e.Operation == "subscribe" {
			cancel(e)
		}
	})()
	select {
	case <-ctx.Done():
		return approval.Result{}, fmt.Errorf("wait for the result of request %s: %w", w.request, context.Cause(ctx))
	case msg := <-w.came:
		return DecodeResult(msg.Header, msg.Data)
	}
}

// Close ends what WaitFor began.
func (w *ResultWait) Close() {
	if w.sub != nil {
		_ = w.sub.Unsubscribe() // nothing depends on it
	}
}

// Served reports whether a worker takes requests now. known is false if that
// cannot be told: the user may not ask, or all workers may be busy.
func (b *Bus) Served(ctx context.Context) (served, known bool) {
	ctx, done := b.cancelOnDenial(ctx)
	defer done()
	info, err := b.consumerInfo(ctx)
	switch {
	case err != nil:
		return false, false
	case info == nil:
		return false, true
	case info.NumWaiting > 0:
		return true, true
	}
	return false, info.NumAckPending == 0
}
