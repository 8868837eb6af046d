package events

import (
	"context"
	"errors"
	"flag"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

func TestMain(m *testing.M) {
	// They wait for the broker's clock most of the time.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		// The embedded server leaves workers that wait for their next item.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*ipQueue).pop"),
		// It waits for the answer of a stream that it copies, for some seconds after its end.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).setupMirrorConsumer.func3"),
	)
}

const (
	endpoint = "705290f3-0d00-41f2-aedc-71f09844e879"
	service  = "4189d3c2-8882-4871-a3c2-d380272eed88"
	gateway  = "eddc4d25480b4cd6b512f270a1b8b341"
)

func targets() approval.Targets {
	return approval.Targets{
		{Name: "payments", Kind: approval.Service, ID: service},
		{Name: "orders", Kind: approval.Gateway, ID: gateway, ServiceID: service},
		{Name: "functions", Kind: approval.FunctionGraph},
		{Name: "hosts", Kind: approval.HSS},
		{Name: "insight", Kind: approval.DataArtsInsight, WorkspaceID: "w"},
	}
}

// connection is a request for the endpoint.
func connection(eventID string) approval.Request {
	return approval.Request{
		ID: approval.RequestID("test", eventID), Source: "test", EventID: eventID,
		Target: targets()[0], EndpointID: endpoint, Claims: approval.Claims{"domain_id": "d"},
	}
}

// watcher is an Observer that tests wait on.
type watcher struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each event
	counts  map[string]int
}

func newWatcher() *watcher {
	return &watcher{changed: make(chan struct{}), counts: map[string]int{}}
}

func (w *watcher) add(name string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[name] += n
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watcher) set(name string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[name] = n
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watcher) Delivered(kind string)       { w.add("delivered "+kind, 1) }
func (w *watcher) DeadLettered(reason string)  { w.add("dead "+reason, 1) }
func (w *watcher) BusConnected(up bool)        { w.set("connected", truth(up)) }
func (w *watcher) BusReconnected()             { w.add("reconnected", 1) }
func (w *watcher) ConsumerBound(up bool)       { w.set("bound", truth(up)) }
func (w *watcher) ResultPublished(what string) { w.add("published "+what, 1) }
func (w *watcher) SlotsInUse(delta int)        { w.add("slots", delta) }
func (w *watcher) GivenBack(cause string)      { w.add("back "+cause, 1) }

func (w *watcher) Backlog(pending, ackPending, redelivered int) {
	w.set("pending", pending)
	w.set("ack pending", ackPending)
	w.set("redelivered", redelivered)
	w.add("backlog", 1)
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (w *watcher) get(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[name]
}

// until waits until ok of the counts, and fails the test after a while.
func (w *watcher) until(t testing.TB, what string, ok func(counts map[string]int) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Hang)
	defer cancel()
	for {
		w.mu.Lock()
		good, changed := ok(w.counts), w.changed
		w.mu.Unlock()
		if good {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("waited in vain until %s; counts are %v", what, w.counts)
		}
	}
}

func (w *watcher) atLeast(t testing.TB, name string, n int) {
	t.Helper()
	w.until(t, name+" is large enough", func(c map[string]int) bool { return c[name] >= n })
}

func (w *watcher) exactly(t testing.TB, name string, n int) {
	t.Helper()
	w.until(t, name+" is as wanted", func(c map[string]int) bool { return c[name] == n })
}

// eventually waits until ok, which it asks again and again, and fails the test
// after a while.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(natstest.Hang); !ok(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// withLedger keeps the records as the worker does.
func withLedger(b *Bus) (CrashRecords, Heartbeats) {
	return ledger.NewDeliveries(b), ledger.NewWorkers(b)
}

// testConfig is a configuration with short times.
func testConfig(s *natstest.Server, edit func(*Config)) Config {
	cfg := Config{
		URL: s.URL, Create: true, Targets: targets(), Log: zerolog.Nop(), Version: "test",
		AckWait: time.Second, ShutdownGrace: time.Second, ReconnectWait: 20 * time.Millisecond, Slots: 8,
		Ledger: withLedger,
	}
	if edit != nil {
		edit(&cfg)
	}
	return cfg
}

// connect returns a Bus that is set up and ends with the test.
func connect(t testing.TB, s *natstest.Server, edit func(*Config)) *Bus {
	t.Helper()
	b, err := Connect(t.Context(), testConfig(s, edit))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if err := b.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// consume runs Consume in the background; the returned function ends it and
// returns what it returned.
func consume(t testing.TB, b *Bus, handle Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Consume(ctx, handle) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-ended
		})
		return err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("Consume: %v", err)
		}
	})
	return stop
}

func consumerInfo(t testing.TB, b *Bus) *jetstream.ConsumerInfo {
	t.Helper()
	info, err := b.consumerInfo(t.Context())
	if err != nil || info == nil {
		t.Fatalf("look at the consumer: %v, %v", info, err)
	}
	return info
}

// acknowledged waits until the server has counted all acknowledgements, which it does some
// time after it got them, and returns what it says of the consumer then.
func acknowledged(t testing.TB, b *Bus) (info *jetstream.ConsumerInfo) {
	t.Helper()
	eventually(t, "all is acknowledged", func() bool {
		info = consumerInfo(t, b)
		return info.NumAckPending == 0
	})
	return info
}
