package events

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// testimony is what this process knows of a message that it has no more in hand.
type testimony struct {
	survived []span    // deliveries that did not end this process
	noted    bool      // they are in the history of the message
	acked    time.Time // when the broker took the acknowledgement; zero if it may not know of any
}

const (
	// mostOutlived bounds the messages that are remembered so; more than the
	// broker has under way as a rule.
	mostOutlived = 1 << 16
	mostBygone   = 1 << 13 // of each generation
	// ackStored is after how long a broker that is killed comes back with an
	// acknowledgement: nats-server writes them to disk ten times a second.
	ackStored = 2 * time.Second
)

// remember keeps what could not be noted.
func (c *consuming) remember(key messageKey, survived []span) {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	if known, ok := c.outlived[key]; ok || len(c.outlived) < mostOutlived {
		c.outlived[key] = testimony{survived: union(known.survived, survived)}
	}
}

// acked keeps the history of a message that came more than once and is done now,
// until the broker cannot come back without the acknowledgement: the message
// would be delivered again, and nobody would know how its deliveries ended.
func (c *consuming) acked(ctx context.Context, key messageKey, survived []span) {
	c.handMu.Lock()
	known, kept := c.outlived[key]
	if kept = kept || len(c.outlived) < mostOutlived; kept {
		c.outlived[key] = testimony{survived: union(known.survived, survived), acked: time.Now()}
	}
	c.handMu.Unlock()
	if !kept {
		if err := c.dismiss(ctx, key, survived); err != nil {
			c.warn(err, "the history of a message could not be removed")
		}
	}
}

// bygone is what is known of messages that are done, the latest of them. A broker
// that was killed once may come back each time without acknowledgements that it
// has confirmed, however old they are.
type bygone struct{ young, old map[messageKey][]span }

func (b *bygone) add(key messageKey, survived []span) {
	if b.young == nil || len(b.young) >= mostBygone {
		b.young, b.old = map[messageKey][]span{}, b.young
	}
	b.young[key] = survived
}

func (b *bygone) of(key messageKey) []span {
	if survived, ok := b.young[key]; ok {
		return survived
	}
	return b.old[key]
}

// doubtAcks is for a broker that may have been away: what it was told last it may
// not know any more.
func (c *consuming) doubtAcks() {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	for key, t := range c.outlived {
		t.acked = time.Time{}
		c.outlived[key] = t
	}
}

// release is to be called when the broker knows all of a message that is in
// hand: whoever ends it removes its history.
func (c *consuming) release(key messageKey) {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	delete(c.outlived, key)
}

func (c *consuming) survivedOf(key messageKey) []span {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	return union(c.bygone.of(key), c.outlived[key].survived)
}

// witness has testify called when the consumer was bound, and twice in an AckWait.
func (c *consuming) witness(ctx context.Context) {
	t := time.NewTicker(c.cfg.AckWait / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-c.testifyNow:
		}
		if c.nc.IsConnected() && c.bound.Load() {
			c.testify(ctx, c.cfg.AckWait, ackStored)
		}
	}
}

// testify writes into the histories of messages what could not be written when
// it happened: that this process survived them. It removes the histories of those
// that were acknowledged at least so long ago. What does not fit into the time is
// left for the next call.
func (c *consuming) testify(ctx context.Context, within, ackedAgo time.Duration) {
	c.handMu.Lock()
	outlived, alone := maps.Clone(c.outlived), c.isAlone
	c.handMu.Unlock()
	if len(outlived) == 0 && alone == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if alone != nil {
		if err := alone.object(ctx); err != nil {
			return // the next call finds the bucket, or the pull finds what is wrong
		}
	}
	info, err := c.consumerInfo(ctx)
	if err != nil || info == nil {
		return
	}
	c.bindMu.Lock()
	c.made = info.Created
	c.bindMu.Unlock()
	var done []messageKey
	for key, t := range outlived {
		switch {
		case !t.acked.IsZero():
			if time.Since(t.acked) >= ackedAgo {
				done = append(done, key)
			}
		case key.seq <= info.AckFloor.Stream:
			done = append(done, key)
		case !t.noted:
			if err := c.tell(ctx, key, t.survived); err != nil {
				c.warn(err, "that requests did not end the worker could not be noted; it is noted later")
				return
			}
		}
	}
	for _, key := range done { // last, for nobody waits for it
		if err := c.dismiss(ctx, key, outlived[key].survived); err != nil {
			c.warn(err, "the history of a message could not be removed; it is removed later")
			return
		}
	}
}

// tell notes what this process survived of a message.
func (c *consuming) tell(ctx context.Context, key messageKey, survived []span) error {
	_, err := c.revise(ctx, key, nil, func(p *history) { p.survive(survived...) })
	if errors.Is(err, errBygone) {
		c.release(key)
		return nil
	}
	if err != nil {
		return err
	}
	c.handMu.Lock()
	defer c.handMu.Unlock()
	if now, ok := c.outlived[key]; ok && slices.Equal(now.survived, survived) {
		now.noted = true
		c.outlived[key] = now
	}
	return nil
}

// dismiss forgets a message that is done. Its history may have been written too
// late for whoever did it to remove, or an acknowledgement that seemed lost was not.
func (c *consuming) dismiss(ctx context.Context, key messageKey, survived []span) error {
	if err := c.erase(ctx, historyKey(key)); err != nil {
		return err
	}
	c.handMu.Lock()
	defer c.handMu.Unlock()
	c.bygone.add(key, survived)
	delete(c.outlived, key)
	return nil
}

// object takes back the doubt of another worker, which took this one for dead,
// whether h ended it.
func (h *inHand) object(ctx context.Context) error {
	past, err := h.c.recorded(ctx, h.key)
	if errors.Is(err, errBygone) {
		return nil
	}
	n := h.meta.NumDelivered
	if err != nil || past.Doubted != n {
		return err
	}
	_, err = h.c.revise(ctx, h.key, &past, func(p *history) {
		if p.Doubted == n {
			p.Doubted = 0
		}
	})
	return err
}

// handledAlone has others told, while f runs, that h has not ended this process.
func (h *inHand) handledAlone(f func() error) error {
	set := func(alone bool) {
		h.mu.Lock()
		h.isAlone = alone
		h.mu.Unlock()
		h.c.handMu.Lock()
		defer h.c.handMu.Unlock()
		h.c.isAlone = nil
		if alone {
			h.c.isAlone = h
		}
	}
	set(true)
	defer set(false)
	return f()
}
