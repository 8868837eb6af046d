package cloud

import (
	"context"
	"sync"
	"time"
)

const (
	readsPerRequest = 0.045 // what asking for the facts of a connection adds for reads of its target
	readsAtRest     = 0.04  // of the API's rate is added in any case, within the next two
	leastAtRest     = 0.1   // reads a second
	mostAtRest      = 0.6   // reads a second, for each page of the list
	restShare       = 0.1   // of the API's rate is the most for a list of many pages
	readsInStock    = 10    // saved up in quiet times, so that a lone request never waits
)

// purse holds the reads of one target to a share of what is asked there: under
// load a thousand approvals cost about 80 reads, however many work on them.
// Nobody but the one whose turn it is may pay.
type purse struct {
	perSecond float64 // of the API

	mu      sync.Mutex
	pages   float64       // of the whole list
	content float64       // reads; below zero is a debt
	at      time.Time     // up to when what comes with time is in content
	acted   time.Time     // the last time that something was earned
	earned  chan struct{} // has room for one; tells that there is more than before
}

func newPurse(perSecond float64) *purse {
	return &purse{
		perSecond: perSecond, pages: 1,
		content: readsInStock, at: time.Now(), acted: time.Now(),
		earned: make(chan struct{}, 1),
	}
}

// pay waits until there is one read to spend, and spends it.
func (p *purse) pay(ctx context.Context) error {
	for {
		p.mu.Lock()
		p.fill()
		missing, atRest := 1-p.content, p.atRest()
		if missing <= 0 {
			p.content--
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		timer := time.NewTimer(time.Duration(missing/atRest*float64(time.Second)) + time.Millisecond)
		select {
		case <-p.earned:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// owe spends one read without waiting; the next payer waits for it.
func (p *purse) owe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill()
	p.content--
}

// earn adds what a request is worth, less what time has added since the last one.
func (p *purse) earn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill()
	p.content = min(p.most(), p.content+max(0, readsPerRequest-p.atRest()*p.at.Sub(p.acted).Seconds()))
	p.acted = p.at
	select {
	case p.earned <- struct{}{}:
	default:
	}
}

// widen tells how many pages the whole list has: one with many must still be
// read now and then.
func (p *purse) widen(pages int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill()
	p.pages = float64(pages)
}

// atRest is how many reads a second come without a request; with p.mu held.
func (p *purse) atRest() float64 {
	one := min(max(p.perSecond*readsAtRest, leastAtRest), mostAtRest)
	return min(one*p.pages, max(one, p.perSecond*restShare))
}

// most is how many reads can be saved up; with p.mu held.
func (p *purse) most() float64 { return max(readsInStock, 2*p.pages) }

// fill adds what came with time; with p.mu held.
func (p *purse) fill() {
	now := time.Now()
	p.content = min(p.most(), p.content+p.atRest()*now.Sub(p.at).Seconds())
	p.at = now
}
