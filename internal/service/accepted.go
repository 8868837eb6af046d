package service

import (
	"context"
	"slices"
	"time"

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
	countAtLeast = 10 // targets that are counted after a sweep
	countWithin  = 12 // sweeps in which each of more targets is counted
)

// acceptedCount counts the accepted connections of the targets after sweeps. The worker's
// own reads show only what is pending, so without it nobody would know the number of a
// target on which nothing happens.
type acceptedCount struct {
	cloud   connectionCounter
	log     zerolog.Logger
	targets approval.Targets
	swept   chan struct{}        // capacity 1; gets a token after each sweep
	tried   map[string]time.Time // when each target was counted last, also without success
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
			a.tried[t.Name] = time.Now()
			if err := a.cloud.CountAccepted(ctx, t); err != nil && ctx.Err() == nil {
				a.log.Debug().Err(err).Str("target", t.Name).Msg("the accepted connections cannot be counted; they are counted again after the next sweep")
			}
		}
	}
}

// due returns the targets to count: those whose count is the oldest, and few of many, so that
// many targets do not delay what is decided. A target whose pending connections could not be
// read since its last count is left out.
func (a *acceptedCount) due() []approval.Target {
	var due []approval.Target
	last := map[string]time.Time{}
	for _, t := range a.targets.Connections() {
		known := a.cloud.Connections(t)
		last[t.Name] = known.Accepted.At
		if tried := a.tried[t.Name]; tried.After(known.Accepted.At) {
			last[t.Name] = tried
		}
		if known.Pending.At.After(last[t.Name]) {
			due = append(due, t)
		}
	}
	slices.SortStableFunc(due, func(x, y approval.Target) int { return last[x.Name].Compare(last[y.Name]) })
	most := max(countAtLeast, (len(a.targets)+countWithin-1)/countWithin)
	return due[:min(most, len(due))]
}
