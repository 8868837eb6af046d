package service

import (
	"context"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

// countedRecords is CrashRecords for a worker that shares the rates with others.
func countedRecords(share *cloud.FleetShare) func(*events.Bus) (events.CrashRecords, events.Heartbeats) {
	return func(b *events.Bus) (events.CrashRecords, events.Heartbeats) {
		workers := ledger.NewWorkers(b)
		return ledger.NewDeliveries(b), countedHeartbeats{workers, workers, share}
	}
}

// workerCounter counts the live workers, and those whose instance comes before one;
// *ledger.Workers provides it.
type workerCounter interface {
	Count(ctx context.Context, instance string) (n, before int, err error)
}

// countedHeartbeats counts the workers after each heartbeat of this one, so that it is one of
// them, and divides the rates of the cloud's APIs by their number.
type countedHeartbeats struct {
	events.Heartbeats
	workers workerCounter
	share   *cloud.FleetShare
}

// Store stores a heartbeat. That the workers cannot be counted is no error of it.
func (h countedHeartbeats) Store(ctx context.Context, s approval.WorkerStatus, last uint64) (uint64, error) {
	revision, err := h.Heartbeats.Store(ctx, s, last)
	if err != nil {
		return revision, err
	}
	if n, before, err := h.workers.Count(ctx, s.Instance); err == nil {
		h.share.Count(n, before)
	} else {
		h.share.Unknown()
	}
	return revision, nil
}
