package policy

import (
	"math/bits"
	"slices"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Evaluate decides in. It is pure: the same set and the same input give the
// same decision.
//
// A deny that matches beats every allow of the target, in whichever policy it is.
// Otherwise any allow that matches accepts. Otherwise the strictest "otherwise" of
// the target's policies applies. What is unknown is held: a set that is not loaded, a
// fact that the cloud does not show, a claim that contradicts a fact, a condition that
// fails to evaluate.
//
// Decisions share their reasons: do not change them in place.
func (s *Set) Evaluate(in *approval.Input) approval.Decision {
	q := newQuery(in)
	return s.decide(&q)
}

// decide is Evaluate of a new query.
func (s *Set) decide(q *query) approval.Decision {
	in := q.in
	d := approval.Decision{Verdict: approval.Hold, Facts: in.Facts, At: in.Now}
	if s == nil || s.digest == "" {
		d.Reasons = notLoaded()
		return d
	}
	d.Digest = s.digest
	sc := s.scopes[in.Request.Target.Name]
	if sc == nil {
		d.Reasons = s.fixed.noPolicy
		return d
	}
	if sc.live == nil {
		d.Reasons = s.fixed.onlyShadow
	} else {
		sc.live.decide(q, &s.fixed, &d)
		sc.live.review(in.Input, s.reviewers, &d)
	}
	if sc.shadow != nil {
		would := approval.Decision{Verdict: approval.Hold}
		q.again() // shadow policies do not use the budget of those in force
		sc.shadow.decide(q, &s.fixed, &would)
		sc.shadow.review(in.Input, s.reviewers, &would)
		d.Shadow = shadowOf(&would)
	}
	return d
}

// Would is what s would decide if it were in force, for Decision.Shadow of the
// set that is.
func (s *Set) Would(in *approval.Input) *approval.ShadowDecision {
	d := s.Evaluate(in)
	return shadowOf(&d)
}

func shadowOf(d *approval.Decision) *approval.ShadowDecision {
	return &approval.ShadowDecision{Verdict: d.Verdict, Policy: d.Policy, Rule: d.Rule, Reasons: d.Reasons, NeedsCount: d.NeedsCount}
}

// scope is what applies to one target.
type scope struct {
	live   *view // the policies that act; nil if there are shadow policies only
	shadow *view // those and the shadow policies; nil if there are no shadow policies
}

// view is a choice of the policies of a target.
type view struct {
	deny, allow index
	reasonTable *reasonTable
	objected    objected
	otherwise   string // the policy whose "otherwise" is strictest; empty if several hold or ignore
	verdict     approval.Verdict
	reasons     []approval.Reason     // of verdict
	reviews     []approval.ReviewRule // of the policies that have one, by name
}

// fixed holds the reasons that are the same for every request.
type fixed struct {
	mismatched                                                                                                        [numFields + 1][]approval.Reason // of a claim that contradicts the field
	noPolicy, onlyShadow, notAllowed, factMissing, otherEndpoint, notEvaluated, countUnknown, switchedOff, overBudget []approval.Reason
}

func notLoaded() []approval.Reason {
	return []approval.Reason{{Code: approval.ReasonNotLoaded, Text: "The policies are not loaded yet, so nothing is decided."}}
}

func newFixed() fixed {
	one := func(code approval.ReasonCode, text string) []approval.Reason {
		return []approval.Reason{{Code: code, Text: text}}
	}
	f := fixed{
		onlyShadow: []approval.Reason{
			{Code: approval.ReasonNoPolicy, Text: "No policy is in force for this target, so a person must decide."},
			{Code: approval.ReasonShadow, Text: "All policies for this target are in shadow mode."},
		},
		noPolicy:      one(approval.ReasonNoPolicy, "No policy is set for this target, so a person must decide."),
		notAllowed:    one(approval.ReasonNotAllowed, "No rule allows this request."),
		factMissing:   one(approval.ReasonFactMissing, "The cloud does not show who owns this endpoint, so nothing is decided."),
		otherEndpoint: one(approval.ReasonFactMissing, "The facts describe another endpoint, so nothing is decided."),
		notEvaluated:  one(approval.ReasonNotEvaluated, "A rule for this request could not be evaluated, so a person must decide."),
		countUnknown:  one(approval.ReasonCountUnknown, "A rule matches, but the connections of the account have not been counted."),
		overBudget:    one(approval.ReasonBudget, "The rules for this request cost too much to evaluate, so a person must decide."),
		switchedOff:   one(approval.ReasonRejectsSwitched, "Rejections are switched off for this rule, so a person must decide."),
	}
	for i := range numFields + 1 {
		f.mismatched[i] = one(approval.ReasonClaimMismatch, "The claim "+i.name()+" contradicts what the cloud shows.")
	}
	return f
}

// decide writes the decision on q to d, whose verdict is hold.
func (v *view) decide(q *query, fix *fixed, d *approval.Decision) {
	if r := unfit(q.in.Input, fix); r != nil {
		d.Reasons = r
		return
	}
	mismatched := contradicted(q.in)
	q.mismatch = mismatched != 0
	deny, doubt := v.denied(q)
	switch {
	case !q.spent() && deny != nil && deny.rejects():
		decided(d, approval.Reject, deny)
	case mismatched != 0:
		d.Reasons = fix.mismatches(mismatched)
	case q.spent():
		d.Reasons = fix.overBudget
	case doubt != nil:
		d.Policy, d.Rule, d.Reasons = doubt.policy.name, doubt.id, fix.notEvaluated
	case deny != nil:
		decided(d, approval.Hold, deny)
		if !deny.onClaims {
			d.Reasons = deny.softened
		}
	default:
		v.allowed(q, fix, d)
	}
}

// decided writes the verdict that e gives.
func decided(d *approval.Decision, v approval.Verdict, e *entry) {
	d.Verdict, d.Policy, d.Rule = v, e.policy.name, e.id
	d.Reasons, d.Contact = e.matched, e.contact
}

// unfit returns why nothing can be decided on in at all, or nil.
func unfit(in *approval.Input, fix *fixed) []approval.Reason {
	if in.Request.Creates() {
		return nil
	}
	if in.Facts.DomainID == "" {
		return fix.factMissing
	}
	if id := in.Facts.EndpointID; id != "" && !approval.SameID(id, in.Request.EndpointID) {
		return fix.otherEndpoint
	}
	return nil
}

// denied returns the deny that applies, one that rejects before one that only
// holds, and a deny that could not be evaluated. Both mean nothing once q is spent.
func (v *view) denied(q *query) (stands, doubt *entry) {
	v.deny.each(q.in, true, func(e *entry) bool {
		switch t, _ := e.judge(q, true); t {
		case yes:
			if stands == nil || e.denyBefore(stands) {
				stands = e
			}
		case unknown:
			if doubt == nil || e.order < doubt.order {
				doubt = e
			}
		case no, uncounted:
		}
		return !q.spent()
	})
	return stands, doubt
}

// rejects reports whether e rejects what it matches. What an event claims never
// does: a claim can be forged to harm somebody who is allowed.
func (e *entry) rejects() bool { return !e.onClaims && e.policy.mode != approval.AcceptOnly }

// denyBefore reports whether e decides rather than other when both match.
func (e *entry) denyBefore(other *entry) bool {
	if hard := e.rejects(); hard != other.rejects() {
		return hard
	}
	return e.order < other.order
}

// allowBefore reports whether e decides rather than other when both match: the
// one that allows more connections, so that the limit of the decision is the one
// that counts.
func (e *entry) allowBefore(other *entry) bool {
	switch {
	case e.limit == other.limit:
		return e.order < other.order
	case e.limit == 0 || other.limit == 0:
		return e.limit == 0
	}
	return e.limit > other.limit
}

// allowed writes the decision where no deny matches.
func (v *view) allowed(q *query, fix *fixed, d *approval.Decision) {
	var best, needs, doubt *entry
	var near nearby
	v.allow.each(q.in, false, func(e *entry) bool {
		t, failed := e.judge(q, true)
		if t != yes && e.nearly(q, failed) {
			near.add(e)
		}
		switch t {
		case yes:
			if best == nil || e.allowBefore(best) {
				best = e
			}
		case uncounted:
			if needs == nil || e.allowBefore(needs) {
				needs = e
			}
		case unknown:
			if doubt == nil || e.order < doubt.order {
				doubt = e
			}
		case no:
		}
		return !q.spent()
	})
	switch {
	case q.spent():
		d.Reasons = fix.overBudget
		return
	case best != nil:
		decided(d, approval.Accept, best)
		d.Limit = best.limit
		return
	case needs != nil:
		d.Policy, d.Rule, d.Reasons = needs.policy.name, needs.id, fix.countUnknown
		d.Limit, d.NeedsCount = needs.limit, true
		return
	}
	d.Verdict, d.Policy, d.Reasons = v.verdict, v.otherwise, v.reasons
	if doubt != nil {
		d.Verdict, d.Policy, d.Rule, d.Reasons = approval.Hold, doubt.policy.name, doubt.id, fix.notEvaluated
	}
	d.Reasons = v.objections(d.Reasons, doubt != nil, q, &near)
}

// objections adds to reasons what keeps each entry that nearly matches from matching,
// each thing once. near holds those that the index found for q.
func (v *view) objections(reasons []approval.Reason, doubt bool, q *query, near *nearby) []approval.Reason {
	v.allow.nearly(q.in, near)
	o := objections{doubt: doubt}
	var more []reasonNumber
	for _, e := range near.all() {
		for _, c := range e.conds {
			if !v.fails(e, c, q) {
				continue
			}
			switch n := *c.number(); {
			case slices.Contains(o.numbers[:o.n], n):
			case o.n < maxObjections:
				o.numbers[o.n] = n
				o.n++
			case !slices.Contains(more, n):
				more = append(more, n)
			}
		}
	}
	if o.n == 0 {
		return reasons
	}
	return v.objected.list(reasons, &o, more, v.reasonTable)
}

// fails reports whether the condition c of e, an allow that does not match, is known
// not to hold.
func (v *view) fails(e *entry, c condition, q *query) bool {
	if _, hours := c.(*hoursCondition); hours && len(e.conds) == 1 {
		return !q.in.Now.IsZero() // nothing else can keep e from matching
	}
	return q.test(c, e.deny) == no
}

// contradicted returns the facts that claims of the same name contradict, as a
// set of fields. An empty claim says nothing; one that is not a plain value or a
// list of them cannot be the fact. A claim about what is no fact of this
// request can be neither confirmed nor contradicted.
func contradicted(in input) (mismatched uint32) {
	creates := in.Request.Creates()
	for f := range numFields + 1 {
		if !f.of(creates) {
			continue
		}
		v := in.Request.Claims[f.name()]
		if v == nil || v == "" {
			continue
		}
		known := false
		in.each(f, false, func(string) bool { known = true; return false })
		if known && !confirmed(in, f, v) {
			mismatched |= 1 << f
		}
	}
	return mismatched
}

// confirmed reports whether each value of the claim v is one of those of f.
func confirmed(in input, f field, v any) bool {
	items, ok := v.([]any)
	if !ok {
		return confirmedOne(in, f, v)
	}
	for _, item := range items {
		if !confirmedOne(in, f, item) {
			return false
		}
	}
	return true
}

func confirmedOne(in input, f field, v any) bool {
	text, ok := approval.ClaimText(v)
	if !ok {
		return false
	}
	found := false
	in.each(f, false, func(fact string) bool {
		found = text == fact || f.canonical(text) == fact
		return !found
	})
	return found
}

// mismatches returns a reason for each field of mismatched.
func (f *fixed) mismatches(mismatched uint32) []approval.Reason {
	if bits.OnesCount32(mismatched) == 1 {
		return f.mismatched[bits.TrailingZeros32(mismatched)]
	}
	var out []approval.Reason
	for i, reasons := range f.mismatched {
		if mismatched&(1<<i) != 0 {
			out = append(out, reasons...)
		}
	}
	return out
}
