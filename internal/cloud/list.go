package cloud

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// maxPages is how many pages of one list are read at most.
const maxPages = 1000

// snapshot is what a list showed.
type snapshot struct {
	rows map[string]connection // by id, see approval.UUID
	at   time.Time             // it shows nothing older
}

func (s snapshot) row(id string) (connection, bool) {
	r, ok := s.rows[approval.UUID(id)]
	return r, ok
}

// lists reads the connection list of one target for all who ask. Who asks while
// a read is on its way shares the next one, so that no answer is older than its
// question; reads of a target follow one another, as its purse allows.
type connectionReader struct {
	pageSize int // of a page
	readPage func(context.Context, filter) (page[connection], error)
	report   func(error) error // is given what came of a read, and returns it for the callers
	budget   *readBudget
	reading  chan struct{} // held by the read that is on its way

	mu       sync.Mutex
	next     *batch // what those join who ask now; nil if nobody has asked
	total    int    // rows when all were read last; -1 if they never were
	noFilter bool   // the API does not honor the filter by id
}

// batch is one read and those who wait for it.
type batch struct {
	ids     map[string]int // those asked for, by how many
	all     int            // how many want the whole list
	waiters int
	cancel  context.CancelFunc
	done    chan struct{} // closed when the two below are set
	shown   snapshot
	err     error
}

func newConnectionReader(size int, perSecond float64, page func(context.Context, filter) (page[connection], error), note func(error) error) *connectionReader {
	return &connectionReader{
		pageSize: size, readPage: page, report: note, total: -1, reading: make(chan struct{}, 1),
		budget: newReadBudget(perSecond),
	}
}

// read returns what the list shows of id, and of all others if whole is set.
func (l *connectionReader) read(ctx context.Context, id string, whole bool) (snapshot, error) {
	id = approval.UUID(id)
	l.mu.Lock()
	b := l.next
	if b == nil {
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		b = &batch{ids: map[string]int{}, cancel: cancel, done: make(chan struct{})}
		l.next = b
		go l.run(run, b) // ends when it has read, or when the last waiter leaves
	}
	b.waiters++
	b.ids[id]++
	if whole {
		b.all++
	}
	l.mu.Unlock()

	defer l.leave(b, id, whole)
	select {
	case <-b.done:
		return b.shown, b.err
	case <-ctx.Done():
		return snapshot{}, ctx.Err()
	}
}

// leave takes one waiter off; the last one ends the read.
func (l *connectionReader) leave(b *batch, id string, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.waiters--
	if b.ids[id]--; b.ids[id] == 0 {
		delete(b.ids, id)
	}
	if whole {
		b.all--
	}
	if b.waiters == 0 {
		b.cancel()
		if l.next == b {
			l.next = nil
		}
	}
}

// run carries b out when its turn has come.
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
		l.next = nil // from here on it is too late to join
	}
	ids := slices.Sorted(maps.Keys(b.ids))
	whole := b.all > 0 || l.noFilter || len(ids) > l.pageCount()
	l.mu.Unlock()

	at := time.Now()
	if !whole {
		var honored bool
		b.shown, honored, b.err = l.readByID(ctx, ids)
		whole = b.err == nil && !honored
	}
	if whole {
		b.shown, b.err = l.readAll(ctx)
	}
	b.err = l.report(b.err)
	b.shown.at = at
}

// pages is how many calls the whole list takes, as far as is known; with l.mu held.
func (l *connectionReader) pageCount() int { return max(1, (l.total+l.pageSize-1)/l.pageSize) }

// byID reads the rows of ids one by one. honored is false if an answer held
// rows that were not asked for: then it tells nothing of those that were.
func (l *connectionReader) readByID(ctx context.Context, ids []string) (s snapshot, honored bool, err error) {
	s.rows = map[string]connection{}
	paid := true // the first call is
	for _, id := range ids {
		var row connection
		var found bool
		err := retryIncomplete(func() (err error) {
			if !paid {
				l.budget.Borrow()
			}
			paid = false
			row, found, honored, err = l.readOne(ctx, id)
			return err
		})
		if e, ok := asError(err); ok && !e.Retryable() {
			return s, false, nil // a refused filter is no empty list: only the whole list can tell
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

// one reads the row of id.
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

// all reads all pages, without a filter that would let rows slip from page to
// page while connections are being decided.
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

// listRow is a row of a list. merge joins it with another row of the same key.
type listRow[T any] interface {
	comparable
	key() string
	merge(T) T
}

// twice calls read, and once more if what it read is incomplete: the list may have
// changed between two pages.
func retryIncomplete(read func() error) error {
	err := read()
	if isIncomplete(err) {
		err = read()
	}
	return err
}

// collect reads all pages of a list. A list that is still incomplete when it is read
// for the second time is an error: it may have changed, or it lies.
func collect[T listRow[T]](size int, read func(offset int) (page[T], error)) (rows []T, err error) {
	err = retryIncomplete(func() error {
		c := collector[T]{at: map[string]int{}}
		for n := 0; ; n++ {
			if n >= maxPages {
				return incomplete("it has more than %d pages", maxPages)
			}
			p, err := read(c.offset)
			if err != nil {
				return err
			}
			if len(p.rows) > size {
				return incomplete("a page holds %d rows, and %d were asked for", len(p.rows), size)
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

// collector joins the pages of a list.
type collector[T listRow[T]] struct {
	rows          []T
	at            map[string]int // places in rows, by key
	pages, offset int
	total         int // rows that the list says it has
	distinct      int // rows that differ in anything at all
}

// add takes the next page. Rows that differ although they have one key are merged
// if they are on one page; on two pages they show that the list has moved.
func (c *collector[T]) add(p page[T]) error {
	c.pages++
	switch {
	case p.total < 0:
		return incomplete("it does not say how many rows there are")
	case c.pages > 1 && p.total != c.total:
		return incomplete("it had %d rows, and %d at the next page", c.total, p.total)
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
			return incomplete("a row is on two of its pages")
		case c.rows[i] != r:
			c.rows[i] = c.rows[i].merge(r)
			c.distinct++
		}
	}
	c.offset += len(p.rows)
	return nil
}

// complete is an error unless all rows are there that the list says it has.
// Where rows were merged, it may have counted them as one or as several.
func (c *collector[T]) complete() error {
	if len(c.rows) > c.total || c.distinct < c.total {
		return incomplete("it says that it has %d rows, and shows %d", c.total, len(c.rows))
	}
	return nil
}
