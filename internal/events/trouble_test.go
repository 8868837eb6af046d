package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// done handles everything immediately.
func done(context.Context, *approval.Delivery) error { return nil }

// safeBuffer is a log that is safe for concurrent use.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestConsumeResumesAfterTheBrokerWasAway(t *testing.T) {
	t.Parallel()
	s, seen, log := natstest.Start(t), newWatcher(), &safeBuffer{}
	// A long AckWait: heartbeats that come late on a busy machine are another matter.
	b := connect(t, s, func(c *Config) { c.Observer, c.Log, c.AckWait = seen, zerolog.New(log), 20*time.Second })
	consume(t, b, done)
	seen.exactly(t, "bound", 1)
	if err := b.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	const restarts = 15
	for i := range restarts {
		s.Stop()
		seen.exactly(t, "connected", 0)
		if err := b.Ready(); err == nil {
			t.Error("ready without a broker")
		}
		s.Start()
		back := time.Now()
		seen.exactly(t, "reconnected", i+1)
		id := fmt.Sprint(i)
		eventually(t, "JetStream is up, too", func() bool { return b.Submit(t.Context(), connection(id)) == nil })
		seen.atLeast(t, "delivered connection", i+1)
		if took := time.Since(back); took > 20*time.Second {
			t.Errorf("restart %d: the first request came %s after the broker was back", i, took)
		}
	}
	if !b.Alive() {
		t.Error("not alive")
	}
	if n := strings.Count(log.String(), "\n"); n > 20 {
		t.Errorf("%d lines logged:\n%s", n, log)
	}
}

// deleteConsumer deletes the consumer of the requests. Server 2.11 deletes one that is in use,
// too, but may say that it could not remove the folder, to which it was just writing.
func deleteConsumer(ctx context.Context, b *Bus) error {
	err := b.js.DeleteConsumer(ctx, RequestsStream, ConsumerName)
	if failed, ok := errors.AsType[*jetstream.APIError](err); ok && strings.Contains(failed.Description, "directory not empty") {
		return nil
	}
	return err
}

func TestConsumeBindsAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		breaks func(ctx context.Context, b *Bus) error
	}{
		{"consumer deleted", func(ctx context.Context, b *Bus) error {
			return deleteConsumer(ctx, b)
		}},
		{"requests deleted", func(ctx context.Context, b *Bus) error { return b.js.DeleteStream(ctx, RequestsStream) }},
		{"results deleted", func(ctx context.Context, b *Bus) error { return b.js.DeleteStream(ctx, ResultsStream) }},
		{"dead letters deleted", func(ctx context.Context, b *Bus) error { return b.js.DeleteStream(ctx, DeadLettersStream) }},
		{"bucket deleted", func(ctx context.Context, b *Bus) error { return b.js.DeleteKeyValue(ctx, LedgerBucket) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, seen := natstest.Start(t), newWatcher()
			b := connect(t, s, func(c *Config) { c.Observer = seen })
			consume(t, b, done)
			if err := b.Submit(t.Context(), connection("1")); err != nil {
				t.Fatal(err)
			}
			seen.until(t, "it is done", func(c map[string]int) bool { return c["delivered connection"] == 1 && c["slots"] == 0 })
			begin := time.Now()
			if err := tt.breaks(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is repaired", func() bool {
				d, err := b.Status(t.Context())
				return err == nil && len(d) == 0
			})
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("repaired after %s", took)
			}
			before := seen.get("delivered connection")
			// As any producer does: what is submitted twice counts once.
			eventually(t, "a request is stored", func() bool { return b.Submit(t.Context(), connection("2")) == nil })
			seen.atLeast(t, "delivered connection", before+1)
		})
	}
}

// TestConsumeWithoutLeaveToMakeAnything waits until someone else mends it.
func TestConsumeWithoutLeaveToMakeAnything(t *testing.T) {
	t.Parallel()
	s, seen, log := natstest.Start(t), newWatcher(), &safeBuffer{}
	maker := connect(t, s, nil)
	b := connect(t, s, func(c *Config) { c.Create = false; c.Observer = seen; c.Log = zerolog.New(log) })
	consume(t, b, done)
	seen.exactly(t, "bound", 1)
	if err := deleteConsumer(t.Context(), maker); err != nil {
		t.Fatal(err)
	}
	seen.exactly(t, "bound", 0)
	if !strings.Contains(log.String(), "consumer "+ConsumerName+" is missing") {
		t.Errorf("the log does not say what is missing:\n%s", log)
	}
	if err := maker.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen.exactly(t, "bound", 1)
}

func TestConsumeEndsWhenClosedForGood(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- b.Consume(t.Context(), func(ctx context.Context, _ *approval.Delivery) error {
			<-ctx.Done() // which it is, because nothing can be settled any more
			return ctx.Err()
		})
	}()
	seen.exactly(t, "slots", 1)
	b.nc.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("Consume: %v, want ErrClosed", err)
	}
	if err := b.Ready(); !errors.Is(err, ErrClosed) {
		t.Errorf("Ready: %v, want ErrClosed", err)
	}
}

func TestConsumeKeepsWhatCannotBeBuried(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	cfg := b.streams()[2]
	cfg.MaxBytes = 1
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := b.SubmitRaw(t.Context(), "payments", nil, []byte("x")); err != nil {
		t.Fatal(err)
	}
	consume(t, b, done)
	seen.atLeast(t, "back retry", 1)
	if info := consumerInfo(t, b); info.AckFloor.Stream != 0 {
		t.Error("it was acknowledged without a dead letter")
	}
	cfg.MaxBytes = -1
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	seen.exactly(t, "dead unreadable", 1)
}

// TestBuryWhatIsNearlyTooLarge uses the largest message that the broker takes.
func TestBuryWhatIsNearlyTooLarge(t *testing.T) {
	t.Parallel()
	s, seen := natstest.StartWith(t, broker.Options{MaxPayload: 128 << 10}), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	body := bytes.Repeat([]byte("x"), 128<<10)
	if err := b.SubmitRaw(t.Context(), "payments", nil, body); err != nil {
		t.Fatal(err)
	}
	if err := b.SubmitRaw(t.Context(), "payments", map[string][]string{"Large": {string(body[:65000])}}, body[:1000]); err != nil {
		t.Fatal(err)
	}
	stop := consume(t, b, done)
	seen.exactly(t, "dead too_large", 2)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	first, err := b.DeadLetter(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.DeadLetter(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if first.Original > second.Original {
		first, second = second, first
	}
	if first.Truncated != len(body) || len(first.Body) < len(body)/2 || second.Truncated != 1000 {
		t.Errorf("of %d bytes %d are kept, said to be of %d; the other says %d", len(body), len(first.Body), first.Truncated, second.Truncated)
	}
	// It is replayed whole.
	if err := b.Replay(t.Context(), first.Sequence); err != nil {
		t.Fatal(err)
	}
	st, err := b.js.Stream(t.Context(), RequestsStream)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := st.GetMsg(t.Context(), 3)
	if err != nil || !bytes.Equal(raw.Data, body) {
		t.Errorf("replayed %d bytes, %v", len(raw.Data), err)
	}
	// Unless the original is gone.
	if err := st.DeleteMsg(t.Context(), second.Original); err != nil {
		t.Fatal(err)
	}
	if err := b.Replay(t.Context(), second.Sequence); err == nil {
		t.Error("replayed a part")
	}
}

// TestConsumeAdoptsADeliveryOfWhatIsInHand lets the broker lose nodePatience with a
// worker that is still at it.
func TestConsumeAdoptsADeliveryOfWhatIsInHand(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen; c.AckWait = 20 * time.Second; c.Slots = 2 })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	var began atomic.Int64
	release, second := make(chan struct{}), make(chan struct{})
	consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		if d.Request.EventID == "2" {
			close(second)
			return nil
		}
		began.Add(1)
		<-release
		return nil
	})
	seen.exactly(t, "slots", 1)
	// Someone gives back what is in flight here, so that it is redelivered.
	if err := b.nc.Publish(fmt.Sprintf("$JS.ACK.%s.%s.1.1.1.%d.0", RequestsStream, ConsumerName, time.Now().UnixNano()), []byte("-NAK")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is redelivered", func() bool { return consumerInfo(t, b).NumRedelivered == 1 })
	// What comes after it was delivered later.
	if err := b.Submit(t.Context(), connection("2")); err != nil {
		t.Fatal(err)
	}
	<-second
	close(release)
	eventually(t, "both are done", func() bool {
		return seen.get("slots") == 0 && consumerInfo(t, b).AckFloor.Stream == 2
	})
	if began.Load() != 1 {
		t.Errorf("it was handled %d times concurrently", began.Load())
	}
}

// login always gives the same.
func login(user, password string) func() (string, string, error) {
	return func() (string, string, error) { return user, password, nil }
}

func TestCredentialsThatAreRefusedForAWhile(t *testing.T) {
	t.Parallel()
	good := broker.Options{Users: []broker.User{{Name: "worker", Password: "right"}}}
	s, seen := natstest.StartWith(t, good), newWatcher()
	password := atomic.Pointer[string]{}
	password.Store(new("right"))
	b := connect(t, s, func(c *Config) {
		c.Observer = seen
		c.Login = func() (string, string, error) { return "worker", *password.Load(), nil }
	})
	consume(t, b, done)
	seen.exactly(t, "bound", 1)

	s.Stop()
	refused := &safeBuffer{}
	s.StartAs(func(o *broker.Options) { o.Users[0].Password = "wrong"; o.Log = zerolog.New(refused) })
	// The same refusal several times over does not make it give up.
	eventually(t, "it was refused often", func() bool { return strings.Count(refused.String(), "authentication error") >= 5 })
	if b.nc.IsClosed() {
		t.Fatal("gave up after refused credentials")
	}
	s.Stop()
	password.Store(new("rotated")) // read at each connect
	s.StartAs(func(o *broker.Options) { o.Users[0].Password = "rotated" })
	seen.exactly(t, "connected", 1)
	seen.exactly(t, "bound", 1)
	if _, err := Connect(t.Context(), testConfig(s, func(c *Config) { c.Login = login("worker", "wrong") })); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("connected with a wrong password, or told it: %v", err)
	}
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	srv, err := broker.Start(broker.Options{Dir: t.TempDir(), SyncAlways: true})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown()
	if srv.URL() != "" {
		t.Errorf("a server of this process only listens at %s", srv.URL())
	}
	seen := newWatcher()
	b, err := Connect(t.Context(), Config{InProcess: srv, Create: true, Targets: targets(), Observer: seen, Ledger: withLedger})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // not what is tested
	if err := b.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	consume(t, b, done)
	seen.atLeast(t, "delivered connection", 1)
	seen.atLeast(t, "backlog", 1)
	if _, err := b.RTT(); err != nil {
		t.Error(err)
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLogLimiter(3, time.Minute)
		for range 2 {
			allowed := 0
			for range 10 {
				if ok, _ := l.allow(); ok {
					allowed++
				}
			}
			if allowed != 3 {
				t.Errorf("%d of 10 allowed, want 3", allowed)
			}
			<-time.After(time.Minute)
			if ok, missed := l.allow(); !ok || missed != 7 {
				t.Errorf("after a minute: %t, %d left out, want 7", ok, missed)
			}
			<-time.After(time.Minute)
		}
	})
}
