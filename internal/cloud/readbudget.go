package cloud

import (
	"context"
	"sync"
	"time"
)

const (
	creditPerRequest = 0.045 // what asking for the facts of a connection adds for reads of its target
	refillShare      = 0.04  // of the API's rate is added in any case, within the next two
	minRefillRate    = 0.1   // reads a second
	maxRefillRate    = 0.6   // reads a second, for each page of the list
	maxRefillShare   = 0.1   // of the API's rate is the most for a list of many pages
	minCapacity      = 10    // saved up in quiet times, so that a lone request never waits
)

// purse holds the reads of one target to a share of what is asked there: under
// load a thousand approvals cost about 80 reads, however many work on them.
// Nobody but the one whose turn it is may pay.
type readBudget struct {
	perSecond float64 // of the API

	mu         sync.Mutex
	pages      float64       // of the whole list
	tokens     float64       // reads; below zero is a debt
	refilledAt time.Time     // up to when what comes with time is in content
	creditedAt time.Time     // the last time that something was earned
	credited   chan struct{} // has room for one; tells that there is more than before
}

func newReadBudget(perSecond float64) *readBudget {
	return &readBudget{
		perSecond: perSecond, pages: 1,
		tokens: minCapacity, refilledAt: time.Now(), creditedAt: time.Now(),
		credited: make(chan struct{}, 1),
	}
}

// pay waits until there is one read to spend, and spends it.
func (p *readBudget) Take(ctx context.Context) error {
	for {
		p.mu.Lock()
		p.refill()
		missing, atRest := 1-p.tokens, p.refillRate()
		if missing <= 0 {
			p.tokens--
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		timer := time.NewTimer(time.Duration(missing/atRest*float64(time.Second)) + time.Millisecond)
		select {
		case <-p.credited:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// owe spends one read without waiting; the next payer waits for it.
func (p *readBudget) Borrow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	p.tokens--
}

// earn adds what a request is worth, less what time has added since the last one.
func (p *readBudget) Credit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	p.tokens = min(p.capacity(), p.tokens+max(0, creditPerRequest-p.refillRate()*p.refilledAt.Sub(p.creditedAt).Seconds()))
	p.creditedAt = p.refilledAt
	select {
	case p.credited <- struct{}{}:
	default:
	}
}

// widen tells how many pages the whole list has: one with many must still be
// read now and then.
func (p *readBudget) SetPages(pages int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	p.pages = float64(pages)
}

// atRest is how many reads a second come without a request; with p.mu held.
func (p *readBudget) refillRate() float64 {
	one := min(max(p.perSecond*refillShare, minRefillRate), maxRefillRate)
	return min(one*p.pages, max(one, p.perSecond*maxRefillShare))
}

// most is how many reads can be saved up; with p.mu held.
func (p *readBudget) capacity() float64 { return max(minCapacity, 2*p.pages) }

// fill adds what came with time; with p.mu held.
func (p *readBudget) refill() {
	now := time.Now()
	p.tokens = min(p.capacity(), p.tokens+p.refillRate()*now.Sub(p.refilledAt).Seconds())
	p.refilledAt = now
}
