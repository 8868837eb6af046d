package workbench

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// TestBacktestWithoutACount: where nothing was counted, a limit is judged by every
// count there may be, and what depends on it cannot be told.
func TestBacktestWithoutACount(t *testing.T) {
	t.Parallel()
	open := allowing("region: cn-*")
	for _, tt := range []struct {
		name, recorded string // by the policies in force then
		current        string // to compare with; empty: with what was recorded
		candidate      string
		count          approval.Count
		want           []string // keys of flips
		inconclusive   []string
	}{
		{"a new limit", open, "", allowing("limit: 1"), approval.Count{}, nil, []string{"accept>unknown payments p/acme " + acme}},
		{"a new limit that is kept", open, "", allowing("limit: 1"), approval.Counted(0), nil, nil},
		{"a new limit that is not kept", open, "", allowing("limit: 1"), approval.Counted(1), []string{"accept>hold payments p/- " + acme}, nil},
		{"a new limit next to an allow without one", open, "", strings.Replace(allowing("limit: 1"), "}]", "}, {id: more, domain_id: "+acme+"}]", 1), approval.Count{}, nil, nil},
		{"a new limit and reject", open, "", allowing("limit: 1") + "otherwise: reject", approval.Count{}, nil, []string{"accept>unknown payments p/acme " + acme}},
		{"a deny, whatever the count", open, "", allowing("limit: 1") + "deny: [{id: no, domain_id: " + acme + "}]", approval.Count{}, []string{"accept>reject payments p/no " + acme}, nil},
		{"a hold that may become an accept", head("p"), "", allowing("limit: 1"), approval.Count{}, nil, []string{"hold>unknown payments p/acme " + acme}},
		{"never as it was recorded", head("p") + "otherwise: ignore", "", allowing("limit: 1"), approval.Count{}, nil, []string{"ignore>unknown payments p/acme " + acme}},
		{"against the same limit", open, allowing("limit: 3"), allowing("limit: 3"), approval.Count{}, nil, nil},
		{"against another limit", open, allowing("limit: 3"), allowing("limit: 4"), approval.Count{}, nil, []string{"hold>unknown payments p/acme " + acme}},
		{"against the same limit with another otherwise", open, allowing("limit: 3"), allowing("limit: 3") + "otherwise: reject", approval.Count{}, nil, []string{"hold>unknown payments p/acme " + acme}},
		{"against no limit", open, open, allowing("limit: 3"), approval.Count{}, nil, []string{"accept>unknown payments p/acme " + acme}},
		{"against a limit, then none", open, allowing("limit: 3"), open, approval.Count{}, nil, []string{"hold>unknown payments p/acme " + acme}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := connection("payments", acme)
			d := load(t, tt.recorded).Evaluate(&in)
			d.Facts.Accepted = tt.count
			rec := RecordOf(approval.Entry{Request: in.Request, Decision: d})
			var current *policy.Set
			if tt.current != "" {
				current = load(t, tt.current)
			}
			got, err := Backtest(records(rec, rec), load(t, tt.candidate), current, demoTargets())
			if err != nil {
				t.Fatal(err)
			}
			keys := func(fs []Flip) (out []string) {
				for _, f := range fs[:len(fs)/2] { // there are two records
					out = append(out, f.Key())
				}
				return out
			}
			if diff := cmp.Diff([][]string{tt.want, tt.inconclusive}, [][]string{keys(got.Flips), keys(got.Inconclusive)}); diff != "" {
				t.Errorf("flips and inconclusive (-want +got):\n%s", diff)
			}
			var b strings.Builder
			if err := got.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			if said := strings.Contains(b.String(), "2 inconclusive"); said != (tt.inconclusive != nil) {
				t.Errorf("the table says that it cannot be told: %v\n%s", said, b.String())
			}
			allowed, err := ReadAllowedFlips(strings.NewReader("*>unknown payments p/acme *\n"))
			if err != nil {
				t.Fatal(err)
			}
			if rest := got.Without(allowed); len(rest.Inconclusive) != 0 || len(rest.Flips) != len(got.Flips) {
				t.Errorf("with a file of what is meant %+v are left", rest)
			}
		})
	}
}

// TestCountsInTests: a test can say that nothing was counted.
func TestCountsInTests(t *testing.T) {
	t.Parallel()
	for accepted, want := range map[string]string{
		"accepted: unknown": "verdict: hold, rule: acme, reasons: [count_unknown], limit: 3", "accepted: 2": "verdict: accept, limit: 3",
		"accepted: 0": "verdict: accept", "accepted: 3": "verdict: hold, reasons: [not_allowed, limit_reached]", "state: pendingAcceptance": "verdict: accept",
	} {
		report, err := runTests(t, tested(fmt.Sprintf("  - {name: a, request: {target: payments}, facts: {domain_id: %s, %s}, expect: {%s}}\n", acme, accepted, want)), nil)
		if err != nil || report.Failed() != 0 {
			t.Errorf("%s: %v %+v", accepted, err, report.Results)
		}
	}
	for _, wrong := range []string{"none", "~", "-1", "1.5", "1e2", "9999999999999999999", "[]"} {
		if _, err := runTests(t, tested(fmt.Sprintf("  - {name: a, request: {target: payments}, facts: {domain_id: %s, accepted: %s}, expect: {verdict: hold}}\n", acme, wrong)), nil); err == nil {
			t.Errorf("accepted: %s is no error", wrong)
		}
	}
}

// TestExplainOfManyEntries: of 10,000 entries those are shown that have to do with
// the request, and a count of the rest, in one policy or in many.
func TestExplainOfManyEntries(t *testing.T) {
	t.Parallel()
	const n = 10_000
	var one strings.Builder
	one.WriteString(head("big") + "allow:\n")
	var many []string
	for i := range n {
		entry := fmt.Sprintf("{id: e%d, domain_id: %032x}", i, i+1)
		switch i {
		case 7000:
			entry = "{id: e7000, domain_id: " + acme + ", claims: {team: a, env: b}, region: eu-*}"
		case 8000:
			entry = "{id: e8000, domain_id: " + acme + ", claims: {team: a}}"
		case 9000:
			entry = "{id: e9000, domain_id: " + acme + "}"
		}
		one.WriteString("  - " + entry + "\n")
		if i%10 == 0 { // 1,000 policies
			many = append(many, head(fmt.Sprintf("p%d", i))+"allow: ["+entry+"]")
		}
	}
	for name, set := range map[string]*policy.Set{"one policy": load(t, one.String()), "many policies": load(t, many...)} {
		in := connection("payments", acme)
		x := Explain(set, &in)
		var short, whole, wire strings.Builder
		if err := x.WriteText(&short); err != nil {
			t.Fatal(err)
		}
		if err := writeJSON(&wire, x.JSON()); err != nil {
			t.Fatal(err)
		}
		x.All = true
		if err := x.WriteText(&whole); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(short.String(), "\n"); lines > 60 {
			t.Errorf("%s: %d lines", name, lines)
		}
		if lines := strings.Count(wire.String(), "\n"); lines > 400 {
			t.Errorf("%s: %d lines of JSON", name, lines)
		}
		if lines := strings.Count(whole.String(), "\n"); lines < set.Rules() {
			t.Errorf("%s: %d lines with every entry, want one for each of %d at least", name, lines, set.Rules())
		}
		at := 0
		for _, want := range []string{"✗ allow e7000", "✗ allow e8000", "✓ allow e9000", "verdict: accept"} {
			i := strings.Index(short.String()[at:], want)
			if i < 0 {
				t.Errorf("%s: %q is not there, or not in order:\n%s", name, want, short.String())
				break
			}
			at += i
		}
		if name == "one policy" && !strings.Contains(short.String(), "9994 more entries do not match") {
			t.Errorf("the rest is not counted:\n%s", short.String())
		}
	}
}

// costly is an expression of about 15,000 units that is false, or true.
func costly(result bool) string {
	return fmt.Sprintf("claims.many.all(a, a.contains(\"b\")) && %t", result)
}

// costlyInput has the claims that make it so.
func costlyInput() approval.Input {
	in := connection("payments", acme)
	in.Request.Claims = approval.Claims{"many": slices.Repeat([]any{strings.Repeat("a", 1000) + "b"}, 140)}
	return in
}

// costlyEntries is a list of n entries for acme with a costly expression each.
func costlyEntries(list, id string, n int, result bool) string {
	var b strings.Builder
	b.WriteString(list + ":\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {id: %s-%d, domain_id: %s, when: '%s'}\n", id, i, acme, costly(result))
	}
	return b.String()
}

// TestExplainWithinTheBudget: explain neither works for long nor hides what it did
// not evaluate.
func TestExplainWithinTheBudget(t *testing.T) {
	t.Parallel()
	in := costlyInput()
	set := load(t, head("a")+costlyEntries("allow", "x", 150, false))
	var b strings.Builder
	if err := Explain(set, &in).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"evaluation_budget", "earlier expressions cost too much", "more entries cannot be evaluated"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("explain does not say %q:\n%s", want, b.String())
		}
	}
}
