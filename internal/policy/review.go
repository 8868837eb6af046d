package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// RuleReview is the rule of a decision that people made.
const RuleReview = "review"

// Why a review does not count. These are the codes of events that refuse one.
const (
	RefusedUnknownReviewer = "unknown_reviewer" // nobody of that name in reviewers.yaml
	RefusedReviewerExpired = "reviewer_expired"
	RefusedRole            = "wrong_role"
	RefusedGroup           = "not_a_reviewer_of_the_policy"
	RefusedUnknownConsole  = "unknown_console"
	RefusedFactsChanged    = "facts_changed"
	RefusedOwnRequest      = "own_request"
	RefusedLate            = "review_expired"
	RefusedNoReview        = "no_review" // no policy of the target has a review
	RefusedNotReviewable   = "not_reviewable"
	RefusedDecided         = "already_decided"
)

// RefusedReviewError is why a review does not count: a stable code, and a text for people.
type RefusedReviewError struct{ Code, Text string }

func (e *RefusedReviewError) Error() string { return e.Text }

// reviewable reports whether people may decide what d holds: nothing is wrong with
// the request, and only a rule that allows it is missing.
func reviewable(d *approval.Decision) bool { return obstacle(d) == nil }

// obstacle returns the reason of d that no review can change, such as a limit that is
// reached, or what is not known; nil if there is none.
func obstacle(d *approval.Decision) *approval.Reason {
	open := false
	for i := range d.Reasons {
		switch d.Reasons[i].Code {
		case approval.ReasonNotAllowed:
			open = true
		case approval.ReasonExpired, approval.ReasonNotYetValid, approval.ReasonOutsideHours, approval.ReasonConditionFalse,
			approval.ReasonClaimNotMatched, approval.ReasonFieldNotMatched, approval.ReasonRejectsSwitched:
		default:
			return &d.Reasons[i]
		}
	}
	if open && d.Verdict == approval.Hold && !d.NeedsCount && d.Rule == "" {
		return nil
	}
	if len(d.Reasons) > 0 {
		return &d.Reasons[0]
	}
	return &approval.Reason{Text: "No reason is known."}
}

// counts returns why a review does not count for rule now; nil if it does. rule may
// be nil, for what does not depend on a policy.
func (r *Reviewers) counts(review *approval.Review, in *approval.Input, rule *approval.ReviewRule) *RefusedReviewError {
	who := r.ByName(review.Reviewer)
	switch {
	case who == nil:
		return &RefusedReviewError{RefusedUnknownReviewer, fmt.Sprintf("reviewers.yaml names nobody called %.80q", review.Reviewer)}
	case !who.Active(in.Now):
		return &RefusedReviewError{RefusedReviewerExpired, who.Name + " may not review any more: the entry in reviewers.yaml has expired"}
	case !who.Has(RoleReviewer):
		return &RefusedReviewError{RefusedRole, who.Name + " does not have the role reviewer"}
	case review.Console != "" && !r.hasConsole(review.Console):
		return &RefusedReviewError{RefusedUnknownConsole, fmt.Sprintf("reviewers.yaml names no console called %.80q", review.Console)}
	case who.Owns(&in.Request, in.Facts.DomainID):
		return &RefusedReviewError{RefusedOwnRequest, who.Name + " may not review a request of their own"}
	case !review.Facts.Known() || review.Facts != approval.FactsToReview(&in.Request, &in.Facts):
		return &RefusedReviewError{RefusedFactsChanged, "the request is not what was reviewed any more; look at it again"}
	case rule != nil && !who.In(rule.By):
		return &RefusedReviewError{RefusedGroup, fmt.Sprintf("the policy %s takes reviews of %s only", rule.Policy, strings.Join(rule.By, ", "))}
	}
	return nil
}

// late reports whether a review of rule came after its time.
func late(at, heldAt time.Time, rule *approval.ReviewRule) bool {
	return at.Sub(heldAt) > time.Duration(rule.Within)
}

// tally is how far the reviews of one policy have come.
type tally struct {
	approvers []string // names, oldest word first
	rejecter  *approval.Review
	missing   int // approvals
}

// count counts the latest word of each person for rule.
func (r *Reviewers) count(in *approval.Input, rule *approval.ReviewRule) tally {
	var t tally
	latest := map[string]*approval.Review{}
	var order []string
	for i := range in.Reviews.Said {
		review := &in.Reviews.Said[i]
		if r.counts(review, in, rule) != nil || late(review.At, in.Reviews.HeldAt, rule) {
			continue
		}
		before := latest[review.Reviewer]
		if before == nil {
			order = append(order, review.Reviewer)
		} else if review.At.Before(before.At) {
			continue // workers may count two reviews in the other order
		}
		latest[review.Reviewer] = review
	}
	people := map[string]bool{} // who counts as one
	for _, name := range order {
		review := latest[name]
		if !review.Approve {
			if t.rejecter == nil {
				t.rejecter = review
			}
			continue
		}
		t.approvers = append(t.approvers, name)
		if review.Console != "" && !rule.TrustConsoles {
			people["console "+review.Console] = true
		} else {
			people["person "+name] = true
		}
	}
	t.missing = max(rule.Approvals-len(people), 0)
	return t
}

// review decides by people what v holds. The rules of every policy must be
// satisfied; one reject ends it.
func (v *view) review(in *approval.Input, people *Reviewers, d *approval.Decision) {
	if len(v.reviews) == 0 || !reviewable(d) {
		return
	}
	d.Review = v.reviews
	if in.Reviews == nil || len(in.Reviews.Said) == 0 {
		return
	}
	var approvers []string
	missing := 0
	for i := range v.reviews {
		t := people.count(in, &v.reviews[i])
		if t.rejecter != nil {
			v.rejected(t.rejecter, in, &v.reviews[i], d)
			return
		}
		missing += t.missing
		for _, name := range t.approvers {
			if !slices.Contains(approvers, name) {
				approvers = append(approvers, name)
			}
		}
	}
	if missing > 0 {
		return
	}
	d.Verdict, d.Policy, d.Rule, d.Contact = approval.Accept, policyOf(v.reviews), RuleReview, ""
	d.Reasons = []approval.Reason{{Code: approval.ReasonApproved, Text: "Approved by " + strings.Join(approvers, ", ") + "."}}
	d.Reviews, d.Review = in.Reviews, nil
}

// rejected writes the decision after a reject by a reviewer of rule.
func (v *view) rejected(review *approval.Review, in *approval.Input, rule *approval.ReviewRule, d *approval.Decision) {
	d.Policy, d.Rule, d.Reviews, d.Review = rule.Policy, RuleReview, in.Reviews, nil
	d.Reasons = []approval.Reason{{Code: approval.ReasonReviewReject, Text: "Rejected by " + review.Reviewer + ": " + review.Reason}}
	if rule.MayReject {
		d.Verdict = approval.Reject
	}
}

// policyOf is the policy of a decision by these rules; empty if there are several.
func policyOf(rules []approval.ReviewRule) string {
	if len(rules) == 1 {
		return rules[0].Policy
	}
	return ""
}

// ReviewState is how far the reviews of a held request have come.
type ReviewState struct {
	Decision approval.Decision // by the policies in force, the facts and the reviews
	Open     bool              // whether a review can still change anything
	Why      string            // why not
	Rules    []ReviewProgress
	Said     []SaidReview
}

// SaidReview is a review, and whether it counts by the policies in force.
type SaidReview struct {
	approval.Review
	Refused *RefusedReviewError // nil: it counts
}

// Missing is how many approvals are missing, over all policies.
func (s *ReviewState) Missing() int {
	n := 0
	for i := range s.Rules {
		n += s.Rules[i].Missing
	}
	return n
}

// May returns the names of the people who may still say something, in the order of
// reviewers.yaml for each policy.
func (s *ReviewState) May() []string {
	var out []string
	for i := range s.Rules {
		for _, name := range s.Rules[i].May {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// ReviewProgress is how far one policy's rule has come.
type ReviewProgress struct {
	approval.ReviewRule
	Until     time.Time // reviews after it are refused
	Missing   int       // approvals
	Approvers []string
	May       []string // names of the people who may still say something
}

// Review returns how far the reviews of in have come.
func (s *Set) Review(in *approval.Input) ReviewState {
	without := *in
	without.Reviews = nil
	base := s.Evaluate(&without)
	state := ReviewState{Decision: s.Evaluate(in), Said: s.said(in)}
	switch {
	case base.Verdict != approval.Hold:
		state.Why = "the policies decide it without people now: " + string(base.Verdict)
		return state
	case len(base.Review) == 0:
		state.Why = "no policy of the target has a review"
		if why := obstacle(&base); why != nil {
			state.Why = "a review cannot change why it is held: " + why.Text
		}
		return state
	case len(state.Decision.Review) == 0:
		state.Why = "it is decided by its reviews"
	}
	people := s.Reviewers()
	for _, rule := range base.Review {
		p := ReviewProgress{ReviewRule: rule, Missing: rule.Approvals}
		if in.Reviews != nil {
			p.Until = in.Reviews.HeldAt.Add(time.Duration(rule.Within))
			t := people.count(in, &rule)
			p.Missing, p.Approvers = t.missing, t.approvers
		}
		for _, who := range people.All() {
			if who.In(rule.By) && who.Active(in.Now) && who.Has(RoleReviewer) && !who.Owns(&in.Request, in.Facts.DomainID) && !slices.Contains(p.Approvers, who.Name) {
				p.May = append(p.May, who.Name)
			}
		}
		state.Rules = append(state.Rules, p)
		if state.Why == "" && in.Reviews != nil && in.Now.After(p.Until) && p.Missing > 0 {
			state.Why = "the time for a review ended at " + p.Until.UTC().Format(time.RFC3339)
		}
	}
	state.Open = state.Why == ""
	return state
}

// said returns what people said of in.
func (s *Set) said(in *approval.Input) []SaidReview {
	if in.Reviews == nil {
		return nil
	}
	var out []SaidReview
	for i := range in.Reviews.Said {
		review := &in.Reviews.Said[i]
		out = append(out, SaidReview{*review, s.CheckReview(in, review)})
	}
	return out
}

// CheckReview returns why review would not count for in; nil if it would.
func (s *Set) CheckReview(in *approval.Input, review *approval.Review) *RefusedReviewError {
	without := *in
	without.Reviews = nil
	base := s.Evaluate(&without)
	people := s.Reviewers()
	if why := people.counts(review, in, nil); why != nil {
		return why
	}
	if len(base.Review) == 0 {
		why := obstacle(&base)
		if why == nil {
			return &RefusedReviewError{RefusedNoReview, "no policy of the target has a review, so nobody can decide it here"}
		}
		return &RefusedReviewError{RefusedNotReviewable, "a review cannot decide it: " + why.Text}
	}
	var why *RefusedReviewError
	for i := range base.Review {
		rule := &base.Review[i]
		refused := people.counts(review, in, rule)
		if refused == nil && in.Reviews != nil && late(review.At, in.Reviews.HeldAt, rule) {
			refused = &RefusedReviewError{RefusedLate, fmt.Sprintf("the policy %s takes reviews for %s from when the request was held", rule.Policy, rule.Within)}
		}
		if refused == nil {
			return nil
		}
		if why == nil {
			why = refused
		}
	}
	return why
}
