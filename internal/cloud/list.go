package cloud

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// snapshot is what a read showed of a list: the connections that were asked for, and any
// others. One that was asked for and has no row is not in the list.
type snapshot struct {
	collector[connection]
	at    time.Time  // when the first call was sent
	count *listCount // by account, if the whole list was asked for
}

func (s snapshot) row(id string) (connection, bool) {
	i, ok := s.index[approval.UUID(id)]
	if !ok {
		return connection{}, false
	}
	return s.rows[i], true
}

// contradicted reports whether there are different rows of a connection. Then the total
// does not tell whether another one is missing.
func (s snapshot) contradicted() bool {
	return slices.ContainsFunc(s.rows, func(r connection) bool { return r.contradicted })
}

// need says what a caller wants to know.
type need int

const (
	needState need = iota // of a connection that was decided: whether it shows
	needFacts             // of a connection that is to be decided, so it is usually pending
	needList              // the whole list
)

// pageReader reads a page of a list, and returns when the call was sent.
type pageReader func(context.Context, filter) (page[connection], time.Time, error)

// connectionReader reads the connection list of one target for all callers. Callers
// that arrive during a read share the next one, so that no result is older than its
// request. Reads are limited by the read budget. One that many wait for runs side by side
// with others. It is safe for concurrent use.
type connectionReader struct {
	pageSize int
	readPage pageReader
	report   func(error) error // called with the error of each read; returns the error for the callers
	rows     queue             // for single connections
	whole    queue             // for the whole list, whose many calls must not hold up the others

	mu        sync.Mutex
	lastCount *listCount            // of the latest read of the whole list, as long as it is used
	pending   map[string]pendingRow // of the latest reads, by id
	counts    approval.Connections  // of the latest complete reads
	shownAt   time.Time             // when the last read was sent whose rows are in pending
	pruneAt   time.Time             // when old rows were last removed from it
	acting    []string              // ids of decisions that are being sent, in order
	known     lists
}

// lists is what a reader knows of the length of its lists, which decides how it reads them.
// connectionReader.mu guards it.
type lists struct {
	all       pages
	pending   pages
	pendingAt time.Time // when they were last read
	noID      bool      // the API ignores the filter by id
	filters   bool      // the API filtered by state when it was last asked to
}

// pages is what is known of a list.
type pages struct {
	count int // calls for all of it; 0: not known
	hint  int // the page that showed most of what was wanted last
	skip  int // number of reads that leave this list out, because it did not help
}

// pendingRow is a connection that waited for a decision when it was last read.
type pendingRow struct {
	row connection
	at  time.Time // when the read was sent
}

// queue is where callers wait for reads of one kind.
type queue struct {
	budget  *readBudget
	reading chan struct{} // capacity 1; held by the current read
	extra   chan struct{} // one token for each read next to it; nil: none
	next    *batch        // joined by new callers; nil if there are none. connectionReader.mu guards it.
}

// batch is one read and its waiters.
type batch struct {
	queue   *queue
	needs   map[string]*waiters // by id
	waiters int
	joined  int // callers, with those that have left
	cancel  context.CancelFunc
	enough  chan struct{} // closed when there are enoughWaiters
	done    chan struct{} // closed when shown and err are set
	shown   snapshot
	err     error
}

// waiters is the number of waiters for a connection.
type waiters struct{ all, facts int }

func newConnectionReader(size int, perSecond func() float64, readPage pageReader, report func(error) error) *connectionReader {
	return &connectionReader{
		pageSize: size, readPage: readPage, report: report,
		rows: queue{
			budget: newReadBudget(perSecond), reading: make(chan struct{}, 1),
			extra: make(chan struct{}, min(int(perSecond()/minExtraRate), maxExtra)),
		},
		whole: queue{budget: newReadBudget(perSecond), reading: make(chan struct{}, 1)},
	}
}

const (
	// enoughWaiters is the number of callers from which a read does not wait for the current
	// one. As the read budget allows one for about as many approvals, waiting longer
	// would only make an API with slow answers slower.
	enoughWaiters = 16
	maxExtra      = 3  // reads of a list next to the current one
	minExtraRate  = 50 // calls a second for each of them
)

// read returns the row of id, or the whole list.
func (l *connectionReader) read(ctx context.Context, id string, what need) (snapshot, error) {
	id = approval.UUID(id)
	q := &l.rows
	if what == needList {
		q = &l.whole
	}
	l.mu.Lock()
	b := q.next
	if b == nil {
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		b = &batch{queue: q, needs: map[string]*waiters{}, cancel: cancel, enough: make(chan struct{}), done: make(chan struct{})}
		q.next = b
		go l.run(run, b) // ends after the read, or when the last waiter leaves
	}
	b.change(id, what, 1)
	if b.joined++; b.joined == enoughWaiters {
		close(b.enough)
	}
	l.mu.Unlock()

	defer l.leave(b, id, what)
	select {
	case <-b.done:
		return b.shown, b.err
	case <-ctx.Done():
		return snapshot{}, ctx.Err()
	}
}

// change adds n to the waiters. The caller holds connectionReader.mu.
func (b *batch) change(id string, what need, n int) {
	w := b.needs[id]
	if w == nil {
		w = &waiters{}
		b.needs[id] = w
	}
	b.waiters += n
	w.all += n
	if what == needFacts {
		w.facts += n
	}
	if w.all == 0 {
		delete(b.needs, id)
	}
}

// leave removes a waiter. The last one cancels the read.
func (l *connectionReader) leave(b *batch, id string, what need) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.change(id, what, -1)
	if b.waiters == 0 {
		b.cancel()
		if b.queue.next == b {
			b.queue.next = nil
		}
	}
}

// run waits for an earlier read and the read budget, then reads b.
func (l *connectionReader) run(ctx context.Context, b *batch) {
	defer close(b.done)
	release, err := b.turn(ctx)
	if b.err = err; err != nil {
		return
	}
	defer release()
	if b.err = b.queue.budget.Take(ctx); b.err != nil {
		return
	}
	l.mu.Lock()
	if b.queue.next == b {
		b.queue.next = nil // nobody can join from here on
	}
	w := l.wantedBy(b)
	l.mu.Unlock()

	r := &batchRead{reader: l, budget: b.queue.budget}
	r.paid.Store(true)
	if w.decided {
		ctx = inLane(ctx, laneConfirm)
	}
	b.shown, b.err = r.read(ctx, w)
	b.err = l.report(b.err)
	b.shown.at = r.began()
	if b.err == nil {
		l.keepPending(w.ids, r.allPending, b.shown)
		if r.all {
			l.count(b.shown)
		}
		if w.list {
			b.shown.count = countList(b.shown)
			l.keepCount(b.shown.count)
		}
	}
}

// turn waits until b may be read.
func (b *batch) turn(ctx context.Context) (release func(), err error) {
	extra := chan struct{}(nil)
	for enough := b.enough; ; {
		select {
		case b.queue.reading <- struct{}{}:
			return func() { <-b.queue.reading }, nil
		case extra <- struct{}{}:
			return func() { <-extra }, nil
		case <-enough:
			enough, extra = nil, b.queue.extra
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// wanted is what a batch must find out.
type wanted struct {
	ids     []string
	pending []string // ids that are probably pending, and those of decisions that are being sent
	list    bool     // the whole list
	decided bool     // some were decided, so that their requests are nearly done
}

// wantedBy returns what b must find out. The caller holds l.mu.
func (l *connectionReader) wantedBy(b *batch) wanted {
	w := wanted{ids: slices.Sorted(maps.Keys(b.needs)), list: b.queue == &l.whole}
	for _, id := range w.ids {
		n := b.needs[id]
		if n.facts > 0 {
			w.pending = append(w.pending, id)
		}
		w.decided = w.decided || n.facts < n.all && !w.list
	}
	// Decisions that wait for their turn need facts that are not old.
	if len(l.acting) > 1 && time.Since(l.known.pendingAt) >= refreshAfter {
		most := max(2, int(l.rows.budget.perSecond()*refreshFor.Seconds()))
		w.pending = append(w.pending, l.acting[:min(most, len(l.acting))]...)
	}
	return w
}

const (
	// refreshAfter is the age from which the pending rows are read together with others, if
	// decisions wait for their turn. It is less than half of the age that callers allow.
	refreshAfter = 2 * time.Second
	// refreshFor is the time whose decisions are read then: until the next such read.
	refreshFor = 6 * time.Second
)

// act counts a decision that is being sent, until the returned function is called.
func (l *connectionReader) act(id string) (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acting = append(l.acting, id)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if i := slices.Index(l.acting, id); i >= 0 {
			l.acting = slices.Delete(l.acting, i, i+1)
		}
	}
}

// pendingMemory is how long a row is kept at least that was pending and is not read any more.
const pendingMemory = time.Minute

// keepPending keeps what a read of ids shows as pending. complete says that it shows all
// pending rows.
func (l *connectionReader) keepPending(ids []string, complete bool, shown snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if shown.at.Before(l.shownAt) {
		return // a younger read was quicker
	}
	l.shownAt = shown.at
	switch {
	case complete || l.pending == nil:
		l.pending = map[string]pendingRow{}
	case shown.at.Sub(l.pruneAt) > pendingMemory/4:
		l.pruneAt = shown.at
		maps.DeleteFunc(l.pending, func(_ string, r pendingRow) bool { return shown.at.Sub(r.at) > pendingMemory })
	}
	for _, id := range ids {
		delete(l.pending, id)
	}
	for id, i := range shown.index {
		delete(l.pending, id)
		if r := shown.rows[i]; approval.State(r.Status) == approval.Pending {
			l.pending[id] = pendingRow{r, shown.at}
		}
	}
}

// count counts the rows of a whole list. Rows that contradict each other are no count.
func (l *connectionReader) count(shown snapshot) {
	if shown.contradicted() {
		return
	}
	n := map[approval.State]int{}
	for _, r := range shown.rows {
		n[approval.State(r.Status)]++
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Pending = l.counts.Pending.Newer(approval.ConnectionCount{N: n[approval.Pending], At: shown.at})
	l.counts.Accepted = l.counts.Accepted.Newer(approval.ConnectionCount{N: n[approval.Accepted], At: shown.at})
}

// countPending takes a count of the pending rows from another read. filtered says that
// the read showed no other rows.
func (l *connectionReader) countPending(n int, filtered bool, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Pending = l.counts.Pending.Newer(approval.ConnectionCount{N: n, At: at})
	l.known.filters = filtered
}

// countAccepted is countPending for the accepted rows.
func (l *connectionReader) countAccepted(n int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.Accepted = l.counts.Accepted.Newer(approval.ConnectionCount{N: n, At: at})
}

func (l *connectionReader) filtersByState() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known.filters
}

func (l *connectionReader) counted() approval.Connections {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// latestPending returns the row that the latest read showed of a pending connection.
func (l *connectionReader) latestPending(id string) (pendingRow, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen, ok := l.pending[approval.UUID(id)]
	return seen, ok
}
