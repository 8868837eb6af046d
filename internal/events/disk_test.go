package events

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// TestDiskFull: the embedded broker may store no more. Nothing is acknowledged,
// nothing is lost, what failed says so; and with room again all goes on by itself.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	const room = 8 << 20
	s, seen, log := natstest.StartWith(t, broker.Options{MaxStore: room}), newWatcher(), &safeBuffer{}
	b := connect(t, s, func(c *Config) { c.Observer = seen; c.Log = zerolog.New(log) })
	kv, err := b.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	book, decision := ledger.New(kv, nil), approval.Decision{Verdict: approval.Hold, At: time.Now()}
	const requests = 5
	for i := range requests {
		if err := b.Submit(t.Context(), connection(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.SubmitRaw(t.Context(), "payments", nil, []byte("no request")); err != nil {
		t.Fatal(err)
	}
	// Something else takes the disk, down to the last bytes.
	ballast, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "BALLAST", Subjects: []string{"ballast"}})
	if err != nil {
		t.Fatal(err)
	}
	for size := 512 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = b.js.Publish(t.Context(), "ballast", bytes.Repeat([]byte("x"), size))
		}
	}

	// Each of the three that are written by turns is refused, and says why.
	full := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "disk or storage limit; free some space") {
			t.Errorf("%s: %v, want that there is no room", what, err)
		}
	}
	_, _, err = ledgertest.Record(t.Context(), book, new(connection("0")), &decision)
	full("an entry of the ledger", err)
	full("a result", b.Publish(t.Context(), result("0", approval.OutcomeAccepted)))
	full("a request", b.Submit(t.Context(), connection("late")))

	var tried atomic.Int64
	consume(t, b, func(ctx context.Context, d *approval.Delivery) error {
		tried.Add(1)
		if _, _, err := ledgertest.Record(ctx, book, &d.Request, &decision); err != nil {
			return err
		}
		return b.Publish(ctx, result(d.Request.EventID, approval.OutcomeAccepted))
	})
	eventually(t, "each was tried and given back", func() bool { return seen.get("back retry") > requests })
	if info := consumerInfo(t, b); info.AckFloor.Stream != 0 || seen.get("dead unreadable") != 0 {
		t.Errorf("acknowledged up to %d, %d dead letters, although nothing could be stored", info.AckFloor.Stream, seen.get("dead unreadable"))
	}
	if n := stored(t, b, RequestsStream); n != requests+1 {
		t.Errorf("%d requests are stored, want %d", n, requests+1)
	}
	if !b.Alive() {
		t.Error("not alive: a restart makes no room")
	}
	if !strings.Contains(log.String(), "storing a dead letter failed") {
		t.Errorf("the log does not tell:\n%s", log)
	}
	if n := strings.Count(log.String(), "\n"); n > 20 {
		t.Errorf("%d lines logged:\n%s", n, log)
	}

	if err := ballast.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen.exactly(t, "dead unreadable", 1)
	eventually(t, "all are done", func() bool { return consumerInfo(t, b).AckFloor.Stream == requests+1 })
	if n := stored(t, b, ResultsStream); n != requests {
		t.Errorf("%d results of %d requests", n, requests)
	}
	if err := b.Submit(t.Context(), connection("late")); err != nil {
		t.Errorf("a request, with room again: %v", err)
	}
}
