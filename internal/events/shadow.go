package events

import "github.com/vpcep-approver/vpcep-approver/internal/approval"

// ShadowOutcome stands in the place of the outcome where a result tells only what
// shadow policies would have decided: nothing was done by it.
const ShadowOutcome approval.Outcome = "shadow"

// shadowOf is the result of its own kind that tells of the shadow decision in r.
// Its ids are the decision's with "-shadow" behind, so that it is told once too.
func shadowOf(r approval.Result) approval.Result {
	s := r.Decision.Shadow
	r.Decision.ID += "-shadow"
	r.Decision.Verdict, r.Decision.Policy, r.Decision.Rule, r.Decision.Reasons = s.Verdict, s.Policy, s.Rule, s.Reasons
	r.Decision.Contact, r.Decision.Limit, r.Decision.Shadow = "", 0, nil
	r.Outcome, r.Failure, r.Created, r.Reversible = ShadowOutcome, nil, nil, false
	return r
}
