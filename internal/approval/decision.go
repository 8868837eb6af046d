package approval

import (
	"strconv"
	"time"
)

// Verdict is what the policies say.
type Verdict string

// The verdicts. For a creation, Accept means to create and Reject to refuse.
const (
	Accept Verdict = "accept"
	Reject Verdict = "reject"
	Hold   Verdict = "hold"   // a person must look, or the policies must change
	Ignore Verdict = "ignore" // not ours to decide
)

// Verdicts returns every verdict.
func Verdicts() []Verdict { return []Verdict{Accept, Reject, Hold, Ignore} }

// Acts reports whether v asks for a change in the cloud.
func (v Verdict) Acts() bool { return v == Accept || v == Reject }

// Goal is the state that a connection shall reach under v; Absent if v asks for
// no change.
func (v Verdict) Goal() State {
	switch v {
	case Accept:
		return Accepted
	case Reject:
		return Rejected
	case Hold, Ignore:
	}
	return Absent
}

// ReasonCode is a stable code of why a request was decided as it was.
type ReasonCode string

// The reason codes.
const (
	ReasonAllowed         ReasonCode = "allowed"        // an allow entry matches
	ReasonDenied          ReasonCode = "denied"         // a deny entry matches
	ReasonNotAllowed      ReasonCode = "not_allowed"    // no allow entry matches
	ReasonNoPolicy        ReasonCode = "no_policy"      // no policy names the target
	ReasonClaimMismatch   ReasonCode = "claim_mismatch" // a claim contradicts a fact
	ReasonNotLoaded       ReasonCode = "policies_not_loaded"
	ReasonNotEvaluated    ReasonCode = "not_evaluated" // an expression failed
	ReasonFactMissing     ReasonCode = "fact_missing"  // the cloud does not show what a decision needs
	ReasonLimitReached    ReasonCode = "limit_reached"
	ReasonCountUnknown    ReasonCode = "count_unknown"     // a rule with a limit fits, and the accepted connections were not counted
	ReasonDeniedByClaim   ReasonCode = "denied_by_claim"   // a deny entry matches because of what the event claims
	ReasonBudget          ReasonCode = "evaluation_budget" // the rules cost more to evaluate than is allowed
	ReasonExpired         ReasonCode = "expired"
	ReasonNotYetValid     ReasonCode = "not_yet_valid"
	ReasonOutsideHours    ReasonCode = "outside_hours"
	ReasonConditionFalse  ReasonCode = "condition_false"      // a "when" expression is false
	ReasonClaimNotMatched ReasonCode = "claim_not_matched"    // an entry matches but for its claims
	ReasonFieldNotMatched ReasonCode = "field_not_matched"    // an entry matches but for a field
	ReasonRejectsSwitched ReasonCode = "rejects_switched_off" // mode accept-only
	ReasonNotVisible      ReasonCode = "not_visible"          // the target does not show the connection
	ReasonNotDecided      ReasonCode = "not_decided"          // the request ended before a decision
	ReasonShadow          ReasonCode = "shadow"               // mode shadow
	ReasonApproved        ReasonCode = "approved"             // reviewers approved what the policies held
	ReasonReviewReject    ReasonCode = "rejected_by_review"   // a reviewer rejected what the policies held
)

// Reason explains the decision to the requester, without details for operators.
type Reason struct {
	Code ReasonCode
	Text string
}

// Mode is how a policy is applied, in the spelling of its file.
type Mode string

// The modes.
const (
	Enforce    Mode = "enforce"
	AcceptOnly Mode = "accept-only" // never rejects
	Shadow     Mode = "shadow"      // decides and reports, never acts
)

// Input is all that a decision depends on.
type Input struct {
	Request Request
	Facts   Facts
	Now     time.Time
	Reviews *Reviews // what people said of it; nil: nothing
}

// Decision is a verdict with everything that made it.
type Decision struct {
	ID      string // see DecisionID; set when it is recorded
	Verdict Verdict
	Policy  string // name of the policy that decided; empty if none did
	Rule    string // id of its entry; empty if none did
	Reasons []Reason
	Contact string // whom the requester may ask, from the rule
	Digest  string // of the policy set, "sha256:" and 64 hexadecimal digits
	Facts   Facts  // what was judged
	At      time.Time
	Limit   int // most accepted connections of Facts.DomainID on the target, by the rule that accepts; 0: none is set
	// NeedsCount says that a rule would accept if fewer than Limit connections
	// are accepted, and that Facts.Accepted is not known: count and decide again.
	NeedsCount bool
	Shadow     *ShadowDecision // nil if no shadow policy is for the target
	Review     []ReviewRule    // by whom a hold can be decided; shared, do not change it
	Reviews    *Reviews        // what people said, of a decision by reviews
}

// ShadowDecision is what would have been decided if the shadow policies of the
// target were in force. Nothing is done by it.
type ShadowDecision struct {
	Verdict    Verdict
	Policy     string
	Rule       string
	Reasons    []Reason
	NeedsCount bool // it depends on a count that was not taken
}

// DecisionID is the id of the decision on a request. There is one decision a
// request; a new decision takes a new request.
func DecisionID(requestID string) string { return requestID }

// Each calls yield with what the cloud or the configuration says of in, by the name
// that policies and claims use, until it returns false; never with anything that was
// claimed. A claim about a field without a value can be neither confirmed nor
// contradicted.
func (in *Input) Each(name string, yield func(string) bool) {
	switch name {
	case "region":
		eachOne(in.Request.Target.Region, yield)
		return
	case "workspace_id":
		eachOne(in.Request.Target.WorkspaceID, yield)
		return
	}
	if in.Request.Creates() {
		in.Request.Creation.Each(name, yield)
		return
	}
	switch name {
	case "domain_id":
		eachOne(in.Facts.DomainID, yield)
	case "endpoint_id":
		eachOne(in.Facts.EndpointID, yield)
	case "marker_id":
		if in.Facts.MarkerID != 0 {
			yield(strconv.FormatInt(in.Facts.MarkerID, 10))
		}
	}
}
