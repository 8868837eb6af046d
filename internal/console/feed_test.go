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

// TestGaps: a browser hears that there is a gap exactly if there is a result that it does not get.
func TestGaps(t *testing.T) {
	t.Parallel()
	f := newFeed()
	from := func(after uint64) (gap bool, missed []decided) {
		missed, gap, _, stop := f.from(after)
		stop()
		return gap, missed
	}
	want := func(what string, after uint64, wantGap bool, wantMissed int) {
		t.Helper()
		if gap, missed := from(after); gap != wantGap || len(missed) != wantMissed {
			t.Errorf("%s, after %d: gap %v, %d results; want %v, %d", what, after, gap, len(missed), wantGap, wantMissed)
		}
	}
	want("nothing is read, a new page", 0, false, 0)
	want("nothing is read", 7, true, 0)
	if after := f.begin(5000); after != 5000-feedSize {
		t.Fatalf("it begins after %d", after)
	}
	want("being read, older than what is read", 5000-feedSize-1, true, 0)
	want("being read, at the edge", 5000-feedSize, false, 0)
	want("being read, all of it is known", 5000, false, 0)
	want("of another stream", 5001, true, 0)
	sequence := uint64(5000 - feedSize)
	for range feedSize {
		sequence += 2 // others were removed
		f.add(decided{Sequence: sequence})
	}
	for n := range 2*feedSize + 1 { // over the edge, and over the cleaning
		// Near the edge each is looked at, elsewhere one of many: a look copies all that is kept.
		if n%feedSize < 5 || n%feedSize > feedSize-5 || n%101 == 0 {
			first, before := f.kept()[0].Sequence, f.lastDropped()
			want("the last that is not kept", before, false, feedSize)
			want("right before the first", first-1, false, feedSize)
			want("one is missing", before-1, true, feedSize)
			want("the first", first, false, feedSize-1)
			if t.Failed() {
				t.Fatalf("with %d", n)
			}
		}
		sequence += 2
		f.add(decided{Sequence: sequence})
	}
	if after := f.begin(sequence + 10); after != sequence {
		t.Errorf("after a failure it goes on after %d, want %d", after, sequence)
	}
	_, _, next, stop := f.from(sequence)
	defer stop()
	if after := f.begin(3); after != 0 {
		t.Errorf("another stream is read after %d", after)
	}
	if _, open := <-next; open {
		t.Error("the browser is not cut")
	}
	want("another stream", sequence, true, 0)
}
