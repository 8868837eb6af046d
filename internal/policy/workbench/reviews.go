package workbench

import (
	"fmt"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// take returns the input of t after what people say, as the workers take it: each
// review at its time, and none after the request is decided. refused are the codes
// of the reviews that do not count.
func take(set *policy.Set, t *policy.Test) (in approval.Input, refused []string) {
	in, refused = t.Input, []string{}
	counted := *in.Reviews
	in.Reviews = &counted
	then := in
	for i := range t.Said {
		said := &t.Said[i]
		then.Now = said.At
		if d := set.Evaluate(&then); d.Reviews != nil {
			refused = append(refused, policy.RefusedDecided)
			continue
		}
		if why := set.CheckReview(&then, said); why != nil {
			refused = append(refused, why.Code)
			continue
		}
		counted.Said = append(counted.Said, *said)
	}
	return in, refused
}

// unexpectedReviews returns a line for each thing about reviews that is not as
// expected.
func unexpectedReviews(e *policy.Expectation, state *policy.ReviewState, refused []string) []string {
	var out []string
	missing, may := state.Missing(), state.May()
	if !state.Open {
		missing, may = 0, nil
	}
	differs := func(what, want, got string) {
		if want == got {
			return
		}
		if got = orNothing(got); !state.Open && what != "refused" {
			got += ": " + state.Why
		}
		out = append(out, fmt.Sprintf("%s: want %s, got %s", what, orNothing(want), got))
	}
	if e.Missing != nil {
		differs("missing", fmt.Sprint(*e.Missing), fmt.Sprint(missing))
	}
	if e.MayReview != nil {
		differs("may_review", strings.Join(e.MayReview, ", "), strings.Join(may, ", "))
	}
	if e.Refused != nil {
		differs("refused", strings.Join(e.Refused, ", "), strings.Join(refused, ", "))
	}
	return out
}

// ReviewProgress is how far the reviews of one policy have come, as JSON.
type ReviewProgress struct {
	Policy    string    `json:"policy"`
	By        []string  `json:"by"`
	Approvals int       `json:"approvals"`
	Within    string    `json:"within"`
	Until     time.Time `json:"until,omitzero"` // reviews after it are refused
	Missing   int       `json:"missing"`
	Approved  []string  `json:"approved_by"`
	May       []string  `json:"may_review"`
}

// NewReviewProgress returns r as JSON.
func NewReviewProgress(r *policy.ReviewProgress) ReviewProgress {
	out := ReviewProgress{
		Policy: r.Policy, By: r.By, Approvals: r.Approvals, Within: r.Within.String(), Missing: r.Missing,
		Approved: append([]string{}, r.Approvers...), May: append([]string{}, r.May...),
	}
	if !r.Until.IsZero() {
		out.Until = r.Until.UTC()
	}
	return out
}

// wireReviews is the JSON form of how far the reviews of a decision have come.
type wireReviews struct {
	Open     bool             `json:"open"`
	Why      string           `json:"why,omitempty"` // it is not open
	Policies []ReviewProgress `json:"policies"`
	Said     []wireReview     `json:"said"`
}

type wireReview struct {
	Reviewer string    `json:"reviewer"`
	Verdict  string    `json:"verdict"`
	Reason   string    `json:"reason"`
	Time     time.Time `json:"time"`
	Console  string    `json:"console,omitempty"`
	Refused  string    `json:"refused,omitempty"` // the code of why it does not count
}

func toWireReviews(s *policy.ReviewState) *wireReviews {
	if s == nil {
		return nil
	}
	w := &wireReviews{Open: s.Open, Why: s.Why, Policies: []ReviewProgress{}, Said: []wireReview{}}
	for i := range s.Rules {
		w.Policies = append(w.Policies, NewReviewProgress(&s.Rules[i]))
	}
	for _, said := range s.Said {
		r := wireReview{Reviewer: said.Reviewer, Verdict: saidVerdict(said.Approve), Reason: said.Reason, Time: said.At.UTC(), Console: said.Console}
		if said.Refused != nil {
			r.Refused = said.Refused.Code
		}
		w.Said = append(w.Said, r)
	}
	return w
}

func saidVerdict(approve bool) string {
	if approve {
		return "approve"
	}
	return "reject"
}

// hours is a period without the zeros at its end: 72h, not 72h0m0s.
func hours(p approval.Period) string {
	text := p.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// writeReviews writes who may decide what is held, and what people said.
func writeReviews(b *strings.Builder, s *policy.ReviewState) {
	if s == nil {
		return
	}
	if s.Open {
		b.WriteString("reviews: open\n")
	} else {
		fmt.Fprintf(b, "reviews: closed: %s\n", s.Why)
	}
	for i := range s.Rules {
		r := &s.Rules[i]
		fmt.Fprintf(b, "  %s: %s of %s within %s", r.Policy, counted(r.Approvals, "approval", "approvals"), strings.Join(r.By, ", "), hours(r.Within))
		if len(r.Approvers) > 0 {
			b.WriteString("; approved by " + strings.Join(r.Approvers, ", "))
		}
		if s.Open {
			fmt.Fprintf(b, "; %d missing; may review: %s", r.Missing, orNothing(strings.Join(r.May, ", ")))
		}
		b.WriteString("\n")
	}
	for _, said := range s.Said {
		via := ""
		if said.Console != "" {
			via = " at console " + said.Console
		}
		fmt.Fprintf(b, "  %s: %s%s at %s: %q\n", said.Reviewer, saidVerdict(said.Approve), via, said.At.UTC().Format(time.RFC3339), said.Reason)
		if said.Refused != nil {
			fmt.Fprintf(b, "    does not count: %s: %s\n", said.Refused.Code, said.Refused.Text)
		}
	}
}
