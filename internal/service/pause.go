package service

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// pauseReadTimeout bounds the read of the pauses after a heartbeat.
const pauseReadTimeout = time.Second

// pauses is what this worker knows of the emergency stop. It reads the ledger right after
// each heartbeat of its own that was stored, and what it read is fresh for less than a
// heartbeat lives. So a worker without a heartbeat in the bucket does nothing, and one
// with a heartbeat says in it what it has read: once all heartbeats say so, a pause
// holds on every worker, also on those that start or come back later. It is safe
// for concurrent use.
type pauses struct {
	targets approval.Targets
	ttl     time.Duration // for which a heartbeat lives
	metrics *metrics.Metrics
	log     zerolog.Logger

	mu      sync.Mutex
	last    approval.Pauses
	freshAt time.Time // when the heartbeat was begun after which last was read; zero: never
	failing bool
}

// Of implements worker.Pauses.
func (p *pauses) Of(target string) (approval.Pause, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last.Of(target), !p.freshAt.IsZero() && time.Since(p.freshAt) < p.ttl*5/6
}

// seen returns the revision of what was read last, and the targets that it pauses.
func (p *pauses) seen() (uint64, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last.Revision, pausedTargets(p.last, p.targets)
}

func pausedTargets(in approval.Pauses, targets approval.Targets) []string {
	var out []string
	for _, t := range targets {
		if in.Of(t.Name).Paused {
			out = append(out, t.Name)
		}
	}
	return out
}

// heard takes what was read after a heartbeat that was begun at begun, or why it could
// not be read. What is older than what was read before is not taken: the bucket was
// restored, or a replica of it lags.
func (p *pauses) heard(read approval.Pauses, err error, begun time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || read.Revision < p.last.Revision {
		if !p.failing {
			p.log.Warn().Err(err).Uint64("revision", read.Revision).Uint64("known_revision", p.last.Revision).
				Msg("it cannot be read from the ledger which targets are paused, or that is older than before; nothing is done until it can; after a restore of the ledger, restart the workers")
		}
		p.failing = true
		return
	}
	before, now := pausedTargets(p.last, p.targets), pausedTargets(read, p.targets)
	if !slices.Equal(before, now) {
		p.log.Warn().Strs("paused", now).Strs("before", before).Msg("targets were paused or resumed; nothing is done on those that are paused")
	}
	for _, t := range p.targets {
		p.metrics.Paused(t.Name, slices.Contains(now, t.Name))
	}
	p.last, p.freshAt, p.failing = read, begun, false
}

// pauseReader reads what is paused; *ledger.Pauses provides it.
type pauseReader interface {
	Read(ctx context.Context) (approval.Pauses, error)
}

// pausedTargetsOf reads the pauses of a worker.
type pausedTargetsOf struct {
	reader pauseReader
	*pauses
}

// read reads what is paused, after a heartbeat was stored that was begun at begun.
func (p pausedTargetsOf) read(ctx context.Context, begun time.Time) {
	ctx, cancel := context.WithTimeout(ctx, pauseReadTimeout)
	defer cancel()
	read, err := p.reader.Read(ctx)
	p.heard(read, err, begun)
}
