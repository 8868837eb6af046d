package workbench

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// Record is a request that was decided, for Backtest.
type Record struct {
	ID       string
	Input    approval.Input
	Decision approval.Decision // as it was recorded
}

// RecordOf returns the record of a ledger entry: the facts, the time and the reviews
// are those of its decision.
func RecordOf(e approval.Entry) Record {
	return Record{
		ID: e.Request.ID, Decision: e.Decision,
		Input: approval.Input{Request: e.Request, Facts: e.Decision.Facts, Now: e.Decision.At, Reviews: e.Decision.Reviews},
	}
}

// VerdictUnknown is the verdict of a candidate that depends on a count that was not
// recorded.
const VerdictUnknown approval.Verdict = "unknown"

// Flip is a recorded request that a candidate decides otherwise, or may.
type Flip struct {
	ID         string              `json:"request"`
	Target     string              `json:"target"`
	Consumer   string              `json:"consumer,omitempty"` // the account; empty for creations
	From       approval.Verdict    `json:"from"`
	FromPolicy string              `json:"from_policy,omitempty"`
	FromRule   string              `json:"from_rule,omitempty"`
	To         approval.Verdict    `json:"to"`
	ToPolicy   string              `json:"to_policy,omitempty"`
	ToRule     string              `json:"to_rule,omitempty"`
	Why        approval.ReasonCode `json:"why"` // the first reason of the candidate
}

// Flips is what Backtest found.
type Flips struct {
	Total        int             `json:"records"`         // compared
	Flips        []Flip          `json:"flips"`           // in the order of the records
	Inconclusive []Flip          `json:"inconclusive"`    // likewise: they may flip, by a count that was not recorded
	Unknown      []UnknownTarget `json:"unknown_targets"` // records that could not be compared
	Digest       string          `json:"candidate"`
}

// UnknownTarget counts records of a target that is not configured any more.
type UnknownTarget struct {
	Target  string `json:"target"`
	Records int    `json:"records"`
}

// Backtest decides recorded requests by candidate, on the facts and at the time
// of their decisions, and returns those that are decided otherwise: than by
// current, or, if that is nil, than was recorded. It stops at the first error
// that records yields. targets are the configured ones; what a record says of
// its target is replaced by them. Where a limit applies and the connections were
// not counted, every count is tried: if the outcome depends on it, the record is inconclusive.
func Backtest(records iter.Seq2[Record, error], candidate, current *policy.Set, targets approval.Targets) (Flips, error) {
	out := Flips{Flips: []Flip{}, Inconclusive: []Flip{}, Unknown: []UnknownTarget{}, Digest: candidate.Digest()}
	unknown := make(map[string]int)
	for r, err := range records {
		if err != nil {
			return out, fmt.Errorf("records: after %d: %w", out.Total, err)
		}
		t, ok := targets.ByName(r.Input.Request.Target.Name)
		if !ok {
			unknown[r.Input.Request.Target.Name]++
			continue
		}
		r.Input.Request.Target = t
		out.Total++
		f, differs := compare(&r, candidate, current)
		f.ID, f.Target, f.Consumer = r.ID, t.Name, r.Input.Facts.DomainID
		switch {
		case f.To == VerdictUnknown:
			out.Inconclusive = append(out.Inconclusive, f)
		case differs:
			out.Flips = append(out.Flips, f)
		}
	}
	for _, name := range union(unknown, nil) {
		out.Unknown = append(out.Unknown, UnknownTarget{name, unknown[name]})
	}
	return out, nil
}

// compare decides r by candidate, and by current unless that is nil.
func compare(r *Record, candidate, current *policy.Set) (f Flip, differs bool) {
	decide := func(in approval.Input) (Flip, bool) {
		before, after := r.Decision, candidate.Evaluate(&in)
		if current != nil {
			before = current.Evaluate(&in)
		}
		return Flip{
			From: before.Verdict, FromPolicy: before.Policy, FromRule: before.Rule,
			To: after.Verdict, ToPolicy: after.Policy, ToRule: after.Rule, Why: after.Reasons[0].Code,
		}, before.Verdict != after.Verdict
	}
	counts := missingCounts(&r.Input, candidate, current)
	if len(counts) == 0 {
		return decide(r.Input)
	}
	flips := 0
	for i, n := range counts {
		in := r.Input
		in.Facts.Accepted = approval.Counted(n)
		g, differ := decide(in)
		if differ {
			flips++
		}
		if i == 0 {
			f = g
		}
		if g.From != f.From || g.To != f.To {
			differs = true // by the count
		}
	}
	switch {
	case flips == 0:
		return f, false
	case flips == len(counts) && !differs:
		return f, true
	}
	f, _ = decide(r.Input)
	f.To, f.Why = VerdictUnknown, approval.ReasonCountUnknown
	return f, true
}

// missingCounts returns the counts of accepted connections to decide in by, one
// for each of the verdicts that are possible, if a limit applies and nothing was
// counted. Below the limit that a decision names it accepts; from there on the
// count makes no difference, since no other entry has a higher one.
func missingCounts(in *approval.Input, sets ...*policy.Set) []int {
	var counts []int
	for _, s := range sets {
		if s == nil {
			continue
		}
		if d := s.Evaluate(in); d.NeedsCount {
			counts = append(counts, 0, d.Limit)
		}
	}
	slices.Sort(counts)
	return slices.Compact(counts)
}

// Key identifies flips of one kind, in the form of a line of a file of allowed
// flips: "hold>accept payments payments/acme 6e9d…"; "-" means none, and
// "hold>unknown" marks an inconclusive record.
func (f Flip) Key() string {
	rule := cmp.Or(f.ToPolicy, "-") + "/" + cmp.Or(f.ToRule, "-")
	if f.ToPolicy == "" && f.ToRule == "" {
		rule = "-"
	}
	return fmt.Sprintf("%s>%s %s %s %s", f.From, f.To, f.Target, rule, cmp.Or(f.Consumer, "-"))
}

// Without returns f without the flips that allowed expects.
func (f Flips) Without(allowed AllowedFlips) Flips {
	isAllowed := func(x Flip) bool { return allowed.has(x.Key()) }
	f.Flips = slices.DeleteFunc(slices.Clone(f.Flips), isAllowed)
	f.Inconclusive = slices.DeleteFunc(slices.Clone(f.Inconclusive), isAllowed)
	return f
}

// AllowedFlips is the content of a file of expected flips: patterns of Flip.Key.
type AllowedFlips []string

// ReadAllowedFlips reads a file of expected flips: one pattern a line, in the
// form of Flip.Key with globs; # begins a comment at the start of a line or after
// a blank.
func ReadAllowedFlips(r io.Reader) (AllowedFlips, error) {
	var out AllowedFlips
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if i := slices.IndexFunc(fields, func(f string) bool { return strings.HasPrefix(f, "#") }); i >= 0 {
			fields = fields[:i]
		}
		switch {
		case len(fields) == 0:
		case len(fields) != 4 || !strings.Contains(fields[0], ">"):
			return nil, fmt.Errorf("line %d: %.60q is not a flip; write FROM>TO TARGET POLICY/RULE CONSUMER, such as hold>accept payments payments/acme *", n, lines.Text())
		default:
			out = append(out, strings.Join(fields, " "))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the allowed flips: %w", err)
	}
	return out, nil
}

func (a AllowedFlips) has(key string) bool {
	return slices.ContainsFunc(a, func(pattern string) bool { return policy.MatchGlob(pattern, key) })
}

// WriteText writes a table of the flips by rule and consumer.
func (f Flips) WriteText(w io.Writer) error {
	counts := make(map[string]int)
	first := make(map[string]string)
	for _, x := range slices.Concat(f.Flips, f.Inconclusive) {
		k := x.Key()
		if counts[k]++; counts[k] == 1 {
			first[k] = x.ID
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s compared, %s", counted(f.Total, "decision", "decisions"), counted(len(f.Flips), "flip", "flips"))
	if n := len(f.Inconclusive); n > 0 {
		fmt.Fprintf(&b, ", %d inconclusive: a limit applies, and the connections of the account were not counted", n)
	}
	b.WriteString("\n")
	for _, u := range f.Unknown {
		verb := "were"
		if u.Records == 1 {
			verb = "was"
		}
		fmt.Fprintf(&b, "%s of the target %s %s not compared: it is not configured\n", counted(u.Records, "decision", "decisions"), u.Target, verb)
	}
	keys := union(counts, nil)
	slices.SortStableFunc(keys, func(x, y string) int { return counts[y] - counts[x] })
	if len(keys) > 0 {
		fmt.Fprintf(&b, "%8s  %-14s %-20s %-30s %-32s %s\n", "requests", "flip", "target", "rule", "consumer", "for example")
	}
	for _, k := range keys {
		p := strings.Fields(k)
		fmt.Fprintf(&b, "%8d  %-14s %-20s %-30s %-32s %s\n", counts[k], p[0], p[1], p[2], p[3], first[k])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes f as JSON.
func (f Flips) WriteJSON(w io.Writer) error { return writeJSON(w, f) }
