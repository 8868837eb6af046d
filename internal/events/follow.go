package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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
	cfg := jetstream.OrderedConsumerConfig{}
	target, request := cmpOr(f.Target, "*"), cmpOr(f.RequestID, "*")
	outcomes := f.Outcomes
	if len(outcomes) == 0 {
		outcomes = approval.Outcomes() // what shadow policies would have said is no outcome
	}
	for _, o := range outcomes {
		decision := request
		if o == ShadowOutcome && f.RequestID != "" {
			decision += "-shadow"
		}
		cfg.FilterSubjects = append(cfg.FilterSubjects, resultSubject(string(o), target, decision))
	}
	switch {
	case f.New:
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	case !f.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &f.Since
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
		for msg, err := range b.stored(ctx, ResultsStream, cfg, f.Follow) {
			if err != nil {
				yield(approval.Result{}, fmt.Errorf("follow results: %w", err))
				return
			}
			r, err := DecodeResult(msg.Headers(), msg.Data())
			if !yield(r, err) {
				return
			}
		}
	}
}

// stored yields the messages of a stream, and goes on with new ones if follow is
// set, else ends after those that are there now. It resumes by itself after the
// broker was away.
func (b *Bus) stored(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig, follow bool) iter.Seq2[jetstream.Msg, error] {
	return func(yield func(jetstream.Msg, error) bool) {
		consumer, err := b.js.OrderedConsumer(ctx, stream, cfg)
		if err != nil {
			yield(nil, apiError("read the stream "+stream, err))
			return
		}
		info, err := consumer.Info(ctx)
		if err != nil {
			yield(nil, apiError("read the stream "+stream, err))
			return
		}
		left := info.NumPending
		if !follow && left == 0 {
			return
		}
		messages, err := consumer.Messages()
		if err != nil {
			yield(nil, apiError("read the stream "+stream, err))
			return
		}
		defer messages.Stop()
		for {
			msg, err := messages.Next(jetstream.NextContext(ctx))
			switch {
			case ctx.Err() != nil:
				yield(nil, ctx.Err())
				return
			case errors.Is(err, jetstream.ErrNoHeartbeat):
				continue // the consumer makes itself anew
			case err != nil:
				yield(nil, err)
				return
			}
			if !yield(msg, nil) {
				return
			}
			if left--; left == 0 && !follow {
				return
			}
		}
	}
}
