package simulator

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// The kinds of effect.
const (
	EffectAccept = "accept"
	EffectReject = "reject"
	EffectCreate = "create"
	EffectDelete = "delete"
)

// Effect is one change that a call made. A call that changed nothing has none.
type Effect struct {
	Kind       string // one of the Effect constants
	Key        string // what it was done to: the endpoint id of a decision, "<project>/…" with what identifies a creation
	EndpointID string // empty for HSS, which tells none
	API        string
	Operation  string
	At         time.Time
}

// Call is one call of the journal.
type Call struct {
	API, Operation string
	At             time.Time
	Status         int    // 0: the connection was cut
	Fault          string // kind of the fault that answered; empty: none did
}

// Counters is what the cloud was asked, and what that changed.
type Counters struct {
	Calls       map[string]int // by "api operation"; a call with a fault counts too
	Statuses    map[string]int // by "api status"
	Faults      map[string]int // by kind, as often as it was made
	MaxInFlight map[string]int // by API
	Effects     []Effect       // in order
	Reversals   int            // decisions that turned an earlier call's decision of the same connection around
	Repeats     int            // calls that asked for what was so already
	Refused     int            // calls with bad credentials
	Locks       int            // of keys and users
	Journal     []Call         // the last ones, as many as Config.Journal
}

// Count returns how many effects of this kind there were on key; on all keys if
// it is empty.
func (c Counters) Count(kind, key string) int {
	n := 0
	for _, e := range c.Effects {
		if e.Kind == kind && (key == "" || e.Key == key) {
			n++
		}
	}
	return n
}

// Total returns how many calls of an API there were; of all if api is empty.
func (c Counters) Total(api string) int {
	n := 0
	for name, calls := range c.Calls {
		if api == "" || len(name) > len(api) && name[:len(api)+1] == api+" " {
			n += calls
		}
	}
	return n
}

type tally struct {
	calls, statuses, faults, most map[string]int
	effects                       []Effect
	reversals, repeats            int
	refused, locks                int
	journal                       []*Call
	journalSize                   int
}

func newTally(journal int) tally {
	return tally{calls: map[string]int{}, statuses: map[string]int{}, faults: map[string]int{}, most: map[string]int{}, journalSize: journal}
}

// Counters returns what was counted so far.
func (s *Simulator) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tally
	var journal []Call
	for _, entry := range t.journal {
		journal = append(journal, *entry)
	}
	return Counters{
		Calls: maps.Clone(t.calls), Statuses: maps.Clone(t.statuses), Faults: maps.Clone(t.faults), MaxInFlight: maps.Clone(t.most),
		Effects: slices.Clone(t.effects), Reversals: t.reversals, Repeats: t.repeats,
		Refused: t.refused, Locks: t.locks, Journal: journal,
	}
}

// ResetCounters begins counting anew. The cloud stays as it is.
func (s *Simulator) ResetCounters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally = newTally(s.cfg.Journal)
}

// began counts a call that has come.
func (s *Simulator) began(c *call, p plan) {
	t := &s.tally
	t.calls[c.api+" "+c.operation]++
	s.inFlight[c.api]++
	t.most[c.api] = max(t.most[c.api], s.inFlight[c.api])
	for _, kind := range p.kinds {
		t.faults[string(kind)]++
	}
	if t.journalSize > 0 {
		if len(t.journal) >= t.journalSize {
			t.journal = slices.Delete(t.journal, 0, len(t.journal)-t.journalSize+1)
		}
		entry := &Call{API: c.api, Operation: c.operation, At: c.now}
		if p.answer != nil {
			entry.Fault = string(p.answer.Kind)
		}
		t.journal = append(t.journal, entry)
		c.entry = entry
	}
}

// finished counts the answer to a call.
func (t *tally) finished(c *call, status int) {
	t.statuses[c.api+" "+strconv.Itoa(status)]++
	if c.entry != nil {
		c.entry.Status = status
	}
}

// ended counts a call that has gone.
func (s *Simulator) ended(r route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight[r.api]--
}

// effect counts a change.
func (s *Simulator) effect(c *call, kind, key, endpoint string) {
	s.tally.effects = append(s.tally.effects, Effect{Kind: kind, Key: key, EndpointID: endpoint, API: c.api, Operation: c.operation, At: c.now})
}
