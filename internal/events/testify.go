package events

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// mostUnnoted bounds the messages that are remembered so; more than the broker
// has under way as a rule.
const mostUnnoted = 1 << 16

// remember keeps what could not be noted.
func (c *consuming) remember(key messageKey, survived []span) {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	if unnoted, ok := c.outlived[key]; ok || len(c.outlived) < mostUnnoted {
		c.outlived[key] = union(unnoted, survived)
	}
}

// release is to be called when the broker knows all of a message that is in
// hand: whoever ends it removes its history.
func (c *consuming) release(key messageKey) {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	delete(c.outlived, key)
}

func (c *consuming) unnotedOf(key messageKey) []span {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	return c.outlived[key]
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
			c.testify(ctx, c.cfg.AckWait)
		}
	}
}

// testify writes into the histories of messages what could not be written when
// it happened: that this process survived them. What does not fit into the time
// is left for the next call.
func (c *consuming) testify(ctx context.Context, within time.Duration) {
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
	for key, unnoted := range outlived {
		if key.seq <= info.AckFloor.Stream {
			err = c.dismiss(ctx, key)
		} else if len(unnoted) > 0 {
			err = c.tell(ctx, key, unnoted)
		}
		if err != nil {
			c.warn(err, "that requests did not end the worker could not be noted; it is noted later")
			return
		}
	}
}

// tell notes what this process survived of a message.
func (c *consuming) tell(ctx context.Context, key messageKey, unnoted []span) error {
	_, err := c.revise(ctx, key, nil, func(p *history) { p.survive(unnoted...) })
	if errors.Is(err, errBygone) {
		c.release(key)
		return nil
	}
	if err != nil {
		return err
	}
	c.handMu.Lock()
	defer c.handMu.Unlock()
	if now, ok := c.outlived[key]; ok && slices.Equal(now, unnoted) {
		c.outlived[key] = nil // to be dismissed
	}
	return nil
}

// dismiss forgets a message that is done. Its history may have been written too
// late for whoever did it to remove, or an acknowledgement that seemed lost was not.
func (c *consuming) dismiss(ctx context.Context, key messageKey) error {
	if err := c.erase(ctx, historyKey(key)); err != nil {
		return err
	}
	c.release(key)
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
