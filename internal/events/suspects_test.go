package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/proxytest"
)

// doomed is a worker that can be cut off as if its process had been killed:
// nothing is given back, nothing is recorded.
type doomed struct {
	t     *testing.T
	bus   *Bus
	seen  *watcher
	ended chan error
}

func startDoomed(t *testing.T, s *natstest.Server, edit func(*Config), handle Handler) *doomed {
	t.Helper()
	d := &doomed{t: t, seen: newWatcher(), ended: make(chan error, 1)}
	var err error
	d.bus, err = Connect(t.Context(), testConfig(s, func(c *Config) {
		c.Observer = d.seen
		if edit != nil {
			edit(c)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- d.bus.Consume(t.Context(), handle) }()
	return d
}

func (d *doomed) kill() {
	d.t.Helper()
	d.bus.nc.Close()
	if err := <-d.ended; !errors.Is(err, ErrClosed) {
		d.t.Errorf("the worker that was killed: %v", err)
	}
	if err := d.bus.Close(); err != nil {
		d.t.Errorf("close: %v", err)
	}
}

// receive waits for a value, and fails the test after a while.
func receive[T any](t *testing.T, from <-chan T) {
	t.Helper()
	select {
	case <-from:
	case <-time.After(natstest.Hang):
		t.Fatal("waited in vain")
	}
}

// blocked handles nothing until the worker ends.
func blocked(ctx context.Context, _ *approval.Delivery) error {
	<-ctx.Done()
	return ctx.Err()
}

// crash runs a worker until n deliveries are in flight, and kills it.
func crash(t *testing.T, s *natstest.Server, n int, edit func(*Config)) {
	t.Helper()
	d := startDoomed(t, s, edit, blocked)
	d.seen.atLeast(t, "delivered connection", n)
	d.kill()
}

// deliveryRecordOf reads the delivery record of a message; false if there is none.
func deliveryRecordOf(t *testing.T, b *Bus, sequence uint64) (approval.DeliveryRecord, bool) {
	t.Helper()
	kv, err := b.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found, err := kv.Get(t.Context(), fmt.Sprint("delivery.", sequence))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return approval.DeliveryRecord{}, false
	}
	if err != nil {
		t.Fatal(err)
	}
	var r approval.DeliveryRecord
	if err := json.Unmarshal(found.Value(), &r); err != nil {
		t.Fatal(err)
	}
	return r, true
}

// nothingRecorded reports whether the ledger's bucket is empty. It does not ask
// for keys, which the library may wait for for ever if one is removed meanwhile.
func nothingRecorded(t *testing.T, b *Bus) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	kv, err := b.Bucket(ctx)
	if err != nil {
		return false
	}
	bucket, err := kv.Status(ctx)
	return err == nil && bucket.Values() == 0
}

// TestAKillerCostsFourProcesses has five good requests in flight next to a killer
// each time that a worker dies, and one that comes later.
func TestAKillerCostsFourProcesses(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := connect(t, s, nil)
	const neighbors = 5
	for i := range neighbors {
		if err := b.Submit(t.Context(), connection(fmt.Sprint("good ", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Submit(t.Context(), connection("killer")); err != nil {
		t.Fatal(err)
	}
	for range 3 { // of the first delivery no mark is left
		crash(t, s, neighbors+1, nil)
	}
	if r, ok := deliveryRecordOf(t, b, neighbors+1); !ok || len(r.Marks) != 2 {
		t.Fatalf("after three deaths the killer has the record %+v", r)
	}

	// Now they are crash suspects: one at a time, and the fourth to die has only
	// the killer of them.
	var together, most atomic.Int64
	good := func(d *approval.Delivery) error {
		most.Store(max(most.Load(), together.Add(1)))
		defer together.Add(-1)
		if d.Attempt < 4 {
			t.Errorf("delivery %d, but three workers died", d.Attempt)
		}
		return nil
	}
	killed := make(chan struct{}, 1)
	fourth := startDoomed(t, s, nil, func(ctx context.Context, d *approval.Delivery) error {
		if d.Request.EventID != "killer" {
			return good(d)
		}
		together.Add(1)
		defer together.Add(-1)
		killed <- struct{}{}
		return blocked(ctx, d)
	})
	receive(t, killed)
	fourth.kill()

	last, log := newWatcher(), &safeBuffer{}
	fifth := connect(t, s, func(c *Config) { c.Observer = last; c.Log = zerolog.New(log) })
	consume(t, fifth, func(_ context.Context, d *approval.Delivery) error {
		if d.Request.EventID == "killer" {
			t.Error("the killer is handled a fifth time")
		}
		return good(d)
	})
	last.exactly(t, "dead poison", 1)
	eventually(t, "all neighbors are done", func() bool {
		return last.get("slots") == 0 && consumerInfo(t, fifth).NumAckPending == 0
	})
	for d, err := range fifth.DeadLetters(t.Context()) {
		if err != nil || d.Reason != ReasonPoison || !strings.Contains(string(d.Body), "killer") || d.RequestID != connection("killer").ID ||
			!strings.Contains(d.Text, "3 worker processes") || !strings.Contains(d.Text, "replay") {
			t.Errorf("the dead letter is %+v, %v", d, err)
		}
	}
	if most.Load() > 1 {
		t.Errorf("%d suspects were handled together", most.Load())
	}
	if err := fifth.Submit(t.Context(), connection("killer")); !isPoison(err) {
		t.Errorf("the killer is submitted again: %v", err)
	}
	eventually(t, "no mark is left", func() bool {
		kv, err := fifth.Bucket(t.Context())
		if err != nil {
			return false
		}
		bucket, err := kv.Status(t.Context())
		return err == nil && bucket.Values() == 1 // the poison record
	})
}

// TestTwoKillsDoNotSlowGoodRequests has 256 good requests in flight when two
// workers are killed: afterwards they are handled together as if nothing had been.
func TestTwoKillsDoNotSlowGoodRequests(t *testing.T) {
	t.Parallel()
	const requests = 256
	s := natstest.Start(t)
	edit := func(c *Config) { c.Slots = requests; c.AckWait = 3 * time.Second }
	b := connect(t, s, edit)
	for i := range requests {
		if err := b.Submit(t.Context(), connection(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	crash(t, s, requests, edit)
	crash(t, s, requests, edit)
	seen := newWatcher()
	b = connect(t, s, func(c *Config) { edit(c); c.Observer = seen })
	var together, most atomic.Int64
	all := make(chan struct{})
	consume(t, b, func(ctx context.Context, _ *approval.Delivery) error {
		if n := together.Add(1); n == requests {
			close(all)
		} else {
			most.Store(max(most.Load(), n))
		}
		select { // one at a time, and nobody would ever go on
		case <-all:
		case <-ctx.Done():
		}
		return nil
	})
	select {
	case <-all:
	case <-time.After(natstest.Hang):
		t.Fatalf("%d requests are handled together, want %d", most.Load(), requests)
	}
	eventually(t, "all are done", func() bool { return consumerInfo(t, b).AckFloor.Stream == requests })
	eventually(t, "no record is left", func() bool { return nothingRecorded(t, b) })
	if n := seen.get("back retry"); n > 0 {
		t.Logf("%d were given back while a worker could not be judged", n)
	}
}

// TestSuspectsDoNotBlockOthers: suspects wait for one another without a slot.
func TestSuspectsDoNotBlockOthers(t *testing.T) {
	t.Parallel()
	const suspects, slots = 6, 2
	s := natstest.Start(t)
	many := func(c *Config) { c.Slots = suspects }
	b := connect(t, s, many)
	for i := range suspects {
		if err := b.Submit(t.Context(), connection(fmt.Sprint("suspect ", i))); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		crash(t, s, suspects, many)
	}
	seen := newWatcher()
	b = connect(t, s, func(c *Config) { c.Slots = slots; c.Observer = seen })
	began, release := make(chan struct{}, suspects), make(chan struct{})
	var together, others atomic.Int64
	consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		if !strings.HasPrefix(d.Request.EventID, "suspect") {
			others.Add(1)
			return nil
		}
		if together.Add(1) > 1 {
			t.Error("two suspects are handled together")
		}
		defer together.Add(-1)
		began <- struct{}{}
		<-release
		return nil
	})
	receive(t, began)
	const good = 20
	for i := range good {
		if err := b.Submit(t.Context(), connection(fmt.Sprint("other ", i))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the others are done while a suspect is handled", func() bool { return others.Load() == good })
	close(release)
	eventually(t, "the suspects are done, too", func() bool { return consumerInfo(t, b).AckFloor.Stream == suspects+good })
	if seen.get("dead poison") != 0 {
		t.Error("a good request is a dead letter")
	}
}

// TestASuspectThatSurvivedIsNotIsolatedAgain: a suspect that waits for long is
// isolated once.
func TestASuspectThatSurvivedIsNotIsolatedAgain(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := connect(t, s, nil)
	for _, id := range []string{"waits", "also waits"} {
		if err := b.Submit(t.Context(), connection(id)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		crash(t, s, 2, nil)
	}
	var mu sync.Mutex
	survived, both := map[string]bool{}, make(chan struct{})
	var again atomic.Int64
	consume(t, b, func(ctx context.Context, d *approval.Delivery) error {
		mu.Lock()
		first := !survived[d.Request.EventID]
		survived[d.Request.EventID] = true
		mu.Unlock()
		if first {
			return later{after: 10 * time.Millisecond}
		}
		if again.Add(1) == 2 {
			close(both)
		}
		select {
		case <-both:
		case <-ctx.Done():
			t.Error("one is held up by the other")
		}
		return nil
	})
	eventually(t, "both are done", func() bool { return consumerInfo(t, b).AckFloor.Stream == 2 })
}

// TestFirstDeliveriesWriteNothing, and whatever is delivered again leaves nothing.
func TestFirstDeliveriesWriteNothing(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	written := func() uint64 {
		st, err := b.js.Stream(t.Context(), bucketStream)
		if err != nil {
			t.Fatal(err)
		}
		return st.CachedInfo().State.LastSeq
	}
	handling := func(id string, attempt int) error {
		switch {
		case id == "again" && attempt < 4:
			return later{after: 10 * time.Millisecond}
		case id == "panics" && attempt < 3:
			panic("boom")
		case id == "rejected" && attempt < 2:
			return errors.New("not yet")
		case id == "rejected":
			return invalid(ReasonIDReused, "id", "x")
		}
		return nil
	}
	ids := []string{"done", "again", "panics", "rejected"}
	consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		r, ok := deliveryRecordOf(t, b, uint64(slices.Index(ids, d.Request.EventID))+1)
		if marked := ok && len(r.Marks) > 0; marked != (d.Attempt > 1) {
			t.Errorf("%s, delivery %d: marked %t", d.Request.EventID, d.Attempt, marked)
		}
		return handling(d.Request.EventID, d.Attempt)
	})
	for i, id := range ids {
		if err := b.Submit(t.Context(), connection(id)); err != nil {
			t.Fatal(err)
		}
		eventually(t, id+" is done", func() bool { return consumerInfo(t, b).AckFloor.Stream == uint64(i)+1 })
		if n := written(); i == 0 && n != 0 {
			t.Errorf("a first delivery wrote %d values", n)
		}
	}
	eventually(t, "no mark is left", func() bool { return nothingRecorded(t, b) })
	if written() == 0 {
		t.Error("nothing was ever marked")
	}
}

// TestLostDeliveriesAreNoStrikes lets deliveries vanish that nobody handled.
func TestLostDeliveriesAreNoStrikes(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.AckWait = time.Second; c.Observer = seen })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	consumer, err := b.js.Consumer(t.Context(), RequestsStream, ConsumerName)
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if _, err := consumer.Next(jetstream.FetchMaxWait(natstest.Hang)); err != nil {
			t.Fatal(err)
		}
	}
	consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		if d.Attempt < 7 {
			t.Errorf("delivery %d, want the seventh", d.Attempt)
		}
		return nil
	})
	eventually(t, "it is done", func() bool { return consumerInfo(t, b).AckFloor.Stream == 1 })
	if seen.get("dead poison") != 0 || seen.get("back retry") != 0 {
		t.Errorf("it was not simply handled: %v", seen.counts)
	}
}

// TestAStreamMadeAgainForgetsTheOldRecords reuses a sequence, and finds a record
// that cannot be read.
func TestAStreamMadeAgainForgetsTheOldRecords(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"of an older message": `{"v":1,"StoredAt":"2020-01-01T00:00:00Z","Panics":7}`,
		"of another format":   `{"v":99,"Panics":7}`,
		"damaged":             `{`,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, seen := natstest.Start(t), newWatcher()
			b := connect(t, s, func(c *Config) { c.Observer = seen })
			kv, err := b.Bucket(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := kv.Put(t.Context(), "delivery.1", []byte(text)); err != nil {
				t.Fatal(err)
			}
			if err := b.Submit(t.Context(), connection("1")); err != nil {
				t.Fatal(err)
			}
			consume(t, b, func(_ context.Context, d *approval.Delivery) error {
				if d.Attempt == 1 {
					return later{after: 10 * time.Millisecond}
				}
				return nil
			})
			eventually(t, "it is done", func() bool { return consumerInfo(t, b).AckFloor.Stream == 1 })
			if seen.get("delivered connection") != 2 || seen.get("dead poison") != 0 {
				t.Errorf("it was not handled twice: %v", seen.counts)
			}
		})
	}
}

// TestWithoutItsMarkNothingIsHandled has a bucket that takes no marks, as one
// without room: what comes again waits, and is no poison however often it comes.
func TestWithoutItsMarkNothingIsHandled(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	limit := func(bytes int64) {
		bucket, err := b.js.Stream(t.Context(), bucketStream)
		if err != nil {
			t.Fatal(err)
		}
		cfg := bucket.CachedInfo().Config
		cfg.MaxBytes = bytes
		if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	limit(1)
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	var handled atomic.Int64
	consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		handled.Add(1)
		if d.Attempt == 1 {
			return later{after: 10 * time.Millisecond}
		}
		return nil
	})
	seen.atLeast(t, "back retry", 3)
	if n := handled.Load(); n != 1 {
		t.Errorf("handled %d times, although only the first needs no mark", n)
	}
	limit(-1)
	eventually(t, "it is done", func() bool { return consumerInfo(t, b).AckFloor.Stream == 1 })
	eventually(t, "no record is left", func() bool { return nothingRecorded(t, b) })
	if seen.get("dead poison") != 0 {
		t.Error("it became a dead letter")
	}
}

// TestAMarkThatCouldNotBeRemoved is removed later, and is no strike meanwhile.
func TestAMarkThatCouldNotBeRemoved(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	limit := func(bytes int64) {
		bucket, err := b.js.Stream(t.Context(), bucketStream)
		if err != nil {
			t.Error(err)
			return
		}
		cfg := bucket.CachedInfo().Config
		cfg.MaxBytes = bytes
		if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Error(err)
		}
	}
	consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		switch d.Attempt {
		case 1:
			return later{after: 10 * time.Millisecond}
		case 2:
			limit(1)
			return later{after: time.Hour}
		}
		return nil
	})
	seen.atLeast(t, "back retry", 2)
	if r, ok := deliveryRecordOf(t, b, 1); !ok || len(r.Marks) != 1 {
		t.Fatalf("the record is %+v, %t", r, ok)
	}
	limit(-1)
	eventually(t, "the mark is removed with a later heartbeat", func() bool { return nothingRecorded(t, b) })
}

// TestAWorkerThatIsBackRemovesItsStrike cuts a worker off while it handles, in
// isolation, what two others have died of. The message is good. The others take
// the worker for dead, and it is back before the message becomes a dead letter.
func TestAWorkerThatIsBackRemovesItsStrike(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		within bool // the handler returns before the connection is back
		result error
	}{
		{"it could not acknowledge", true, nil},
		{"it could not give back", true, later{after: 10 * time.Millisecond}},
		{"it still handles", false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			wire, seen, seenOther, log := proxytest.New(t, strings.TrimPrefix(s.URL, "nats://")), newWatcher(), newWatcher(), &safeBuffer{}
			wait := func(c *Config) { c.AckWait = 3 * time.Second }
			other := connect(t, s, func(c *Config) { wait(c); c.Observer = seenOther; c.Log = zerolog.New(log) })
			if err := other.Submit(t.Context(), connection("1")); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				crash(t, s, 1, wait)
			}
			a := connect(t, s, func(c *Config) { wait(c); c.Observer = seen; c.URL = "nats://" + wire.Addr() })
			release := make(chan struct{})
			var handled atomic.Int64
			consume(t, a, func(context.Context, *approval.Delivery) error {
				if handled.Add(1) > 1 {
					return nil
				}
				<-release
				return tt.result
			})
			seen.exactly(t, "delivered connection", 1)
			wire.Cut()
			if tt.within {
				close(release)
			}
			consume(t, other, done)
			eventually(t, "the other takes it for poison", func() bool { return strings.Contains(log.String(), "dead_letter_after") })
			if got := seenOther.get("delivered connection"); got != 0 {
				t.Fatalf("the other handled it %d times", got)
			}
			wire.Heal()
			if !tt.within {
				eventually(t, "the strike is one no more", func() bool {
					r, ok := deliveryRecordOf(t, other, 1)
					return ok && r.Strikes() < poisonAt
				})
				close(release)
			}
			eventually(t, "it is done", func() bool { return consumerInfo(t, other).AckFloor.Stream == 1 })
			if n := seen.get("dead poison") + seenOther.get("dead poison"); n != 0 {
				t.Error("a good request became a dead letter")
			}
			eventually(t, "no record of it is left", func() bool { return nothingRecorded(t, other) })
		})
	}
}

// TestABrokerThatForgotAnAck comes back without the last acknowledgement, as one
// does that was killed: no worker crashed by the message that it delivers again.
func TestABrokerThatForgotAnAck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, seen, log := natstest.StartWith(t, broker.Options{Dir: dir}), newWatcher(), &safeBuffer{}
	b := connect(t, s, func(c *Config) {
		c.Observer, c.AckWait, c.Log = seen, 2*time.Second, zerolog.New(log)
	})
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	var again atomic.Bool
	proceed := make(chan struct{})
	stop := consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		if again.Load() {
			return nil
		}
		if d.Attempt <= poisonAt {
			return later{after: 10 * time.Millisecond}
		}
		<-proceed
		return nil
	})
	seen.exactly(t, "delivered connection", poisonAt+1)
	acked := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		info, err := b.consumerInfo(ctx)
		return err == nil && info.AckFloor.Stream == 1
	}
	state := filepath.Join(dir, "jetstream", "$G", "streams", RequestsStream, "obs", ConsumerName, "o.dat")
	s.Stop()
	before, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	again.Store(true)
	close(proceed)
	eventually(t, "it is done", acked)
	s.Stop()
	if err := os.WriteFile(state, before, 0o600); err != nil {
		t.Fatal(err)
	}
	handled := seen.get("delivered connection")
	s.Start()
	seen.atLeast(t, "delivered connection", handled+1)
	eventually(t, "it is done again", acked)
	eventually(t, "its record goes", func() bool { return nothingRecorded(t, b) })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "suspected") || seen.get("dead poison") != 0 {
		t.Errorf("it became a suspect:\n%s", log)
	}
}
