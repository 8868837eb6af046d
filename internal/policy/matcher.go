package policy

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// matcher is a list of values of which any may match. The zero value, as an
// empty list, matches nothing.
type matcher struct {
	canonical func(string) string // the spelling of values that is compared; nil: as they are written
	exact     []string            // while few
	many      map[string]struct{} // instead of exact once there are more than fewValues
	globs     []string
}

// fewValues is how many strings are compared one by one before a map is faster.
const fewValues = 8

// newMatcher returns a matcher of values, which hold no duplicates. It keeps
// values.
func newMatcher(values []string, canonical func(string) string) matcher {
	m := matcher{canonical: canonical, exact: values[:0]}
	for _, v := range values {
		v = m.spelled(v)
		if isGlob(v) {
			m.globs = append(m.globs, v)
		} else {
			m.exact = append(m.exact, v)
		}
	}
	if len(m.exact) > fewValues {
		m.many = make(map[string]struct{}, len(m.exact))
		for _, v := range m.exact {
			m.many[v] = struct{}{}
		}
	}
	return m
}

func (m *matcher) spelled(v string) string {
	if m.canonical == nil {
		return v
	}
	return m.canonical(v) // no copy if it is spelled so already, as by the cloud
}

// empty reports whether m can match nothing at all.
func (m *matcher) empty() bool { return len(m.exact) == 0 && len(m.globs) == 0 }

// has reports whether s is one of the values.
func (m *matcher) has(s string) bool {
	return m.hasSpelled(m.spelled(s))
}

// hasSpelled is has of what is spelled as m compares it.
func (m *matcher) hasSpelled(s string) bool { return m.hasExact(s) || m.hasGlob(s) }

func (m *matcher) hasExact(s string) bool {
	if m.many != nil {
		_, ok := m.many[s]
		return ok
	}
	return slices.Contains(m.exact, s)
}

func (m *matcher) hasGlob(s string) bool {
	return slices.ContainsFunc(m.globs, func(g string) bool { return m.globHas(g, s) })
}

// globHas reports whether the pattern g matches s, which is spelled as m compares
// it. A pattern matches an id if it matches it with dashes or without.
func (m *matcher) globHas(g, s string) bool {
	if MatchGlob(g, s) {
		return true
	}
	dashes := strings.Contains(s, "-")
	if m.canonical == nil || dashes == strings.Contains(g, "-") && !strings.Contains(s, ".") {
		return false // the other spelling cannot match either
	}
	at := strings.LastIndexByte(s, '.') + 1 // of the full name of a service its id is the end
	id := s[at:]
	if !approval.IsID(id) {
		return false
	}
	var other [maxGlob]byte // keeps the other spelling off the heap
	b := append(other[:0], s[:at]...)
	for i := range len(id) {
		if len(id) == 32 && (i == 8 || i == 12 || i == 16 || i == 20) {
			b = append(b, '-')
		}
		if id[i] != '-' {
			b = append(b, id[i])
		}
	}
	return MatchGlob(g, string(b))
}

// isGlob reports whether v holds a wildcard: "*" for any text, "?" for one
// character.
func isGlob(v string) bool { return strings.ContainsAny(v, "*?") }

// fixedEnds returns the texts before the first wildcard of v and after the last, without
// dashes.
func fixedEnds(v string) (prefix, suffix string) {
	first, last := strings.IndexAny(v, "*?"), strings.LastIndexAny(v, "*?")
	return strings.ReplaceAll(v[:first], "-", ""), strings.ReplaceAll(v[last+1:], "-", "")
}

// onlyWild reports whether v is nothing but wildcards.
func onlyWild(v string) bool { return v != "" && strings.Trim(v, "*?") == "" }

// MatchGlob reports whether pattern matches all of s. It goes back to the last
// star only, so its time is bounded by the product of the lengths.
func MatchGlob(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if p < len(pattern) {
			switch pr, psize := utf8.DecodeRuneInString(pattern[p:]); {
			case pr == '*':
				star, mark = p, i
				p++
				continue
			case pr == '?' || pr == r && pattern[p:p+psize] == s[i:i+size]:
				p += psize
				i += size
				continue
			}
		}
		if star < 0 {
			return false
		}
		_, skip := utf8.DecodeRuneInString(s[mark:])
		mark += skip
		p, i = star+1, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}
