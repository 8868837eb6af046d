package policy

import (
	"slices"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// index finds the entries of a list that can match a request, without looking
// at the others. An entry that names values in full is found by one of its
// fields, the most selective one; globs and the rest are tested each time.
type index struct {
	keyed [numFields]map[string][]*entry
	rest  []*entry
	// near holds entries by another of their fields than keyed does: not to
	// match them, but to explain to a requester what is missing.
	near [numFields]map[string][]*entry
}

// add puts e into the index; entries come in their order.
func (x *index) add(e *entry) {
	if e.never {
		return
	}
	var key, second *fieldCondition
	for f := range numFields {
		c := e.field(f)
		if c == nil || len(c.values.globs) > 0 || f == fieldRegion {
			continue
		}
		switch {
		case key == nil:
			key = c
		case second == nil:
			second = c
		}
	}
	if key == nil {
		x.rest = append(x.rest, e)
		return
	}
	e.keyed = true
	file(&x.keyed, key, e, 0)
	if second != nil && !e.deny {
		file(&x.near, second, e, maxNear)
	}
}

// file puts e into the buckets of the values of c, unless a bucket holds most
// entries already; 0: any number.
func file(x *[numFields]map[string][]*entry, c *fieldCondition, e *entry, most int) {
	if x[c.field] == nil {
		x[c.field] = make(map[string][]*entry)
	}
	put := func(v string) {
		old, ok := x[c.field][v]
		switch {
		case most > 0 && len(old) >= most:
			return
		case ok:
			x[c.field][v] = grow(old, e)
		default:
			x[c.field][v] = e.alone
		}
	}
	for _, v := range c.values.exact {
		put(v)
	}
}

// each calls yield with the entries that can match in until it returns false. An
// entry may come more than once. An allow must cover every value of a request,
// so it is found by the first; a deny by any.
func (x *index) each(in *approval.Input, deny bool, yield func(*entry) bool) {
	more := true
	for f := range numFields {
		buckets := x.keyed[f]
		if buckets == nil {
			continue
		}
		if deny && leftOpen(in, f) { // any of them may be meant
			for _, entries := range buckets {
				for _, e := range entries {
					if !yield(e) {
						return
					}
				}
			}
			continue
		}
		each(in, f, deny, func(v string) bool {
			for _, e := range bucket(buckets, f, v) {
				if more = yield(e); !more {
					return false
				}
			}
			return deny
		})
		if !more {
			return
		}
	}
	for _, e := range x.rest {
		if !yield(e) {
			return
		}
	}
}

// grow appends e to a bucket; one of a single entry may be shared.
func grow(bucket []*entry, e *entry) []*entry {
	if len(bucket) == 1 {
		bucket = bucket[:1:1]
	}
	return append(bucket, e)
}

func bucket(buckets map[string][]*entry, f field, v string) []*entry {
	return buckets[f.canonical(v)]
}

// maxNear bounds how many entries that nearly match are explained to a requester.
const maxNear = 16

// nearly returns entries that almost match in, to explain to the requester what is
// missing: those found by a value of the request, and those for any domain. They are
// in order and few.
func (x *index) nearly(in *approval.Input) []*entry {
	var out []*entry
	take := func(e *entry) bool {
		if e.keyed || e.anyDomain || e.conds[0].test(in, false) == yes {
			out = append(out, e)
		}
		return true
	}
	x.each(in, false, take)
	for f := range numFields {
		buckets := x.near[f]
		if buckets == nil {
			continue
		}
		each(in, f, false, func(v string) bool {
			out = append(out, bucket(buckets, f, v)...)
			return false
		})
	}
	slices.SortFunc(out, func(a, b *entry) int { return a.order - b.order })
	out = slices.CompactFunc(out, func(a, b *entry) bool { return a == b })
	return out[:min(len(out), maxNear)]
}
