package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// truth is the answer of a condition. The zero value is unknown: a question
// that could not be answered is neither a yes nor a no.
type truth uint8

const (
	unknown truth = iota
	no
	yes
	uncounted // of an entry: all holds but for a limit, and nothing was counted
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// condition is one thing that must hold for an entry to match. A new field of
// the file is one type of condition, one key that reads it and one reason.
type condition interface {
	// test answers for in; deny tells the list of the entry: where a request
	// carries several values, an allow must cover them all and a deny needs one.
	test(in input, deny bool) truth
	// name is that of the key in the file.
	name() string
	// reason tells the requester why the entry does not match. It names no value.
	reason() approval.Reason
	number() *reasonNumber
	// wanted and seen are for the authors of policies.
	wanted() string
	seen(in *approval.Input, deny bool) string
	// onClaims reports whether the answer depends on claims.
	onClaims() bool
}

// covers applies the rule for lists: values are what a request carries.
type covers struct {
	any, all bool // of the values seen so far
	some     bool // there is a value
}

func (c *covers) add(has bool) {
	c.all = has && (c.all || !c.some)
	c.any = c.any || has
	c.some = true
}

func (c *covers) answer(deny bool) truth {
	if deny {
		return truthOf(c.any)
	}
	return truthOf(c.some && c.all)
}

// fieldCondition asks a verified field for one of the values.
type fieldCondition struct {
	reasonNumber
	field  field
	values matcher
	at     strictyaml.Position
	file   bool // the values come from a value file
}

func (c *fieldCondition) test(in input, deny bool) truth {
	var cov covers
	in.each(c.field, deny, func(v string) bool {
		cov.add(c.values.hasSpelled(v))
		return true
	})
	if deny && leftOpen(in.Input, c.field) {
		return unknown
	}
	return cov.answer(deny)
}

func (c *fieldCondition) name() string   { return c.field.name() }
func (c *fieldCondition) onClaims() bool { return false }
func (c *fieldCondition) wanted() string { return c.values.String() }

func (c *fieldCondition) reason() approval.Reason {
	return approval.Reason{
		Code: approval.ReasonFieldNotMatched,
		Text: "A rule matches except for " + c.field.name() + ": it does not allow the value of the request.",
	}
}

func (c *fieldCondition) seen(in *approval.Input, deny bool) string {
	var vs []string
	each(in, c.field, deny, func(v string) bool {
		vs = append(vs, v)
		return true
	})
	return FormatValues(vs)
}

// claimCondition asks a claim for one of the values.
type claimCondition struct {
	reasonNumber
	steps  []string // the names in path, see claimPath
	values matcher
	path   string
	at     strictyaml.Position
	file   bool // the values come from a value file
}

func (c *claimCondition) test(in input, deny bool) truth {
	var cov covers
	eachClaim(in.Request.Claims, c.steps, func(v string, plain bool) bool {
		cov.add(plain && c.values.has(v))
		return true
	})
	return cov.answer(deny)
}

func (c *claimCondition) name() string   { return "claims." + c.path }
func (c *claimCondition) onClaims() bool { return true }
func (c *claimCondition) wanted() string { return c.values.String() }

func (c *claimCondition) reason() approval.Reason {
	return approval.Reason{
		Code: approval.ReasonClaimNotMatched,
		Text: "A rule matches except for the claim " + c.path + ": it is missing or has a different value.",
	}
}

func (c *claimCondition) seen(in *approval.Input, _ bool) string {
	var vs []string
	eachClaim(in.Request.Claims, c.steps, func(v string, plain bool) bool {
		if !plain {
			v = "(no plain value)"
		}
		vs = append(vs, v)
		return true
	})
	return FormatValues(vs)
}

// eachClaim calls yield with the values of the claim at steps until it returns
// false: what approval.Claims.Values returns, without building a list. An item of
// a list that is not a plain value is yielded as such, so that an allow does not
// pass over it.
func eachClaim(claims approval.Claims, steps []string, yield func(v string, plain bool) bool) {
	m := map[string]any(claims)
	for i, step := range steps {
		v, ok := m[step]
		if !ok {
			return
		}
		if i < len(steps)-1 {
			if m, ok = v.(map[string]any); !ok {
				return
			}
			continue
		}
		list, ok := v.([]any)
		if !ok {
			if s, ok := approval.ClaimText(v); ok {
				yield(s, true)
			}
			return
		}
		for _, v := range list {
			if !yield(approval.ClaimText(v)) {
				return
			}
		}
	}
}

// claimSpelling is the spelling by which values of claims are compared: a claim can
// be an id, too.
func claimSpelling(v string) string {
	if approval.IsID(v) {
		return approval.CanonicalID(v)
	}
	return v
}

// maxListed is how many values of a list are written out for people.
const maxListed = 5

// FormatValues writes values for people: one as it is, several in brackets, many cut.
func FormatValues(vs []string) string {
	switch len(vs) {
	case 0:
		return "nothing"
	case 1:
		return strconv.Quote(vs[0])
	}
	var b strings.Builder
	b.WriteString("[")
	for i, v := range vs {
		if i == maxListed {
			b.WriteString(", … " + strconv.Itoa(len(vs)-i) + " more")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(v))
	}
	return b.String() + "]"
}

// String lists the values of m for people.
func (m *matcher) String() string {
	if m.empty() {
		return "nothing (an empty list)"
	}
	all := m.all()
	if len(all) == 1 {
		return FormatValues(all)
	}
	return "one of " + FormatValues(all)
}

// all returns every value of m.
func (m *matcher) all() []string { return slices.Concat(m.exact, m.globs) }
