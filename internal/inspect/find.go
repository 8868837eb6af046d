package inspect

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

const (
	// backwardChanges is how many changes of the ledger are looked at backwards for a
	// list with a limit, before the whole ledger is read.
	backwardChanges = 16_384
	// backwardByOutcome is the same where results are looked at then, which is quicker.
	backwardByOutcome = 2_048
	// clockSkew is how far a time that a worker wrote may be from that of the broker.
	clockSkew = 15 * time.Minute
)

// Find returns the requests that filter chooses, the latest change first and at most
// limit of them; 0 is all. It reads the ledger backwards, so that it takes no longer on
// a large one.
func Find(ctx context.Context, bus *events.Bus, book *ledger.Ledger, filter ledger.Filter, limit int) (Requests, error) {
	return newFinder(bus, book, filter, limit).find(ctx)
}

// finder collects entries.
type finder struct {
	bus     *events.Bus
	book    *ledger.Ledger
	filter  ledger.Filter
	limit   int // 0: none
	changes int // of the ledger, to look at backwards
	have    map[string]bool
	found   Requests
}

func newFinder(bus *events.Bus, book *ledger.Ledger, filter ledger.Filter, limit int) *finder {
	changes := backwardChanges
	if len(filter.Outcomes) > 0 {
		changes = backwardByOutcome
	}
	return &finder{bus: bus, book: book, filter: filter, limit: limit, changes: changes, have: map[string]bool{}}
}

func (f *finder) find(ctx context.Context) (Requests, error) {
	err := f.read(ctx)
	if notDirect(err) { // a list takes longer and shows the same
		f.found = Requests{}
		clear(f.have)
		err = f.list(ctx)
	}
	slices.SortFunc(f.found.Entries, func(a, b approval.Entry) int { return cmp.Compare(b.Revision, a.Revision) })
	if f.full() {
		f.found.Entries, f.found.More = f.found.Entries[:f.limit], true
	}
	return f.found, err
}

// full reports whether there are more entries than asked for.
func (f *finder) full() bool { return f.limit > 0 && len(f.found.Entries) > f.limit }

// take adds an entry, or why it cannot be read. Any other error is returned.
func (f *finder) take(e approval.Entry, err error) error {
	if bad, ok := errors.AsType[*ledger.UnreadableError](err); ok {
		if !slices.ContainsFunc(f.found.unreadable, func(known *ledger.UnreadableError) bool { return known.Key == bad.Key }) {
			f.found.unreadable = append(f.found.unreadable, bad)
		}
		return nil
	}
	if err == nil && f.filter.Match(e) && !f.have[e.Request.ID] {
		f.have[e.Request.ID] = true
		f.found.Entries = append(f.found.Entries, e)
	}
	return err
}

// read reads the latest changes. If they do not suffice, it finds what ended by the results
// that were published, and the rest by all changes.
func (f *finder) read(ctx context.Context) error {
	if f.filter.Open && f.filter.Since.IsZero() && f.limit == 0 {
		return f.open(ctx)
	}
	complete, err := f.backwards(ctx, f.changes)
	if err == nil && !complete && len(f.filter.Outcomes) > 0 {
		complete, err = f.byResults(ctx)
	}
	switch {
	case err != nil || complete:
		return err
	case f.filter.Open:
		return f.open(ctx)
	}
	_, err = f.backwards(ctx, math.MaxInt)
	return err
}

// notDirect reports whether err says that messages cannot be read by direct reads.
func notDirect(err error) bool {
	_, denied := errors.AsType[*events.DeniedError](err)
	return denied || errors.Is(err, events.ErrNotDirect)
}

// backwards reads changes, the latest first. It is complete if nothing is left, or
// nothing that is wanted. For a list with a limit, it looks at no more than most.
func (f *finder) backwards(ctx context.Context, most int) (complete bool, err error) {
	published, err := f.bus.Published(ctx)
	if err != nil {
		return false, err
	}
	n := 0
	for v, err := range f.bus.LedgerChanges(ctx, requestPrefix()) {
		if err != nil {
			return false, err
		}
		n++
		// Whatever was submitted later may have ended without a result on the bus.
		reached := len(f.filter.Outcomes) == 0 || v.At.Before(published)
		switch {
		case f.full(), v.At.Before(f.filter.Since.Add(-clockSkew)):
			return true, nil
		case f.limit > 0 && n > most && reached:
			return false, nil
		}
		if err := f.take(ledger.DecodeEntry(v.Key, v.Revision, v.Value)); err != nil {
			return false, err
		}
	}
	return true, nil
}

// byResults finds requests that ended by their results. It is not complete if there may be
// requests whose results are not stored any more.
func (f *finder) byResults(ctx context.Context) (complete bool, err error) {
	for _, outcome := range f.filter.Outcomes {
		before := len(f.found.Entries)
		for r, err := range f.bus.NewestResults(ctx, outcome, f.filter.Target) {
			if err != nil {
				return false, err
			}
			if r.At.Before(f.filter.Since.Add(-clockSkew)) || len(f.found.Entries)-before > f.limit {
				break
			}
			if !f.have[r.Request.ID] && f.filter.Match(approval.Entry{Request: r.Request, Decision: r.Decision, Result: &r}) {
				if err := f.get(ctx, r.Request.ID); err != nil {
					return false, err
				}
			}
		}
	}
	if f.full() {
		return true, nil
	}
	since, err := f.bus.ResultsSince(ctx)
	if err != nil {
		return false, err
	}
	oldest, err := f.bus.LedgerSince(ctx)
	return err == nil && !oldest.Before(since), err
}

// get takes the entry of a request, if there is one.
func (f *finder) get(ctx context.Context, id string) error {
	e, err := f.book.Get(ctx, id)
	if e == nil && err == nil {
		return nil
	}
	if err != nil {
		return f.take(approval.Entry{}, err)
	}
	return f.take(*e, nil)
}

// open reads all versions of all entries, and keeps those whose last one has no result:
// they are few, while what ended is most of the ledger.
func (f *finder) open(ctx context.Context) error {
	entries, bad := map[string]approval.Entry{}, map[string]error{} // by key
	for v, err := range f.bus.LedgerVersions(ctx, requestPrefix()) {
		if err != nil {
			return err
		}
		delete(entries, v.Key)
		delete(bad, v.Key)
		if v.Value == nil || ledger.Ended(v.Value) {
			continue
		}
		e, err := ledger.DecodeEntry(v.Key, v.Revision, v.Value)
		switch {
		case err != nil:
			bad[v.Key] = err
		case f.filter.Match(e):
			entries[v.Key] = e
		}
	}
	for _, err := range bad {
		if err := f.take(approval.Entry{}, err); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := f.take(e, nil); err != nil {
			return err
		}
	}
	return nil
}

// list lists the ledger from its oldest change on, and keeps the latest entries.
func (f *finder) list(ctx context.Context) error {
	var latest []approval.Entry
	for e, err := range f.book.List(ctx, f.filter) {
		if err != nil {
			if err := f.take(e, err); err != nil {
				return err
			}
			continue
		}
		latest = append(latest, e)
		if n := len(latest); f.limit > 0 && n > 2*f.limit+2 {
			latest = slices.Delete(latest, 0, n-f.limit-1)
		}
	}
	f.found.Entries = append(f.found.Entries, latest...)
	return nil
}

// requestPrefix is that of the keys of requests.
func requestPrefix() string { return strings.TrimSuffix(ledger.RequestKeys(""), ">") }
