package policy

import (
	"slices"
	"sort"
	"time"
)

// hours finds entries whose only conditions are hours and a limit: many of them may
// be for everybody. For each minute of the week it knows the one that decides.
type hours struct {
	entries []*entry
	zones   []zoneHours
}

// zoneHours is the week in one time zone.
type zoneHours struct {
	zone  *time.Location
	spans []span // in order; the first begins at minute 0
}

// span is a part of the week in which the same entry decides.
type span struct {
	from  int    // in minutes since Sunday, 0:00
	entry *entry // nil: none
}

const weekMinutes = 7 * dayMinutes

// fewHours is how many entries of a time zone are tested one by one before an index
// is faster.
const fewHours = 4

// byHours reports whether e has no conditions but hours and a limit.
func (e *entry) byHours() bool {
	if len(e.conds) == 0 || len(e.conds) > 2 {
		return false
	}
	if _, ok := e.conds[0].(*hoursCondition); !ok {
		return false
	}
	_, limit := e.conds[len(e.conds)-1].(*limitCondition)
	return len(e.conds) == 1 || limit
}

func (x *hours) add(e *entry) { x.entries = append(x.entries, e) }

// seal makes the weeks. It returns the entries of time zones that have few.
func (x *hours) seal() (few []*entry) {
	byZone := make(map[string][]*entry)
	var names []string
	for _, e := range x.entries {
		name := e.hours().zone.String()
		if byZone[name] == nil {
			names = append(names, name)
		}
		byZone[name] = append(byZone[name], e)
	}
	x.entries = nil
	for _, name := range names {
		if entries := byZone[name]; len(entries) <= fewHours {
			few = append(few, entries...)
		} else {
			x.entries = append(x.entries, entries...)
			x.zones = append(x.zones, zoneHours{zone: entries[0].hours().zone, spans: weekOf(entries)})
		}
	}
	return few
}

// hours is the condition of an entry that is found by hours.
func (e *entry) hours() *hoursCondition {
	c, _ := e.conds[0].(*hoursCondition)
	return c
}

// weekOf tells for each part of the week which of entries decides. That is the same
// whatever is counted: an allow with a higher limit decides before one with a lower,
// and where its limit is reached, so are lower ones.
func weekOf(entries []*entry) []span {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b *entry) int {
		before := a.allowBefore(b)
		if a.deny {
			before = a.denyBefore(b)
		}
		if before {
			return -1
		}
		return 1
	})
	var week [weekMinutes]*entry
	var next [weekMinutes + 1]int // the first minute from here on that no entry has
	for i := range next {
		next[i] = i
	}
	free := func(i int) int {
		for next[i] != i {
			next[i] = next[next[i]]
			i = next[i]
		}
		return i
	}
	for _, e := range entries {
		c := e.hours()
		paint := func(from, to int) {
			for i := free(from); i < to; i = free(i) {
				week[i], next[i] = e, i+1
			}
		}
		for day, on := range c.days {
			begin := day * dayMinutes
			switch {
			case !on:
			case c.from < c.to:
				paint(begin+c.from, begin+c.to)
			default: // over midnight
				paint(begin+c.from, begin+dayMinutes)
				begin = (begin + dayMinutes) % weekMinutes
				paint(begin, begin+c.to)
			}
		}
	}
	spans := []span{{0, week[0]}}
	for i, e := range week {
		if e != spans[len(spans)-1].entry {
			spans = append(spans, span{i, e})
		}
	}
	return spans
}

// each calls yield with the entries that decide at now until it returns false, and
// reports whether it wants more. Without a time it yields all of them.
func (x *hours) each(now time.Time, yield func(*entry) bool) bool {
	if now.IsZero() {
		return all(x.entries, yield)
	}
	for i := range x.zones {
		z := &x.zones[i]
		local := now.In(z.zone)
		minute := int(local.Weekday())*dayMinutes + local.Hour()*60 + local.Minute()
		at := sort.Search(len(z.spans), func(i int) bool { return z.spans[i].from > minute }) - 1
		if e := z.spans[at].entry; e != nil && !yield(e) {
			return false
		}
	}
	return true
}
