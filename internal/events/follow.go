package events

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

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
