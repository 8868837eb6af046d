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
}

// Answers is the part of one policy.
type Answers struct {
	Name      string           `json:"policy"`
	File      string           `json:"file"`
	Mode      approval.Mode    `json:"mode"`
	Otherwise approval.Verdict `json:"otherwise"`
	Entries   []EntryAnswer    `json:"entries"` // the denies first, each in the order of the file
}

// EntryAnswer is the part of one entry.
type EntryAnswer struct {
	List    string           `json:"list"` // allow or deny
	ID      string           `json:"id"`
	Line    int              `json:"line"`
	Answer  Answer           `json:"answer"`
	Decides bool             `json:"decides"`          // it is the rule of the decision
	Failed  *FailedCondition `json:"failed,omitempty"` // the first condition that does not hold
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
	x := Explanation{Decision: s.Evaluate(in)}
	if s == nil {
		return x
	}
	lies := contradicted(in) != 0
	for _, p := range s.policies {
		if !slices.Contains(p.targets, in.Request.Target.Name) {
			x.Others++
			continue
		}
		px := Answers{Name: p.name, File: p.file, Mode: p.mode, Otherwise: p.otherwise, Entries: []EntryAnswer{}}
		for _, e := range slices.Concat(p.deny, p.allow) {
			ex := e.explain(in, lies)
			ex.Decides = x.Decision.Policy == p.name && x.Decision.Rule == e.id
			px.Entries = append(px.Entries, ex)
		}
		x.Policies = append(x.Policies, px)
	}
	return x
}

func (e *entry) explain(in *approval.Input, lies bool) EntryAnswer {
	x := EntryAnswer{List: e.list(), ID: e.id, Line: e.at.line, Answer: Matches}
	t, c := e.judge(in, lies)
	switch t {
	case yes:
		return x
	case no:
		x.Answer = MatchesNot
	case unknown:
		x.Answer = NotEvaluated
	}
	x.Failed = &FailedCondition{Name: c.name(), Code: c.reason().Code, Seen: c.seen(in, e.deny), Wanted: c.wanted()}
	if t == unknown {
		x.Failed.Code = approval.ReasonNotEvaluated
		if lies && c.onClaims() {
			x.Failed.Seen += ", not believed since a claim contradicts a fact"
		}
	}
	x.near = c != e.conds[0]
	return x
}

// maxEntries is how many entries of a policy a tree shows one by one, besides
// those that match or nearly do.
const maxEntries = 20

// WriteText writes x as a tree.
func (x Explanation) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, p := range x.Policies {
		fmt.Fprintf(&b, "%s (%s, %s, otherwise %s)\n", p.Name, p.File, p.Mode, p.Otherwise)
		shown, hidden := 0, 0
		for _, e := range p.Entries {
			if e.Answer == MatchesNot && !e.near && shown >= maxEntries {
				hidden++
				continue
			}
			shown++
			fmt.Fprintf(&b, "├─ %s %s %s (line %d): %s", e.Answer.mark(), e.List, e.ID, e.Line, e.Answer)
			if e.Decides {
				b.WriteString(", decides")
			}
			b.WriteString("\n")
			if e.Failed != nil {
				fmt.Fprintf(&b, "│     %s: saw %s, wants %s\n", e.Failed.Name, e.Failed.Seen, e.Failed.Wanted)
			}
		}
		if hidden > 0 {
			fmt.Fprintf(&b, "├─ %s\n", counted(hidden, "entry more does not match", "entries more do not match"))
		}
		b.WriteString("└─\n")
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
		fmt.Fprintf(b, "with the shadow policies: %s%s\n", s.Verdict, by(s.Policy, s.Rule))
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
	Digest  string           `json:"digest,omitempty"`
	Shadow  *wireDecision    `json:"shadow,omitempty"`
}

type wireReason struct {
	Code approval.ReasonCode `json:"code"`
	Text string              `json:"text"`
}

func toWire(d approval.Decision) wireDecision {
	w := wireDecision{
		Verdict: d.Verdict, Policy: d.Policy, Rule: d.Rule, Contact: d.Contact, Limit: d.Limit, Digest: d.Digest,
		Reasons: make([]wireReason, 0, len(d.Reasons)),
	}
	for _, r := range d.Reasons {
		w.Reasons = append(w.Reasons, wireReason(r))
	}
	if s := d.Shadow; s != nil {
		would := toWire(approval.Decision{Verdict: s.Verdict, Policy: s.Policy, Rule: s.Rule, Reasons: s.Reasons})
		w.Shadow = &would
	}
	return w
}

// WriteJSON writes x as JSON.
func (x Explanation) WriteJSON(w io.Writer) error {
	return writeJSON(w, struct {
		Decision wireDecision `json:"decision"`
		Policies []Answers    `json:"policies"`
		Others   int          `json:"other_policies"`
	}{toWire(x.Decision), orEmpty(x.Policies), x.Others})
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
