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
	want.Facts = approval.Facts{EndpointID: someEndpoint, DomainID: acme, State: approval.Pending, Accepted: 2, ReadAt: noon()}
	if diff := cmp.Diff(want, in); diff != "" || err != nil {
		t.Errorf("ReadInput: %v (-want +got):\n%s", err, diff)
	}
	for _, text := range []string{"", "request: {target: x}", "request: {target: hosts}", "facts: {}", "request: {target: payments}\nexpect: {}", "[", "request: {target: payments, hss: {}}"} {
		if _, err := ReadInput("request.yaml", []byte(text), demoTargets(), noon()); err == nil || !strings.Contains(err.Error(), "request.yaml") {
			t.Errorf("ReadInput(%q) = %v, want an error that names the file", text, err)
		}
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
