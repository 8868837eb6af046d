package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

func TestConsumeHandlesAndAcknowledges(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	const n = 100
	for i := range n {
		if err := b.Submit(t.Context(), connection(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	var handled, most atomic.Int64
	stop := consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		most.Store(max(most.Load(), int64(seen.get("slots"))))
		handled.Add(1)
		if d.Attempt != 1 || d.PublishedAt.IsZero() || d.Request.EndpointID != endpoint {
			t.Errorf("got the delivery %+v", d)
		}
		return nil
	})
	seen.until(t, "all are handled", func(c map[string]int) bool { return c["delivered connection"] == n && c["slots"] == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if handled.Load() != n || most.Load() > 8 {
		t.Errorf("handled %d of %d, at most %d concurrently with 8 slots", handled.Load(), n, most.Load())
	}
	if info := acknowledged(t, b); info.NumPending != 0 || info.NumRedelivered != 0 {
		t.Errorf("left on the consumer: %d pending, %d redelivered", info.NumPending, info.NumRedelivered)
	}
}

// later is an error that says when to come again.
type later struct {
	after time.Duration
	cause string
}

func (l later) Error() string             { return "come again" }
func (l later) RetryAfter() time.Duration { return l.after }
func (l later) GivenBack() string         { return l.cause }

func TestConsumeGivesBackWithTheDelayAsked(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen; c.AckWait = 10 * time.Second })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	times := make(chan time.Time, 10)
	stop := consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		times <- time.Now()
		if d.Attempt < 4 {
			return fmt.Errorf("wait: %w", later{after: 200 * time.Millisecond, cause: CauseBusy})
		}
		return nil
	})
	seen.exactly(t, "delivered connection", 4)
	last := <-times
	for range 3 {
		next := <-times
		if gap := next.Sub(last); gap < 200*time.Millisecond || gap >= 10*time.Second {
			t.Errorf("came again after %s, asked for 200ms", gap)
		}
		last = next
	}
	if got := seen.get("back busy"); got != 3 {
		t.Errorf("given back as busy %d times, want 3", got)
	}
	// What was given back in good order is no crash, and its record goes with it.
	seen.exactly(t, "slots", 0)
	if err := stop(); err != nil {
		t.Error(err)
	}
	kv, err := b.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := kv.Keys(t.Context()); err == nil {
		t.Errorf("left in the ledger's bucket: %q", keys)
	}
}

func TestConsumeKeepsSlowRequestsInHand(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen; c.AckWait = 500 * time.Millisecond })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	stop := consume(t, b, func(ctx context.Context, _ *approval.Delivery) error {
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second): // four times AckWait
		}
		return ctx.Err()
	})
	seen.until(t, "it is handled", func(c map[string]int) bool { return c["delivered connection"] == 1 && c["slots"] == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if info := acknowledged(t, b); info.NumRedelivered != 0 || seen.get("delivered connection") != 1 {
		t.Errorf("a slow request was delivered again: %+v, %v", info, seen.counts)
	}
}

func TestConsumeGivesBackAtOnceWhenItEnds(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	edit := func(c *Config) {
		c.Observer = seen
		c.AckWait = 20 * time.Second
		c.ShutdownGrace = 100 * time.Millisecond
	}
	b := connect(t, s, edit)
	for i := range 5 {
		if err := b.Submit(t.Context(), connection(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	stop := consume(t, b, func(ctx context.Context, _ *approval.Delivery) error {
		<-ctx.Done()
		return ctx.Err()
	})
	seen.exactly(t, "slots", 5)
	begin := time.Now()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := seen.get("back stopping"); got != 5 {
		t.Errorf("given back %d, want 5", got)
	}
	// Another worker has them long before AckWait.
	other := newWatcher()
	b2 := connect(t, s, func(c *Config) { edit(c); c.Observer = other })
	consume(t, b2, func(context.Context, *approval.Delivery) error { return nil })
	other.exactly(t, "delivered connection", 5)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the others' worker had them after %s", took)
	}
}

func TestConsumeLetsRequestsInHandEnd(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen; c.ShutdownGrace = 20 * time.Second })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	stop := consume(t, b, func(ctx context.Context, _ *approval.Delivery) error {
		<-release
		return ctx.Err()
	})
	seen.exactly(t, "slots", 1)
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	seen.exactly(t, "bound", 0)
	close(release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if info := acknowledged(t, b); info.AckFloor.Stream != 1 {
		t.Errorf("the request in flight was not acknowledged: %+v", info)
	}
}

func TestConsumeEndsAlthoughAHandlerDoesNot(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen; c.ShutdownGrace = 50 * time.Millisecond })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Consume(ctx, func(context.Context, *approval.Delivery) error { <-release; return nil })
	}()
	seen.exactly(t, "slots", 1)
	cancel()
	if err := <-ended; err == nil {
		t.Error("Consume ended without saying that a handler had not")
	}
	close(release)
	seen.exactly(t, "slots", 0)
	if info := consumerInfo(t, b); info.AckFloor.Stream != 0 {
		t.Error("what was given back was acknowledged later")
	}
}

// TestConsumeHearsNoBrokerInAMessage has somebody store what looks like the
// broker's word about a pull, among good requests.
func TestConsumeHearsNoBrokerInAMessage(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	words := []nats.Header{
		{"Status": {"100"}},
		{"Status": {"404"}, "Description": {"No Messages"}},
		{"Status": {"408"}, "Description": {"Request Timeout"}},
		{"Status": {"409"}, "Description": {"Consumer Deleted"}},
		{"Status": {"503"}},
	}
	for i, header := range words {
		if _, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: "vpcep.requests.payments", Header: header}); err != nil {
			t.Fatal(err)
		}
		if err := b.Submit(t.Context(), connection(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		if d.Attempt != 1 {
			t.Errorf("request %s was handled at delivery %d: the broker took it for lost", d.Request.EventID, d.Attempt)
		}
		return nil
	})
	seen.exactly(t, "delivered connection", len(words))
	seen.exactly(t, "dead unreadable", len(words))
}

func TestWord(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status, description string
		over                bool
		says                string // in the error; empty: none
	}{
		{status: "100"},
		{status: "404", over: true},
		{status: "408", description: "Request Timeout", over: true},
		{status: "409", description: "Batch Completed", over: true},
		{status: "409", description: "Consumer Deleted", over: true, says: "Consumer Deleted"},
		{status: "409", description: "Leadership Change", over: true, says: "Leadership Change"},
		{status: "400", description: "Bad Request", over: true, says: "Bad Request"},
		{status: "503", over: true, says: "no responders"},
		{status: "", over: true, says: `""`},
		{status: "777", over: true, says: `"777"`},
	}
	for _, tt := range tests {
		over, err := parseStatus(nats.Header{"Status": {tt.status}, "Description": {tt.description}})
		if over != tt.over || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("parseStatus(%s %s) = %t, %v; want %t and an error that says %q", tt.status, tt.description, over, err, tt.over, tt.says)
		}
	}
}

func TestConsumeSurvivesPanics(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		if d.Attempt == 1 {
			panic("boom")
		}
		return nil
	})
	seen.until(t, "it is handled again", func(c map[string]int) bool { return c["delivered connection"] == 2 && c["slots"] == 0 })
	if got := seen.get("back panic"); got != 1 {
		t.Errorf("given back by panic %d times, want 1", got)
	}
}

func TestConsumeBuriesWhatPanicsAlways(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen; c.AckWait = 10 * time.Second })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	consume(t, b, func(context.Context, *approval.Delivery) error { panic("boom") })
	seen.exactly(t, "dead poison", 1)
	if got := seen.get("delivered connection"); got != 3 {
		t.Errorf("handled %d times, want 3", got)
	}
	for d, err := range b.DeadLetters(t.Context()) {
		if err != nil || d.Reason != ReasonPoison || d.Deliveries != 3 || !strings.Contains(d.Text, "panicked") {
			t.Errorf("the dead letter is %+v, %v", d, err)
		}
	}
	seen.exactly(t, "slots", 0)
}

func TestConsumeBuriesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if err := b.SubmitRaw(t.Context(), "payments", map[string][]string{"X-Mine": {"kept"}, "Nats-Msg-Id": {"m1"}}, []byte("not json")); err != nil {
		t.Fatal(err)
	}
	consume(t, b, func(context.Context, *approval.Delivery) error {
		t.Error("the handler was called")
		return nil
	})
	seen.until(t, "it is dead-lettered", func(c map[string]int) bool { return c["dead unreadable"] == 1 && c["slots"] == 0 })
	var got []DeadLetter
	for d, err := range b.DeadLetters(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, d)
	}
	if len(got) != 1 {
		t.Fatalf("%d dead letters, want 1", len(got))
	}
	d := got[0]
	if string(d.Body) != "not json" || d.Reason != ReasonUnreadable || d.Subject != "vpcep.requests.payments" || d.Original != 1 ||
		d.Deliveries != 1 || d.Header.Get("X-Mine") != "kept" || d.Header.Get("Nats-Msg-Id") != "m1" || d.Text == "" {
		t.Errorf("the dead letter is %+v", d)
	}
	if info := consumerInfo(t, b); info.AckFloor.Stream != 1 {
		t.Error("it was not acknowledged")
	}

	// Submitted again it is dead-lettered again; then it is dropped for good.
	if err := b.Replay(t.Context(), d.Sequence); err != nil {
		t.Fatal(err)
	}
	seen.exactly(t, "dead unreadable", 2)
	if _, err := b.DeadLetter(t.Context(), d.Sequence); !errors.Is(err, ErrNoDeadLetter) {
		t.Errorf("the replayed dead letter is still there: %v", err)
	}
	again, err := b.DeadLetter(t.Context(), d.Sequence+1)
	if err != nil || string(again.Body) != "not json" || again.Header.Get("X-Mine") != "kept" || again.Original != 2 {
		t.Errorf("after the replay: %+v, %v", again, err)
	}
	if err := b.Drop(t.Context(), again.Sequence); err != nil {
		t.Fatal(err)
	}
	if err := b.Drop(t.Context(), again.Sequence); !errors.Is(err, ErrNoDeadLetter) {
		t.Errorf("dropped twice: %v", err)
	}
	for d, err := range b.DeadLetters(t.Context()) {
		t.Errorf("still there: %+v, %v", d, err)
	}
}
