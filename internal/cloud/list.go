package cloud

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// maxPages is how many pages of one list are read at most.
const maxPages = 1000

// snapshot is what a list showed.
type snapshot struct {
	rows     map[string]connection // by id in lower case
	accepted map[string]int        // accepted connections by domain; only of a whole list
	at       time.Time             // it shows nothing older
}

func (s snapshot) row(id string) (connection, bool) {
	r, ok := s.rows[strings.ToLower(id)]
	return r, ok
}

// lists reads the connection list of one target for all who ask. Who asks while
// a read is on its way shares the next one, so that no answer is older than its
// question; reads of a target follow one another, as its purse allows.
type lists struct {
	size int // of a page
	page func(context.Context, filter) (page[connection], error)
	pace *purse
	turn chan struct{} // held by the read that is on its way

	mu       sync.Mutex
	next     *batch // what those join who ask now; nil if nobody has asked
	total    int    // rows when all were read last; -1 if they never were
	noFilter bool   // the API does not honour the filter by id
}

// batch is one read and those who wait for it.
type batch struct {
	ids     map[string]int // those asked for, by how many
	whole   int            // how many want the whole list
	waiters int
	cancel  context.CancelFunc
	done    chan struct{} // closed when the two below are set
	shown   snapshot
	err     error
}

func newLists(size int, perSecond float64, page func(context.Context, filter) (page[connection], error)) *lists {
	return &lists{
		size: size, page: page, total: -1, turn: make(chan struct{}, 1),
		pace: newPurse(perSecond),
	}
}

// read returns what the list shows of id, and of all others if whole is set.
func (l *lists) read(ctx context.Context, id string, whole bool) (snapshot, error) {
	id = strings.ToLower(id)
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
		b.whole++
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
func (l *lists) leave(b *batch, id string, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.waiters--
	if b.ids[id]--; b.ids[id] == 0 {
		delete(b.ids, id)
	}
	if whole {
		b.whole--
	}
	if b.waiters == 0 {
		b.cancel()
		if l.next == b {
			l.next = nil
		}
	}
}

// run carries b out when its turn has come.
func (l *lists) run(ctx context.Context, b *batch) {
	defer close(b.done)
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		b.err = ctx.Err()
		return
	}
	if b.err = l.pace.pay(ctx); b.err != nil {
		return
	}
	l.mu.Lock()
	if l.next == b {
		l.next = nil // from here on it is too late to join
	}
	ids := slices.Sorted(maps.Keys(b.ids))
	whole := b.whole > 0 || l.noFilter || len(ids) > l.pages()
	l.mu.Unlock()

	at := time.Now()
	if !whole {
		var honoured bool
		b.shown, honoured, b.err = l.byID(ctx, ids)
		whole = b.err == nil && !honoured
	}
	if whole {
		b.shown, b.err = l.all(ctx)
	}
	b.shown.at = at
}

// pages is how many calls the whole list takes, as far as is known; with l.mu held.
func (l *lists) pages() int { return max(1, (l.total+l.size-1)/l.size) }

// byID reads the rows of ids one by one. honoured is false if an answer held
// rows that were not asked for: then it tells nothing of those that were.
func (l *lists) byID(ctx context.Context, ids []string) (s snapshot, honoured bool, err error) {
	s.rows = map[string]connection{}
	for i, id := range ids {
		if i > 0 {
			l.pace.owe()
		}
		p, err := l.page(ctx, filter{id: id})
		if is(err, ClassGone) {
			continue
		}
		if err != nil {
			return s, true, err
		}
		for _, r := range p.rows {
			if !strings.EqualFold(r.ID, id) {
				l.mu.Lock()
				l.noFilter = true
				l.mu.Unlock()
				return s, false, nil
			}
			s.rows[id] = r
		}
	}
	return s, true, nil
}

// all reads all pages, without a filter that would let rows slip from page to
// page while connections are being decided.
func (l *lists) all(ctx context.Context) (snapshot, error) {
	calls := 0
	rows, err := collect(l.size, func(r connection) string { return r.ID }, func(offset int) (page[connection], error) {
		if calls++; calls > 1 {
			l.pace.owe()
		}
		return l.page(ctx, filter{limit: l.size, offset: offset})
	})
	if err != nil {
		return snapshot{}, err
	}
	s := snapshot{rows: make(map[string]connection, len(rows)), accepted: map[string]int{}}
	for _, r := range rows {
		s.rows[strings.ToLower(r.ID)] = r
		if approval.State(r.Status) == approval.Accepted {
			s.accepted[r.DomainID]++
		}
	}
	l.mu.Lock()
	l.total = len(rows)
	l.pace.widen(l.pages())
	l.mu.Unlock()
	return s, nil
}

// errEndless is a list that cannot be read to its end.
var errEndless = errors.New("the list does not come to an end: its pages repeat, or there are too many")

// collect reads all pages of a list. If the list changes meanwhile, so that a row
// may have slipped through between two pages, it is read once more.
func collect[T any](size int, id func(T) string, read func(offset int) (page[T], error)) ([]T, error) {
	var rows []T
	for range 2 {
		rows = nil
		seen := map[string]bool{}
		steady, total, offset := true, -1, 0
		for n := 0; ; n++ {
			p, err := read(offset)
			if err != nil {
				return nil, err
			}
			steady = steady && (n == 0 || p.total == total)
			total = p.total
			before := len(rows)
			for _, r := range p.rows {
				if key := strings.ToLower(id(r)); !seen[key] {
					seen[key] = true
					rows = append(rows, r)
				}
			}
			offset += len(p.rows)
			if len(p.rows) == 0 || total >= 0 && offset >= total || total < 0 && len(p.rows) < size {
				break
			}
			if len(rows) == before || n >= maxPages {
				return nil, errEndless
			}
		}
		if steady && len(rows) >= total {
			break
		}
	}
	return rows, nil
}

// pageOf is a page from the members of an answer.
func pageOf[T any](rows *[]T, total *int) page[T] {
	p := page[T]{total: -1}
	if rows != nil {
		p.rows = *rows
	}
	if total != nil {
		p.total = *total
	}
	return p
}

// listed reports whether an answer with these members is a list at all: no list
// is not the same as an empty one.
func listed[T any](rows *[]T, total *int) bool {
	return rows != nil || total != nil && *total == 0
}
