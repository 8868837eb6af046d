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

// history is what is noted of a message that was delivered before, in the
// ledger's bucket under delivery.<stream sequence>. Notes of several workers add
// up in any order.
type history struct {
	V        int       `json:"v"`
	Stored   time.Time // when the message was stored; another time is another message
	Counted  time.Time // when the consumer that counts its deliveries was made
	Survived []span    // deliveries that ended otherwise than by a crash; in order, apart
	Alone    uint64    // the delivery that was last handled with nothing else in hand
	Cleared  uint64    // the last such delivery that was survived
	Doubted  uint64    // Alone when its crash was put in doubt
	Since    time.Time // of that doubt
	Panics   uint64
	Request  string // id, if it ended a worker or panicked after it was decoded
}

const historyFormat = 2

// span is some deliveries of a message, one after the other: first and last.
type span [2]uint64

// mostSpans bounds a history. What is older than so many crashes does not matter.
const mostSpans = 16

// union returns the deliveries of both, in order and as few spans.
func union(a, b []span) []span {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y span) int { return slices.Compare(x[:], y[:]) })
	var out []span
	for _, s := range all {
		if n := len(out); n > 0 && s[0] <= out[n-1][1]+1 {
			out[n-1][1] = max(out[n-1][1], s[1])
			continue
		}
		out = append(out, s)
	}
	if over := len(out) - mostSpans; over > 0 {
		first := out[0][0]
		out = out[over:]
		out[0][0] = first
	}
	return out
}

// survive adds deliveries that are known to have been survived.
func (p *history) survive(spans ...span) {
	p.Survived = union(p.Survived, spans)
	if p.survived(p.Alone) {
		p.Cleared = max(p.Cleared, p.Alone)
	}
}

func (p *history) survived(delivery uint64) bool {
	return slices.ContainsFunc(p.Survived, func(s span) bool { return s[0] <= delivery && delivery <= s[1] })
}

// lost counts the deliveries up to last of which nobody knows how they ended.
func (p *history) lost(last uint64) uint64 {
	n := last
	for _, s := range p.Survived {
		if s[0] <= last {
			n -= min(s[1], last) - s[0] + 1
		}
	}
	return n
}

// crashes counts those that are to be taken for crashes. What was survived alone
// is no killer, and need not be alone each time that it comes again; but one more
// crash, and it is.
func (p *history) crashes(last uint64) uint64 {
	before := p.lost(min(p.Cleared, last))
	return min(before, quarantineAt-1) + p.lost(last) - before
}

// quarantine says that a delivery is handled alone.
func (p *history) quarantine(delivery uint64) {
	p.Alone = delivery
	if p.Cleared >= delivery { // a broker that was set back counts anew
		p.Cleared = 0
	}
}

// killed reports whether the crashes up to last are enough, and whose they are.
func (p *history) killed(last uint64) bool {
	return p.Alone > 0 && p.Alone <= last && !p.survived(p.Alone) && p.crashes(last) >= poisonAt
}

// record is a history as it is stored, and its revision there; 0 if it is not.
type record struct {
	history
	revision uint64
}

func historyKey(key messageKey) string { return "delivery." + strconv.FormatUint(key.seq, 10) }

// blank is the history of a message of which nothing is noted.
func (c *consuming) blank(key messageKey) history {
	c.bindMu.Lock()
	defer c.bindMu.Unlock()
	return history{V: historyFormat, Stored: time.Unix(0, key.at).UTC(), Counted: c.made}
}

func (c *consuming) histories() jetstream.KeyValue {
	c.bindMu.Lock()
	defer c.bindMu.Unlock()
	return c.deliveries
}

// errBygone says that the stream was made anew and has another message there.
var errBygone = errors.New("the message is gone")

// recorded reads the history of a message.
func (c *consuming) recorded(ctx context.Context, key messageKey) (record, error) {
	blank := c.blank(key)
	found, err := c.histories().Get(ctx, historyKey(key))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return record{history: blank}, nil
	case err != nil:
		return record{}, fmt.Errorf("read the history of a message: %w", err)
	}
	past := record{revision: found.Revision()}
	if json.Unmarshal(found.Value(), &past.history) != nil || past.V != historyFormat {
		past.history = blank // it is written anew
	}
	switch {
	case past.Stored.After(blank.Stored):
		return record{}, errBygone
	case past.Stored.Before(blank.Stored), past.Counted.Before(blank.Counted):
		past.history = blank
	}
	return past, nil
}

// revisions bounds how often a change is made again that lost against another.
const revisions = 8

// revise changes the history of a message, whoever else does so meanwhile, and
// adds what could not be noted before. from is what was last read, or nil.
func (c *consuming) revise(ctx context.Context, key messageKey, from *record, edit func(*history)) (record, error) {
	for range revisions {
		if from == nil {
			past, err := c.recorded(ctx, key)
			if err != nil {
				return record{}, err
			}
			from = &past
		}
		next := from.history
		next.survive(c.survivedOf(key)...)
		edit(&next)
		data, err := json.Marshal(next, json.OmitZeroStructFields(true))
		if err != nil {
			return record{}, fmt.Errorf("encode the history of a message: %w", err)
		}
		var revision uint64
		if from.revision == 0 {
			revision, err = c.histories().Create(ctx, historyKey(key), data)
		} else {
			revision, err = c.histories().Update(ctx, historyKey(key), data, from.revision)
		}
		switch {
		case err == nil:
			return record{history: next, revision: revision}, nil
		case !conflicting(err):
			return record{}, fmt.Errorf("note the history of a message: %w", err)
		}
		from = nil
	}
	return record{}, errors.New("note the history of a message: others change it all the time")
}
