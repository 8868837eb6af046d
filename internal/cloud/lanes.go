package cloud

import (
	"context"
	"slices"
	"sync"
	"time"
)

// lane is a queue of calls of one kind.
type lane int

const (
	laneAct     lane = iota // calls that change something, whose facts must not get old
	laneConfirm             // reads for requests that are nearly done
	laneRead                // other reads
	lanes
)

// readPatience is how long a read lets calls of laneAct pass. Then they take turns: the
// facts of the calls that wait must be read again before they are old.
const readPatience = time.Second / 4

type laneKey struct{}

// inLane puts the reads made with ctx into a lane.
func inLane(ctx context.Context, l lane) context.Context {
	return context.WithValue(ctx, laneKey{}, l)
}

// laneOf returns the lane of a call.
func laneOf(ctx context.Context, of effect) lane {
	if of != safe {
		return laneAct
	}
	if l, ok := ctx.Value(laneKey{}).(lane); ok {
		return l
	}
	return laneRead
}

// turns lets callers pass one by one: in each lane in their order of arrival, laneAct
// first, and the other two in turn. It is safe for concurrent use.
type turns struct {
	mu      sync.Mutex
	busy    bool
	last    lane // that passed last
	lastFor lane // of the reads that passed last
	waiting [lanes][]*turn
}

// turn is a waiting caller.
type turn struct {
	since time.Time
	ready chan struct{} // closed when the caller may pass
}

// enter waits until the caller may pass. It must call leave then.
func (q *turns) enter(ctx context.Context, of lane) error {
	q.mu.Lock()
	if !q.busy {
		q.busy = true
		q.passed(of)
		q.mu.Unlock()
		return nil
	}
	t := &turn{time.Now(), make(chan struct{})}
	q.waiting[of] = append(q.waiting[of], t)
	q.mu.Unlock()
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	i := slices.Index(q.waiting[of], t)
	if i >= 0 {
		q.waiting[of] = slices.Delete(q.waiting[of], i, i+1)
	}
	q.mu.Unlock()
	if i < 0 {
		q.leave() // it was let pass meanwhile
	}
	return ctx.Err()
}

// leave lets the next caller pass.
func (q *turns) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	of, ok := q.next()
	if !ok {
		q.busy = false
		return
	}
	t := q.waiting[of][0]
	q.waiting[of][0] = nil
	q.waiting[of] = q.waiting[of][1:]
	q.passed(of)
	close(t.ready)
}

// passed notes who passes. The caller holds q.mu.
func (q *turns) passed(of lane) {
	if q.last = of; of != laneAct {
		q.lastFor = of
	}
}

// next returns the lane that comes next. The caller holds q.mu.
func (q *turns) next() (lane, bool) {
	read, reads := laneRead, true
	switch confirm, other := len(q.waiting[laneConfirm]) > 0, len(q.waiting[laneRead]) > 0; {
	case confirm && (!other || q.lastFor != laneConfirm):
		read = laneConfirm
	case !other:
		reads = false
	}
	switch {
	case len(q.waiting[laneAct]) == 0:
		return read, reads
	case reads && q.last == laneAct && time.Since(q.waiting[read][0].since) >= readPatience:
		return read, true
	}
	return laneAct, true
}
