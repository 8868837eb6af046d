package cloud

import (
	"context"
	"sync"
	"time"
)

const (
	factsCredit    = 0.02 // reads that a request adds when it asks for facts, which it may do again,
	actCredit      = 0.05 // and when it has acted, unless time has added them already
	refillShare    = 0.04 // of the API's rate is added per second in any case, between
	minRefillRate  = 0.1  // this, in reads a second,
	maxRefillRate  = 1.2  // and this, times the pages of the list,
	maxRefillShare = 0.1  // but for long lists no more than this share of the API's rate
	minCapacity    = 6    // reads saved while idle, so that a single request never waits
	maxDebt        = 4 * time.Second
)

// readBudget is a token bucket that limits the reads of one target's list. It
// refills with time and with requests, so that under load a thousand approvals cost
// about 70 reads, however many run concurrently. Take has one caller at a time; the
// other methods are safe for concurrent use.
type readBudget struct {
	perSecond func() float64 // rate of the API

	mu         sync.Mutex
	pages      float64 // of the whole list
	tokens     float64 // one for each read; negative after Borrow
	refilledAt time.Time
	ahead      float64       // tokens that time has added and no request yet
	credited   chan struct{} // capacity 1; wakes Take
}

func newReadBudget(perSecond func() float64) *readBudget {
	return &readBudget{
		perSecond: perSecond, pages: 1,
		tokens: minCapacity, refilledAt: time.Now(),
		credited: make(chan struct{}, 1),
	}
}

// Take waits until a token is available and takes it.
func (b *readBudget) Take(ctx context.Context) error {
	for {
		b.mu.Lock()
		b.refill()
		missing, rate := 1-b.tokens, b.refillRate()
		if missing <= 0 {
			b.tokens--
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		timer := time.NewTimer(time.Duration(missing/rate*float64(time.Second)) + time.Millisecond)
		select {
		case <-b.credited:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// Borrow takes a token without waiting. The next Take waits longer, but no longer than
// maxDebt: what the callers wait for must be read in the end.
func (b *readBudget) Borrow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.tokens = max(b.tokens-1, min(b.tokens, 1-b.refillRate()*maxDebt.Seconds()))
}

// Credit adds tokens, less those that time has added.
func (b *readBudget) Credit(tokens float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	added := min(b.ahead, tokens)
	b.ahead -= added
	b.tokens = min(b.capacity(), b.tokens+tokens-added)
	select {
	case b.credited <- struct{}{}:
	default:
	}
}

// SetPages sets the number of pages of the whole list. A long list gets more tokens,
// because it must still be read from time to time.
func (b *readBudget) SetPages(pages int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	b.pages = float64(pages)
}

// refillRate is the number of tokens that time adds per second. The caller holds b.mu.
func (b *readBudget) refillRate() float64 {
	perSecond := b.perSecond()
	onePage := min(max(perSecond*refillShare, minRefillRate), maxRefillRate)
	return min(onePage*b.pages, max(onePage, perSecond*maxRefillShare))
}

// capacity is the largest number of tokens. The caller holds b.mu.
func (b *readBudget) capacity() float64 { return max(minCapacity, 2*b.pages) }

// refill adds the tokens for the time that has passed. The caller holds b.mu.
func (b *readBudget) refill() {
	now := time.Now()
	add := b.refillRate() * now.Sub(b.refilledAt).Seconds()
	b.tokens = min(b.capacity(), b.tokens+add)
	b.ahead = min(b.capacity(), b.ahead+add)
	b.refilledAt = now
}
