package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// buckets are the two on a real server.
type buckets struct {
	js              jetstream.JetStream
	ledger, workers jetstream.KeyValue
	broken          error // of RemoveKey
}

func newBuckets(t *testing.T, ttl time.Duration) *buckets {
	t.Helper()
	s := natstest.Start(t)
	b := &buckets{js: s.JetStream(), ledger: s.Bucket("vpcep-ledger")}
	var err error
	b.workers, err = b.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "vpcep-workers", History: 1, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *buckets) Bucket(context.Context) (jetstream.KeyValue, error) { return b.ledger, nil }

func (b *buckets) WorkersBucket(context.Context) (jetstream.KeyValue, error) { return b.workers, nil }

func (b *buckets) WorkerKeys(ctx context.Context) ([]string, error) { return b.workers.Keys(ctx) }

func (b *buckets) RemoveKey(ctx context.Context, key string, revision uint64) error {
	if b.broken != nil {
		return b.broken
	}
	s, err := b.js.Stream(ctx, "KV_vpcep-ledger")
	if err != nil {
		return err
	}
	return s.Purge(ctx, jetstream.WithPurgeSubject("$KV.vpcep-ledger."+key), jetstream.WithPurgeSequence(revision+1))
}

// messages is how many values the ledger's bucket holds, markers included.
func (b *buckets) messages(t *testing.T) uint64 {
	t.Helper()
	s, err := b.js.Stream(t.Context(), "KV_vpcep-ledger")
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func named(at time.Time) *approval.DeliveryRecord {
	return &approval.DeliveryRecord{Sequence: 7, StoredAt: at}
}

func markOf(instance string) func(*approval.DeliveryRecord) error {
	return func(r *approval.DeliveryRecord) error {
		r.Marks = append(r.Marks, approval.DeliveryMark{Instance: instance})
		return nil
	}
}

func unmarkOf(instance string) func(*approval.DeliveryRecord) error {
	return func(r *approval.DeliveryRecord) error {
		r.Unmark(instance)
		return nil
	}
}

// TestMarksOfManyWorkersAddUp, and the last that goes leaves nothing behind.
func TestMarksOfManyWorkersAddUp(t *testing.T) {
	t.Parallel()
	b := newBuckets(t, time.Minute)
	d, at := ledger.NewDeliveries(b), time.Now().UTC()
	const workers = 8
	each := func(edit func(instance string) func(*approval.DeliveryRecord) error) {
		t.Helper()
		var all sync.WaitGroup
		for n := range workers {
			all.Go(func() {
				if err := d.Revise(t.Context(), named(at), edit(fmt.Sprint(n))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	each(markOf)
	r := named(at)
	if err := d.Revise(t.Context(), r, unmarkOf("nobody")); err != nil || len(r.Marks) != workers || r.Revision == 0 {
		t.Errorf("marked by %d: %+v, %v", workers, r, err)
	}
	each(unmarkOf)
	if n := b.messages(t); n != 0 {
		t.Errorf("%d values are left", n)
	}
	// What is not there is not written when it is read.
	if err := d.Revise(t.Context(), named(at), unmarkOf("0")); err != nil || b.messages(t) != 0 {
		t.Errorf("unmarked twice: %v, %d values", err, b.messages(t))
	}
}

// TestReviseOfAnotherMessage has the stream made again, so that numbers repeat.
func TestReviseOfAnotherMessage(t *testing.T) {
	t.Parallel()
	b := newBuckets(t, time.Minute)
	d, at := ledger.NewDeliveries(b), time.Now().UTC()
	if err := d.Revise(t.Context(), named(at), markOf("old")); err != nil {
		t.Fatal(err)
	}
	later := named(at.Add(time.Second))
	if err := d.Revise(t.Context(), later, markOf("new")); err != nil || len(later.Marks) != 1 || later.Marks[0].Instance != "new" {
		t.Errorf("a later message: %+v, %v", later, err)
	}
	if err := d.Revise(t.Context(), named(at), markOf("old")); !errors.Is(err, ledger.ErrMessageGone) {
		t.Errorf("a message that is gone: %v", err)
	}
}

// TestReviseFails as the bucket or the caller does, and changes nothing then.
func TestReviseFails(t *testing.T) {
	t.Parallel()
	b := newBuckets(t, time.Minute)
	d, at, refused := ledger.NewDeliveries(b), time.Now().UTC(), errors.New("no")
	if err := d.Revise(t.Context(), named(at), func(*approval.DeliveryRecord) error { return refused }); !errors.Is(err, refused) || b.messages(t) != 0 {
		t.Errorf("edit refused: %v, %d values", err, b.messages(t))
	}
	if err := d.Revise(t.Context(), named(at), markOf("a")); err != nil {
		t.Fatal(err)
	}
	b.broken = errors.New("purge refused")
	if err := d.Revise(t.Context(), named(at), unmarkOf("a")); !errors.Is(err, b.broken) {
		t.Errorf("the record cannot be removed: %v", err)
	}
	// The mark is gone all the same, and the rest goes with the next try.
	r := named(at)
	_ = d.Revise(t.Context(), r, unmarkOf("nobody"))
	if len(r.Marks) != 0 {
		t.Errorf("the mark is still there: %+v", r)
	}
	b.broken = nil
	if err := d.Revise(t.Context(), named(at), unmarkOf("a")); err != nil || b.messages(t) != 0 {
		t.Errorf("tried again: %v, %d values", err, b.messages(t))
	}
}

func TestPoisonRecord(t *testing.T) {
	t.Parallel()
	b := newBuckets(t, time.Minute)
	d, id := ledger.NewDeliveries(b), strings.Repeat("ab", 16)
	want := func(number uint64) {
		t.Helper()
		if got, err := d.Poison(t.Context(), id); err != nil || got != number {
			t.Errorf("the dead letter is %d, %v; want %d", got, err, number)
		}
	}
	want(0)
	for range 2 {
		if err := d.SetPoison(t.Context(), id, 12); err != nil {
			t.Fatal(err)
		}
		want(12)
	}
	for range 2 {
		if err := d.SetPoison(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
		want(0)
	}
	if n := b.messages(t); n != 0 {
		t.Errorf("%d values are left", n)
	}
	if _, err := d.Poison(t.Context(), "request.*"); err == nil {
		t.Error("a wildcard was taken for an id")
	}
	// What cannot be read is not taken for none.
	if _, err := b.ledger.Put(t.Context(), "poison."+id, []byte(`{"v":99}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Poison(t.Context(), id); err == nil {
		t.Error("a record of another format was taken for none")
	}
}

// TestHeartbeats: who sends in time lives; who does not is declared dead, and is
// refused from then on.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	b := newBuckets(t, time.Second)
	w := ledger.NewWorkers(b)
	beat := func(instance string, last uint64) (uint64, error) {
		return w.Store(t.Context(), approval.WorkerStatus{Instance: instance, Host: "h", State: approval.WorkerRunning, StartedAt: time.Now()}, last)
	}
	judge := func(instance string, since uint64, want approval.Liveness) {
		t.Helper()
		if got, err := w.CheckLiveness(t.Context(), instance, since); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", instance, got, err, want)
		}
	}
	first, err := beat("a", 0)
	if err != nil {
		t.Fatal(err)
	}
	judge("a", first-1, approval.InstanceAlive)
	judge("a", first, approval.InstanceUnknown) // it has sent none since
	second, err := beat("a", first)
	if err != nil {
		t.Fatal(err)
	}
	// The answer to the second was lost, and the worker does not know of it.
	third, err := beat("a", first)
	if err != nil || third <= second {
		t.Errorf("after a lost answer: %d, %v", third, err)
	}
	if all, err := w.List(t.Context()); err != nil || len(all) != 1 || all[0].Instance != "a" {
		t.Errorf("listed %+v, %v", all, err)
	}
	for instance, want := range map[string]int{"0": 0, "a": 0, "b": 1} {
		if n, before, err := w.Count(t.Context(), instance); err != nil || n != 1 || before != want {
			t.Errorf("counted %d, of them %d before %s, %v", n, before, instance, err)
		}
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if is, err := w.CheckLiveness(t.Context(), "a", third); err != nil || is == approval.InstanceDead {
			break
		}
	}
	judge("a", 0, approval.InstanceDead)
	for _, last := range []uint64{third, 0} { // a late one, and one that begins again
		if _, err := beat("a", last); !errors.Is(err, approval.ErrInstanceDead) {
			t.Errorf("a heartbeat of the dead: %v", err)
		}
	}
	if all, err := w.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("listed %+v, %v", all, err)
	}
	// Nobody judged b, and its heartbeat has ended: the next is refused, too.
	lone, err := beat("b", 0)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if _, err := b.workers.Get(t.Context(), "worker.b"); errors.Is(err, jetstream.ErrKeyNotFound) {
			break
		}
	}
	if _, err := beat("b", lone); !errors.Is(err, approval.ErrInstanceDead) {
		t.Errorf("a heartbeat after its time to live: %v", err)
	}
	stopped, err := w.Store(t.Context(), approval.WorkerStatus{Instance: "c", State: approval.WorkerStopped}, 0)
	if err != nil {
		t.Fatal(err)
	}
	judge("c", stopped, approval.InstanceStopped)
}
