package cloud

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const maxPages = 1000 // read from one list

// snapshot is the content of a list.
type snapshot struct {
	rows map[string]connection // by id, see approval.UUID
	at   time.Time             // when the read began
}

func (s snapshot) row(id string) (connection, bool) {
	r, ok := s.rows[approval.UUID(id)]
	return r, ok
}

// connectionReader reads the connection list of one target for all callers. Callers
// that arrive during a read share the next one, so that no result is older than its
// request. There is one read at a time, limited by the read budget. It is safe for
// concurrent use.
type connectionReader struct {
	pageSize int
	readPage func(context.Context, filter) (page[connection], error)
	report   func(error) error // called with the error of each read; returns the error for the callers
	budget   *readBudget
	reading  chan struct{} // capacity 1; held by the current read

	mu       sync.Mutex
	next     *batch                // joined by new callers; nil if there are none
	pending  map[string]pendingRow // of the latest reads, by id
	total    int                   // rows at the last read of the whole list; -1 before that
	noFilter bool                  // the API ignores the filter by id
}

// pendingRow is a connection that waited for a decision when it was last read.
type pendingRow struct {
	row connection
	at  time.Time // when the read began
}

// batch is one read and its waiters.
type batch struct {
	ids     map[string]int // number of waiters for each id
	all     int            // number of waiters for the whole list
	waiters int
	cancel  context.CancelFunc
	done    chan struct{} // closed when shown and err are set
	shown   snapshot
	err     error
}

func newConnectionReader(size int, perSecond float64, readPage func(context.Context, filter) (page[connection], error), report func(error) error) *connectionReader {
	return &connectionReader{
		pageSize: size, readPage: readPage, report: report, total: -1, reading: make(chan struct{}, 1),
		budget: newReadBudget(perSecond),
	}
}

// read returns the row of id, or the whole list if all is set.
func (l *connectionReader) read(ctx context.Context, id string, all bool) (snapshot, error) {
	id = approval.UUID(id)
	l.mu.Lock()
	b := l.next
	if b == nil {
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		b = &batch{ids: map[string]int{}, cancel: cancel, done: make(chan struct{})}
		l.next = b
		go l.run(run, b) // ends after the read, or when the last waiter leaves
	}
	b.waiters++
	b.ids[id]++
	if all {
		b.all++
	}
	l.mu.Unlock()

	defer l.leave(b, id, all)
	select {
	case <-b.done:
		return b.shown, b.err
	case <-ctx.Done():
		return snapshot{}, ctx.Err()
	}
}

// leave removes a waiter. The last one cancels the read.
func (l *connectionReader) leave(b *batch, id string, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.waiters--
	if b.ids[id]--; b.ids[id] == 0 {
		delete(b.ids, id)
	}
	if all {
		b.all--
	}
	if b.waiters == 0 {
		b.cancel()
		if l.next == b {
			l.next = nil
		}
	}
}

// run waits for the previous read and the read budget, then reads b.
func (l *connectionReader) run(ctx context.Context, b *batch) {
	defer close(b.done)
	select {
	case l.reading <- struct{}{}:
		defer func() { <-l.reading }()
	case <-ctx.Done():
		b.err = ctx.Err()
		return
	}
	if b.err = l.budget.Take(ctx); b.err != nil {
		return
	}
	l.mu.Lock()
	if l.next == b {
		l.next = nil // nobody can join from here on
	}
	ids := slices.Sorted(maps.Keys(b.ids))
	all := b.all > 0 || l.noFilter || len(ids) > l.pageCount()
	l.mu.Unlock()

	at := time.Now()
	if !all {
		var honored bool
		b.shown, honored, b.err = l.readByID(ctx, ids)
		all = b.err == nil && !honored
	}
	if all {
		b.shown, b.err = l.readAll(ctx)
	}
	b.err = l.report(b.err)
	b.shown.at = at
	if b.err == nil {
		l.keepPending(ids, all, b.shown)
	}
}

// keepPending keeps what a read of ids, or of the whole list, shows as pending.
func (l *connectionReader) keepPending(ids []string, all bool, shown snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if all || l.pending == nil {
		l.pending = map[string]pendingRow{}
	}
	for _, id := range ids {
		delete(l.pending, approval.UUID(id))
	}
	for id, r := range shown.rows {
		if approval.State(r.Status) == approval.Pending {
			l.pending[approval.UUID(id)] = pendingRow{r, shown.at}
		}
	}
}

// pageCount is the number of calls that the whole list takes, as far as is known. The caller holds l.mu.
func (l *connectionReader) pageCount() int { return max(1, (l.total+l.pageSize-1)/l.pageSize) }

// readByID reads the rows of ids one by one. honored is false if the API ignored or
// refused the filter: then the result says nothing about ids.
func (l *connectionReader) readByID(ctx context.Context, ids []string) (s snapshot, honored bool, err error) {
	s.rows = map[string]connection{}
	taken := true // a token, for the first call
	for _, id := range ids {
		var row connection
		var found bool
		err := retryIncomplete(func() (err error) {
			if !taken {
				l.budget.Borrow()
			}
			taken = false
			row, found, honored, err = l.readOne(ctx, id)
			return err
		})
		if e, ok := asError(err); ok && !e.Retryable() {
			return s, false, nil // a refused filter does not mean an empty list
		}
		if err != nil {
			return s, true, err
		}
		if !honored {
			l.mu.Lock()
			l.noFilter = true
			l.mu.Unlock()
			return s, false, nil
		}
		if found {
			s.rows[id] = row
		}
	}
	return s, true, nil
}

// readOne reads the row of id.
func (l *connectionReader) readOne(ctx context.Context, id string) (row connection, found, honored bool, err error) {
	p, err := l.readPage(ctx, filter{id: id})
	if err != nil {
		return row, false, true, err
	}
	for _, r := range p.rows {
		if !approval.SameID(r.ID, id) {
			return row, false, false, nil
		}
	}
	c := collector[connection]{at: map[string]int{}}
	if err := c.add(p); err != nil {
		return row, false, true, err
	}
	if err := c.complete(); err != nil || len(c.rows) == 0 {
		return row, false, true, err
	}
	return c.rows[0], true, true, nil
}

// readAll reads all pages. It does not filter: decisions would move rows between
// the pages of a filtered list.
func (l *connectionReader) readAll(ctx context.Context) (snapshot, error) {
	calls := 0
	rows, err := collect(l.pageSize, func(offset int) (page[connection], error) {
		if calls++; calls > 1 {
			l.budget.Borrow()
		}
		return l.readPage(ctx, filter{limit: l.pageSize, offset: offset})
	})
	if err != nil {
		return snapshot{}, err
	}
	s := snapshot{rows: make(map[string]connection, len(rows))}
	for _, r := range rows {
		s.rows[approval.UUID(r.ID)] = r
	}
	l.mu.Lock()
	l.total = len(rows)
	l.budget.SetPages(l.pageCount())
	l.mu.Unlock()
	return s, nil
}

// listRow is a row of a list. merge combines it with another row of the same key.
type listRow[T any] interface {
	comparable
	key() string
	merge(T) T
}

// retryIncomplete calls read, and a second time if the result is incomplete: the list
// may have changed between two pages.
func retryIncomplete(read func() error) error {
	err := read()
	if isIncomplete(err) {
		err = read()
	}
	return err
}

// collect reads all pages of a list. It is an error if the list is incomplete in two
// reads.
func collect[T listRow[T]](size int, read func(offset int) (page[T], error)) (rows []T, err error) {
	err = retryIncomplete(func() error {
		c := collector[T]{at: map[string]int{}}
		for n := 0; ; n++ {
			if n >= maxPages {
				return incomplete("more than %d pages", maxPages)
			}
			p, err := read(c.offset)
			if err != nil {
				return err
			}
			if len(p.rows) > size {
				return incomplete("a page has %d rows, but the limit is %d", len(p.rows), size)
			}
			if err := c.add(p); err != nil {
				return err
			}
			if len(p.rows) == 0 || c.offset >= c.total {
				rows = c.rows
				return c.complete()
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// collector combines the pages of a list.
type collector[T listRow[T]] struct {
	rows          []T
	at            map[string]int // index in rows, by key
	pages, offset int
	total         int // rows that the list claims to have
	distinct      int // rows that differ in anything at all
}

// add appends the next page. Different rows with the same key are merged if they are
// on the same page; on two pages they show that the list has changed.
func (c *collector[T]) add(p page[T]) error {
	c.pages++
	switch {
	case p.total < 0:
		return incomplete("the total number of rows is missing")
	case c.pages > 1 && p.total != c.total:
		return incomplete("the total changed from %d to %d rows between two pages", c.total, p.total)
	}
	c.total = p.total
	before := len(c.rows)
	for _, r := range p.rows {
		key := approval.UUID(r.key())
		i, seen := c.at[key]
		switch {
		case !seen:
			c.at[key] = len(c.rows)
			c.rows = append(c.rows, r)
			c.distinct++
		case i < before:
			return incomplete("a row is on two pages")
		case c.rows[i] != r:
			c.rows[i] = c.rows[i].merge(r)
			c.distinct++
		}
	}
	c.offset += len(p.rows)
	return nil
}

// complete returns an error unless all rows are present. The total may count merged
// rows as one or as several.
func (c *collector[T]) complete() error {
	if len(c.rows) > c.total || c.distinct < c.total {
		return incomplete("the total is %d rows, but %d are shown", c.total, len(c.rows))
	}
	return nil
}
