package workbench

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestShippedPoliciesPassTheirTests(t *testing.T) {
	t.Parallel()
	report, err := RunTests("../../../policies", nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed() > 0 || report.Covered() != 1 {
		var b strings.Builder
		_ = report.WriteText(&b, true)
		t.Error(b.String())
	}
	files := make(map[string]bool)
	for _, r := range report.Results {
		files[filepath.Base(r.File)] = true
	}
	policies, _ := filepath.Glob("../../../policies/*.yaml")
	for _, p := range policies {
		if want := strings.TrimSuffix(filepath.Base(p), ".yaml") + "_test.yaml"; !strings.HasSuffix(p, "_test.yaml") && !files[want] {
			t.Errorf("%s has no tests: want %s", p, want)
		}
	}
}

func TestReportTexts(t *testing.T) {
	t.Parallel()
	report, err := runTests(t, tested(`
  - name: passes
    request: {target: payments}
    facts: {domain_id: `+acme+`}
    expect: {verdict: accept, rule: acme, limit: 3}
  - name: fails <&>
    request: {target: payments, claims: {n: 1, s: "2", b: true, list: [a], none: null}}
    facts: {domain_id: `+acme+`, accepted: 3}
    expect: {verdict: accept, policy: p, rule: acme, reasons: [allowed], contact: x, shadow: hold}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var text, junit bytes.Buffer
	if err := report.WriteText(&text, true); err != nil {
		t.Fatal(err)
	}
	if err := report.WriteJUnit(&junit); err != nil {
		t.Fatal(err)
	}
	hideDigest := regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	golden(t, "report.golden", hideDigest.ReplaceAllString(text.String()+"\n"+junit.String(), "sha256:…"))
}

// TestExpectNothing: a test can expect that no policy, entry or contact is named.
func TestExpectNothing(t *testing.T) {
	t.Parallel()
	report, err := runTests(t, tested(`
  - name: nobody allows it
    request: {target: payments}
    facts: {domain_id: `+nobody+`}
    expect: {verdict: hold, rule: "", contact: ''}
  - name: somebody allows it
    request: {target: payments}
    facts: {domain_id: `+acme+`}
    expect: {verdict: accept, policy: "", rule: ""}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"policy: want nothing, got p", "rule: want nothing, got acme"}
	if diff := cmp.Diff(want, report.Results[1].Diff); diff != "" || !report.Results[0].Passed {
		t.Errorf("%+v (-want +got):\n%s", report.Results, diff)
	}
}

// TestOneAndMany: texts count as people do.
func TestOneAndMany(t *testing.T) {
	t.Parallel()
	tests := make([]TestResult, 2)
	entries := []RuleCoverage{{Tests: 1}, {Tests: 1}}
	flipped := []Flip{{From: "hold", To: "accept", Target: "x"}, {From: "hold", To: "accept", Target: "x"}}
	for n, want := range []string{
		"0 tests, 0 failed\n100 % of 0 entries decided a test\n0 decisions compared, 0 flips\n",
		"1 test, 1 failed\n100 % of 1 entry decided a test\n1 decision compared, 1 flip\n1 decision of the target x was not compared: it is not configured\n",
		"2 tests, 2 failed\n100 % of 2 entries decided a test\n2 decisions compared, 2 flips\n2 decisions of the target x were not compared: it is not configured\n",
	} {
		var b strings.Builder
		if err := (TestReport{Results: tests[:n], Coverage: entries[:n]}).WriteText(&b, true); err != nil {
			t.Fatal(err)
		}
		flips := Flips{Total: n, Flips: flipped[:n], Unknown: []UnknownTarget{{"x", n}}[:min(n, 1)]}
		if err := flips.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		got := regexp.MustCompile("(?m)^(FAIL|requests| ).*\n").ReplaceAllString(b.String(), "")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d of each (-want +got):\n%s", n, diff)
		}
	}
}
