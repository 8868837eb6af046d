package events

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/proxytest"
)

func workersOf(t *testing.T, b *Bus) []approval.WorkerStatus {
	t.Helper()
	all, err := ledger.NewWorkers(b).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWorkersSayWhatTheyDo(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	swept := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	b := connect(t, s, func(c *Config) {
		c.Observer, c.ShutdownGrace, c.AckWait = seen, 20*time.Second, 20*time.Second
		c.Describe = func(s *approval.WorkerStatus) { s.PolicyDigest, s.LastSweep = "sha256:x", swept }
	})
	if all := workersOf(t, b); len(all) != 0 {
		t.Errorf("before any has run: %+v", all)
	}
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	stop := consume(t, b, func(context.Context, *approval.Delivery) error {
		<-release
		return nil
	})
	eventually(t, "the request in flight is told", func() bool {
		all := workersOf(t, b)
		return len(all) == 1 && all[0].InFlight == 1
	})
	got := workersOf(t, b)[0]
	if got.Instance == "" || got.Host == "" || got.Version != "test" || got.State != approval.WorkerRunning || len(got.Targets) != len(targets()) ||
		got.StartedAt.IsZero() || got.SentAt.Before(got.StartedAt) || got.PolicyDigest != "sha256:x" || !got.LastSweep.Equal(swept) {
		t.Errorf("the heartbeat is %+v", got)
	}
	connect(t, s, func(c *Config) { c.Name, c.AckWait = "another", 20*time.Second }) // only who consumes is a worker
	if n := len(workersOf(t, b)); n != 1 {
		t.Errorf("%d workers, want 1", n)
	}
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	eventually(t, "it says that it stops", func() bool {
		all := workersOf(t, b)
		return len(all) == 1 && all[0].State == approval.WorkerStopping
	})
	close(release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	// A busy broker may answer the last heartbeat too late; then its age ends it.
	eventually(t, "it is listed no more", func() bool { return len(workersOf(t, b)) == 0 })
}

// TestEachLiveWorkerIsListed while all of them send heartbeats. A pause that misses one
// would say that all have seen it.
func TestEachLiveWorkerIsListed(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), func(c *Config) { c.AckWait = 5 * time.Minute })
	if err := b.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	workers := ledger.NewWorkers(b)
	var senders sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer senders.Wait()
	defer stop()
	const live = 3
	for i := range live {
		s := approval.WorkerStatus{Instance: fmt.Sprint("W", i), State: approval.WorkerRunning}
		last, err := workers.Store(ctx, s, 0)
		if err != nil {
			t.Fatal(err)
		}
		senders.Go(func() {
			for err == nil {
				last, err = workers.Store(ctx, s, last)
			}
			if ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	for range 300 {
		if n := len(workersOf(t, b)); n != live {
			t.Fatalf("%d workers are listed, want %d", n, live)
		}
	}
}

// TestAWorkerThatDiesIsListedNoMore after its time to live.
func TestAWorkerThatDiesIsListedNoMore(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := connect(t, s, nil)
	d := startDoomed(t, s, nil, blocked)
	eventually(t, "it is listed", func() bool { return len(workersOf(t, b)) == 1 })
	d.kill()
	died := time.Now()
	eventually(t, "it is listed no more", func() bool { return len(workersOf(t, b)) == 0 })
	if took := time.Since(died); took > 20*time.Second {
		t.Errorf("it was listed for %s after its death", took)
	}
}

// TestWithoutHeartbeatsNoNewWorkIsTaken: the bucket takes none, while all else
// works. It is said once.
func TestWithoutHeartbeatsNoNewWorkIsTaken(t *testing.T) {
	t.Parallel()
	s, seen, log := natstest.Start(t), newWatcher(), &safeBuffer{}
	b := connect(t, s, func(c *Config) { c.Observer, c.Log = seen, zerolog.New(log) })
	consume(t, b, done)
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	seen.exactly(t, "delivered connection", 1)
	limit := func(bytes int32) {
		bucket, err := b.js.Stream(t.Context(), "KV_"+WorkersBucket)
		if err != nil {
			t.Fatal(err)
		}
		cfg := bucket.CachedInfo().Config
		cfg.MaxMsgSize = bytes
		if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	limit(1)
	eventually(t, "it is not ready", func() bool { return b.Ready() != nil })
	eventually(t, "it is said", func() bool { return strings.Contains(log.String(), "taking no new requests") })
	if err := b.Submit(t.Context(), connection("2")); err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * b.cfg.heartbeatTTL())
	if n := seen.get("delivered connection"); n != 1 {
		t.Errorf("%d requests were taken, want 1", n)
	}
	if n := strings.Count(log.String(), "taking no new requests"); n != 1 {
		t.Errorf("it was said %d times, want once:\n%s", n, log)
	}
	if !b.Alive() {
		t.Error("not alive: a restart would not help")
	}
	limit(-1)
	seen.exactly(t, "delivered connection", 2)
	if err := b.Ready(); err != nil {
		t.Errorf("with heartbeats again: %v", err)
	}
}

// TestALateHeartbeatRevivesNobody cuts a worker off for longer than its time to
// live, so that another declares it dead. It goes on as a new instance.
func TestALateHeartbeatRevivesNobody(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	wire := proxytest.New(t, strings.TrimPrefix(s.URL, "nats://"))
	b := connect(t, s, nil)
	a := connect(t, s, func(c *Config) { c.URL = "nats://" + wire.Addr() })
	consume(t, a, done)
	// instance waits for it, which may lapse at any time while the machine is busy.
	instance := func(what string) (id string) {
		eventually(t, what, func() bool {
			all := workersOf(t, b)
			if len(all) != 1 || a.Ready() != nil {
				return false
			}
			id = all[0].Instance
			return true
		})
		return id
	}
	before := instance("it is listed")
	for _, fault := range []func(){wire.Cut, func() { wire.Hold(proxytest.Up) }, func() { wire.Hold(proxytest.Up, proxytest.Down) }} {
		fault()
		workers := ledger.NewWorkers(b)
		eventually(t, "it is declared dead", func() bool {
			is, err := workers.CheckLiveness(t.Context(), before, 1<<60)
			return err == nil && is == approval.InstanceDead
		})
		wire.Heal()
		after := instance("it is back")
		if after == before {
			t.Errorf("the dead instance %s was revived", before)
		}
		before = after
	}
}

// fakeHeartbeats answers as it is told.
type fakeHeartbeats struct {
	mu       sync.Mutex
	revision uint64
	err      error
	is       approval.Liveness
	since    []uint64 // of each look
}

func (f *fakeHeartbeats) Store(context.Context, approval.WorkerStatus, uint64) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	f.revision++
	return f.revision, nil
}

func (f *fakeHeartbeats) CheckLiveness(_ context.Context, _ string, since uint64) (approval.Liveness, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since = append(f.since, since)
	return f.is, nil
}

// TestAFirstHeartbeatWithoutAnAnswer: it may be stored, and the instance declared dead
// and forgotten since.
func TestAFirstHeartbeatWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeHeartbeats{err: context.DeadlineExceeded}
		p := newPresence(f, Config{AckWait: 10 * time.Second})
		send := func() string {
			_, _ = p.send(t.Context(), func(*approval.WorkerStatus) {})
			return p.instance()
		}
		first := send()
		<-time.After(p.ttl - time.Nanosecond)
		if again := send(); again != first {
			t.Errorf("%s became %s before anybody could declare it dead", first, again)
		}
		<-time.After(time.Nanosecond)
		f.err = nil
		second := send()
		if second == first {
			t.Errorf("%s goes on, a time to live after its first heartbeat", first)
		}
		<-time.After(2 * p.ttl)
		if again := send(); again != second { // the store compares revisions
			t.Errorf("%s, whose heartbeat was acknowledged, became %s", second, again)
		}
	})
}

// TestNothingIsJudgedTooSoon: not within one time to live after the first
// heartbeat, after a connection, and after heartbeats that were missed.
func TestNothingIsJudgedTooSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeHeartbeats{is: approval.InstanceDead}
		p := newPresence(f, Config{AckWait: 10 * time.Second})
		ttl, nothing := p.ttl, func(*approval.WorkerStatus) {}
		others := 0
		judge := func() approval.Liveness {
			t.Helper()
			others++ // what is dead stays dead without a look
			is, wait, err := p.checkLiveness(t.Context(), string(rune('a'+others)))
			if err != nil || is == approval.InstanceUnknown && (wait <= 0 || wait > ttl) {
				t.Errorf("judged %d, to be asked again after %s, %v", is, wait, err)
			}
			return is
		}
		// beats sends heartbeats for d, and returns when the first judgment was made.
		beats := func(d time.Duration) time.Duration {
			t.Helper()
			first := time.Duration(-1)
			for passed := time.Duration(0); passed <= d; passed += ttl / 3 {
				if _, err := p.send(t.Context(), nothing); err != nil {
					t.Fatal(err)
				}
				if first < 0 && judge() == approval.InstanceDead {
					first = passed
				}
				<-time.After(ttl / 3)
			}
			return first
		}
		if is := judge(); is != approval.InstanceUnknown {
			t.Errorf("before any heartbeat: %d", is)
		}
		if at := beats(2 * ttl); at < ttl {
			t.Errorf("judged %s after the first heartbeat, want %s", at, ttl)
		}
		p.reconnected()
		if at := beats(2 * ttl); at < ttl {
			t.Errorf("judged %s after a connection, want %s", at, ttl)
		}
		f.err = context.DeadlineExceeded
		for range 2 {
			_, _ = p.send(t.Context(), nothing)
			<-time.After(ttl / 3)
		}
		if is := judge(); is != approval.InstanceUnknown {
			t.Errorf("after missed heartbeats: %d", is)
		}
		f.err = nil
		if at := beats(2 * ttl); at < ttl {
			t.Errorf("judged %s after a gap, want %s", at, ttl)
		}
		if p.lapsed() {
			t.Error("lapsed, with heartbeats")
		}
		<-time.After(ttl)
		if !p.lapsed() {
			t.Error("not lapsed, a time to live after the last heartbeat")
		}
		f.err = approval.ErrInstanceDead
		before := p.instance()
		if former, err := p.send(t.Context(), nothing); former != before || err == nil || p.instance() == before || !p.isOwn(before) || p.isOwn("b") {
			t.Errorf("declared dead: former %q, now %q, %v", former, p.instance(), err)
		}
		// Who lives has sent a heartbeat after one of ours that is two thirds old.
		for _, since := range f.since {
			if since == 0 {
				t.Error("another was judged without a heartbeat of our own to compare with")
			}
		}
	})
}
