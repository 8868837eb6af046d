package policy

import (
	"slices"
	"time"
)

// Expiry is an entry that expires.
type Expiry struct {
	Policy, Rule string
	At           time.Time
}

// Expiries returns the entries of the policies in force that expire after now, the
// next first.
func (s *Set) Expiries(now time.Time) []Expiry {
	if s == nil {
		return nil
	}
	var out []Expiry
	for _, p := range s.policies {
		for _, e := range slices.Concat(p.allow, p.deny) {
			for _, c := range e.conds {
				if x, ok := c.(*expiresCondition); ok && now.Before(x.at) {
					out = append(out, Expiry{p.name, e.id, x.at})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Expiry) int { return a.At.Compare(b.At) })
	return out
}
