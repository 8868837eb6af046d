package policy

import (
	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// position is a place in a file; both count from 1.
type position struct{ line, column int }

// policy is one file, ready to decide.
type policy struct {
	name      string
	owner     string
	base      string // name of its file
	file      string // as findings name it
	mode      approval.Mode
	targets   []string
	allow     []*entry // in the order of the file
	deny      []*entry
	otherwise approval.Verdict
	at        position // of the name
	modeAt    position
	elseAt    position // of otherwise
}

// entry is one allow or deny of a policy.
type entry struct {
	policy *policy
	id     string
	deny   bool
	at     position
	index  int  // in its list of the file, from 0
	faulty bool // something in it is wrong already
	order  int  // among all entries of the set, by policy and id

	conds     []condition // all must hold; a verified field that identifies comes first
	anyDomain bool
	anyAt     position
	limit     int
	when      *yaml.Node // until it is compiled
	never     bool       // an empty list: matches nobody
	keyed     bool       // found by a value, see index

	reasonText string // of a deny, for the requester
	contact    string
	matched    []approval.Reason // given when e decides
	alone      []*entry          // e by itself; what most buckets of the index are
}

// judge tests the conditions of e against in up to the first that does not
// hold, which it returns; nil if all hold. Where lies is set, what rests on
// claims is not evaluated: one of them contradicts a fact.
//
// This is the only place that matches an entry.
func (e *entry) judge(in *approval.Input, lies bool) (truth, condition) {
	result := yes
	var first condition
	for _, c := range e.conds {
		t := unknown
		if !lies || !c.onClaims() {
			t = c.test(in, e.deny)
		}
		switch t {
		case no:
			return no, c
		case unknown:
			if result == yes {
				result, first = unknown, c
			}
		case yes:
		}
	}
	return result, first
}

// lacksCountOnly reports whether all conditions of e hold but for its limit, and
// that cannot be told because nothing was counted.
func (e *entry) lacksCountOnly(in *approval.Input) bool {
	if e.limit == 0 || in.Facts.Accepted.Known {
		return false
	}
	for _, c := range e.conds {
		if _, ok := c.(*limitCondition); !ok && c.test(in, e.deny) != yes {
			return false
		}
	}
	return true
}

// failed returns every condition of e that is known not to hold.
func (e *entry) failed(in *approval.Input) []condition {
	var out []condition
	for _, c := range e.conds {
		if c.test(in, e.deny) == no {
			out = append(out, c)
		}
	}
	return out
}

// field returns the condition of e on f, or nil.
func (e *entry) field(f field) *fieldCondition {
	for _, c := range e.conds {
		if fc, ok := c.(*fieldCondition); ok && fc.field == f {
			return fc
		}
	}
	return nil
}
