package events

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// TestAGoodSuspectIsConvictedAndReplayed is the price of docs/decisions/0005-heartbeats.md:
// a killer on its first delivery ends the process that handles a good suspect in
// isolation. The dead letter says that this may be a mistake; a replay begins without
// strikes and is handled.
func TestAGoodSuspectIsConvictedAndReplayed(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := connect(t, s, nil)
	if err := b.Submit(t.Context(), connection("good")); err != nil {
		t.Fatal(err)
	}
	for range suspectAt + 1 { // of the first delivery no mark is left
		crash(t, s, 1, nil)
	}
	began, killed := make(chan struct{}, 1), make(chan struct{}, 1)
	fourth := startDoomed(t, s, nil, func(ctx context.Context, d *approval.Delivery) error {
		if d.Request.EventID == "killer" {
			if d.Attempt != 1 {
				t.Errorf("the killer comes for the %d. time", d.Attempt)
			}
			killed <- struct{}{}
		} else {
			began <- struct{}{}
		}
		return blocked(ctx, d)
	})
	receive(t, began)
	if r, ok := deliveryRecordOf(t, b, 1); !ok || r.Strikes() != suspectAt || !r.Marks[len(r.Marks)-1].Isolated {
		t.Fatalf("the good one is no suspect in isolation: %+v", r)
	}
	if err := b.Submit(t.Context(), connection("killer")); err != nil {
		t.Fatal(err)
	}
	receive(t, killed)
	fourth.kill()

	var handled, replayed atomic.Int64
	seen := newWatcher()
	last := connect(t, s, func(c *Config) { c.Observer = seen })
	consume(t, last, func(_ context.Context, d *approval.Delivery) error {
		if d.Request.EventID == "killer" { // not a killer for this version
			handled.Add(1)
			return nil
		}
		if r, ok := deliveryRecordOf(t, last, 3); ok || d.Attempt != 1 {
			t.Errorf("the replay comes as delivery %d with the record %+v", d.Attempt, r)
		}
		replayed.Add(1)
		return nil
	})
	seen.until(t, "the good one is a dead letter", func(c map[string]int) bool { return c["dead poison"] == 1 && c["slots"] == 0 })
	letter, err := last.DeadLetter(t.Context(), 1)
	if err != nil || letter.Reason != ReasonPoison || letter.RequestID != connection("good").ID {
		t.Fatalf("the dead letter is %+v, %v", letter, err)
	}
	if !strings.Contains(letter.Text, "may have been the cause") || !strings.Contains(letter.Text, "if this one is good, replay it") {
		t.Errorf("the dead letter does not say that it may be a mistake: %s", letter.Text)
	}
	if n := replayed.Load(); n != 0 {
		t.Errorf("the good one was handled %d times before the replay", n)
	}
	if err := last.Replay(t.Context(), letter.Sequence); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replay is handled", func() bool { return consumerInfo(t, last).AckFloor.Stream == 3 && replayed.Load() == 1 })
	if n := handled.Load(); n != 1 {
		t.Errorf("the other one was handled %d times to its end", n)
	}
	if err := last.Submit(t.Context(), connection("good")); err != nil {
		t.Errorf("after the replay it is still poison: %v", err)
	}
	eventually(t, "no record is left", func() bool { return nothingRecorded(t, last) })
}
