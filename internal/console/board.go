package console

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

const (
	maxRecords   = 20_000           // held requests that are kept; of more, the count
	judgeAgain   = time.Minute      // after which the time may have changed what waits
	compareEvery = 15 * time.Second // with the keys of the ledger, which tell what was removed
)

// board has the requests that wait for a review, as the ledger has them. It is safe for
// concurrent use.
type board struct {
	policies Policies
	now      func() time.Time

	mu      sync.Mutex
	records map[string]*judged // by subject
	more    map[string]bool    // subjects beyond maxRecords
	broken  map[string]error   // subjects whose record cannot be read
	loaded  bool               // all that was stored has been read
	err     error              // why what is shown may be old; nil: it is current
	changed func()             // called after a change; set before first use
}

// judged is a record and what the policies say of it.
type judged struct {
	record *approval.ReviewRecord
	item   *review.Item // never changed; nil: not judged yet
	digest string       // of the policies that said so
	at     time.Time    // likewise
}

func newBoard(policies Policies, now func() time.Time) *board {
	return &board{policies: policies, now: now, records: map[string]*judged{}, more: map[string]bool{}, broken: map[string]error{}, changed: func() {}}
}

// follow reads what waits, and what changes, until ctx ends or it cannot go on.
func (b *board) follow(ctx context.Context, book *ledger.Ledger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	comparing := make(chan error, 1)
	go func() {
		comparing <- b.compare(ctx, book)
		cancel()
	}()
	seen := map[string]bool{}
	var last error
	for change, err := range book.FollowReviews(ctx) {
		switch {
		case err != nil && change.Subject != "":
			b.unreadable(change.Subject, err)
			if seen != nil {
				seen[change.Subject] = true
			}
		case err != nil:
			last = err
		case change.Stored:
			b.keep(seen)
			seen = nil
		case change.Record == nil:
			b.remove(change.Subject)
		default:
			if seen != nil {
				seen[change.Subject] = true
			}
			b.put(change.Record)
		}
	}
	cancel()
	return errors.Join(<-comparing, last)
}

// unreadable says that a record cannot be read.
func (b *board) unreadable(subject string, err error) {
	b.mu.Lock()
	b.broken[subject] = err
	b.mu.Unlock()
	b.changed()
}

// put takes a record in the place of an older one.
func (b *board) put(record *approval.ReviewRecord) {
	subject := record.Request.Subject()
	b.mu.Lock()
	have := b.records[subject]
	delete(b.broken, subject)
	switch {
	case have == nil && len(b.records) >= maxRecords:
		b.more[subject] = true
	case have == nil || have.record.Revision < record.Revision:
		b.records[subject] = &judged{record: record}
	}
	b.mu.Unlock()
	b.changed()
}

func (b *board) remove(subject string) {
	b.mu.Lock()
	b.drop(subject)
	b.mu.Unlock()
	b.changed()
}

// drop forgets a subject. The caller holds the lock.
func (b *board) drop(subject string) {
	delete(b.records, subject)
	delete(b.more, subject)
	delete(b.broken, subject)
}

// keep removes what is not among subjects, which are all that the ledger has.
func (b *board) keep(subjects map[string]bool) {
	b.mu.Lock()
	for _, subject := range b.subjects() {
		if !subjects[subject] {
			b.drop(subject)
		}
	}
	b.loaded, b.err = true, nil
	b.mu.Unlock()
	b.changed()
}

// failed says that what is shown may be old.
func (b *board) failed(err error) {
	b.mu.Lock()
	b.err = err
	b.mu.Unlock()
}

// compare removes what the ledger has no more: records are removed without a trace.
func (b *board) compare(ctx context.Context, book *ledger.Ledger) error {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		before := b.revisions()
		have, err := book.ReviewRevisions(ctx)
		if err != nil {
			return err
		}
		for subject, revision := range before {
			if have[subject] == 0 {
				b.removed(subject, revision)
			}
		}
	}
}

// subjects are those of all that is known. The caller holds the lock.
func (b *board) subjects() []string {
	return slices.Concat(slices.Collect(maps.Keys(b.records)), slices.Collect(maps.Keys(b.more)), slices.Collect(maps.Keys(b.broken)))
}

// revisions are those of the records; 0 for what is known without one.
func (b *board) revisions() map[string]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]uint64{}
	for _, subject := range b.subjects() {
		out[subject] = 0
		if have := b.records[subject]; have != nil {
			out[subject] = have.record.Revision
		}
	}
	return out
}

// removed removes a record unless it was written again.
func (b *board) removed(subject string, revision uint64) {
	b.mu.Lock()
	if have := b.records[subject]; have == nil || have.record.Revision == revision {
		b.drop(subject)
	}
	b.mu.Unlock()
	b.changed()
}

// waiting is the work list.
type waiting struct {
	Items  []*review.Item // oldest first
	More   int            // records that are not kept
	Broken int            // records that cannot be read
	Loaded bool
	Err    error
}

// list returns what can still be reviewed: of one target if target is set, and only
// what the person called mine may decide if that is set.
func (b *board) list(target, mine string) waiting {
	set, now := b.policies.Current(), b.now()
	digest := set.Digest()
	b.mu.Lock()
	defer b.mu.Unlock()
	out := waiting{More: len(b.more), Broken: len(b.broken), Loaded: b.loaded, Err: b.err}
	for _, j := range b.records {
		if target != "" && j.record.Request.Target.Name != target {
			continue
		}
		if j.item == nil || j.digest != digest || now.Sub(j.at) >= judgeAgain || now.Before(j.at) || late(j.item, now) {
			item := review.NewItem(j.record, set, now)
			j.item, j.digest, j.at = &item, digest, now
		}
		if j.item.State.Open && (mine == "" || j.item.May(mine)) {
			out.Items = append(out.Items, j.item)
		}
	}
	slices.SortFunc(out.Items, func(a, b *review.Item) int {
		return cmp.Or(a.Reviews.HeldAt.Compare(b.Reviews.HeldAt), cmp.Compare(a.Request.ID, b.Request.ID))
	})
	return out
}

// late reports whether the time for a review has ended since item was judged.
func late(item *review.Item, now time.Time) bool {
	return item.State.Open && now.After(item.Until())
}
