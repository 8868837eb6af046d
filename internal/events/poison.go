package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
)

// The broker counts deliveries, and does not tell those that we gave back from
// those that a worker took with it when it died. So each giving back is noted,
// and what was not noted counts as a crash, unless this very process had it in
// hand and lives: a broker in trouble takes no notes. A message with quarantineAt crashes
// is handled with nothing else in hand, so that the next crash is its own; it is
// given up only after such a crash. A message that kills its worker thus kills
// three, and its neighbours survive. Whose panic it is needs no such proof.
const (
	quarantineAt = 2
	poisonAt     = 3 // crashes, or panics
)

// history is what is noted of a message that was delivered before, in the
// ledger's bucket under delivery.<stream sequence>.
type history struct {
	V       int       `json:"v"`
	Stored  time.Time // when the message was stored; another time is another message
	Seen    uint64    // deliveries that Crashes covers
	Crashes uint64
	Alone   bool // the delivery after Seen was handled alone
	Panics  uint64
}

const historyFormat = 1

func (h *inHand) historyKey() string { return "delivery." + strconv.FormatUint(h.key.seq, 10) }

func (c *consuming) histories() jetstream.KeyValue {
	c.bindMu.Lock()
	defer c.bindMu.Unlock()
	return c.deliveries
}

// recall returns how many deliveries of the message ended without being given
// back.
func (h *inHand) recall(ctx context.Context) (uint64, error) {
	stored := h.meta.Timestamp.UTC()
	known := history{V: historyFormat, Stored: stored}
	if h.meta.NumDelivered <= 1 {
		h.know(known)
		return 0, nil
	}
	found, err := h.c.histories().Get(ctx, h.historyKey())
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, fmt.Errorf("read how often the message was given back: %w", err)
	}
	if err == nil {
		var past history
		if err := json.Unmarshal(found.Value(), &past); err == nil && past.V == historyFormat &&
			past.Stored.Equal(stored) && past.Seen < h.meta.NumDelivered {
			known = past
		}
	}
	known = known.until(h.meta.NumDelivered-1, h.c.survived(h.key))
	h.know(known)
	return known.Crashes, nil
}

// span is some deliveries of a message, one after the other.
type span struct{ from, to uint64 }

// until takes the deliveries up to last for crashes, but for those that were
// survived.
func (p history) until(last uint64, survived []span) history {
	for n := p.Seen + 1; n <= last; n++ {
		lived := slices.ContainsFunc(survived, func(s span) bool { return s.from <= n && n <= s.to })
		switch {
		case !lived:
			p.Crashes++
		case p.Alone && n == p.Seen+1:
			p.Alone, p.Crashes = false, quarantineAt-1
		}
	}
	p.Seen = last
	return p
}

// survived returns the deliveries that this process had in hand and could not
// note.
func (c *consuming) survived(key messageKey) []span {
	c.handMu.Lock()
	defer c.handMu.Unlock()
	return c.unnoted[key]
}

// mostUnnoted bounds the messages that are remembered so; more than the broker
// has under way as a rule.
const mostUnnoted = 1 << 16

// survive remembers that this process outlived the deliveries of h.
func (h *inHand) survive(delivered uint64) {
	h.c.handMu.Lock()
	defer h.c.handMu.Unlock()
	if spans, ok := h.c.unnoted[h.key]; ok || len(h.c.unnoted) < mostUnnoted {
		h.c.unnoted[h.key] = append(slices.Clip(spans), span{h.meta.NumDelivered, delivered})
	}
}

// noted is to be called when the broker knows all of that.
func (h *inHand) noted() {
	h.c.handMu.Lock()
	defer h.c.handMu.Unlock()
	delete(h.c.unnoted, h.key)
}

func (h *inHand) know(past history) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past = past
}

// quarantine notes that this delivery is handled alone, before it is. If it ends
// in good order that is void.
func (h *inHand) quarantine(ctx context.Context, crashes uint64) error {
	h.c.cfg.Log.Warn().Uint64("stream_sequence", h.key.seq).Uint64("crashes", crashes).
		Msg("a message is handled alone, for workers ended while it was in hand")
	past := h.past
	past.Alone = true
	if err := h.write(ctx, past); err != nil {
		return err
	}
	// What survives it is no killer, and need not be alone each time that it
	// comes again; one more crash, and it is.
	past.Alone, past.Crashes = false, quarantineAt-1
	h.know(past)
	return nil
}

// panicked counts a panic of this delivery, and gives the message up if it was
// one too many.
func (h *inHand) panicked() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past.Panics++
	if h.past.Panics >= poisonAt {
		return reject(ReasonPoison, "", "its handling panicked %d times", h.past.Panics)
	}
	return errPanic
}

// note writes that the deliveries up to this one ended in good order, or have
// been counted.
func (h *inHand) note(ctx context.Context, delivered uint64) {
	h.mu.Lock()
	past := h.past
	h.mu.Unlock()
	if past.V == 0 {
		h.survive(delivered)
		return // what was noted before could not be read, and must not be lost
	}
	past.Seen = delivered
	if err := h.write(ctx, past); err != nil {
		h.survive(delivered)
		h.c.warn(err, "that a request was given back could not be noted")
		return
	}
	h.noted()
}

func (h *inHand) write(ctx context.Context, past history) error {
	data, err := json.Marshal(past, json.OmitZeroStructFields(true))
	if err != nil {
		return fmt.Errorf("encode the history of a message: %w", err)
	}
	if _, err := h.c.histories().Put(ctx, h.historyKey(), data); err != nil {
		return fmt.Errorf("note the history of a message: %w", err)
	}
	return nil
}

// forget removes what is noted of a message that is done, if anything is,
// without leaving a marker behind.
func (h *inHand) forget(ctx context.Context) {
	s, err := h.c.js.Stream(ctx, bucketStream)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject("$KV."+LedgerBucket+"."+h.historyKey()))
	}
	if err != nil {
		h.c.warn(err, "the history of a message could not be removed")
	}
}
