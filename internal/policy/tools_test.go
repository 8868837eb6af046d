package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// records yields these records.
func records(rs ...Record) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, r := range rs {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	set := load(t,
		head("first")+`allow:
  - {id: acme, domain_id: `+acme+`}
  - {id: tagged, domain_id: [`+insight+`, "ab*"], claims: {tags.env: [prod]}}
  - {id: nobody, domain_id: []}
deny:
  - {id: left, domain_id: `+leftUs+`}
  - {id: risky, any_domain: true, when: claims.risk > 5}
`,
		head("second")+"mode: shadow\notherwise: ignore\nallow: [{id: soon, domain_id: "+insight+", from: 2027-01-01}]",
		"version: 1\npolicy: third\ntargets: [orders-gateway]\notherwise: reject\n")
	in := connection("payments", insight)
	in.Request.Claims = approval.Claims{"tags": map[string]any{"env": "test"}, "risk": 1.0}
	var text, wire bytes.Buffer
	x := set.Explain(&in)
	if err := x.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := x.WriteJSON(&wire); err != nil || !json.Valid(wire.Bytes()) {
		t.Fatalf("not JSON: %v\n%s", err, wire.String())
	}
	out := text.String() + "\n" + wire.String()
	in.Request.Claims = approval.Claims{"domain_id": nobody}
	text.Reset()
	if err := set.Explain(&in).WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "explain.golden", strings.ReplaceAll(out+"\nwith a claim that lies\n"+text.String(), set.Digest(), "sha256:…"))
}

func TestExplainWithoutPolicies(t *testing.T) {
	t.Parallel()
	in := connection("payments", acme)
	var none *Set
	if x := none.Explain(&in); x.Decision.Verdict != approval.Hold || len(x.Policies) != 0 {
		t.Errorf("Explain of no set = %+v, want hold", x)
	}
}

func TestExplainIsCutForManyEntries(t *testing.T) {
	t.Parallel()
	in := connection("payments", fmt.Sprintf("%032x", 700))
	var b strings.Builder
	if err := load(t, rules(1000)).Explain(&in).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n > 100 || !strings.Contains(b.String(), "allow a699") || !strings.Contains(b.String(), "entries more do not match") {
		t.Errorf("%d lines:\n%s", n, b.String())
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	before := load(t,
		head("same")+"allow: [{id: b, domain_id: "+acme+"}, {id: a, domain_id: ["+insight+", "+staging+"]}]",
		head("changed")+`owner: x
allow:
  - {id: gone, domain_id: `+acme+`}
  - {id: kept, domain_id: [`+acme+`, `+staging+`], limit: 3, claims: {team: a}}
deny:
  - {id: no, domain_id: `+leftUs+`, reason: Old.}
`,
		head("removed"))
	after := load(t,
		"# the same in other words\n"+head("same")+"allow:\n  - {domain_id: ["+staging+", "+strings.ToUpper(insight)+"], id: a}\n  - id: b\n    domain_id: ["+acme+"]\n",
		strings.Replace(head("changed"), "payments", "payments, orders-gateway", 1)+`mode: accept-only
otherwise: reject
allow:
  - {id: new, domain_id: `+leftUs+`, claims: {team: b}}
  - {id: kept, domain_id: [`+acme+`, `+insight+`], limit: 5, region: cn-*}
deny:
  - {id: no, domain_id: `+leftUs+`, reason: New., contact: me@example.org}
`,
		head("added")+"deny: [{id: x, endpoint_id: "+endpointA+"}]")
	var b strings.Builder
	if err := WriteChanges(&b, Diff(before, after)); err != nil {
		t.Fatal(err)
	}
	golden(t, "diff.golden", b.String())
	if d := Diff(before, before); len(d) != 0 {
		t.Errorf("a set differs from itself: %v", d)
	}
	if d := Diff(nil, before); len(d) != 3 || d[0].Kind != "added" {
		t.Errorf("from nothing: %v, want three policies added", d)
	}
}

func TestBacktest(t *testing.T) {
	t.Parallel()
	old := load(t, allowing("region: cn-*"))
	candidate := load(t, head("p")+"allow: [{id: acme, domain_id: "+staging+"}]\ndeny: [{id: no, domain_id: "+leftUs+"}]")
	var rs []Record
	for i, domain := range []string{acme, staging, leftUs, leftUs, nobody} {
		in := connection("payments", domain)
		in.Request.ID = fmt.Sprintf("r%d", i)
		rs = append(rs, RecordOf(approval.Entry{Request: in.Request, Decision: old.Evaluate(&in)}))
	}
	elsewhere := rs[0]
	elsewhere.Input.Request.Target.Name = "closed"
	rs = append(rs, elsewhere)

	flips, err := Backtest(records(rs...), candidate, nil, demoTargets())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, f := range flips.Flips {
		keys = append(keys, f.Key())
	}
	want := []string{
		"accept>hold payments p/- " + acme,
		"hold>accept payments p/acme " + staging,
		"hold>reject payments p/no " + leftUs,
		"hold>reject payments p/no " + leftUs,
	}
	if diff := cmp.Diff(want, keys); diff != "" || flips.Total != 5 || len(flips.Unknown) != 1 {
		t.Errorf("%d compared, unknown %v, flips (-want +got):\n%s", flips.Total, flips.Unknown, diff)
	}
	same, err := Backtest(records(rs...), candidate, old, demoTargets())
	if diff := cmp.Diff(flips, same); diff != "" || err != nil {
		t.Errorf("against the set that decided: %v, %s", err, diff)
	}
	var b strings.Builder
	if err := flips.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "backtest.golden", b.String())

	allowed, err := ReadAllowedFlips(strings.NewReader("# expected\nhold>reject payments p/no *\n  hold>accept * p/acme " + staging + " # new\n"))
	if err != nil {
		t.Fatal(err)
	}
	if rest := flips.Without(allowed); len(rest.Flips) != 1 || rest.Flips[0].ID != "r0" || len(flips.Flips) != 4 {
		t.Errorf("what is not expected is %+v, want that of r0", rest.Flips)
	}
	if _, err := ReadAllowedFlips(strings.NewReader("\nhold accept\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("ReadAllowedFlips = %v, want an error about line 2", err)
	}
	broken := errors.New("cut off")
	_, err = Backtest(func(yield func(Record, error) bool) { _ = yield(rs[0], nil) && yield(Record{}, broken) }, candidate, nil, demoTargets())
	if !errors.Is(err, broken) {
		t.Errorf("Backtest = %v, want %v", err, broken)
	}
}

func TestSARIF(t *testing.T) {
	t.Parallel()
	_, err := snapshotOf(map[string][]byte{"a.yaml": []byte(head("a") + "ownr: x\n")}).load("policies", demoTargets())
	refused, ok := errors.AsType[*LoadError](err)
	if !ok {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := WriteSARIF(&b, append(refused.Findings, Finding{Severity: SeverityWarning, Code: "no-policy", File: "policies", Text: "none"})); err != nil {
		t.Fatal(err)
	}
	golden(t, "findings.sarif.golden", b.String())
}

// TestEveryToolDecidesAlike puts 10,000 random requests through each way that
// leads to a decision; all of them must give the same one, to the last byte.
func TestEveryToolDecidesAlike(t *testing.T) {
	t.Parallel()
	const sets, inputs = 500, 20
	for seed := range uint64(sets) {
		r := rand.New(rand.NewPCG(seed, 7))
		texts := randomPolicies(r)
		fsys := folder(texts...)
		set := load(t, texts...)
		src := NewSource("unused", demoTargets(), nil)
		src.current.Store(set)
		var tests strings.Builder
		tests.WriteString("version: 1\nnow: " + noon().Format("2006-01-02T15:04:05Z07:00") + "\ntests:\n")
		var want []approval.Decision
		var rs []Record
		for range inputs {
			in := randomInput(r)
			if !in.Request.Creates() {
				in.Facts.CreatedAt, in.Facts.Accepted = noon(), approval.Counted(0)
			}
			d := set.Evaluate(&in)
			want = append(want, d)
			rs = append(rs, RecordOf(approval.Entry{Request: in.Request, Decision: d}))
			if got := src.Evaluate(&in); !same(d, got) {
				t.Fatalf("seed %d: live: %s", seed, cmp.Diff(d, got))
			}
			x := set.Explain(&in)
			if !same(d, x.Decision) {
				t.Fatalf("seed %d: explain: %s", seed, cmp.Diff(d, x.Decision))
			}
			explainedAlike(t, seed, x)
			writeTest(t, &tests, in)
		}
		fsys["p_test.yaml"] = &fstest.MapFile{Data: []byte(tests.String())}
		report, err := runTests(fsys, "", demoTargets())
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, tests.String())
		}
		for i, res := range report.Results {
			// A test cannot say when the facts were read, and leaves the rest alone.
			res.decision.Facts.ReadAt = want[i].Facts.ReadAt
			if !same(want[i], res.decision) {
				t.Fatalf("seed %d: test: %s", seed, cmp.Diff(want[i], res.decision))
			}
		}
		flips, err := Backtest(records(rs...), set, nil, demoTargets())
		if err != nil || len(flips.Flips) != 0 || flips.Total != inputs {
			t.Fatalf("seed %d: backtest: %v, %d compared, flips %+v", seed, err, flips.Total, flips.Flips)
		}
	}
}

// same compares decisions byte by byte.
func same(a, b approval.Decision) bool {
	return fmt.Sprintf("%+v %+v", a, a.Shadow) == fmt.Sprintf("%+v %+v", b, b.Shadow) || cmp.Equal(a, b)
}

// explainedAlike checks that the tree leads to the verdict.
func explainedAlike(t *testing.T, seed uint64, x Explanation) {
	t.Helper()
	decides := 0
	for _, p := range x.Policies {
		for _, e := range p.Entries {
			if e.Decides {
				decides++
				if e.Answer == MatchesNot || e.Answer == Matches && x.Decision.Verdict == approval.Accept && e.List != "allow" {
					t.Fatalf("seed %d: %s/%s decides and %s: %+v", seed, p.Name, e.ID, e.Answer, x.Decision)
				}
			}
		}
	}
	if (x.Decision.Rule != "") != (decides == 1) {
		t.Fatalf("seed %d: %d entries decide, the decision is by %q", seed, decides, x.Decision.Rule)
	}
}

// writeTest writes in as a test; JSON is YAML.
func writeTest(t *testing.T, b *strings.Builder, in approval.Input) {
	t.Helper()
	text := func(v any) string {
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	fmt.Fprintf(b, "  - name: x\n    request: {target: %s, claims: %s", in.Request.Target.Name, text(in.Request.Claims))
	if h := in.Request.Creation.HSS; h != nil {
		vpcs := []map[string]any{}
		for _, v := range h.VPCs {
			vpcs = append(vpcs, map[string]any{"vpc_id": v.VPCID, "subnet_id_list": orEmpty(v.SubnetIDs)})
		}
		fmt.Fprintf(b, ", hss: {host_id_list: %s, vpc_list: %s}}\n", text(h.HostIDs), text(vpcs))
	} else {
		fmt.Fprintf(b, ", endpoint_id: %s}\n    facts: {", in.Request.EndpointID)
		if in.Facts.DomainID != "" {
			fmt.Fprintf(b, "domain_id: %s, ", in.Facts.DomainID)
		}
		fmt.Fprintf(b, "marker_id: %d, created_at: %q}\n", in.Facts.MarkerID, in.Facts.CreatedAt.Format("2006-01-02T15:04:05Z07:00"))
	}
	b.WriteString("    expect: {verdict: hold}\n")
}

// TestPolicyDocument holds the tables of docs/policy.md to the decoder's.
func TestPolicyDocument(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/policy.md", "<!-- tables: made by the tests with -update -->\n", "<!-- end of the tables -->"
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(source), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the tables", file)
	}
	want := "\n" + Tables() + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", file, diff)
	}
}

func BenchmarkBacktest(b *testing.B) {
	set := load(b, rules(1000))
	in := connection("payments", fmt.Sprintf("%032x", 5))
	rec := RecordOf(approval.Entry{Request: in.Request, Decision: set.Evaluate(&in)})
	const n = 100_000
	for b.Loop() {
		flips, err := Backtest(func(yield func(Record, error) bool) {
			for range n {
				if !yield(rec, nil) {
					return
				}
			}
		}, set, nil, demoTargets())
		if err != nil || flips.Total != n {
			b.Fatal(err)
		}
	}
}
