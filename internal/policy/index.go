package policy

import (
	"slices"
	"strings"
)

// index finds the entries of a list that can match a request, without looking
// at the others. Each entry is found in one of four ways: by a value that one of its
// fields names in full, the most selective one; by how values of its first field
// begin or end; by the time of the week; or it is tested each time.
type index struct {
	fields []field // those that keyed or globs have
	keyed  [numFields]buckets
	globs  [numFields]*globs
	hours  hours
	scan   []*entry
	rest   []*entry // all but those in keyed
	// Not to match requests, but to explain to a requester what is missing:
	near [numFields]buckets // entries by another of their fields than keyed has
	any  []*entry           // the first entries for any domain
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
		e.key = key
		x.keyed[key.field].addAll(key.values.exact, e, 0)
		if second != nil && !e.deny {
			x.near[second.field].addAll(second.values.exact, e, maxNear)
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
		if x.keyed[f].first != nil || x.globs[f] != nil {
			x.fields = append(x.fields, f)
		}
	}
}

// each calls yield with the entries that can match in until it returns false. An
// entry may come more than once; of entries that differ only in their hours and
// limits, only the one comes that decides. An allow must cover every value of a
// request, so it is found by the first; a deny by any.
func (x *index) each(in input, deny bool, yield func(*entry) bool) {
	if !x.byField(in, deny, yield) || !x.hours.each(in.Now, yield) {
		return
	}
	all(x.scan, yield)
}

// byField is each of the entries that are found by a field. It reports whether yield
// wants more.
func (x *index) byField(in input, deny bool, yield func(*entry) bool) bool {
	more := true
	for _, f := range x.fields {
		keyed, patterns := &x.keyed[f], x.globs[f]
		if deny && leftOpen(in.Input, f) { // any of them may be meant
			if !keyed.all(yield) {
				return false
			}
			if patterns != nil && !all(patterns.entries, yield) {
				return false
			}
			continue
		}
		in.each(f, deny, func(v string) bool {
			more = keyed.each(v, yield) && (patterns == nil || patterns.each(v, yield))
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

// buckets finds entries by a text. Few texts have more than one entry: the lists are
// apart, so that the large map is small in memory.
type buckets struct {
	first map[string]*entry
	more  map[string][]*entry // those after the first
}

// add puts e into the bucket of text, unless it holds most entries already; 0: any
// number.
func (b *buckets) add(text string, e *entry, most int) {
	if b.first == nil {
		b.first = make(map[string]*entry)
	}
	if b.first[text] == nil {
		b.first[text] = e
		return
	}
	if b.more == nil {
		b.more = make(map[string][]*entry)
	}
	if more := b.more[text]; most == 0 || 1+len(more) < most {
		b.more[text] = append(more, e)
	}
}

func (b *buckets) addAll(texts []string, e *entry, most int) {
	for _, text := range texts {
		b.add(text, e, most)
	}
}

// each calls yield with the entries of text until it returns false, and reports whether
// it wants more.
func (b *buckets) each(text string, yield func(*entry) bool) bool {
	e := b.first[text]
	return e == nil || yield(e) && all(b.more[text], yield)
}

// eachOf is each without a copy of text.
func (b *buckets) eachOf(text []byte, yield func(*entry) bool) bool {
	e := b.first[string(text)]
	return e == nil || yield(e) && all(b.more[string(text)], yield)
}

// all is each of every text.
func (b *buckets) all(yield func(*entry) bool) bool {
	for text := range b.first {
		if !b.each(text, yield) {
			return false
		}
	}
	return true
}

// maxNear bounds how many entries that nearly match are explained to a requester.
const maxNear = 16

// nearby holds the first entries that nearly match, in their order and once each, to
// explain to the requester what is missing.
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

// nearly adds to out the entries that nearly match in and that each need not find: those
// for any account, and those with a value of the request in another field.
func (x *index) nearly(in input, out *nearby) {
	if out.n == 0 { // as for most requests
		out.n = copy(out.entries[:], x.any)
	} else {
		for _, e := range x.any {
			out.add(e)
		}
	}
	for f := range numFields {
		if x.near[f].first == nil {
			continue
		}
		in.each(f, false, func(v string) bool {
			x.near[f].each(v, func(e *entry) bool { out.add(e); return true })
			return false
		})
	}
}

// globs finds entries by how the values of a field begin or end. Dashes do not
// count, because a pattern of an id matches it with dashes or without.
type globs struct {
	entries  []*entry
	full     buckets // by values that are no patterns
	prefixes affixes
	suffixes affixes
}

// affixes finds entries by texts of some lengths.
type affixes struct {
	buckets
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
	x.full.addAll(c.values.exact, e, 0)
}

func (a *affixes) add(text string, e *entry) {
	a.buckets.add(text, e, 0)
	if i, ok := slices.BinarySearch(a.lengths, len(text)); !ok {
		a.lengths = slices.Insert(a.lengths, i, len(text))
	}
}

// each calls yield with the entries that can match v, which is spelled as the field
// has it. It reports whether yield wants more.
func (x *globs) each(v string, yield func(*entry) bool) bool {
	if len(v) > maxGlob {
		return all(x.entries, yield) // too long to have a name
	}
	var room [maxGlob]byte // keeps the text off the heap
	text := append(room[:0], v...)
	if strings.Contains(v, "-") {
		text = slices.DeleteFunc(text, func(b byte) bool { return b == '-' })
	}
	if !x.full.each(v, yield) {
		return false
	}
	for _, n := range x.prefixes.lengths {
		if n > len(text) {
			break
		}
		if !x.prefixes.eachOf(text[:n], yield) {
			return false
		}
	}
	for _, n := range x.suffixes.lengths {
		if n > len(text) {
			break
		}
		if !x.suffixes.eachOf(text[len(text)-n:], yield) {
			return false
		}
	}
	return true
}
