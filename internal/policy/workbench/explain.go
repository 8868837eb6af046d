package workbench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// Explanation is a policy.Explanation that can be written.
type Explanation struct {
	policy.Explanation

	All bool // write every entry, and not only those that match or nearly do
}

// Explain decides in by set and explains the decision.
func Explain(set *policy.Set, in *approval.Input) Explanation {
	return Explanation{Explanation: set.Explain(in)}
}

// Shown is the part of an Explanation that is written.
type Shown struct {
	Policies []ShownAnswers
	Hidden   int // policies that are left out with all their entries
	Others   int // policies that are not for the target
}

// ShownAnswers is the part of one policy that is written.
type ShownAnswers struct {
	policy.Answers

	Hidden int                   `json:"hidden,omitempty"` // entries that are left out
	more   map[policy.Answer]int // of Hidden
}

// mark is the sign in front of an entry.
func mark(a policy.Answer) string {
	switch a {
	case policy.Matches:
		return "✓"
	case policy.NotEvaluated:
		return "?"
	case policy.MatchesNot:
	}
	return "✗"
}

// What is written of the entries where there are more than maxEntries; the one
// that decides always is.
const (
	maxEntries  = 20 // of each answer
	maxMisses   = 5  // entries that do not match
	maxPolicies = 10 // policies of which no entry is written
)

// place is the place of an entry in an Explanation.
type place struct{ policy, entry int }

// Shown returns the policies to write, without the entries that have least to do
// with the request.
func (x Explanation) Shown() Shown {
	policies, hidden := x.cut()
	return Shown{Policies: policies, Hidden: hidden, Others: x.Others}
}

// cut returns the policies to write, and how many are left out with all their entries.
func (x Explanation) cut() (policies []ShownAnswers, hidden int) {
	total := 0
	for _, p := range x.Policies {
		total += len(p.Entries)
	}
	if x.All || total <= maxEntries && len(x.Policies) <= maxEntries {
		for _, p := range x.Policies {
			policies = append(policies, ShownAnswers{Answers: p})
		}
		return policies, 0
	}
	keep := make(map[place]bool)
	seen := make(map[policy.Answer]int)
	var misses []place
	for i, p := range x.Policies {
		for j, e := range p.Entries {
			at := place{i, j}
			if e.Answer == policy.MatchesNot && !e.Decides {
				misses = append(misses, at)
				continue
			}
			seen[e.Answer]++
			if e.Decides || seen[e.Answer] <= maxEntries {
				keep[at] = true
			}
		}
	}
	slices.SortStableFunc(misses, func(a, b place) int {
		ea, eb := x.Policies[a.policy].Entries[a.entry], x.Policies[b.policy].Entries[b.entry]
		if ea.Near != eb.Near { // it is for this requester
			if ea.Near {
				return -1
			}
			return 1
		}
		return ea.Misses - eb.Misses
	})
	for _, at := range misses[:min(len(misses), maxMisses)] {
		keep[at] = true
	}
	empty := 0
	for i, answers := range x.Policies {
		p := ShownAnswers{Answers: answers, more: make(map[policy.Answer]int)}
		p.Entries = []policy.EntryAnswer{}
		for j, e := range answers.Entries {
			if keep[place{i, j}] {
				p.Entries = append(p.Entries, e)
			} else {
				p.Hidden++
				p.more[e.Answer]++
			}
		}
		if len(p.Entries) == 0 {
			if empty++; empty > maxPolicies {
				hidden++
				continue
			}
		}
		policies = append(policies, p)
	}
	return policies, hidden
}

// WriteText writes x as a tree.
func (x Explanation) WriteText(w io.Writer) error {
	var b strings.Builder
	policies, hidden := x.cut()
	for _, p := range policies {
		fmt.Fprintf(&b, "%s (%s, %s, otherwise %s)\n", p.Name, p.File, p.Mode, p.Otherwise)
		for _, e := range p.Entries {
			fmt.Fprintf(&b, "├─ %s %s %s (line %d): %s", mark(e.Answer), e.List, e.ID, e.Line, e.Answer)
			if e.Decides {
				b.WriteString(", decides")
			}
			b.WriteString("\n")
			if e.Failed != nil {
				fmt.Fprintf(&b, "│     %s: got %s, want %s\n", e.Failed.Name, e.Failed.Seen, e.Failed.Wanted)
			}
		}
		for _, a := range []struct {
			answer    policy.Answer
			one, many string
		}{
			{policy.Matches, "more entry matches", "more entries match"},
			{policy.NotEvaluated, "more entry cannot be evaluated", "more entries cannot be evaluated"},
			{policy.MatchesNot, "more entry does not match", "more entries do not match"},
		} {
			if n := p.more[a.answer]; n > 0 {
				fmt.Fprintf(&b, "├─ %s\n", counted(n, a.one, a.many))
			}
		}
		b.WriteString("└─\n")
	}
	if hidden > 0 {
		fmt.Fprintf(&b, "other policies without an entry that nearly matches: %d\n", hidden)
	}
	if x.Others > 0 {
		fmt.Fprintf(&b, "policies for other targets: %d\n", x.Others)
	}
	writeDecision(&b, x.Decision)
	writeReviews(&b, x.Reviews)
	if x.Decision.Digest != "" {
		fmt.Fprintf(&b, "policies: %s\n", x.Decision.Digest)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeDecision writes the verdict and its reasons.
func writeDecision(b *strings.Builder, d approval.Decision) {
	fmt.Fprintf(b, "verdict: %s%s\n", d.Verdict, by(d.Policy, d.Rule))
	for _, r := range d.Reasons {
		fmt.Fprintf(b, "  %s: %s\n", r.Code, r.Text)
	}
	if d.Contact != "" {
		fmt.Fprintf(b, "  contact: %s\n", d.Contact)
	}
	if d.Limit > 0 {
		fmt.Fprintf(b, "  limit: %s\n", counted(d.Limit, "accepted connection", "accepted connections"))
	}
	if s := d.Shadow; s != nil {
		verdict := string(s.Verdict)
		if s.NeedsCount {
			verdict = "unknown without a count, held"
		}
		fmt.Fprintf(b, "with the shadow policies: %s%s\n", verdict, by(s.Policy, s.Rule))
	}
}

// by names the rule of a decision.
func by(policy, rule string) string {
	switch {
	case policy == "" && rule == "":
		return ""
	case policy == "": // of several policies
		return " by " + rule
	case rule == "":
		return " by otherwise of " + policy
	}
	return " by " + policy + "/" + rule
}

// wireDecision is the JSON form of a decision in what the tools print.
type wireDecision struct {
	Verdict approval.Verdict `json:"verdict"`
	Policy  string           `json:"policy"`
	Rule    string           `json:"rule"`
	Reasons []wireReason     `json:"reasons"`
	Contact string           `json:"contact,omitempty"`
	Limit   int              `json:"limit,omitempty"`
	Needs   bool             `json:"needs_count,omitempty"`
	Digest  string           `json:"digest,omitempty"`
	Shadow  *wireDecision    `json:"shadow,omitempty"`
}

type wireReason struct {
	Code approval.ReasonCode `json:"code"`
	Text string              `json:"text"`
}

func toWire(d approval.Decision) wireDecision {
	w := wireDecision{
		Verdict: d.Verdict, Policy: d.Policy, Rule: d.Rule, Contact: d.Contact, Limit: d.Limit, Needs: d.NeedsCount, Digest: d.Digest,
		Reasons: make([]wireReason, 0, len(d.Reasons)),
	}
	for _, r := range d.Reasons {
		w.Reasons = append(w.Reasons, wireReason(r))
	}
	if s := d.Shadow; s != nil {
		would := toWire(approval.Decision{Verdict: s.Verdict, Policy: s.Policy, Rule: s.Rule, Reasons: s.Reasons, NeedsCount: s.NeedsCount})
		w.Shadow = &would
	}
	return w
}

// ExplanationJSON is what is written of an Explanation as JSON.
type ExplanationJSON struct {
	Decision wireDecision   `json:"decision"`
	Policies []ShownAnswers `json:"policies"`
	Hidden   int            `json:"hidden_policies,omitempty"` // policies that are left out
	Others   int            `json:"other_policies"`            // policies that are for other targets
	Reviews  *wireReviews   `json:"reviews,omitempty"`         // absent if no policy of the target has a review
}

// JSON returns what is written of x as JSON.
func (x Explanation) JSON() ExplanationJSON {
	policies, hidden := x.cut()
	return ExplanationJSON{toWire(x.Decision), orEmpty(policies), hidden, x.Others, toWireReviews(x.Reviews)}
}

// orEmpty makes an empty list of none, for JSON.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
