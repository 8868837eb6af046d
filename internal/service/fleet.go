package service

import (
	"context"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

// countedRecords is CrashRecords for a worker that shares the rates with others and that
// can be paused.
func countedRecords(share *cloud.FleetShare, p *pauses) func(*events.Bus) (events.CrashRecords, events.Heartbeats) {
	return func(b *events.Bus) (events.CrashRecords, events.Heartbeats) {
		workers, paused := ledger.NewWorkers(b), pausedTargetsOf{ledger.NewPauses(b), p}
		return ledger.NewDeliveries(b), fleetHeartbeats{workers, workers, share, paused}
	}
}

// workerCounter counts the live workers, and those whose instance comes before one;
// *ledger.Workers provides it.
type workerCounter interface {
	Count(ctx context.Context, instance string) (n, before int, err error)
}

// fleetHeartbeats says in each heartbeat what was read of the pauses. Once it is stored, it
// reads them again, and counts the workers, of which this is one then, to divide the rates
// of the cloud's APIs by their number.
type fleetHeartbeats struct {
	events.Heartbeats
	workers workerCounter
	share   *cloud.FleetShare
	paused  pausedTargetsOf
}

// Store stores a heartbeat. That the workers cannot be counted, or the pauses not be read, is
// no error of it.
func (h fleetHeartbeats) Store(ctx context.Context, s approval.WorkerStatus, last uint64) (uint64, error) {
	begun := time.Now()
	s.PauseRevision, s.Paused = h.paused.seen()
	revision, err := h.Heartbeats.Store(ctx, s, last)
	if err != nil {
		return revision, err
	}
	var counting sync.WaitGroup
	counting.Go(func() {
		if n, before, err := h.workers.Count(ctx, s.Instance); err == nil {
			h.share.Count(n, before)
		} else {
			h.share.Unknown()
		}
	})
	h.paused.read(ctx, begun)
	counting.Wait()
	return revision, nil
}
