package cloud

import (
	"sync"
	"time"
)

// FleetShare divides the rates of a Client by the number of live workers, so that the
// fleet as a whole keeps them. It is safe for concurrent use.
//
// A new worker has no share for one TTL, unless it is the only one: the others need that
// time to see it. The share shrinks immediately and grows one TTL after a worker is gone.
type FleetShare struct {
	client *Client
	ttl    time.Duration

	mu    sync.Mutex
	first time.Time   // when the workers were first counted
	begun bool        // this worker has a share
	last  workerCount // the latest one
	seen  []workerCount
}

// workerCount is a number of live workers.
type workerCount struct {
	at   time.Time
	n    int
	rank int // of this one among them
}

// NewFleetShare holds all calls of c until the first count. ttl is how long a worker counts
// as alive after its last heartbeat.
func NewFleetShare(c *Client, ttl time.Duration) *FleetShare {
	c.divideRates(0, 0)
	return &FleetShare{client: c, ttl: ttl}
}

// Count sets the share for n live workers, with this one, whose heartbeat must be stored
// before they are counted. rank of them come before it, in an order that all workers
// share. It must be called several times in each TTL.
func (f *FleetShare) Count(n, rank int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = workerCount{n: max(1, n), rank: rank}
	f.update()
}

// Unknown is Count for workers that could not be counted: nobody is taken as gone, and
// after one TTL without a count there may be one more.
func (f *FleetShare) Unknown() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last.n == 0 {
		return
	}
	if now := time.Now(); now.Sub(f.seen[len(f.seen)-1].at) >= f.ttl {
		f.last.n++
		f.last.rank++
		f.update()
	}
}

// update applies the latest count. The caller holds f.mu.
func (f *FleetShare) update() {
	now := time.Now()
	if f.first.IsZero() {
		f.first = now
		f.begun = f.last.n == 1
	}
	f.begun = f.begun || now.Sub(f.first) >= f.ttl
	f.last.at = now
	f.seen = append(f.seen, f.last)
	for len(f.seen) > 1 && now.Sub(f.seen[0].at) >= f.ttl {
		f.seen = f.seen[1:]
	}
	var most workerCount
	for _, c := range f.seen {
		most.n, most.rank = max(most.n, c.n), max(most.rank, c.rank)
	}
	if !f.begun {
		most.n = 0
	}
	f.client.divideRates(most.n, most.rank)
}

// divideRates sets the share of the rates of all APIs, see limit.divide.
func (c *Client) divideRates(workers, rank int) {
	for _, h := range c.hosts {
		h.limit.divide(workers, rank)
	}
}
