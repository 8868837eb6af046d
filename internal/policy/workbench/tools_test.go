package workbench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
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
	x := Explain(set, &in)
	if err := x.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(&wire, x.JSON()); err != nil || !json.Valid(wire.Bytes()) {
		t.Fatalf("not JSON: %v\n%s", err, wire.String())
	}
	out := text.String() + "\n" + wire.String()
	in.Request.Claims = approval.Claims{"domain_id": nobody}
	text.Reset()
	if err := Explain(set, &in).WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "explain.golden", strings.ReplaceAll(out+"\nwith a claim that contradicts a fact\n"+text.String(), set.Digest(), "sha256:…"))
}

func TestExplainWithoutPolicies(t *testing.T) {
	t.Parallel()
	in := connection("payments", acme)
	var none *policy.Set
	if x := Explain(none, &in); x.Decision.Verdict != approval.Hold || len(x.Policies) != 0 {
		t.Errorf("Explain of no set = %+v, want hold", x)
	}
}

func TestExplainIsCutForManyEntries(t *testing.T) {
	t.Parallel()
	in := connection("payments", fmt.Sprintf("%032x", 700))
	var b strings.Builder
	if err := Explain(load(t, rules(1000)), &in).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n > 100 || !strings.Contains(b.String(), "allow a699") || !strings.Contains(b.String(), "more entries do not match") {
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

// TestCommentsInAllowedFlips: # begins a comment where a field would begin.
func TestCommentsInAllowedFlips(t *testing.T) {
	t.Parallel()
	allowed, err := ReadAllowedFlips(strings.NewReader("# all\nhold>accept payments p/a#1 * # why\n"))
	if err != nil || len(allowed) != 1 || allowed[0] != "hold>accept payments p/a#1 *" {
		t.Errorf("allowed flips are %q, %v", allowed, err)
	}
}

func TestSARIF(t *testing.T) {
	t.Parallel()
	dir := inDir(t, fstest.MapFS{"a.yaml": {Data: []byte(head("a") + "ownr: x\n")}})
	_, err := policy.LoadDir(dir, demoTargets())
	refused, ok := errors.AsType[*strictyaml.Error](err)
	if !ok {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := WriteSARIF(&b, append(refused.Findings, strictyaml.Finding{Severity: strictyaml.SeverityWarning, Code: "no-policy", File: "policies", Text: "none"})); err != nil {
		t.Fatal(err)
	}
	golden(t, "findings.sarif.golden", strings.ReplaceAll(b.String(), dir, "policies"))
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
