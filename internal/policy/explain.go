package policy

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Explanation tells why a request is decided as it is: the decision, and what
// each entry of each policy of the target says.
type Explanation struct {
	Decision approval.Decision
	Policies []Answers // by name
	Others   int       // policies that are not for the target
	All      bool      // write every entry, and not only those that match or nearly do
}

// Answers is the part of one policy.
type Answers struct {
	Name      string           `json:"policy"`
	File      string           `json:"file"`
	Mode      approval.Mode    `json:"mode"`
	Otherwise approval.Verdict `json:"otherwise"`
	Entries   []EntryAnswer    `json:"entries"`          // the denies first, each in the order of the file
	Hidden    int              `json:"hidden,omitempty"` // entries that are left out
	more      map[Answer]int   // of Hidden
}

// EntryAnswer is the part of one entry.
type EntryAnswer struct {
	List    string           `json:"list"` // allow or deny
	ID      string           `json:"id"`
	Line    int              `json:"line"`
	Answer  Answer           `json:"answer"`
	Decides bool             `json:"decides"`                     // it is the rule of the decision
	Failed  *FailedCondition `json:"failed,omitempty"`            // the first condition that does not hold
	Misses  int              `json:"failed_conditions,omitempty"` // how many conditions are known not to hold
	near    bool             // the condition that fails is not the first
}

// Answer is what an entry says of a request.
type Answer string

// The answers.
const (
	Matches      Answer = "matches"
	MatchesNot   Answer = "does not match"
	NotEvaluated Answer = "cannot be evaluated"
)

func (a Answer) mark() string {
	switch a {
	case Matches:
		return "✓"
	case NotEvaluated:
		return "?"
	case MatchesNot:
	}
	return "✗"
}

// FailedCondition is a condition that does not hold.
type FailedCondition struct {
	Name   string              `json:"condition"`
	Code   approval.ReasonCode `json:"code"`
	Seen   string              `json:"seen"`
	Wanted string              `json:"wanted"`
}

// Explain decides in, by Evaluate, and asks every entry of the target what it
// says of in.
func (s *Set) Explain(in *approval.Input) Explanation {
	q := newQuery(in)
	x := Explanation{Decision: s.decide(&q)}
	if s == nil {
		return x
	}
	q.again()
	for _, p := range s.policies {
		if !slices.Contains(p.targets, in.Request.Target.Name) {
			x.Others++
			continue
		}
		px := Answers{Name: p.name, File: p.file, Mode: p.mode, Otherwise: p.otherwise, Entries: []EntryAnswer{}}
		for _, e := range slices.Concat(p.deny, p.allow) {
			ex := e.explain(&q)
			ex.Decides = x.Decision.Policy == p.name && x.Decision.Rule == e.id
			px.Entries = append(px.Entries, ex)
		}
		x.Policies = append(x.Policies, px)
	}
	return x
}

func (e *entry) explain(q *query) EntryAnswer {
	x := EntryAnswer{List: e.list(), ID: e.id, Line: e.at.line, Answer: Matches}
	t, c := e.judge(q)
	if t == yes {
		return x
	}
	x.Failed = &FailedCondition{Name: c.name(), Code: c.reason().Code, Wanted: c.wanted()}
	if w, ok := c.(*whenCondition); ok {
		x.Failed.Seen = q.when(w).seen
	} else {
		x.Failed.Seen = c.seen(q.in, e.deny)
	}
	x.near = c != e.conds[0]
	if t == no {
		x.Answer, x.Misses = MatchesNot, len(e.failed(q))
		return x
	}
	x.Answer, x.Failed.Code = NotEvaluated, approval.ReasonNotEvaluated
	if t == uncounted {
		x.Failed.Code = approval.ReasonCountUnknown
	}
	if q.lies && c.onClaims() {
		x.Failed.Seen += ", not believed since a claim contradicts a fact"
	}
	return x
}

// What is written of the entries where there are more than maxEntries; the one
// that decides always is.
const (
	maxEntries  = 20 // of each answer
	maxMisses   = 5  // entries that do not match
	maxPolicies = 10 // policies of which no entry is written
)

// place is where an entry stands in an Explanation.
type place struct{ policy, entry int }

// cut returns the policies to write, without the entries that have least to do
// with the request, and how many policies are left out with all their entries.
func (x Explanation) cut() (policies []Answers, hidden int) {
	total := 0
	for _, p := range x.Policies {
		total += len(p.Entries)
	}
	if x.All || total <= maxEntries && len(x.Policies) <= maxEntries {
		return x.Policies, 0
	}
	keep := make(map[place]bool)
	seen := make(map[Answer]int)
	var misses []place
	for i, p := range x.Policies {
		for j, e := range p.Entries {
			at := place{i, j}
			if e.Answer == MatchesNot && !e.Decides {
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
		if ea.near != eb.near { // it is for this requester
			if ea.near {
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
	for i, p := range x.Policies {
		all := p.Entries
		p.Entries, p.more = []EntryAnswer{}, make(map[Answer]int)
		for j, e := range all {
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
			fmt.Fprintf(&b, "├─ %s %s %s (line %d): %s", e.Answer.mark(), e.List, e.ID, e.Line, e.Answer)
			if e.Decides {
				b.WriteString(", decides")
			}
			b.WriteString("\n")
			if e.Failed != nil {
				fmt.Fprintf(&b, "│     %s: saw %s, wants %s\n", e.Failed.Name, e.Failed.Seen, e.Failed.Wanted)
			}
		}
		for _, a := range []struct {
			answer    Answer
			one, many string
		}{
			{Matches, "entry more matches", "entries more match"},
			{NotEvaluated, "entry more cannot be evaluated", "entries more cannot be evaluated"},
			{MatchesNot, "entry more does not match", "entries more do not match"},
		} {
			if n := p.more[a.answer]; n > 0 {
				fmt.Fprintf(&b, "├─ %s\n", counted(n, a.one, a.many))
			}
		}
		b.WriteString("└─\n")
	}
	if hidden > 0 {
		fmt.Fprintf(&b, "policies more with no entry that nearly matches: %d\n", hidden)
	}
	if x.Others > 0 {
		fmt.Fprintf(&b, "policies for other targets: %d\n", x.Others)
	}
	writeDecision(&b, x.Decision)
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
			verdict = "cannot be told without a count, held"
		}
		fmt.Fprintf(b, "with the shadow policies: %s%s\n", verdict, by(s.Policy, s.Rule))
	}
	if d.Digest != "" {
		fmt.Fprintf(b, "policies: %s\n", d.Digest)
	}
}

// by names the rule of a decision.
func by(policy, rule string) string {
	switch {
	case policy == "":
		return ""
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

// WriteJSON writes x as JSON.
func (x Explanation) WriteJSON(w io.Writer) error {
	policies, hidden := x.cut()
	return writeJSON(w, struct {
		Decision wireDecision `json:"decision"`
		Policies []Answers    `json:"policies"`
		Hidden   int          `json:"hidden_policies,omitempty"`
		Others   int          `json:"other_policies"`
	}{toWire(x.Decision), orEmpty(policies), hidden, x.Others})
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
