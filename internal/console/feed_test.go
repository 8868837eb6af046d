package console

import (
	"fmt"
	"testing"
)

// TestSlowBrowsersAreCut: the feed waits for nobody, keeps no more than it says, and a
// browser that comes back gets what it missed, once each and in order.
func TestSlowBrowsersAreCut(t *testing.T) {
	t.Parallel()
	f := newFeed()
	_, _, slow, stopSlow := f.from(0)
	defer stopSlow()
	_, _, quick, stopQuick := f.from(0)
	defer stopQuick()
	const all = 3*feedSize + 7
	for n := range all {
		f.add(decided{Sequence: uint64(n + 1), Outcome: "accepted", Target: fmt.Sprint(n % 3), Rule: fmt.Sprint(n)})
		if got := <-quick; got.Sequence != uint64(n+1) {
			t.Fatalf("result %d came after %d", got.Sequence, n)
		}
	}
	seen := uint64(0)
	for d := range slow { // ends: it was cut
		if d.Sequence != seen+1 {
			t.Fatalf("%d came after %d", d.Sequence, seen)
		}
		seen = d.Sequence
	}
	if seen != lagLimit {
		t.Errorf("the slow browser has %d, want %d", seen, lagLimit)
	}
	if len(f.browsers) != 1 || len(f.last) > 2*feedSize || len(f.hits) != maxHits {
		t.Errorf("%d browsers, %d results, %d rules are kept", len(f.browsers), len(f.last), len(f.hits))
	}
	missed, gap, _, stop := f.from(seen)
	stop()
	if !gap || len(missed) != feedSize || missed[0].Sequence != all-feedSize+1 {
		t.Errorf("back after too long: gap %v, %d from %d", gap, len(missed), missed[0].Sequence)
	}
	missed, gap, _, stop = f.from(all - 5)
	stop()
	if gap || len(missed) != 5 || missed[0].Sequence != all-4 {
		t.Errorf("back soon: gap %v, %+v", gap, missed)
	}
}
