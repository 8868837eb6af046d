package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

// fakeBus takes what the sweep submits, each request once, as the bus does.
type fakeBus struct {
	mu      sync.Mutex
	fail    error
	got     map[string]approval.Request
	waiting time.Time
}

func (f *fakeBus) Waiting(context.Context) (time.Time, error) { return f.waiting, nil }

func (f *fakeBus) Submit(_ context.Context, r approval.Request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.got[r.ID] = r
	return nil
}

func (b *bench) sweep(bus *fakeBus) *Sweep {
	return &Sweep{
		Cloud: b.cloud, Locks: b.ledger, Results: b.results, Reviews: b.ledger, Requests: bus, Policy: policyFunc(func(in *approval.Input) approval.Decision { return b.Policy.Evaluate(in) }),
		Metrics: b.Metrics, Log: zerolog.Nop(), Now: time.Now, Targets: b.Targets, Interval: 5 * time.Minute, InstanceID: "a",
	}
}

// TestTheSweep: what is submitted after a history, and how it then ends.
func TestTheSweep(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		history func(t *testing.T, b *bench)
		verdict approval.Verdict // when the sweep comes
		want    bool
		outcome approval.Outcome
	}{
		{"no event came", func(*testing.T, *bench) {}, approval.Accept, true, approval.OutcomeAccepted},
		{"held, and the policies say the same", func(t *testing.T, b *bench) {
			b.Policy = always(approval.Hold)
			b.deliver(t, connection("1"), 9)
		}, approval.Hold, false, ""},
		{"held, and the policies have changed", func(t *testing.T, b *bench) {
			b.Policy = always(approval.Hold)
			b.deliver(t, connection("1"), 9)
		}, approval.Accept, true, approval.OutcomeAccepted},
		{"ignored, and the policies have changed", func(t *testing.T, b *bench) {
			b.Policy = always(approval.Ignore)
			b.deliver(t, connection("1"), 9)
		}, approval.Reject, true, approval.OutcomeRejected},
		{"under way", func(t *testing.T, b *bench) {
			b.Policy = always(approval.Accept)
			b.cloud.stay = true
			if err := b.Handle(t.Context(), new(connection("1"))); err == nil {
				t.Fatal("want it under way")
			}
		}, approval.Accept, false, ""},
		{"decided long ago and its event was lost", func(t *testing.T, b *bench) {
			b.Policy = always(approval.Accept)
			if _, _, err := ledgertest.Record(t.Context(), b.ledger, new(connection("1").Request), new(b.Policy.Evaluate(&approval.Input{Facts: b.cloud.facts[endpoint], Now: time.Now()}))); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Hour)
		}, approval.Accept, true, approval.OutcomeAccepted},
		{"decided long ago, its event was lost, and the policies have changed", func(t *testing.T, b *bench) {
			b.Policy = always(approval.Accept)
			if _, _, err := ledgertest.Record(t.Context(), b.ledger, new(connection("1").Request), new(b.Policy.Evaluate(&approval.Input{Facts: b.cloud.facts[endpoint], Now: time.Now()}))); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Hour)
		}, approval.Reject, true, approval.OutcomeHeld},
		{"failed just now", failed(0), approval.Accept, false, ""},
		{"failed long ago", failed(2 * time.Hour), approval.Accept, true, approval.OutcomeAccepted},
		{"too young: its event is on the way", func(_ *testing.T, b *bench) {
			f := b.cloud.facts[endpoint]
			f.CreatedAt = time.Now()
			b.cloud.facts[endpoint] = f
		}, approval.Accept, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, newFakeCloud(approval.Pending), nil)
				tt.history(t, b)
				b.cloud.stay = false
				b.Policy = always(tt.verdict)
				bus := &fakeBus{got: map[string]approval.Request{}}
				sweep := b.sweep(bus)
				for range 3 { // the same finding is the same request
					if err := sweep.Once(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if len(bus.got) > 1 || (len(bus.got) == 1) != tt.want {
					t.Fatalf("submitted %v, want one request: %v", bus.got, tt.want)
				}
				for id, r := range bus.got {
					if id != approval.RequestID(r.Source, r.EventID) {
						t.Errorf("request id %s does not follow from its event", id)
					}
					res, _ := b.deliver(t, approval.Delivery{Request: r, Attempt: 1, PublishedAt: time.Now()}, 9)
					if res.Outcome != tt.outcome {
						t.Errorf("it ended %s, want %s", res.Outcome, tt.outcome)
					}
				}
			})
		})
	}
}

func failed(ago time.Duration) func(t *testing.T, b *bench) {
	return func(t *testing.T, b *bench) {
		b.Policy = always(approval.Accept)
		b.cloud.fail = func(op string, _ bool) error {
			if op == "act" {
				return cloudError{}
			}
			return nil
		}
		b.deliver(t, connection("1"), 9)
		b.cloud.fail = nil
		<-time.After(ago)
	}
}

// TestOneReplicaSweeps: the lease lets one look, and passes on when it is gone.
func TestOneReplicaSweeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
		bus := &fakeBus{got: map[string]approval.Request{}}
		first, second := b.sweep(bus), b.sweep(bus)
		second.InstanceID = "b"
		if err := first.Once(t.Context()); err != nil || len(bus.got) != 1 {
			t.Fatalf("the first found %d (%v), want 1", len(bus.got), err)
		}
		clear(bus.got)
		if err := second.Once(t.Context()); err != nil || len(bus.got) != 0 {
			t.Errorf("the second found %d (%v) while the first has the lease, want 0", len(bus.got), err)
		}
		<-time.After(first.Interval)
		if err := second.Once(t.Context()); err != nil || len(bus.got) != 1 {
			t.Errorf("the second found %d (%v) after the lease, want 1", len(bus.got), err)
		}
	})
}

// TestASweepThatFails: it tells, and it comes again.
func TestASweepThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
		bus := &fakeBus{got: map[string]approval.Request{}, fail: errors.New("the stream is full")}
		sweep := b.sweep(bus)
		if err := sweep.Once(t.Context()); !errors.Is(err, bus.fail) {
			t.Errorf("Once = %v, want what failed", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { sweep.Run(ctx); close(done) }()
		synctest.Wait()
		bus.mu.Lock()
		bus.fail = nil
		bus.mu.Unlock()
		<-time.After(sweep.Interval + time.Second)
		cancel()
		<-done
		if len(bus.got) != 1 {
			t.Errorf("submitted %d after the stream had room, want 1", len(bus.got))
		}
	})
}

// TestTheSweepLeavesWhatIsHeldAtALimit: it is decided again when there is room,
// and not by every sweep in between.
func TestTheSweepLeavesWhatIsHeldAtALimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		other := "00000000-0000-0000-0000-000000000002"
		cloud.facts[other] = approval.Facts{EndpointID: other, DomainID: acme, State: approval.Accepted}
		b := newBench(t, cloud, limited(1))
		if res, _ := b.deliver(t, connection("1"), 9); res.Outcome != approval.OutcomeHeld {
			t.Fatalf("it ended %s, want held", res.Outcome)
		}
		bus := &fakeBus{got: map[string]approval.Request{}}
		sweep := b.sweep(bus)
		if err := sweep.Once(t.Context()); err != nil || len(bus.got) != 0 {
			t.Fatalf("submitted %v (%v) while the limit is reached", bus.got, err)
		}
		delete(cloud.facts, other)
		<-time.After(sweep.Interval)
		if err := sweep.Once(t.Context()); err != nil || len(bus.got) != 1 {
			t.Errorf("submitted %v (%v) with room for one more, want it", bus.got, err)
		}
	})
}

// TestTheSweepDoesNotPileUpRequests: of what is submitted again and again, and
// comes to nothing, there are fewer and fewer.
func TestTheSweepDoesNotPileUpRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
		bus := &fakeBus{got: map[string]approval.Request{}}
		sweep := b.sweep(bus)
		submits, second := 0, 0
		for n := range 24 * 12 { // a day
			clear(bus.got)
			if err := sweep.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			if submits += len(bus.got); submits == 2 && second == 0 {
				second = n
			}
			<-time.After(sweep.Interval)
		}
		if second != 1 || submits < 8 || submits > 12 {
			t.Errorf("submitted %d times in a day, the second time by sweep %d; want about ten, and the second immediately", submits, second)
		}
		if len(sweep.submitted) != 1 {
			t.Errorf("the sweep remembers %d requests, want the one that is pending", len(sweep.submitted))
		}
	})
}

// TestTheSweepGoesOnPastWhatCannotBeHandedIn: events that are no good keep no
// other connection from being found.
func TestTheSweepGoesOnPastWhatCannotBeHandedIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		for n := range 50 {
			id := fmt.Sprintf("00000000-0000-0000-0000-%012d", n)
			cloud.facts[id] = approval.Facts{EndpointID: id, DomainID: acme, State: approval.Pending}
		}
		b := newBench(t, cloud, always(approval.Accept))
		bus := &fakeBus{got: map[string]approval.Request{}}
		sweep := b.sweep(bus)
		sweep.Requests = pickyBus{bus}
		if err := sweep.Once(t.Context()); err == nil {
			t.Error("the sweep did not tell what it could not submit")
		}
		if len(bus.got) != 1 {
			t.Errorf("submitted %d, want the one that is good", len(bus.got))
		}
	})
}

// pickyBus takes requests for one endpoint only.
type pickyBus struct{ *fakeBus }

func (p pickyBus) Submit(ctx context.Context, r approval.Request) error {
	if r.EndpointID != endpoint {
		return cloudError{}
	}
	return p.fakeBus.Submit(ctx, r)
}

// poisonError is what the bus says of a request that is poison.
type poisonError struct{}

func (poisonError) Error() string { return "it crashed workers" }
func (poisonError) Poison() bool  { return true }

func TestTheSweepLeavesPoison(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
		bus := &fakeBus{got: map[string]approval.Request{}, fail: poisonError{}}
		sweep := b.sweep(bus)
		<-time.After(eventGrace)
		if err := sweep.Once(t.Context()); err != nil {
			t.Errorf("the sweep complains of what was given up: %v", err)
		}
		bus.fail = errors.New("asked too soon")
		<-time.After(maxResubmit / 2)
		if err := sweep.Once(t.Context()); err != nil {
			t.Errorf("the sweep asks for what was given up at every turn: %v", err)
		}
	})
}

// TestTheSweepKnowsThatEventsWait: a connection whose event may be in the queue
// is not submitted again; one that is older than the queue is. For one that is younger the
// ledger is not read.
func TestTheSweepKnowsThatEventsWait(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		created time.Duration // before the oldest event that waits
		want    int
	}{
		{"made after it", -time.Minute, 0},
		{"made when it was", 0, 0},
		{"made shortly before it", eventGrace - time.Second, 0},
		{"made long before it", eventGrace, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
				bus := &fakeBus{got: map[string]approval.Request{}, waiting: time.Now()}
				f := b.cloud.facts[endpoint]
				f.CreatedAt = bus.waiting.Add(-tt.created)
				b.cloud.facts[endpoint] = f
				<-time.After(time.Hour) // the queue is long
				sweep := b.sweep(bus)
				locks := &countedLocks{Locks: sweep.Locks}
				sweep.Locks = locks
				if err := sweep.Once(t.Context()); err != nil || len(bus.got) != tt.want {
					t.Errorf("submitted %d (%v), want %d", len(bus.got), err, tt.want)
				}
				if locks.read != (tt.created >= 0) {
					t.Errorf("the ledger was read: %t", locks.read)
				}
			})
		})
	}
}

// TestTheSweepOfAListThatMoves: what a list shows that changed while it was read is
// submitted, and nothing is concluded from what it does not show.
func TestTheSweepOfAListThatMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Hold))
		b.deliver(t, connection("1"), 9)
		<-time.After(time.Hour)
		cloud.set(func(f *approval.Facts) { f.State = approval.Accepted }) // so it is not listed
		const missed = "705290f3-0d00-41f2-aedc-71f09844e800"
		cloud.facts[missed] = approval.Facts{EndpointID: missed, DomainID: acme, State: approval.Pending, CreatedAt: time.Now().Add(-time.Hour)}
		bus := &fakeBus{got: map[string]approval.Request{}}
		sweep := b.sweep(bus)
		sweep.Cloud = movingLister{cloud}
		if err := sweep.Once(t.Context()); err == nil || !strings.Contains(err.Error(), "list pending connections: ") {
			t.Errorf("%v, want that the list is incomplete", err)
		}
		if len(bus.got) != 1 {
			t.Errorf("submitted %+v, want what no event reported", bus.got)
		}
		for _, r := range bus.got {
			if r.EndpointID != missed {
				t.Errorf("submitted %+v", r)
			}
		}
		sweep.Cloud = cloud
		<-time.After(time.Minute)
		if err := sweep.Once(t.Context()); err != nil || len(bus.got) != 2 {
			t.Errorf("submitted %+v (%v), want what was settled elsewhere, too", bus.got, err)
		}
	})
}

// movingLister reads lists that change meanwhile.
type movingLister struct{ *fakeCloud }

func (m movingLister) Pending(ctx context.Context, t approval.Target) ([]approval.Facts, error) {
	pending, _ := m.fakeCloud.Pending(ctx, t) // it cannot fail
	return pending, cloudError{retryable: true}
}

// countedLocks says whether a lock was read.
type countedLocks struct {
	Locks
	read bool
}

func (c *countedLocks) Lock(ctx context.Context, subject string) (approval.Lock, bool, error) {
	c.read = true
	return c.Locks.Lock(ctx, subject)
}
