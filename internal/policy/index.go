package policy

import (
	"slices"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// index finds the entries of a list that can match a request, without looking
// at the others. Each entry is found in one of four ways: by a value that one of its
// fields names in full, the most selective one; by how values of its first field
// begin or end; by the time of the week; or it is tested each time.
type index struct {
	fields []field // those that keyed or globs have
	keyed  [numFields]map[string][]*entry
	globs  [numFields]*globs
	hours  hours
	scan   []*entry
	rest   []*entry // all but those in keyed
	// Not to match requests, but to explain to a requester what is missing:
	near [numFields]map[string][]*entry // entries by another of their fields than keyed has
	any  []*entry                       // the first entries for any domain
}

// add puts e into the index; entries come in their order. Then seal is called.
func (x *index) add(e *entry) {
	if e.never {
		return
	}
	var first, key, second *fieldCondition
	for f := range numFields {
		c := e.field(f)
		if c == nil || f == fieldRegion {
			continue
		}
		if first == nil {
			first = c
		}
		switch {
		case len(c.values.globs) > 0:
		case key == nil:
			key = c
		case second == nil:
			second = c
		}
	}
	if key != nil {
		e.keyed = true
		file(&x.keyed, key, e, 0)
		if second != nil && !e.deny {
			file(&x.near, second, e, maxNear)
		}
		return
	}
	x.rest = append(x.rest, e)
	if e.anyDomain && len(x.any) < maxNear {
		x.any = append(x.any, e)
	}
	switch {
	case first != nil && x.byPattern(first, e):
	case e.byHours():
		x.hours.add(e)
	default:
		x.scan = append(x.scan, e)
	}
}

// byPattern puts e, whose first field has the condition c, into globs if that can be.
func (x *index) byPattern(c *fieldCondition, e *entry) bool {
	if !indexable(c) {
		return false
	}
	if x.globs[c.field] == nil {
		x.globs[c.field] = &globs{}
	}
	x.globs[c.field].add(c, e)
	return true
}

// seal makes the index ready after the last entry. What is too little to index is
// tested each time.
func (x *index) seal() {
	x.scan = append(x.scan, x.hours.seal()...)
	for f := range numFields {
		if x.keyed[f] != nil || x.globs[f] != nil {
			x.fields = append(x.fields, f)
		}
	}
}

// file puts e into the buckets of the values of c, unless a bucket holds most
// entries already; 0: any number.
func file(x *[numFields]map[string][]*entry, c *fieldCondition, e *entry, most int) {
	if x[c.field] == nil {
		x[c.field] = make(map[string][]*entry)
	}
	for _, v := range c.values.exact {
		put(x[c.field], v, e, most)
	}
}

// put adds e to the bucket of v, unless it holds most entries already; 0: any number.
func put(buckets map[string][]*entry, v string, e *entry, most int) {
	old, ok := buckets[v]
	switch {
	case most > 0 && len(old) >= most:
		return
	case ok:
		buckets[v] = grow(old, e)
	default:
		buckets[v] = e.alone
	}
}

// each calls yield with the entries that can match in until it returns false. An
// entry may come more than once; of entries that differ only in their hours and
// limits, only the one comes that decides. An allow must cover every value of a
// request, so it is found by the first; a deny by any.
func (x *index) each(in *approval.Input, deny bool, yield func(*entry) bool) {
	if !x.byField(in, deny, yield) || !x.hours.each(in.Now, yield) {
		return
	}
	all(x.scan, yield)
}

// byField is each of the entries that are found by a field. It reports whether yield
// wants more.
func (x *index) byField(in *approval.Input, deny bool, yield func(*entry) bool) bool {
	more := true
	for _, f := range x.fields {
		buckets, patterns := x.keyed[f], x.globs[f]
		if deny && leftOpen(in, f) { // any of them may be meant
			for _, entries := range buckets {
				if !all(entries, yield) {
					return false
				}
			}
			if patterns != nil && !all(patterns.entries, yield) {
				return false
			}
			continue
		}
		each(in, f, deny, func(v string) bool {
			v = f.canonical(v)
			more = all(buckets[v], yield) && (patterns == nil || patterns.each(v, yield))
			return more && deny
		})
		if !more {
			return false
		}
	}
	return true
}

// all calls yield with entries until it returns false, and reports whether it wants
// more.
func all(entries []*entry, yield func(*entry) bool) bool {
	for _, e := range entries {
		if !yield(e) {
			return false
		}
	}
	return true
}

// grow appends e to a bucket; one of a single entry may be shared.
func grow(bucket []*entry, e *entry) []*entry {
	if len(bucket) == 1 {
		bucket = bucket[:1:1]
	}
	return append(bucket, e)
}

// maxNear bounds how many entries that nearly match are explained to a requester.
const maxNear = 16

// nearby holds the first entries that nearly match, in their order and once each.
type nearby struct {
	entries [maxNear]*entry
	n       int
}

func (b *nearby) all() []*entry { return b.entries[:b.n] }

// add keeps e if it is one of the first.
func (b *nearby) add(e *entry) {
	i := b.n
	for i > 0 && b.entries[i-1].order > e.order {
		i--
	}
	if i == maxNear || i > 0 && b.entries[i-1] == e {
		return
	}
	b.n = min(b.n+1, maxNear)
	copy(b.entries[i+1:b.n], b.entries[i:])
	b.entries[i] = e
}

// nearly finds entries that almost match in, to explain to the requester what is
// missing: those found by a value of the request, and those for any domain. They are
// few.
func (x *index) nearly(in *approval.Input, out *nearby) {
	x.byField(in, false, func(e *entry) bool {
		if e.keyed || e.anyDomain || e.conds[0].test(in, false) == yes {
			out.add(e)
		}
		return true
	})
	for _, e := range x.any {
		out.add(e)
	}
	for _, e := range x.scan {
		if !e.anyDomain && e.conds[0].test(in, false) == yes {
			out.add(e)
		}
	}
	for f := range numFields {
		buckets := x.near[f]
		if buckets == nil {
			continue
		}
		each(in, f, false, func(v string) bool {
			for _, e := range buckets[f.canonical(v)] {
				out.add(e)
			}
			return false
		})
	}
}

// globs finds entries by how the values of a field begin or end. Dashes do not
// count, because a pattern of an id matches it with dashes or without.
type globs struct {
	entries  []*entry
	full     map[string][]*entry // by values that are no patterns
	prefixes affixes
	suffixes affixes
}

// affixes finds entries by texts of some lengths.
type affixes struct {
	buckets map[string][]*entry
	lengths []int // of the texts, in order
}

// indexable reports whether each pattern of c begins or ends with a fixed text.
func indexable(c *fieldCondition) bool {
	return !slices.ContainsFunc(c.values.globs, func(g string) bool {
		prefix, suffix := fixedEnds(g)
		return prefix == "" && suffix == ""
	})
}

// add puts e, which has the condition c, into x.
func (x *globs) add(c *fieldCondition, e *entry) {
	x.entries = append(x.entries, e)
	for _, g := range c.values.globs {
		if prefix, suffix := fixedEnds(g); len(prefix) >= len(suffix) {
			x.prefixes.add(prefix, e)
		} else {
			x.suffixes.add(suffix, e)
		}
	}
	for _, v := range c.values.exact {
		if x.full == nil {
			x.full = make(map[string][]*entry)
		}
		put(x.full, v, e, 0)
	}
}

func (a *affixes) add(text string, e *entry) {
	if a.buckets == nil {
		a.buckets = make(map[string][]*entry)
	}
	put(a.buckets, text, e, 0)
	if i, ok := slices.BinarySearch(a.lengths, len(text)); !ok {
		a.lengths = slices.Insert(a.lengths, i, len(text))
	}
}

// each calls yield with the entries that can match v, which is spelled as the field
// has it. It reports whether yield wants more.
func (x *globs) each(v string, yield func(*entry) bool) bool {
	var room [maxGlob]byte
	text := room[:0]
	for i := range len(v) {
		if v[i] != '-' {
			if len(text) == maxGlob {
				return all(x.entries, yield) // too long to have a name
			}
			text = append(text, v[i])
		}
	}
	if !all(x.full[v], yield) {
		return false
	}
	for _, n := range x.prefixes.lengths {
		if n > len(text) {
			break
		}
		if !all(x.prefixes.buckets[string(text[:n])], yield) {
			return false
		}
	}
	for _, n := range x.suffixes.lengths {
		if n > len(text) {
			break
		}
		if !all(x.suffixes.buckets[string(text[len(text)-n:])], yield) {
			return false
		}
	}
	return true
}
