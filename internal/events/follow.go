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

// ResultFilter selects results; the zero value selects all stored ones.
type ResultFilter struct {
	RequestID string             // of this request only
	Target    string             // name
	Outcomes  []approval.Outcome // any of these; empty: all but ShadowOutcome
	Since     time.Time          // published at or after
	After     uint64             // after this one in the stream; Since and New do not count then
	New       bool               // only new results, none that are stored already
	Follow    bool               // continue with new results until ctx ends
}

// StoredResult is a result with its place in the stream.
type StoredResult struct {
	approval.Result

	Sequence uint64
}

// Results yields the results that f selects, oldest first. An error is the last item,
// unless it is about one result that cannot be read.
func (b *Bus) Results(ctx context.Context, f ResultFilter) iter.Seq2[approval.Result, error] {
	return func(yield func(approval.Result, error) bool) {
		for r, err := range b.StoredResults(ctx, f) {
			if !yield(r.Result, err) {
				return
			}
		}
	}
}

// StoredResults is Results with the place of each in the stream.
func (b *Bus) StoredResults(ctx context.Context, f ResultFilter) iter.Seq2[StoredResult, error] {
	opts := readOptions{stream: ResultsStream, follow: f.Follow}
	target, request := cmp.Or(f.Target, "*"), cmp.Or(f.RequestID, "*")
	outcomes := f.Outcomes
	if len(outcomes) == 0 {
		outcomes = approval.Outcomes() // without shadow results
	}
	for _, o := range outcomes {
		decision := request
		if o == ShadowOutcome && f.RequestID != "" {
			decision += "-shadow"
		}
		opts.subjects = append(opts.subjects, resultSubject(string(o), target, decision))
	}
	if opts.onlyNew = f.New; !f.New {
		opts.since = f.Since
	}
	if f.After > 0 {
		opts.from = f.After + 1
	}
	return func(yield func(StoredResult, error) bool) {
		for _, name := range []string{f.Target, f.RequestID} {
			if name != "" && checkToken(name) != nil {
				yield(StoredResult{}, fmt.Errorf("follow results: %w", checkToken(name)))
				return
			}
		}
		if slices.ContainsFunc(f.Outcomes, func(o approval.Outcome) bool {
			return o != ShadowOutcome && !slices.Contains(approval.Outcomes(), o)
		}) {
			yield(StoredResult{}, fmt.Errorf("follow results: unknown outcome in %q", f.Outcomes))
			return
		}
		for msg, err := range b.read(ctx, opts) {
			if err != nil {
				yield(StoredResult{}, fmt.Errorf("follow results: %w", err))
				return
			}
			r, err := DecodeResult(msg.Header, msg.Data)
			if !yield(StoredResult{r, msg.sequence}, err) {
				return
			}
		}
	}
}

// ResultWait waits for the result of one request. It needs the permission to read the
// stored results, or else to subscribe to them. Call Close at the end.
type ResultWait struct {
	b       *Bus
	request string
	sub     *nats.Subscription // nil: the stored results can be read
	msgs    chan *nats.Msg
}

// WaitFor prepares to wait for the result of a request. Call it before the request is
// submitted: a user that may only subscribe receives no stored results.
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
	w.msgs = make(chan *nats.Msg, 16)
	if w.sub, err = b.nc.ChanSubscribe(resultSubject("*", "*", approval.DecisionID(requestID)), w.msgs); err != nil {
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
		return approval.Result{}, fmt.Errorf("wait for the result of request %s: the stream ended", w.request)
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
	case msg := <-w.msgs:
		return DecodeResult(msg.Header, msg.Data)
	}
}

// Close releases the subscription.
func (w *ResultWait) Close() {
	if w.sub != nil {
		_ = w.sub.Unsubscribe() // nothing depends on it
	}
}

// Served reports whether a worker pulls requests now. known is false if the user lacks
// the permission, or if all workers may be busy.
func (b *Bus) Served(ctx context.Context) (served, known bool) {
	ctx, done := b.cancelOnDenial(ctx, RequestsStream)
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
