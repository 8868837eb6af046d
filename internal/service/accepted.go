package service

import (
	"context"
	"slices"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// connectionCounter counts the connections of a target in the cloud; *cloud.Client
// provides it.
type connectionCounter interface {
	// Connections returns what was read last. Nothing is called.
	Connections(t approval.Target) approval.Connections
	// CountAccepted reads the number of accepted connections with one call.
	CountAccepted(ctx context.Context, t approval.Target) error
}

const (
	countAtLeast = 10 // targets that are counted again after a sweep
	countWithin  = 12 // sweeps in which each of more targets is counted again
)

// acceptedCount counts the accepted connections of the targets after sweeps. The worker's
// own reads show only what is pending, so without it nobody would know the number of a
// target on which nothing happens.
type acceptedCount struct {
	cloud   connectionCounter
	log     zerolog.Logger
	targets approval.Targets
	swept   chan struct{} // capacity 1; gets a token after each sweep
}

// afterSweep asks for a count. It never waits.
func (a *acceptedCount) afterSweep() {
	select {
	case a.swept <- struct{}{}:
	default:
	}
}

// run counts after each sweep until ctx ends.
func (a *acceptedCount) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.swept:
		}
		for _, t := range a.due() {
			if err := a.cloud.CountAccepted(ctx, t); err != nil && ctx.Err() == nil {
				a.log.Debug().Err(err).Str("target", t.Name).Msg("the accepted connections cannot be counted; they are counted again after the next sweep")
			}
		}
	}
}

// due returns the targets to count: all that were never counted, and those whose count
// is the oldest, so that many targets cost few calls. A target whose pending
// connections could not be read since its last count is left out.
func (a *acceptedCount) due() []approval.Target {
	var never, again []approval.Target
	at := map[string]int64{}
	for _, t := range a.targets.Connections() {
		known := a.cloud.Connections(t)
		switch {
		case !known.Pending.At.After(known.Accepted.At):
		case known.Accepted.At.IsZero():
			never = append(never, t)
		default:
			at[t.Name] = known.Accepted.At.UnixNano()
			again = append(again, t)
		}
	}
	slices.SortStableFunc(again, func(x, y approval.Target) int { return int(at[x.Name] - at[y.Name]) })
	most := max(countAtLeast, (len(a.targets)+countWithin-1)/countWithin)
	return append(never, again[:min(most, len(again))]...)
}
