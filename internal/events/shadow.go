package events

import "github.com/vpcep-approver/vpcep-approver/internal/approval"

// ShadowOutcome replaces the outcome in a shadow result, which says what shadow
// policies would have decided. Nothing was done by it.
const ShadowOutcome approval.Outcome = "shadow"

// shadowOf returns the shadow result of the shadow decision in r. Its ids are the
// decision's with the suffix "-shadow", so that it is also published once.
func shadowOf(r approval.Result) approval.Result {
	s := r.Decision.Shadow
	r.Decision.ID += "-shadow"
	r.Decision.Verdict, r.Decision.Policy, r.Decision.Rule, r.Decision.Reasons = s.Verdict, s.Policy, s.Rule, s.Reasons
	r.Decision.Contact, r.Decision.Limit, r.Decision.Shadow = "", 0, nil
	r.Outcome, r.Failure, r.Created, r.Reversible = ShadowOutcome, nil, nil, false
	return r
}
