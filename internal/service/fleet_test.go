package service

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
)

// heartbeats stores or fails, and counts the workers then.
type heartbeats struct {
	storing, counting error
	workers, counted  int
}

func (h *heartbeats) Store(context.Context, approval.WorkerStatus, uint64) (uint64, error) {
	return 7, h.storing
}

func (h *heartbeats) CheckLiveness(context.Context, string, uint64) (approval.Liveness, error) {
	return approval.InstanceUnknown, nil
}

func (h *heartbeats) Count(context.Context, string) (n, before int, err error) {
	h.counted++
	return h.workers, 0, h.counting
}

// newShare is that of a client that calls nothing.
func newShare(t *testing.T) *cloud.FleetShare {
	t.Helper()
	client, err := cloud.New(cloud.Config{Region: "cn-north-4", Auth: cloud.Auth{Mode: cloud.ModeToken, Source: func() (cloud.Credentials, error) {
		return cloud.Credentials{Token: "t"}, nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return cloud.NewFleetShare(client, time.Second)
}

// TestHeartbeatsCountTheFleet: the workers are counted after each heartbeat that was stored,
// and a count that fails is no error of the heartbeat.
func TestHeartbeatsCountTheFleet(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, tt := range []struct {
		name    string
		store   heartbeats
		counted int
		fails   bool
	}{
		{"stored", heartbeats{workers: 1}, 1, false},
		{"not stored", heartbeats{storing: broken}, 0, true},
		{"stored and not counted", heartbeats{counting: broken}, 1, false},
	} {
		p := &pauses{ttl: time.Minute, log: zerolog.Nop()}
		h := fleetHeartbeats{&tt.store, &tt.store, newShare(t), pausedTargetsOf{&pauseRecords{}, p}}
		revision, err := h.Store(t.Context(), approval.WorkerStatus{}, 0)
		if _, fresh := p.Of("payments"); fresh == tt.fails {
			t.Errorf("%s: the pauses are read: %t", tt.name, fresh)
		}
		if revision != 7 || (err != nil) != tt.fails || tt.store.counted != tt.counted {
			t.Errorf("%s: revision %d, %v, counted %d times", tt.name, revision, err, tt.store.counted)
		}
	}
}
