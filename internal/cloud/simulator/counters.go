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

// Effect is a change by a call.
type Effect struct {
	Kind       string // one of the Effect constants
	Key        string // the endpoint id of a decision, or "<project>/…" with the parameters of a creation
	EndpointID string // empty for HSS
	API        string
	Operation  string
	At         time.Time
}

// Call is a call in the journal.
type Call struct {
	API, Operation string
	At             time.Time
	Status         int    // 0: the connection was closed
	Fault          string // kind of the fault that responded; may be empty
}

// Counters counts calls and their effects.
type Counters struct {
	Calls       map[string]int // by "api operation", including calls with faults
	Statuses    map[string]int // by "api status"
	Faults      map[string]int // by kind
	MaxInFlight map[string]int // peak of concurrent calls, by API
	Effects     []Effect       // in order
	Reversals   int            // decisions that reversed an earlier one of the same connection
	Repeats     int            // calls for a state that already was
	Refused     int            // calls with refused credentials
	Locks       int            // of keys and users
	Journal     []Call         // the last Config.Journal calls
}

// Count returns the number of effects of this kind on key; on all keys if it is empty.
func (c Counters) Count(kind, key string) int {
	n := 0
	for _, e := range c.Effects {
		if e.Kind == kind && (key == "" || e.Key == key) {
			n++
		}
	}
	return n
}

// Total returns the number of calls of an API; of all APIs if it is empty.
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

// Counters returns a copy of the counters.
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

// ResetCounters resets the counters, and nothing else.
func (s *Simulator) ResetCounters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally = newTally(s.cfg.Journal)
}

// began counts the start of a call.
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

// finished counts the response to a call.
func (t *tally) finished(c *call, status int) {
	t.statuses[c.api+" "+strconv.Itoa(status)]++
	if c.entry != nil {
		c.entry.Status = status
	}
}

// ended counts the end of a call.
func (s *Simulator) ended(r route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight[r.api]--
}

// effect counts a change.
func (s *Simulator) effect(c *call, kind, key, endpoint string) {
	s.tally.effects = append(s.tally.effects, Effect{Kind: kind, Key: key, EndpointID: endpoint, API: c.api, Operation: c.operation, At: c.now})
}
