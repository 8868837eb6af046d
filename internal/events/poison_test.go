package events

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// TestUntil counts crashes: deliveries of which nobody knows how they ended.
func TestUntil(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		past     history
		last     uint64
		survived []span
		want     history
	}{
		{"all noted", history{Seen: 3}, 3, nil, history{Seen: 3}},
		{"not noted", history{Seen: 1}, 3, nil, history{Seen: 3, Crashes: 2}},
		{"survived here", history{Seen: 1}, 3, []span{{2, 3}}, history{Seen: 3}},
		{"some survived here", history{Seen: 1}, 4, []span{{2, 2}, {4, 4}}, history{Seen: 4, Crashes: 1}},
		{"survived before the note", history{Seen: 3}, 4, []span{{2, 3}}, history{Seen: 4, Crashes: 1}},
		{"alone, not noted", history{Seen: 2, Crashes: 2, Alone: true}, 3, nil, history{Seen: 3, Crashes: 3, Alone: true}},
		{"alone, survived here", history{Seen: 2, Crashes: 2, Alone: true}, 3, []span{{3, 3}}, history{Seen: 3, Crashes: 1}},
		{"alone, then lost", history{Seen: 2, Crashes: 2, Alone: true}, 4, []span{{3, 3}}, history{Seen: 4, Crashes: 2}},
		{"alone and lost, then survived", history{Seen: 2, Crashes: 2, Alone: true}, 4, []span{{4, 4}}, history{Seen: 4, Crashes: 3, Alone: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, tt.past.until(tt.last, tt.survived)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSurvivorsKnowThatTheyLive has a broker that takes no notes, as one without
// a leader: what is given back all the same is no crash of a process that is
// still there, however often it comes.
func TestSurvivorsKnowThatTheyLive(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	bucket, err := b.js.Stream(t.Context(), bucketStream)
	if err != nil {
		t.Fatal(err)
	}
	full := bucket.CachedInfo().Config
	full.MaxBytes = 1
	if _, err := b.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	if kv, err := b.Bucket(t.Context()); err != nil {
		t.Fatal(err)
	} else if _, err := kv.Put(t.Context(), "note", []byte("x")); err == nil {
		t.Fatal("the bucket takes notes")
	}
	if err := b.Submit(t.Context(), connection("1")); err != nil {
		t.Fatal(err)
	}
	const last = poisonAt + 4
	consume(t, b, func(_ context.Context, d approval.Delivery) error {
		if d.Attempt < last {
			return later{after: 10 * time.Millisecond}
		}
		return nil
	})
	seen.until(t, "it is done", func(c map[string]int) bool { return c["delivered connection"] == last && c["slots"] == 0 })
	if info := consumerInfo(t, b); info.AckFloor.Stream != 1 || seen.get("dead poison") != 0 {
		t.Errorf("it was not handled but buried: %+v", info.AckFloor)
	}
}
