package cloud

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// batchRead reads what one batch of callers wants to know, with few calls however long
// the list is:
//
//   - What is to be decided shows in the list of pending rows, which is short.
//   - What was decided a moment ago is on few pages of the list: its order is that of the
//     creation, newest first, and requests come in about that order. What comes next to be
//     decided is on the same page, which is that of the oldest pending rows.
//   - What neither shows is read by its id. Only that, or the whole list, shows that a
//     connection is not there.
//
// A page counts only if it has all rows that its offset and the total leave for it.
type batchRead struct {
	reader     *connectionReader
	budget     *readBudget
	paid       atomic.Bool // for the first call
	allPending bool        // all pending rows are shown
	all        bool        // all rows are

	mu sync.Mutex
	at time.Time // when the first call that succeeded was sent
}

func (r *batchRead) read(ctx context.Context, w wanted) (snapshot, error) {
	if !w.list && !r.known().noID {
		s := snapshot{collector: newCollector[connection](0)}
		if resolved, err := r.readParts(ctx, &s, w); resolved || err != nil {
			return s, err
		}
	}
	s, err := r.readAll(ctx)
	if err == nil {
		r.learnPage(&s, w.ids)
	}
	if err == nil && !w.list && s.contradicted() && len(s.missing(w.ids)) > 0 {
		err = incomplete("two rows contradict each other, and a connection is not shown")
	}
	return s, err
}

// readParts adds the rows of w's ids, unless the whole list is cheaper to read. If
// resolved, those without a row are not in the list.
func (r *batchRead) readParts(ctx context.Context, s *snapshot, w wanted) (resolved bool, err error) {
	parts := []approval.State{approval.Pending, ""}
	if w.decided { // what comes next to be decided is usually on the same page
		parts = []approval.State{"", approval.Pending}
	}
	for _, status := range parts {
		ids := w.pending
		switch {
		case status == "":
			ids = w.ids
		case r.known().all.count == 1:
			continue
		}
		whole, err := r.readSome(ctx, s, ids, status)
		if err != nil || whole && status == "" && !s.contradicted() {
			return whole, err
		}
	}
	rest := s.missing(w.ids)
	if all := r.known().all.count; all > 0 && len(rest) > all {
		return false, nil
	}
	return r.readByID(ctx, s, rest)
}

func (r *batchRead) known() lists {
	r.reader.mu.Lock()
	defer r.reader.mu.Unlock()
	return r.reader.known
}

func (r *batchRead) learn(edit func(*lists)) {
	r.reader.mu.Lock()
	defer r.reader.mu.Unlock()
	edit(&r.reader.known)
}

// of returns what is known of the list with a status, or of the whole one.
func (k *lists) of(status approval.State) *pages {
	if status == "" {
		return &k.all
	}
	return &k.pending
}

// call reads a page, for a token.
func (r *batchRead) call(ctx context.Context, f filter) (page[connection], error) {
	if !r.paid.CompareAndSwap(true, false) {
		r.budget.Borrow()
	}
	p, sent, err := r.reader.readPage(ctx, f)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && (r.at.IsZero() || sent.Before(r.at)) {
		r.at = sent
	}
	return p, err
}

// began returns when the first call was sent.
func (r *batchRead) began() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// pagesOf returns the number of calls for a list of total rows.
func (r *batchRead) pagesOf(total int) int {
	return max(1, (total+r.reader.pageSize-1)/r.reader.pageSize)
}

const (
	maxSome = 4 // single pages of a list that are read for one batch
	skips   = 8 // reads that leave a list out after its pages did not help
)

// readSome adds the rows of single pages of a list, as long as they show several of ids:
// first the page that helped last, then its neighbors. Decisions move the rows of the
// pending list between its pages meanwhile, so what these do not show may be pending all
// the same. whole says that the rows are all of the list.
func (r *batchRead) readSome(ctx context.Context, s *snapshot, ids []string, status approval.State) (whole bool, err error) {
	rest := s.missing(ids)
	if len(rest) < 2 {
		return false, nil
	}
	know := r.known()
	list := *know.of(status)
	if list.skip > 0 && list.count > 0 {
		list.skip--
		r.learn(func(k *lists) { *k.of(status) = list })
		return false, nil
	}
	defer func() {
		r.learn(func(k *lists) {
			*k.of(status) = list
			if status != "" {
				k.pendingAt = r.began()
			}
		})
	}()
	best, start, jumped := 0, list.hint, false
	for n := 0; n < maxSome && len(rest) > 1; n++ {
		index, ok := neighbor(start, n, max(list.count, start+1))
		if !ok {
			continue
		}
		p, err := r.readPage(ctx, filter{status: status, limit: r.reader.pageSize, offset: index * r.reader.pageSize, again: true})
		if err != nil || p.short {
			return false, err
		}
		if len(s.rows) == 0 {
			s.collector = p.collector
		} else {
			s.join(p.rows)
		}
		list.count = r.pagesOf(p.total)
		if whole = list.count == 1 && index == 0; whole {
			list.hint, r.allPending, r.all = 0, true, status == ""
			return whole, nil
		}
		left := s.missing(ids)
		found := len(rest) - len(left)
		if rest = left; found > best {
			best, list.hint = found, index
		}
		if found >= 2 || n == 0 && index > 0 && index == list.hint {
			continue // newer requests are on the page before the one that helped last
		}
		// Requests are handled in their order, so those of the oldest pending rows come first.
		oldest := r.oldestPending(list.count, status)
		switch {
		case !jumped && oldest > 0 && oldest != index:
			start, n, jumped = oldest, -1, true
		case n > 0:
			n = maxSome // no page helps
		}
	}
	if best < 2 {
		list.hint, list.skip = 0, skips
	}
	return false, nil
}

// oldestPending returns the page of the oldest pending rows in a list of so many pages; 0 if
// that is not known. In the whole list it is behind the newer ones, most of which are
// pending, too.
func (r *batchRead) oldestPending(count int, status approval.State) int {
	if status == "" {
		count = min(count, r.known().pending.count)
	}
	return max(0, count-1)
}

// neighbor returns the nth nearest of so many pages, from 0 on: start, the one before, the
// one after, and so on. ok is false if there is no such page.
func neighbor(start, n, pages int) (index int, ok bool) {
	if index = start + n/2; n%2 == 1 {
		index = start - (n+1)/2
	}
	return index, index >= 0 && index < pages
}

// somePage is a page that is read for itself.
type somePage struct {
	collector[connection]
	short bool // rows are missing
}

// readPage returns a page with merged rows. It is short if rows are missing that its
// offset and the total leave for it.
func (r *batchRead) readPage(ctx context.Context, f filter) (out somePage, err error) {
	err = retryIncomplete(func() error {
		p, err := r.call(ctx, f)
		if err != nil {
			return err
		}
		c := newCollector[connection](len(p.rows))
		if _, err := c.addPage(p, f.limit); err != nil {
			return err
		}
		want := max(0, min(f.limit, p.total-f.offset))
		if len(c.rows) > want || len(p.rows) == 0 && want > 0 {
			return incomplete("a page has %d rows, but the total leaves %d", len(p.rows), want)
		}
		out = somePage{c, c.distinct < want}
		return nil
	})
	return out, err
}

// readAll reads the whole list. It does not filter: decisions would move rows between
// pages.
func (r *batchRead) readAll(ctx context.Context) (snapshot, error) {
	c, err := collect(ctx, r.reader.pageSize, func(ctx context.Context, offset int) (page[connection], error) {
		return r.call(ctx, filter{limit: r.reader.pageSize, offset: offset})
	})
	if err != nil {
		return snapshot{}, err
	}
	r.allPending, r.all = true, true
	r.learn(func(k *lists) { k.all.count = r.pagesOf(c.total) })
	r.reader.setPages(r.pagesOf(c.total))
	return snapshot{collector: *c}, nil
}

// learnPage learns from the whole list on which page most of ids are, so that the next read
// begins there.
func (r *batchRead) learnPage(s *snapshot, ids []string) {
	on, best := map[int]int{}, 0
	for _, id := range ids {
		if at, ok := s.index[id]; ok {
			page := at / r.reader.pageSize
			if on[page]++; on[page] > on[best] {
				best = page
			}
		}
	}
	if n := on[best]; n >= 2 && 2*n > len(ids) {
		r.learn(func(k *lists) { k.all.hint, k.all.skip = best, 0 })
	}
}

// readByID adds the rows of ids, read one by one. honored is false if the API ignored or
// refused the filter: then the result says nothing about ids.
func (r *batchRead) readByID(ctx context.Context, s *snapshot, ids []string) (honored bool, err error) {
	for _, id := range ids {
		var row connection
		var found bool
		err := retryIncomplete(func() (err error) {
			row, found, honored, err = r.readOne(ctx, id)
			return err
		})
		if e, ok := asError(err); ok && !e.Retryable() {
			return false, nil // a refused filter does not mean an empty list
		}
		if err != nil {
			return true, err
		}
		if !honored {
			r.learn(func(k *lists) { k.noID = true })
			return false, nil
		}
		if found {
			s.join([]connection{row})
		}
	}
	return true, nil
}

// readOne reads the row of id.
func (r *batchRead) readOne(ctx context.Context, id string) (row connection, found, honored bool, err error) {
	p, err := r.call(ctx, filter{id: id})
	if err != nil {
		return row, false, true, err
	}
	for _, x := range p.rows {
		if !approval.SameID(x.ID, id) {
			return row, false, false, nil
		}
	}
	c := newCollector[connection](1)
	if err := c.add(p); err != nil {
		return row, false, true, err
	}
	if err := c.complete(); err != nil || len(c.rows) == 0 {
		return row, false, true, err
	}
	return c.rows[0], true, true, nil
}
