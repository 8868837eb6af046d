package events

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// TestUntil counts crashes until a delivery: those of which nobody knows how they
// ended, and not those that were survived.
func TestUntil(t *testing.T) {
	t.Parallel()
	lostAlone := func(p *history) { p.quarantine(3) }
	tests := []struct {
		name    string
		edits   []func(*history)
		last    uint64
		crashes uint64
		killed  bool
	}{
		{"nothing noted", nil, 3, 3, false},
		{"all survived", []func(*history){survive(1, 3)}, 3, 0, false},
		{"one lost", []func(*history){survive(1, 1), survive(3, 3)}, 3, 1, false},
		{"the newest are not over", []func(*history){survive(2, 9)}, 3, 1, false},
		{"lost alone", []func(*history){lostAlone}, 3, 3, true},
		{"alone at this moment", []func(*history){lostAlone}, 2, 2, false},
		{"survived alone", []func(*history){lostAlone, survive(3, 3)}, 3, 1, false},
		{"survived alone, then lost", []func(*history){lostAlone, survive(3, 3)}, 4, 2, false},
		{"lost alone, then given back", []func(*history){lostAlone, survive(4, 4)}, 4, 3, true},
		{"lost alone, others not lost", []func(*history){lostAlone, survive(1, 1)}, 3, 2, false},
		{"survived alone, and the others were not lost", []func(*history){lostAlone, survive(3, 3), survive(1, 2)}, 3, 0, false},
		{"alone again, and lost", []func(*history){lostAlone, survive(3, 3), func(p *history) { p.quarantine(5) }}, 5, 3, true},
		{"counted anew, and lost alone", []func(*history){func(p *history) { p.quarantine(5) }, survive(5, 5), lostAlone}, 3, 3, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var p history
			for _, edit := range tt.edits {
				edit(&p)
			}
			if crashes, killed := p.crashes(tt.last), p.killed(tt.last); crashes != tt.crashes || killed != tt.killed {
				t.Errorf("after %d deliveries of %+v: %d crashes, killed %t; want %d, %t", tt.last, p, crashes, killed, tt.crashes, tt.killed)
			}
		})
	}
}

func survive(from, to uint64) func(*history) {
	return func(p *history) { p.survive(span{from, to}) }
}

// TestUnion compares with sets, and holds what is kept to its bound.
func TestUnion(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		want, spans := map[uint64]bool{}, [2][]span{}
		for n := range 2 {
			for range random.IntN(6) {
				from := 1 + random.Uint64N(30)
				s := span{from, from + random.Uint64N(5)}
				spans[n] = union(spans[n], []span{s})
				for d := s[0]; d <= s[1]; d++ {
					want[d] = true
				}
			}
		}
		p := history{Survived: union(spans[0], spans[1])}
		if diff := cmp.Diff(p.Survived, union(spans[1], spans[0])); diff != "" {
			t.Fatalf("the order matters: %s", diff)
		}
		lost := uint64(0)
		for d := uint64(1); d <= 40; d++ {
			if p.survived(d) != want[d] {
				t.Fatalf("%v and %v make %v, where %d is wrong", spans[0], spans[1], p.Survived, d)
			}
			if !want[d] {
				lost++
			}
			if got := p.lost(d); got != lost {
				t.Fatalf("%v lost %d of %d, want %d", p.Survived, got, d, lost)
			}
		}
	}
	var many []span
	for d := uint64(1); d <= 1000; d += 2 {
		many = union(many, []span{{d, d}})
	}
	p := history{Survived: many}
	if len(many) != mostSpans || !p.survived(1) || !p.survived(999) || p.survived(998) {
		t.Errorf("of 500 spans are left %v", many)
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
