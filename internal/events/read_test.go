package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// consumersOf returns the names of a stream's consumers.
func consumersOf(t *testing.T, b *Bus, stream string) []string {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	list := s.ConsumerNames(t.Context())
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// fill stores n dead letters.
func fill(t *testing.T, b *Bus, n int) {
	t.Helper()
	for i := range n {
		if _, err := b.js.PublishAsync(DeadLettersSubject+".unreadable", fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-b.js.PublishAsyncComplete():
	case <-t.Context().Done():
	}
}

// TestAScanEndsWhateverIsDropped drops letters while they are listed.
func TestAScanEndsWhateverIsDropped(t *testing.T) {
	t.Parallel()
	const all = 3*readBatch + 10
	for name, dropped := range map[string][]uint64{
		"the last":               {all},
		"the last many":          span64(2*readBatch, all),
		"all but the first":      span64(2, all),
		"some in between":        span64(readBatch-3, readBatch+3),
		"those of the next pull": span64(readBatch+1, 2*readBatch),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := connect(t, natstest.Start(t), nil)
			fill(t, b, all)
			ctx, cancel := context.WithTimeout(t.Context(), natstest.Hang)
			defer cancel()
			letters, err := b.js.Stream(ctx, DeadLettersStream)
			if err != nil {
				t.Fatal(err)
			}
			seen := uint64(0)
			for d, err := range b.DeadLetters(ctx) {
				if err != nil {
					t.Fatalf("after %d: %v", seen, err)
				}
				if d.Sequence == 1 {
					for _, seq := range dropped {
						if err := letters.DeleteMsg(ctx, seq); err != nil {
							t.Fatal(err)
						}
					}
				}
				seen = d.Sequence
			}
			if names := consumersOf(t, b, DeadLettersStream); len(names) > 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
}

func span64(from, to uint64) []uint64 {
	var out []uint64
	for n := from; n <= to; n++ {
		out = append(out, n)
	}
	return out
}

// TestAScanEndsWhileOthersWrite: what comes meanwhile is not waited for.
func TestAScanEndsWhileOthersWrite(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	fill(t, b, 3)
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Hang)
	defer cancel()
	n := 0
	for d, err := range b.DeadLetters(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; d.Sequence > 10_000 {
			t.Fatal("it goes on for ever")
		}
		if _, err := b.js.Publish(ctx, DeadLettersSubject+".unreadable", nil); err != nil {
			t.Fatal(err)
		}
		if n == readBatch {
			break // each was followed by another: a reader may stop at any time
		}
	}
	if names := consumersOf(t, b, DeadLettersStream); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

// TestReadersLeaveNoConsumer ends them in every way.
func TestReadersLeaveNoConsumer(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	for _, id := range []string{"1", "2"} {
		if err := b.Publish(t.Context(), result(id, approval.OutcomeHeld)); err != nil {
			t.Fatal(err)
		}
	}
	none := func(how string) {
		t.Helper()
		if names := consumersOf(t, b, ResultsStream); len(names) > 0 {
			t.Errorf("%s: left behind %q", how, names)
		}
	}
	for _, err := range b.Results(t.Context(), ResultFilter{}) {
		if err != nil {
			t.Error(err)
		}
	}
	none("read to the end")
	for _, err := range b.Results(t.Context(), ResultFilter{}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	none("stopped after one")
	for _, err := range b.Results(t.Context(), ResultFilter{Target: "orders"}) {
		if err != nil {
			t.Error(err)
		}
	}
	none("with nothing to read")
	ctx, cancel := context.WithCancel(t.Context())
	for _, err := range b.Results(ctx, ResultFilter{Follow: true}) {
		if err == nil && len(consumersOf(t, b, ResultsStream)) != 1 {
			t.Error("it reads without a consumer")
		}
		cancel()
	}
	none("interrupted")
	// A follower that was cut off has another consumer afterwards.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	var got []string
	for r, err := range b.Results(ctx, ResultFilter{Follow: true}) {
		if err != nil {
			break
		}
		switch got = append(got, r.Request.EventID); len(got) {
		case 2:
			s.Restart()
			seen.exactly(t, "reconnected", 1)
			if err := b.Publish(ctx, result("3", approval.OutcomeHeld)); err != nil {
				t.Fatal(err)
			}
		case 3:
			cancel()
		}
	}
	if !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("followed %q", got)
	}
	none("after the broker was away")
}

// TestFollowNewMissesNothingWhileTheBrokerIsAway, also if nothing came before.
func TestFollowNewMissesNothingWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if err := b.Publish(t.Context(), result("old", approval.OutcomeHeld)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Hang)
	defer cancel()
	got := make(chan string, 4)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for r, err := range b.Results(ctx, ResultFilter{Follow: true, New: true}) {
			if err != nil {
				return
			}
			got <- r.Request.EventID
			return
		}
	}()
	eventually(t, "it follows", func() bool { return len(consumersOf(t, b, ResultsStream)) == 1 })
	s.Restart()
	seen.exactly(t, "reconnected", 1)
	if err := b.Publish(ctx, result("new", approval.OutcomeHeld)); err != nil {
		t.Fatal(err)
	}
	<-ended
	if len(got) != 1 || <-got != "new" {
		t.Error("the result that came while the reader had no consumer is missing")
	}
}

// users starts a server that knows these users, each with its name as password.
// The first may do everything and sets the streams up.
func users(t *testing.T, permissions map[string]*server.Permissions) (as func(user string) *Bus) {
	t.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, Users: []*server.User{{Username: "all", Password: "all"}}}
	for name, p := range permissions {
		opts.Users = append(opts.Users, &server.User{Username: name, Password: name, Permissions: p})
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(natstest.Hang) {
		t.Fatal("the server is not ready")
	}
	as = func(user string) *Bus {
		t.Helper()
		b, err := Connect(t.Context(), Config{
			URL: srv.ClientURL(), Create: true, Targets: targets(), Log: zerolog.Nop(), Ledger: withLedger,
			Login: func() (string, string, error) { return user, user, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	if err := as("all").Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return as
}

func allow(publish []string, subscribe ...string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: append(subscribe, "_INBOX.>")},
	}
}

// TestProducersNeedToPublishOnly, and to wait they need to read or hear results.
func TestProducersNeedToPublishOnly(t *testing.T) {
	t.Parallel()
	produce := []string{"vpcep.requests.>"}
	as := users(t, map[string]*server.Permissions{
		"producer": allow(produce),
		"hearer":   allow(produce, "vpcep.results.>"),
		"reader": allow(append(produce, "$JS.API.CONSUMER.CREATE.VPCEP_RESULTS.>", "$JS.API.CONSUMER.MSG.NEXT.VPCEP_RESULTS.>",
			"$JS.API.CONSUMER.DELETE.VPCEP_RESULTS.>")),
	})
	worker := as("all")
	consume(t, worker, func(ctx context.Context, d *approval.Delivery) error {
		r := result(d.Request.EventID, approval.OutcomeHeld)
		return worker.Publish(ctx, r)
	})
	start := time.Now()
	for _, user := range []string{"producer", "hearer", "reader"} {
		b, r := as(user), connection(user)
		if user == "producer" {
			if err := b.SubmitNew(t.Context(), r); err != nil {
				t.Errorf("%s: %v", user, err)
			}
			other := r
			other.EndpointID = service
			for _, r := range []approval.Request{r, other} {
				if used, ok := errors.AsType[*IDUsedError](b.SubmitNew(t.Context(), r)); !ok || !used.Unread {
					t.Errorf("%s with a used id: %v", user, used)
				}
			}
			wait, err := b.WaitFor(t.Context(), r.ID)
			if err == nil {
				_, err = wait.Result(t.Context())
				wait.Close()
			}
			if _, denied := errors.AsType[*DeniedError](err); !denied {
				t.Errorf("%s waits without the right: %v", user, err)
			}
			continue
		}
		wait, err := b.WaitFor(t.Context(), r.ID)
		if err != nil {
			t.Errorf("%s: %v", user, err)
			continue
		}
		if err := b.SubmitNew(t.Context(), r); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		got, err := wait.Result(t.Context())
		if err != nil || got.Request.ID != r.ID || got.Outcome != approval.OutcomeHeld {
			t.Errorf("%s: %+v, %v", user, got, err)
		}
		wait.Close()
		if served, known := b.Served(t.Context()); served || known {
			t.Errorf("%s knows whether workers are there: %v, %v", user, served, known)
		}
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %s: somebody waited for an answer that nobody gives", took)
	}
	if names := consumersOf(t, worker, ResultsStream); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

func TestServed(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	if served, known := b.Served(t.Context()); served || !known {
		t.Errorf("without a worker: %v, %v", served, known)
	}
	consume(t, b, func(context.Context, *approval.Delivery) error { return nil })
	eventually(t, "a worker is seen", func() bool {
		served, known := b.Served(t.Context())
		return served && known
	})
}

// TestAPublicationThatIsDeniedIsTold soon, with the subject.
func TestAPublicationThatIsDeniedIsTold(t *testing.T) {
	t.Parallel()
	deny := allow([]string{"vpcep.requests.>", "$JS.API.>"})
	deny.Publish.Deny = []string{"vpcep.requests._sweep.>"}
	as := users(t, map[string]*server.Permissions{"operator": deny, "reader": allow([]string{"$JS.API.>"})})
	worker := as("all")
	if _, err := worker.js.PublishMsg(t.Context(), deadLetter("vpcep.requests._sweep.payments", nil, []byte("x"),
		&nats.MsgMetadata{Sequence: nats.SequencePair{Stream: 1}}, invalid(ReasonUnreadable, "", "x"))); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := as("operator").Replay(t.Context(), 1)
	if _, denied := errors.AsType[*DeniedError](err); !denied || !strings.Contains(err.Error(), "drop it") {
		t.Errorf("a replay of what the sweep found: %v", err)
	}
	err = as("reader").SubmitNew(t.Context(), connection("1"))
	if denied, ok := errors.AsType[*DeniedError](err); !ok || denied.Subject != "vpcep.requests.payments" {
		t.Errorf("a request by a reader: %v", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestConsumeBacksOffFromRefusedPulls puts a consumer in the worker's place that
// takes no pull, and counts what is asked of the broker.
func TestConsumeBacksOffFromRefusedPulls(t *testing.T) {
	t.Parallel()
	log := &safeBuffer{}
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer, c.Log = seen, zerolog.New(log) })
	refuse := make(chan struct{})
	// A broker that answers every pull with a refusal stands in front of it.
	var pulls atomic.Int64
	front := s.Connect()
	sub, err := front.Subscribe("$JS.API.CONSUMER.MSG.NEXT."+RequestsStream+"."+ConsumerName, func(m *nats.Msg) {
		select {
		case <-refuse:
			return
		default:
		}
		pulls.Add(1)
		_ = front.PublishMsg(&nats.Msg{Subject: m.Reply, Header: nats.Header{"Status": {"423"}, "Description": {"Nats-Wrong-Pin-Id"}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the end of the test
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	consume(t, b, func(context.Context, *approval.Delivery) error { return nil })
	seen.exactly(t, "bound", 1)
	seen.exactly(t, "bound", 0)
	if b.Ready() == nil {
		t.Error("it is ready")
	}
	began, before := time.Now(), pulls.Load()
	eventually(t, "two more pulls are refused", func() bool { return pulls.Load() >= before+2 })
	if took := time.Since(began); took < time.Second {
		t.Errorf("two more pulls after %s; they are to become rare", took)
	}
	if b.Ready() == nil {
		t.Error("it is ready again, and no pull was served")
	}
	if n := strings.Count(log.String(), "pulling requests failed"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
	close(refuse)
	seen.exactly(t, "bound", 1)
}

// TestAPausedConsumerIsNotReady: it takes pulls and serves none.
func TestAPausedConsumerIsNotReady(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if _, err := b.js.PauseConsumer(t.Context(), RequestsStream, ConsumerName, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	consume(t, b, func(context.Context, *approval.Delivery) error { return nil })
	eventually(t, "a look at the consumer", func() bool { return b.LastLoop() != time.Time{} })
	if b.Ready() == nil {
		t.Error("it is ready")
	}
	if _, err := b.js.ResumeConsumer(t.Context(), RequestsStream, ConsumerName); err != nil {
		t.Fatal(err)
	}
	seen.exactly(t, "bound", 1)
	if _, err := b.js.PauseConsumer(t.Context(), RequestsStream, ConsumerName, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	seen.exactly(t, "bound", 0)
}
