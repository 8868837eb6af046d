package ledger_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// oneBucket is a bus that has the ledger's bucket only.
type oneBucket struct{ kv jetstream.KeyValue }

func (b oneBucket) Bucket(context.Context) (jetstream.KeyValue, error)        { return b.kv, nil }
func (b oneBucket) WorkersBucket(context.Context) (jetstream.KeyValue, error) { return b.kv, nil }
func (b oneBucket) WorkerKeys(context.Context) ([]string, error)              { return nil, nil }
func (b oneBucket) RemoveKey(context.Context, string, uint64) error           { return nil }

// TestPausesAreKept: concurrent changes are all kept, and what is unreadable is an error.
func TestPausesAreKept(t *testing.T) {
	t.Parallel()
	kv := natstest.Start(t).Bucket("ledger")
	p := ledger.NewPauses(oneBucket{kv})
	if got, err := p.Read(t.Context()); err != nil || got.Revision != 0 || got.Of("a").Paused {
		t.Fatalf("before anything: %+v, %v", got, err)
	}
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	var changing sync.WaitGroup
	for n := range 8 {
		changing.Go(func() {
			if _, err := ledger.NewPauses(oneBucket{kv}).Change(t.Context(), "t"+strconv.Itoa(n), true, at); err != nil {
				t.Error(err)
			}
		})
	}
	changing.Wait()
	got, err := p.Read(t.Context())
	if err != nil || len(got.Targets) != 8 {
		t.Fatalf("%+v, %v, want 8 targets", got, err)
	}
	all, err := p.Change(t.Context(), "", true, at)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = p.Read(t.Context()); err != nil || !got.Of("other").Paused {
		t.Errorf("%+v, %v, want all paused", got, err)
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("what was written differs from what is read:\n%s", diff)
	}
	if _, err := p.Change(t.Context(), "", false, at); err != nil {
		t.Fatal(err)
	}
	if got, err = p.Read(t.Context()); err != nil || got.Of("t1") != (approval.Pause{At: at}) {
		t.Errorf("%+v, %v, want all resumed", got, err)
	}
	for _, text := range []string{"{", `{"v":99}`} {
		if _, err := kv.PutString(t.Context(), "pause", text); err != nil {
			t.Fatal(err)
		}
		if got, err := p.Read(t.Context()); err == nil {
			t.Errorf("%s is read as %+v", text, got)
		}
	}
}
