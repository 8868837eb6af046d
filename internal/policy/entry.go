package policy

import (
	"cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

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
	review    *approval.ReviewRule // nil: nobody decides what it holds
	at        strictyaml.Position  // of the name
	modeAt    strictyaml.Position
	elseAt    strictyaml.Position // of otherwise
	reviewAt  strictyaml.Position
}

// entry is one allow or deny of a policy.
type entry struct {
	policy *policy
	id     string
	deny   bool
	at     strictyaml.Position
	index  int  // in its list of the file, from 0
	faulty bool // something in it is wrong already
	order  int  // among all entries of the set, by policy and id

	conds     []condition // all must hold; a verified field that identifies comes first
	anyDomain bool
	anyAt     strictyaml.Position
	limit     int
	when      *strictyaml.Node // until it is compiled
	never     bool             // an empty list: matches nobody
	keyed     bool             // found by a value, see index
	onClaims  bool             // some condition depends on claims

	reasonText string // of a deny, for the requester
	contact    string
	matched    []approval.Reason // given when e decides
	softened   []approval.Reason // given when a deny decides that may not reject
	alone      []*entry          // e by itself; what most buckets of the index are
}

// judge tests the conditions of e up to the first that does not hold, which it
// returns; nil if all hold. If the only one that is not known is the limit, the
// answer is uncounted.
//
// This is the only place that matches an entry.
func (e *entry) judge(q *query) (truth, condition) {
	result := yes
	var first condition
	for _, c := range e.conds {
		switch q.test(c, e.deny) {
		case no:
			return no, c
		case unknown, uncounted:
			if _, limit := c.(*limitCondition); limit && result == yes {
				result, first = uncounted, c
			} else if !limit && result != unknown {
				result, first = unknown, c
			}
		case yes:
		}
	}
	return result, first
}

// failed returns every condition of e that is known not to hold.
func (e *entry) failed(q *query) []condition {
	var out []condition
	for _, c := range e.conds {
		if q.test(c, e.deny) == no {
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

// objection is the reason that a deny gives for what it matches.
func (e *entry) objection() []approval.Reason {
	r := approval.Reason{Code: approval.ReasonDenied, Text: "A rule denies this request."}
	if e.onClaims {
		r = approval.Reason{
			Code: approval.ReasonDeniedByClaim,
			Text: "A rule denies a claim of this request. Claims are not verified, so a person must decide.",
		}
	}
	r.Text = cmp.Or(e.reasonText, r.Text)
	return []approval.Reason{r}
}
