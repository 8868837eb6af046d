package service

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// pauseRecords is the ledger and the bucket of heartbeats.
type pauseRecords struct {
	heartbeats
	read approval.Pauses
	err  error
	said approval.WorkerStatus
	slow time.Duration
}

func (r *pauseRecords) Read(ctx context.Context) (approval.Pauses, error) {
	select {
	case <-time.After(r.slow):
		return r.read, r.err
	case <-ctx.Done():
		return approval.Pauses{}, ctx.Err()
	}
}

func (r *pauseRecords) Store(_ context.Context, s approval.WorkerStatus, _ uint64) (uint64, error) {
	r.said = s
	return 7, r.storing
}

// TestAWorkerActsOnlyByWhatItReadAfterAHeartbeat: without a heartbeat in the bucket, or
// without an answer of the ledger, nothing may be done after 5 s.
func TestAWorkerActsOnlyByWhatItReadAfterAHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		reg := prometheus.NewRegistry()
		p := &pauses{
			targets: approval.Targets{{Name: "payments"}, {Name: "orders"}}, ttl: 6 * time.Second,
			metrics: metrics.New(reg, metrics.Labels{Targets: []string{"payments", "orders"}}, metrics.Build{}), log: zerolog.New(io.Discard),
		}
		r := &pauseRecords{}
		h := fleetHeartbeats{r, &heartbeats{workers: 1}, newShare(t), pausedTargetsOf{r, p}}
		beat := func() {
			t.Helper()
			if _, err := h.Store(t.Context(), approval.WorkerStatus{}, 0); !errors.Is(err, r.storing) {
				t.Fatal(err)
			}
		}
		want := func(what string, paused, fresh bool) {
			t.Helper()
			if got, isFresh := p.Of("payments"); got.Paused != paused || isFresh != fresh {
				t.Errorf("%s: paused %v, fresh %v; want %v, %v", what, got.Paused, isFresh, paused, fresh)
			}
		}
		want("before the first heartbeat", false, false)
		r.storing = broken
		beat()
		want("after one that was not stored", false, false)
		r.storing = nil
		beat()
		want("after one that was stored", false, true)
		<-time.After(4 * time.Second)
		r.err = broken
		beat()
		want("4 s after, and the ledger cannot be read", false, true)
		<-time.After(time.Second)
		want("5 s after", false, false)
		r.err, r.slow = nil, time.Minute
		beat()
		want("the ledger does not answer", false, false)
		r.slow = 0
		beat()
		want("the ledger answers again", false, true)

		r.read = approval.Pauses{Revision: 9}.With("payments", true, time.Now())
		beat()
		want("paused", true, true)
		if r.said.PauseRevision != 0 {
			t.Error("a heartbeat says that it has seen what was read only after it")
		}
		beat()
		if r.said.PauseRevision != 9 || !slices.Equal(r.said.Paused, []string{"payments"}) {
			t.Errorf("the next heartbeat says %d, %q", r.said.PauseRevision, r.said.Paused)
		}
		if n := testutil.CollectAndCount(reg, "vpcep_approver_paused"); n != 2 {
			t.Errorf("%d series", n)
		}
		r.read = approval.Pauses{Revision: 8}
		<-time.After(5 * time.Second)
		beat()
		want("an older record ends no pause", true, false)
		r.read = approval.Pauses{Revision: 10}
		beat()
		want("resumed", false, true)
	})
}
