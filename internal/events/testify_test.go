package events

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/proxytest"
)

// TestSurvivorIsHeard cuts a worker off while it handles, alone, what two others
// seem to have died of. The message is good. Another worker takes the first for
// dead, too, but does not bury the message, for the first speaks up in time.
func TestSurvivorIsHeard(t *testing.T) {
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
			wire, seen, seenOther := proxytest.New(t, strings.TrimPrefix(s.URL, "nats://")), newWatcher(), newWatcher()
			wait := func(c *Config) { c.AckWait = 2 * time.Second }
			other := connect(t, s, func(c *Config) { wait(c); c.Observer = seenOther })
			if err := other.Submit(t.Context(), connection("1")); err != nil {
				t.Fatal(err)
			}
			consumer, err := other.js.Consumer(t.Context(), RequestsStream, ConsumerName)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
			}

			a := connect(t, s, func(c *Config) { wait(c); c.Observer = seen; c.URL = "nats://" + wire.Addr(); c.Slots = 1 })
			release := make(chan struct{})
			consume(t, a, func(_ context.Context, d approval.Delivery) error {
				if d.Attempt != 3 {
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
			seenOther.exactly(t, "back retry", 1) // that is the doubt
			if got := seenOther.get("delivered connection"); got != 0 {
				t.Fatalf("the other handled it %d times", got)
			}
			if tt.within {
				seen.exactly(t, "slots", 0)
			}
			wire.Heal()
			if !tt.within {
				eventually(t, "it takes the doubt back", func() bool { return !isDoubted(t, other) })
				// So when it is cut off again, that is a new doubt.
				wire.Cut()
				seenOther.exactly(t, "back retry", 2)
				wire.Heal()
				eventually(t, "it takes that back, too", func() bool { return !isDoubted(t, other) })
				close(release)
			}
			eventually(t, "it is done", func() bool { return consumerInfo(t, other).AckFloor.Stream == 1 })
			if n := seen.get("dead poison") + seenOther.get("dead poison"); n != 0 {
				t.Error("a good request was buried")
			}
			eventually(t, "nothing of it is left in the ledger's bucket", func() bool { return nothingNoted(t, other) })
		})
	}
}

// nothingNoted reports whether the ledger's bucket is empty. It does not ask for
// keys, which the library may wait for for ever if one is removed meanwhile.
func nothingNoted(t *testing.T, b *Bus) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	kv, err := b.Bucket(ctx)
	if err != nil {
		return false
	}
	bucket, err := kv.Status(ctx)
	return err == nil && bucket.Values() == 0
}

// isDoubted reports whether a worker took another for dead that handled the first
// message alone.
func isDoubted(t *testing.T, b *Bus) bool {
	t.Helper()
	kv, err := b.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found, err := kv.Get(t.Context(), "delivery.1")
	if err != nil {
		t.Fatal(err)
	}
	var p history
	if err := json.Unmarshal(found.Value(), &p); err != nil {
		t.Fatal(err)
	}
	return p.Doubted != 0
}

// TestTestimonyIsForgotten: what a worker remembers of messages goes when they
// are done by others, also what it told too late.
func TestTestimonyIsForgotten(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := connect(t, s, nil)
	kv, err := b.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"1", "2"} {
		if err := b.Submit(t.Context(), connection(id)); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := b.js.Consumer(t.Context(), RequestsStream, ConsumerName)
	if err != nil {
		t.Fatal(err)
	}
	c := &consuming{
		Bus: b, handlers: t.Context(), hand: map[messageKey]*inHand{}, outlived: map[messageKey]testimony{},
		lookNow: make(chan struct{}, 1), testifyNow: make(chan struct{}, 1),
	}
	if err := c.lookup(t.Context()); err != nil {
		t.Fatal(err)
	}
	var messages []jetstream.Msg
	for range 2 {
		msg, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, msg)
		c.remember(messageKey{seq: meta.Sequence.Stream, at: meta.Timestamp.UnixNano()}, []span{{1, 1}})
	}
	// The first is done meanwhile: nothing is told of it.
	if err := messages[0].DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.testify(t.Context(), time.Minute, 0)
	keys, err := kv.Keys(t.Context())
	if err != nil || len(keys) != 1 || keys[0] != "delivery.2" || len(c.outlived) != 1 {
		t.Errorf("told %q, %v; %d remembered, want the second", keys, err, len(c.outlived))
	}
	// The second is done by a worker that knew nothing of it.
	if err := messages[1].DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.testify(t.Context(), time.Minute, 0)
	if keys, err := kv.Keys(t.Context()); !errors.Is(err, jetstream.ErrNoKeysFound) || len(c.outlived) != 0 {
		t.Errorf("left: %q, %v; %d remembered", keys, err, len(c.outlived))
	}
}

// TestReviseAddsUp has workers note at once what each of them survived.
func TestReviseAddsUp(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := connect(t, s, nil)
	c := &consuming{Bus: b, outlived: map[messageKey]testimony{}}
	if err := c.lookup(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := messageKey{seq: 7, at: 1}
	const workers = 5
	var all sync.WaitGroup
	for n := range uint64(workers) {
		all.Go(func() {
			// What it read last is that nothing is noted.
			_, err := c.revise(t.Context(), key, &record{history: c.blank(key)}, func(p *history) { p.survive(span{2 * n, 2 * n}) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got, err := c.recorded(t.Context(), key)
	if err != nil || len(got.Survived) != workers {
		t.Errorf("noted %+v, %v", got, err)
	}
	// A later message of the same number is another one, and an older note is no
	// note of it; a worker that knows the older one only must not write.
	if got, err := c.recorded(t.Context(), messageKey{seq: 7, at: 2}); err != nil || got.Survived != nil || got.revision == 0 {
		t.Errorf("of another message is noted %+v, %v", got, err)
	}
	if _, err := c.recorded(t.Context(), messageKey{seq: 7, at: 0}); !errors.Is(err, errBygone) {
		t.Errorf("of a message that is gone: %v", err)
	}
}

// TestABrokerThatForgotAnAck comes back without the last acknowledgement, as one
// does that was killed: no worker ended of the message that it delivers again.
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
	stop := consume(t, b, func(_ context.Context, d approval.Delivery) error {
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
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
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
	eventually(t, "its history goes", func() bool { return nothingNoted(t, b) })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "handled alone") {
		t.Errorf("it was handled alone:\n%s", log)
	}
}
