package events

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// TestHeldFollowsTheResults: it yields each result with its outcome once, and begins
// again where the stream was made again.
func TestHeldFollowsTheResults(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	position := uint64(0)
	held := func() (ids []string) {
		t.Helper()
		var err error
		position, err = b.Held(t.Context(), position, func(h approval.Held) {
			if h.Subject != connection("0").Subject() || h.Target != "payments" || h.Outcome != approval.OutcomeHeld || h.At.IsZero() {
				t.Errorf("got %+v", h)
			}
			ids = append(ids, h.RequestID)
		}, approval.OutcomeHeld, approval.OutcomeIgnored)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	publish := func(from, to int, o approval.Outcome) {
		t.Helper()
		for n := from; n < to; n++ {
			if err := b.Publish(t.Context(), result(fmt.Sprint(n), o)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := held(); len(got) != 0 {
		t.Errorf("nothing is stored, and got %v", got)
	}
	const many = directBatch + 10
	publish(0, many, approval.OutcomeHeld)
	publish(many, many+5, approval.OutcomeAccepted)
	if got := held(); len(got) != many || !slices.Contains(got, connection("0").ID) {
		t.Errorf("got %d, want %d", len(got), many)
	}
	if got := held(); len(got) != 0 {
		t.Errorf("got %v twice", got)
	}
	publish(many+5, many+6, approval.OutcomeHeld)
	if got := held(); len(got) != 1 {
		t.Errorf("got %v, want the new one", got)
	}
	if err := b.js.DeleteStream(t.Context(), ResultsStream); err != nil {
		t.Fatal(err)
	}
	if err := b.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(0, 2, approval.OutcomeHeld)
	if got := held(); len(got) != 2 {
		t.Errorf("got %v, want those of the new stream", got)
	}
}

// TestUnacknowledgedListsAll: it yields every valid request that waits, in order, and
// without a consumer, which its users may not create.
func TestUnacknowledgedListsAll(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	const many = directBatch + 10
	for n := range many {
		if err := b.Submit(t.Context(), connection(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		if n == directBatch/2 {
			forged := nats.Header{jetstream.SubjectHeader: {"vpcep.requests.orders"}, jetstream.SequenceHeader: {"1"}}
			if err := b.SubmitRaw(t.Context(), "payments", forged, []byte("no event")); err != nil {
				t.Fatal(err)
			}
		}
	}
	var waiting iter.Seq2[Unacknowledged, error]
	eventually(t, "the broker has counted all", func() bool {
		all, listed, err := b.Unacknowledged(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waiting = listed
		return all == many+1
	})
	n := 0
	for m, err := range waiting {
		if err != nil {
			t.Fatal(err)
		}
		if m.Request.EventID != fmt.Sprint(n) || m.Delivered || m.StoredAt.IsZero() {
			t.Fatalf("request %d is %+v", n, m)
		}
		n++
	}
	if n != many {
		t.Errorf("%d are listed, want %d", n, many)
	}
	stream, err := b.js.Stream(t.Context(), RequestsStream)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Consumers != 1 {
		t.Errorf("%+v, want the consumer of the workers only: %v", info, err)
	}
}
