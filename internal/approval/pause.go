package approval

import (
	"maps"
	"time"
)

// Pauses says on which targets nothing may be done in the cloud, because an operator
// stopped it.
type Pauses struct {
	All      Pause            // of every target
	Targets  map[string]Pause // of one target, by its name
	Revision uint64           // in the ledger; 0: nothing was ever paused
}

// Pause is the latest pause or resume.
type Pause struct {
	Paused bool
	At     time.Time // zero: there was none
}

// Of returns what holds for a target: it is paused if it is itself, or all are.
func (p Pauses) Of(target string) Pause {
	out, own := p.All, p.Targets[target]
	switch {
	case own.Paused && !out.Paused:
		return own
	case own.Paused == out.Paused && own.At.After(out.At):
		out.At = own.At
	}
	return out
}

// With returns p after target was paused or resumed; an empty target stands for all,
// and to resume all resumes each.
func (p Pauses) With(target string, paused bool, at time.Time) Pauses {
	change := Pause{Paused: paused, At: at}
	out := Pauses{All: p.All, Targets: maps.Clone(p.Targets), Revision: p.Revision}
	switch {
	case target != "":
		if out.Targets == nil {
			out.Targets = map[string]Pause{}
		}
		out.Targets[target] = change
	case paused:
		out.All = change
	default:
		out.All, out.Targets = change, nil
	}
	return out
}
