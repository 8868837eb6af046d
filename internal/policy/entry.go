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

// entry is one allow or deny of a policy. With many of them a decision waits for memory
// most of the time, so what it reads is together, at the beginning.
type entry struct {
	conds     []condition // all must hold; a verified field that identifies comes first
	order     int         // among all entries of the set, by policy and id
	limit     int
	key       *fieldCondition // the index finds e by its values; nil: by something else
	deny      bool
	anyDomain bool
	onClaims  bool // some condition depends on claims
	never     bool // an empty list: matches nobody
	faulty    bool // something in it is wrong already
	policy    *policy
	id        string
	matched   []approval.Reason // given when e decides
	contact   string
	room      [2]condition // what conds is made of, unless there are more

	softened   []approval.Reason // given when a deny decides that may not reject
	reasonText string            // of a deny, for the requester
	at         strictyaml.Position
	anyAt      strictyaml.Position
	index      int              // in its list of the file, from 0
	when       *strictyaml.Node // until it is compiled
}

// judge tests the conditions of e up to the first that does not hold, which it
// returns; nil if all hold. If the only one that is not known is the limit, the
// answer is uncounted.
//
// found says that the index found e for q by key, if it has one. About a connection that
// answers key, because a connection has one value of each field.
//
// This is the only place that matches an entry.
func (e *entry) judge(q *query, found bool) (truth, condition) {
	var met condition
	if found && !q.in.Request.Creates() {
		met = e.key
	}
	result := yes
	var first condition
	for _, c := range e.conds {
		if c == met {
			continue
		}
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

// nearly reports whether e, an allow that was tested and does not match because of
// failed, is worth explaining: the index found it by a value, it is for any account, or
// its first condition holds.
func (e *entry) nearly(q *query, failed condition) bool {
	return e.key != nil || e.anyDomain || failed != e.conds[0] && q.test(e.conds[0], false) == yes
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
