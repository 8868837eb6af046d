package events

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

func isPoison(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Poison() bool
	}](err)
	return ok && e.Poison()
}

// TestPoisonIsNotSubmittedAgain: what crashed workers comes again only by a replay.
func TestPoisonIsNotSubmittedAgain(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	var fixed atomic.Bool
	consume(t, b, func(context.Context, *approval.Delivery) error {
		if !fixed.Load() {
			panic("boom")
		}
		return nil
	})
	seen.until(t, "it is a dead letter", func(c map[string]int) bool { return c["dead poison"] == 1 && c["slots"] == 0 })
	before := stored(t, b, RequestsStream)
	err := b.Submit(t.Context(), connection("1"))
	if poison, ok := errors.AsType[*PoisonError](err); !ok || poison.DeadLetter != 1 || poison.Retryable() {
		t.Errorf("submitted again: %v", err)
	}
	if now := stored(t, b, RequestsStream); now != before {
		t.Errorf("%d requests are stored, want %d", now, before)
	}
	if err := b.Submit(t.Context(), connection("2")); err != nil {
		t.Errorf("another request: %v", err)
	}
	seen.until(t, "that is one, too", func(c map[string]int) bool { return c["dead poison"] == 2 && c["slots"] == 0 })

	d, err := b.DeadLetter(t.Context(), 1)
	if err != nil || d.RequestID != connection("1").ID {
		t.Fatalf("the dead letter is %+v, %v", d, err)
	}
	fixed.Store(true)
	if err := b.Replay(t.Context(), d.Sequence); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replay is handled", func() bool { return consumerInfo(t, b).AckFloor.Stream == 3 })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Errorf("after its replay: %v", err)
	}
	if err := b.Submit(t.Context(), connection("2")); !isPoison(err) {
		t.Errorf("the other one, which was not replayed: %v", err)
	}
}

// TestPoisonOnlyWithItsRecord: without the poison record the message is not done.
func TestPoisonOnlyWithItsRecord(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	bucket, err := b.js.Stream(t.Context(), bucketStream)
	if err != nil {
		t.Fatal(err)
	}
	limit := func(bytes int64) {
		cfg := bucket.CachedInfo().Config
		cfg.MaxBytes = bytes
		if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Error(err)
		}
	}
	var handled atomic.Int64
	consume(t, b, func(context.Context, *approval.Delivery) error {
		if handled.Add(1) == poisonAt {
			limit(1)
		}
		panic("boom")
	})
	seen.atLeast(t, "back retry", 1)
	if info := consumerInfo(t, b); info.AckFloor.Stream != 0 {
		t.Error("it was acknowledged without its record")
	}
	limit(-1)
	seen.until(t, "it is a dead letter", func(c map[string]int) bool { return c["dead poison"] == 1 && c["slots"] == 0 })
	if err := b.Submit(t.Context(), connection("1")); !isPoison(err) {
		t.Errorf("submitted again: %v", err)
	}
	if n := stored(t, b, DeadLettersStream); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// TestSubmitWithoutABucket: a broker that no worker has been at has no poison.
func TestSubmitWithoutABucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, err := Connect(t.Context(), testConfig(s, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // not what is tested
	if _, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: RequestsStream, Subjects: []string{RequestsSubject + ".>"}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Error(err)
	}
}
