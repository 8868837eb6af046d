package console

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
)

const (
	feedSize = 2000 // results that are kept
	feedText = 300  // characters of a reason, at most
	lagLimit = 512  // results that a browser may be behind, before it is cut
	maxHits  = 5000 // rules that are counted
)

// decided is a result as the live page shows it. It is small: what an event says of the
// requester is not kept.
type decided struct {
	Sequence                    uint64
	ID, Outcome, Target         string
	Asks, Account, Rule, Reason string
	At                          time.Time
	Seconds                     float64
}

func newDecided(r *events.StoredResult) decided {
	d := decided{
		Sequence: r.Sequence, ID: r.Request.ID, Outcome: string(r.Outcome), Target: r.Request.Target.Name, Asks: clip(inspect.Asks(r.Request)),
		Account: r.Decision.Facts.DomainID, Rule: inspect.RulePath(r.Decision), At: r.At,
	}
	for _, s := range r.Seconds {
		d.Seconds += s
	}
	if len(r.Decision.Reasons) > 0 {
		d.Reason = clip(r.Decision.Reasons[0].Text)
	}
	if r.Failure != nil {
		d.Reason = clip(r.Failure.Code + ": " + r.Failure.Text)
	}
	return d
}

// clip keeps the beginning of a long text.
func clip(text string) string {
	if runes := []rune(text); len(runes) > feedText {
		return string(runes[:feedText]) + "…"
	}
	return strings.Clone(text)
}

// hit is how often a rule decided, and when last.
type hit struct {
	N    int
	Last time.Time
}

// feed has the last results, and tells browsers of new ones. It is safe for concurrent
// use.
type feed struct {
	mu       sync.Mutex
	last     []decided // oldest first
	begun    bool      // what is stored is known
	before   uint64    // sequence of the newest result before last
	newest   uint64    // of the stream, when it was last looked at
	browsers map[chan decided]bool
	hits     map[string]hit            // by policy/rule
	ended    map[string]map[string]int // by target and outcome
	since    time.Time                 // of the first result that hits and ended count
	err      error                     // why nothing comes; nil: it does
}

func newFeed() *feed {
	return &feed{browsers: map[chan decided]bool{}, hits: map[string]hit{}, ended: map[string]map[string]int{}}
}

// follow reads the results, beginning with the last ones, until ctx ends or it cannot
// go on.
func (f *feed) follow(ctx context.Context, bus *events.Bus) error {
	last, err := bus.LastResult(ctx)
	if err != nil {
		return err
	}
	for r, err := range bus.StoredResults(ctx, events.ResultFilter{After: f.begin(last), Follow: true}) {
		switch {
		case err != nil && r.Sequence == 0:
			return err
		case err == nil:
			f.add(newDecided(&r))
		}
	}
	return errors.New("the results ended")
}

// begin returns the sequence after which to read a stream whose last one is given: it goes
// on after a failure. A stream that is shorter than what was read is another one.
func (f *feed) begin(last uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun, f.newest = true, last
	if n := len(f.last); n > 0 && f.last[n-1].Sequence <= last {
		return f.last[n-1].Sequence
	}
	f.last, f.before = nil, last-min(last, feedSize)
	for browser := range f.browsers { // they come back, and learn that there is a gap
		f.cut(browser)
	}
	return f.before
}

// cut ends what a browser gets. The caller holds the lock.
func (f *feed) cut(browser chan decided) {
	delete(f.browsers, browser)
	close(browser)
}

// add tells every browser of d. One that is too far behind is cut: it connects again,
// and gets what it missed.
func (f *feed) add(d decided) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.begun = nil, true
	if f.since.IsZero() {
		f.since = d.At
	}
	f.last = append(f.last, d)
	if len(f.last) > 2*feedSize {
		f.before = f.lastDropped()
		f.last = slices.Clone(f.last[len(f.last)-feedSize:])
	}
	if h, known := f.hits[d.Rule]; d.Rule != "" && (known || len(f.hits) < maxHits) {
		f.hits[d.Rule] = hit{h.N + 1, d.At}
	}
	if f.ended[d.Target] == nil {
		f.ended[d.Target] = map[string]int{}
	}
	f.ended[d.Target][d.Outcome]++
	for browser := range f.browsers {
		select {
		case browser <- d:
		default:
			f.cut(browser)
		}
	}
}

func (f *feed) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// from returns the kept results after a sequence, whether some between are not kept or
// the sequence is of another stream, and a channel of those that come, which is closed if the browser is too slow.
// Call stop at the end.
func (f *feed) from(after uint64) (missed []decided, gap bool, next <-chan decided, stop func()) {
	own := make(chan decided, lagLimit)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.browsers[own] = true
	kept, newest := f.kept(), f.newest
	if n := len(kept); n > 0 {
		newest = max(newest, kept[n-1].Sequence)
	}
	i, _ := slices.BinarySearchFunc(kept, after+1, func(d decided, n uint64) int {
		switch {
		case d.Sequence < n:
			return -1
		case d.Sequence > n:
			return 1
		}
		return 0
	})
	gap = after > 0 && (!f.begun || after < f.lastDropped() || after > newest)
	return slices.Clone(kept[i:]), gap, own, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.browsers, own)
	}
}

// kept are the last results. The caller holds the lock.
func (f *feed) kept() []decided { return f.last[max(len(f.last)-feedSize, 0):] }

// lastDropped is the sequence of the newest result that is not kept. The caller holds the
// lock.
func (f *feed) lastDropped() uint64 {
	if n := len(f.last) - feedSize; n > 0 {
		return f.last[n-1].Sequence
	}
	return f.before
}

// latest returns the last results that match, the newest first, and the sequence of the
// newest of all.
func (f *feed) latest(match func(*decided) bool, limit int) (out []decided, newest uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.kept()
	if len(kept) > 0 {
		newest = kept[len(kept)-1].Sequence
	}
	for i := len(kept) - 1; i >= 0 && len(out) < limit; i-- {
		if match(&kept[i]) {
			out = append(out, kept[i])
		}
	}
	return out, newest, f.err
}

// counted returns how often each rule decided, and how the requests of each target
// ended, since when.
func (f *feed) counted() (hits map[string]hit, ended map[string]map[string]int, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ended = map[string]map[string]int{}
	for target, by := range f.ended {
		ended[target] = maps.Clone(by)
	}
	return maps.Clone(f.hits), ended, f.since
}
