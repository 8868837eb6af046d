package approval

import (
	"testing"
	"time"
)

func TestPauses(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 11, 27, 12, minute, 0, 0, time.UTC) }
	type change struct {
		target string
		paused bool
	}
	for _, tt := range []struct {
		name    string
		changes []change
		a, b    bool // is it paused?
	}{
		{"nothing", nil, false, false},
		{"all", []change{{"", true}}, true, true},
		{"all and resumed", []change{{"", true}, {"", false}}, false, false},
		{"one", []change{{"a", true}}, true, false},
		{"one and resumed", []change{{"a", true}, {"a", false}}, false, false},
		{"one and all", []change{{"a", true}, {"", true}}, true, true},
		{"one, all, and all resumed", []change{{"a", true}, {"", true}, {"", false}}, false, false},
		{"all, and one resumed", []change{{"", true}, {"a", false}}, true, true},
	} {
		var p Pauses
		for i, c := range tt.changes {
			before := p.Of("a")
			next := p.With(c.target, c.paused, at(i))
			if p.Of("a") != before {
				t.Errorf("%s: With changed its receiver", tt.name)
			}
			p = next
		}
		if a, b := p.Of("a").Paused, p.Of("b").Paused; a != tt.a || b != tt.b {
			t.Errorf("%s: a %v, b %v; want %v, %v", tt.name, a, b, tt.a, tt.b)
		}
	}
	p := Pauses{}.With("", true, at(1)).With("a", true, at(2)).With("", false, at(3))
	if got := p.Of("a"); got != (Pause{At: at(3)}) {
		t.Errorf("a was resumed with all: %+v", got)
	}
	p = Pauses{}.With("", false, at(1)).With("a", false, at(2))
	if got := p.Of("a"); got != (Pause{At: at(2)}) {
		t.Errorf("the later resume counts: %+v", got)
	}
}
