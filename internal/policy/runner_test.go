package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

func TestShippedPoliciesPassTheirTests(t *testing.T) {
	t.Parallel()
	report, err := RunTests("../../policies", nil)
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
	policies, _ := filepath.Glob("../../policies/*.yaml")
	for _, p := range policies {
		if want := strings.TrimSuffix(filepath.Base(p), ".yaml") + "_test.yaml"; !isTest(p) && !files[want] {
			t.Errorf("%s has no tests: want %s", p, want)
		}
	}
}

// tested is a folder with a policy and these tests of it.
func tested(tests string) fstest.MapFS {
	fsys := folder(head("p") + "allow:\n  - {id: acme, domain_id: " + acme + ", limit: 3}\n  - {id: other, domain_id: " + insight + "}\n")
	fsys["p_test.yaml"] = &fstest.MapFile{Data: []byte("version: 1\ntargets: [{name: payments, kind: service}]\ntests:\n" + tests)}
	return fsys
}

func TestReportTexts(t *testing.T) {
	t.Parallel()
	report, err := runTests(tested(`
  - name: passes
    request: {target: payments}
    facts: {domain_id: `+acme+`}
    expect: {verdict: accept, rule: acme, limit: 3}
  - name: fails <&>
    request: {target: payments, claims: {n: 1, s: "2", b: true, list: [a], none: null}}
    facts: {domain_id: `+acme+`, accepted: 3}
    expect: {verdict: accept, policy: p, rule: acme, reasons: [allowed], contact: x, shadow: hold}
`), "policies", nil)
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

func TestErrorsInTestFiles(t *testing.T) {
	t.Parallel()
	_, err := runTests(tested(`
  - name: a
    request: {target: paymens}
    expect: {verdict: accepted}
  - request: {target: payments, hss: {host_id_list: x, vpc_list: [{vpc: y}]}}
    facts: {accepted: -1, created_at: yesterday, domain: z}
    expect: {verdict: hold, reasons: [because]}
    when: x
`), "policies", nil)
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "testfile.golden", err.Error()+"\n")
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func() ([]byte, error){"policy.v1.json": Schema, "policy-test.v1.json": TestSchema} {
		text, err := make()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "../../../policies/schema/"+name, string(text))
	}
}

// TestSchemasAgreeWithTheDecoder: what loads is valid by the schema, and the
// errors that a schema can see are errors of it too.
func TestSchemasAgreeWithTheDecoder(t *testing.T) {
	t.Parallel()
	compile := func(name string) *jsonschema.Schema {
		schema, err := jsonschema.NewCompiler().Compile("../../policies/schema/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return schema
	}
	policies, tests := compile("policy.v1.json"), compile("policy-test.v1.json")
	check := func(file string, schema *jsonschema.Schema) error {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := yaml.Load(source, &v); err != nil {
			t.Fatal(err)
		}
		plain, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(plain))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(doc)
	}
	files, err := filepath.Glob("../../policies/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no policies: %v", err)
	}
	for _, f := range files {
		schema, name := policies, "policy.v1.json"
		if isTest(f) {
			schema, name = tests, "policy-test.v1.json"
		}
		if err := check(f, schema); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		source, _ := os.ReadFile(f)
		if first, _, _ := strings.Cut(string(source), "\n"); first != "# yaml-language-server: $schema=./schema/"+name {
			t.Errorf("%s begins with %q, so editors do not check it by %s", f, first, name)
		}
	}
	for _, f := range []string{"kinds", "contradiction"} { // right in form, wrong in meaning
		if err := check("testdata/errors/"+f+".yaml", policies); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	for _, f := range []string{"files", "list", "unicode"} {
		if err := check("testdata/errors/"+f+".yaml", policies); err == nil {
			t.Errorf("%s is valid by the schema, and the decoder refuses it", f)
		}
	}
}

func TestReadInput(t *testing.T) {
	t.Parallel()
	in, err := ReadInput("request.yaml", []byte("request: {target: payments, claims: {team: a}}\nfacts: {domain_id: "+acme+", accepted: 2}\n"), demoTargets(), noon())
	want := connection("payments", acme)
	want.Request.ID, want.Request.EndpointID, want.Request.Claims = "", someEndpoint, approval.Claims{"team": "a"}
	want.Facts = approval.Facts{EndpointID: someEndpoint, DomainID: acme, State: approval.Pending, Accepted: approval.Counted(2), ReadAt: noon()}
	if diff := cmp.Diff(want, in); diff != "" || err != nil {
		t.Errorf("ReadInput: %v (-want +got):\n%s", err, diff)
	}
	for _, text := range []string{"", "request: {target: x}", "request: {target: hosts}", "facts: {}", "request: {target: payments}\nexpect: {}", "[", "request: {target: payments, hss: {}}"} {
		if _, err := ReadInput("request.yaml", []byte(text), demoTargets(), noon()); err == nil || !strings.Contains(err.Error(), "request.yaml") {
			t.Errorf("ReadInput(%q) = %v, want an error that names the file", text, err)
		}
	}
}

// TestExpectNothing: a test can expect that no policy, entry or contact is named.
func TestExpectNothing(t *testing.T) {
	t.Parallel()
	report, err := runTests(tested(`
  - name: nobody allows it
    request: {target: payments}
    facts: {domain_id: `+nobody+`}
    expect: {verdict: hold, rule: "", contact: ''}
  - name: somebody allows it
    request: {target: payments}
    facts: {domain_id: `+acme+`}
    expect: {verdict: accept, policy: "", rule: ""}
`), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"policy: want nothing, got p", "rule: want nothing, got acme"}
	if diff := cmp.Diff(want, report.Results[1].Diff); diff != "" || !report.Results[0].Passed {
		t.Errorf("%+v (-want +got):\n%s", report.Results, diff)
	}
	for _, nothing := range []string{"", "~", "null", "[]"} {
		_, err := runTests(tested("  - {name: a, request: {target: payments}, expect: {verdict: hold, rule: "+nothing+"}}\n"), "", nil)
		if err == nil || !strings.Contains(err.Error(), `instead of a text, or "" for none`) {
			t.Errorf("rule: %s: %v, want an error", nothing, err)
		}
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
	var refused error = &LoadError{Findings: []Finding{
		{Severity: SeverityWarning, File: "a", Text: "odd"}, {Severity: SeverityError, File: "a", Text: "bad"},
	}}
	if want := "1 error:\na: bad"; refused.Error() != want {
		t.Errorf("%q, want %q", refused, want)
	}
}

// FuzzTestFile: whatever the text, reading tests does not panic, and tests that
// can be read are run.
func FuzzTestFile(f *testing.F) {
	f.Add("version: 1\ntests:\n  - name: a\n    request: {target: payments, claims: {a: [1, {b: null}]}}\n    facts: {domain_id: x}\n    expect: {verdict: hold, reasons: [allowed]}\n")
	f.Add("version: 1\ntargets: [{name: x, kind: hss}]\ntests: [{name: a, request: {target: x, hss: {vpc_list: [{vpc_id: a}]}}, expect: {verdict: accept}}]")
	f.Fuzz(func(t *testing.T, text string) {
		fsys := folder(allowing("region: cn-*"))
		fsys["a_test.yaml"] = &fstest.MapFile{Data: []byte(text)}
		report, err := runTests(fsys, "", demoTargets())
		if err != nil {
			refused, ok := errors.AsType[*LoadError](err)
			if !ok {
				t.Fatalf("%q: %v, want a LoadError", text, err)
			}
			for _, fd := range refused.Findings {
				if err := placed(text, fd); fd.File == "a_test.yaml" && err != nil {
					t.Errorf("%q: the finding %q %v", text, fd, err)
				}
			}
			return
		}
		if err := report.WriteJUnit(io.Discard); err != nil {
			t.Error(err)
		}
		if err := report.WriteText(io.Discard, true); err != nil {
			t.Error(err)
		}
	})
}
