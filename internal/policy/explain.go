package policy

import (
	"slices"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Explanation explains a decision: the decision, and the answer of each entry of
// each policy of the target.
type Explanation struct {
	Decision approval.Decision
	Policies []Answers // by name
	Others   int       // policies that are not for the target

	// Reviews is how far the reviews have come of what the policies hold; nil if no
	// policy in force has a review for the target, or they decide it without people.
	Reviews *ReviewState
}

// Answers holds the answers of one policy.
type Answers struct {
	Name      string           `json:"policy"`
	File      string           `json:"file"`
	Mode      approval.Mode    `json:"mode"`
	Otherwise approval.Verdict `json:"otherwise"`
	Entries   []EntryAnswer    `json:"entries"` // the denies first, each in the order of the file
}

// EntryAnswer is the answer of one entry.
type EntryAnswer struct {
	List    string           `json:"list"` // allow or deny
	ID      string           `json:"id"`
	Line    int              `json:"line"`
	Answer  Answer           `json:"answer"`
	Decides bool             `json:"decides"`                     // it is the rule of the decision
	Failed  *FailedCondition `json:"failed,omitempty"`            // the first condition that does not hold
	Misses  int              `json:"failed_conditions,omitempty"` // how many conditions are known not to hold
	Near    bool             `json:"-"`                           // the condition that fails is not the first
}

// Answer tells whether an entry matches a request.
type Answer string

// The answers.
const (
	Matches      Answer = "matches"
	MatchesNot   Answer = "does not match"
	NotEvaluated Answer = "cannot be evaluated"
)

// FailedCondition is a condition that does not hold.
type FailedCondition struct {
	Name   string              `json:"condition"`
	Code   approval.ReasonCode `json:"code"`
	Seen   string              `json:"seen"`
	Wanted string              `json:"wanted"`
}

// Explain decides in as Evaluate does, and tests every entry of the target.
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
	if sc := s.scopes[in.Request.Target.Name]; sc != nil && sc.live != nil && len(sc.live.reviews) > 0 {
		if d := &x.Decision; d.Verdict == approval.Hold || d.Reviews != nil {
			state := s.Review(in)
			x.Reviews = &state
		}
	}
	return x
}

func (e *entry) explain(q *query) EntryAnswer {
	x := EntryAnswer{List: e.list(), ID: e.id, Line: e.at.Line, Answer: Matches}
	t, c := e.judge(q, false)
	if t == yes {
		return x
	}
	x.Failed = &FailedCondition{Name: c.name(), Code: c.reason().Code, Wanted: c.wanted()}
	if w, ok := c.(*whenCondition); ok {
		x.Failed.Seen = q.when(w).seen
	} else {
		x.Failed.Seen = c.seen(q.in.Input, e.deny)
	}
	x.Near = c != e.conds[0]
	if t == no {
		x.Answer, x.Misses = MatchesNot, len(e.failed(q))
		return x
	}
	x.Answer, x.Failed.Code = NotEvaluated, approval.ReasonNotEvaluated
	if t == uncounted {
		x.Failed.Code = approval.ReasonCountUnknown
	}
	if q.mismatch && c.onClaims() {
		x.Failed.Seen += ", ignored because a claim contradicts a fact"
	}
	return x
}
