package events

import (
	"context"
	"strings"
	"time"
)

// Admission decides which requests run; *worker.TargetSlots provides it. Requests that
// were pulled and find no slot wait in their handlers until it lets them run, or
// tells them to retry. It must be safe for concurrent use.
type Admission interface {
	Open()                     // requests without a slot wait
	Close()                    // they are told to retry, and those that wait already as well
	Refuse()                   // likewise, while others are served; then as after Open
	Waiting() int              // how many wait
	Left() <-chan struct{}     // gets a token when one does not wait any more
	CanRun(target string) bool // whether there is a slot for a request of target
}

const (
	lookEvery   = 200 * time.Millisecond // for requests that could run, while others wait for a slot
	lookTarget  = 2 * time.Millisecond   // and longer by this for each target
	pullAnyway  = time.Second            // after which one that was given back is pulled all the same
	waitingPart = 4                      // of the slots: the part that may wait before no more is pulled
)

// room returns how many requests to pull at most. While many wait for a slot, those
// behind them stay at the broker: they would only be given back. If one of them could
// run, for its target has slots, those that wait are given back instead. Now and
// then one is pulled all the same if some were given back, or are with other workers: these
// are not among those that are looked for, and come first.
func (c *consumeLoop) room(ctx context.Context) int {
	a := c.cfg.Admission
	if a == nil || a.Waiting() <= c.cfg.Slots/waitingPart {
		return c.cfg.Slots
	}
	now := time.Now()
	if every := lookEvery + time.Duration(len(c.cfg.Targets))*lookTarget; now.Sub(c.looked) >= every {
		c.looked = now
		if c.runnable(ctx) {
			a.Refuse()
			return c.cfg.Slots
		}
	}
	if now.Sub(c.pulledAnyway) >= pullAnyway {
		c.pulledAnyway = now
		if c.elsewhere(ctx) {
			return 1
		}
	}
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	select {
	case <-a.Left():
	case <-timer.C:
	case <-ctx.Done():
	}
	return 0
}

// runnable reports whether a request could run that was never delivered. It is true if
// the broker cannot tell.
func (c *consumeLoop) runnable(ctx context.Context) bool {
	var targets []string
	for _, t := range c.cfg.Targets {
		if c.cfg.Admission.CanRun(t.Name) {
			targets = append(targets, t.Name)
		}
	}
	if len(targets) == 0 {
		return false
	}
	info, err := c.consumerInfo(ctx)
	if err != nil || info == nil {
		return true
	}
	if info.NumPending == 0 {
		return false
	}
	return c.publishedAfter(ctx, info.Delivered.Stream, targets)
}

// elsewhere reports whether requests were delivered that neither ended nor are with this
// worker. It is true if the broker cannot tell.
func (c *consumeLoop) elsewhere(ctx context.Context) bool {
	info, err := c.consumerInfo(ctx)
	return err != nil || info == nil || info.NumAckPending > len(c.inFlight())
}

// publishedAfter reports whether a request was stored behind a sequence that may be of
// one of targets. Its subject tells, or does not tell anything.
func (c *consumeLoop) publishedAfter(ctx context.Context, sequence uint64, targets []string) bool {
	last, left, err := c.direct(ctx, RequestsStream, directGet{LastOf: []string{RequestsSubject + ".>"}, Batch: maxSubjects})
	if err != nil || left > 0 {
		return true
	}
	can := map[string]bool{}
	for _, t := range targets {
		can[t] = true
	}
	for _, m := range last {
		name := strings.TrimPrefix(strings.TrimPrefix(m.Subject, RequestsSubject+"."), "_sweep.")
		_, known := c.cfg.Targets.ByName(name)
		if m.sequence > sequence && (can[name] || !known) {
			return true
		}
	}
	return false
}

// maxSubjects is how many subjects the broker looks up at most.
const maxSubjects = 1024
