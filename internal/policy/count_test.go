package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
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
		untold         []string
	}{
		{"a new limit", open, "", allowing("limit: 1"), approval.Count{}, nil, []string{"accept>unknown payments p/acme " + acme}},
		{"a new limit that is kept", open, "", allowing("limit: 1"), approval.Counted(0), nil, nil},
		{"a new limit that is not kept", open, "", allowing("limit: 1"), approval.Counted(1), []string{"accept>hold payments p/- " + acme}, nil},
		{"a new limit beside an allow without one", open, "", strings.Replace(allowing("limit: 1"), "}]", "}, {id: more, domain_id: "+acme+"}]", 1), approval.Count{}, nil, nil},
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
			var current *Set
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
			if diff := cmp.Diff([][]string{tt.want, tt.untold}, [][]string{keys(got.Flips), keys(got.Untold)}); diff != "" {
				t.Errorf("flips and untold (-want +got):\n%s", diff)
			}
			var b strings.Builder
			if err := got.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			if said := strings.Contains(b.String(), "2 cannot be told"); said != (tt.untold != nil) {
				t.Errorf("the table says that it cannot be told: %v\n%s", said, b.String())
			}
			allowed, err := ReadAllowedFlips(strings.NewReader("*>unknown payments p/acme *\n"))
			if err != nil {
				t.Fatal(err)
			}
			if rest := got.Without(allowed); len(rest.Untold) != 0 || len(rest.Flips) != len(got.Flips) {
				t.Errorf("with a file of what is meant %+v are left", rest)
			}
		})
	}
}

// TestShadowWithoutACount: a shadow policy with a limit says that it needs a count
// where the decision in force needed none; it is no accept.
func TestShadowWithoutACount(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]string{
		"accept": head("a") + "allow: [{id: ok, domain_id: " + acme + "}]",
		"hold":   head("a"),
		"reject": head("a") + "otherwise: reject",
	} {
		shadow := strings.Replace(allowing("limit: 3"), "policy: p", "policy: q", 1) + "mode: shadow\n"
		if name == "accept" {
			shadow = strings.Replace(shadow, "allow:", "deny: [{id: no, domain_id: "+leftUs+"}]\nallow:", 1)
		}
		set := load(t, live, shadow)
		in := connection("payments", acme)
		d := set.Evaluate(&in)
		if string(d.Verdict) != name || d.NeedsCount {
			t.Errorf("in force: %s, needs count %v, want %s", d.Verdict, d.NeedsCount, name)
		}
		if name == "accept" {
			continue // an allow without a limit accepts in the shadow too
		}
		if s := d.Shadow; s.Verdict != approval.Hold || !s.NeedsCount || s.Reasons[0].Code != approval.ReasonCountUnknown {
			t.Errorf("%s: the shadow says %+v, want that it needs a count", name, s)
		}
		candidate := load(t, allowing("limit: 3"))
		if s := candidate.Would(&in); s.Verdict != approval.Hold || !s.NeedsCount {
			t.Errorf("%s: the candidate says %+v, want that it needs a count", name, s)
		}
		in.Facts.Accepted = approval.Counted(2)
		if s := set.Evaluate(&in).Shadow; s.Verdict != approval.Accept || s.NeedsCount {
			t.Errorf("%s: with a count the shadow says %+v, want accept", name, s)
		}
	}
}

// TestExplainWithoutACount: explain names the limit and that nothing was counted.
func TestExplainWithoutACount(t *testing.T) {
	t.Parallel()
	in := connection("payments", acme)
	x := load(t, allowing("limit: 3")).Explain(&in)
	want := EntryAnswer{List: "allow", ID: "acme", Line: 4, Answer: NotEvaluated, Decides: true, Failed: &FailedCondition{
		Name: "limit", Code: approval.ReasonCountUnknown, Seen: "not counted", Wanted: "fewer than 3 accepted connections",
	}, near: true}
	if diff := cmp.Diff(want, x.Policies[0].Entries[0], cmp.AllowUnexported(EntryAnswer{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCountsInTests: a test can say that nothing was counted.
func TestCountsInTests(t *testing.T) {
	t.Parallel()
	for accepted, want := range map[string]string{
		"accepted: unknown": "verdict: hold, rule: acme, reasons: [count_unknown], limit: 3", "accepted: 2": "verdict: accept, limit: 3",
		"accepted: 0": "verdict: accept", "accepted: 3": "verdict: hold, reasons: [not_allowed, limit_reached]", "state: pendingAcceptance": "verdict: accept",
	} {
		report, err := runTests(tested(fmt.Sprintf("  - {name: a, request: {target: payments}, facts: {domain_id: %s, %s}, expect: {%s}}\n", acme, accepted, want)), "", nil)
		if err != nil || report.Failed() != 0 {
			t.Errorf("%s: %v %+v", accepted, err, report.Results)
		}
	}
	for _, wrong := range []string{"none", "~", "-1", "1.5", "1e2", "9999999999999999999", "[]"} {
		if _, err := runTests(tested(fmt.Sprintf("  - {name: a, request: {target: payments}, facts: {domain_id: %s, accepted: %s}, expect: {verdict: hold}}\n", acme, wrong)), "", nil); err == nil {
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
	for name, set := range map[string]*Set{"one policy": load(t, one.String()), "many policies": load(t, many...)} {
		in := connection("payments", acme)
		x := set.Explain(&in)
		var short, whole, wire strings.Builder
		if err := x.WriteText(&short); err != nil {
			t.Fatal(err)
		}
		if err := x.WriteJSON(&wire); err != nil {
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
		if name == "one policy" && !strings.Contains(short.String(), "9994 entries more do not match") {
			t.Errorf("the rest is not counted:\n%s", short.String())
		}
	}
}
