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
	first time.Time // when the workers were first counted
	begun bool      // this worker has a share
	last  int       // number of workers at the latest count
	seen  []workerCount
}

// workerCount is a number of live workers.
type workerCount struct {
	at time.Time
	n  int
}

// NewFleetShare holds all calls of c until the first count. ttl is how long a worker counts
// as alive after its last heartbeat.
func NewFleetShare(c *Client, ttl time.Duration) *FleetShare {
	c.divideRates(0)
	return &FleetShare{client: c, ttl: ttl}
}

// Count sets the share for n live workers, with this one, whose heartbeat must be stored
// before they are counted. It must be called several times in each TTL.
func (f *FleetShare) Count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = max(1, n)
	f.update()
}

// Unknown is Count for workers that could not be counted: nobody is taken as gone, and
// after one TTL without a count there may be one more.
func (f *FleetShare) Unknown() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == 0 {
		return
	}
	if now := time.Now(); now.Sub(f.seen[len(f.seen)-1].at) >= f.ttl {
		f.last++
		f.update()
	}
}

// update applies the latest count. The caller holds f.mu.
func (f *FleetShare) update() {
	now := time.Now()
	if f.first.IsZero() {
		f.first = now
		f.begun = f.last == 1
	}
	f.begun = f.begun || now.Sub(f.first) >= f.ttl
	f.seen = append(f.seen, workerCount{now, f.last})
	for len(f.seen) > 1 && now.Sub(f.seen[0].at) >= f.ttl {
		f.seen = f.seen[1:]
	}
	most := 0
	for _, c := range f.seen {
		most = max(most, c.n)
	}
	if !f.begun {
		most = 0
	}
	f.client.divideRates(most)
}

// divideRates sets the share of the rates of all APIs, see limit.divide.
func (c *Client) divideRates(workers int) {
	for _, h := range c.hosts {
		h.limit.divide(workers)
	}
}
