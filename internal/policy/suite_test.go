package policy

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// tested is a folder with a policy and these tests of it.
func tested(tests string) fstest.MapFS {
	fsys := folder(head("p") + "allow:\n  - {id: acme, domain_id: " + acme + ", limit: 3}\n  - {id: other, domain_id: " + insight + "}\n")
	fsys["p_test.yaml"] = &fstest.MapFile{Data: []byte("version: 1\ntargets: [{name: payments, kind: service}]\ntests:\n" + tests)}
	return fsys
}

func TestErrorsInTestFiles(t *testing.T) {
	t.Parallel()
	_, err := loadSuite(tested(`
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

// TestExpectNothingIsWrittenAsQuotes: what stands for none is an empty text in quotes.
func TestExpectNothingIsWrittenAsQuotes(t *testing.T) {
	t.Parallel()
	for _, nothing := range []string{"", "~", "null", "[]"} {
		_, err := loadSuite(tested("  - {name: a, request: {target: payments}, expect: {verdict: hold, rule: "+nothing+"}}\n"), "", nil)
		if err == nil || !strings.Contains(err.Error(), `want a text, or "" for none`) {
			t.Errorf("rule: %s: %v, want an error", nothing, err)
		}
	}
}

// TestOneError: texts count as people do.
func TestOneError(t *testing.T) {
	t.Parallel()
	var refused error = &strictyaml.Error{Findings: []strictyaml.Finding{
		{Severity: strictyaml.SeverityWarning, File: "a", Text: "odd"}, {Severity: strictyaml.SeverityError, File: "a", Text: "bad"},
	}}
	if want := "1 error:\na: bad"; refused.Error() != want {
		t.Errorf("%q, want %q", refused, want)
	}
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func() ([]byte, error){"policy.v1.json": Schema, "policy-test.v1.json": TestSchema, "reviewers.v1.json": ReviewersSchema} {
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

// readInput reads a request with its facts from the text of a file called name,
// in the form of a test: the keys request, facts and now. What it leaves out is as
// in tests, and the time is now. An error is a *strictyaml.Error.
func readInput(name string, source []byte, targets approval.Targets, now time.Time) (approval.Input, error) {
	r := strictyaml.NewReader(name, source)
	c := &testCase{file: name}
	if root := rootOf(r); root != nil {
		c.at = strictyaml.At(root)
		c.excerpt = r.Excerpt(c.at)
		table := slices.DeleteFunc(testKeys(), func(k strictyaml.Field[testCase]) bool {
			return slices.Contains([]string{"name", "held_at", "reviews", "expect"}, k.Name)
		})
		strictyaml.ReadMapping(r, root, "a request", table, c)
	}
	if findings := append(r.All(), c.wrong(targets, now)...); len(findings) > 0 {
		return approval.Input{}, &strictyaml.Error{Findings: findings}
	}
	return c.prepare(targets, now), nil
}

func TestReadInput(t *testing.T) {
	t.Parallel()
	in, err := readInput("request.yaml", []byte("request: {target: payments, claims: {team: a}}\nfacts: {domain_id: "+acme+", accepted: 2}\n"), demoTargets(), noon())
	want := connection("payments", acme)
	want.Request.ID, want.Request.EndpointID, want.Request.Claims = "", someEndpoint, approval.Claims{"team": "a"}
	want.Facts = approval.Facts{EndpointID: someEndpoint, DomainID: acme, State: approval.Pending, Accepted: approval.Counted(2), ReadAt: noon()}
	if diff := cmp.Diff(want, in); diff != "" || err != nil {
		t.Errorf("readInput: %v (-want +got):\n%s", err, diff)
	}
	for _, text := range []string{"", "request: {target: x}", "request: {target: hosts}", "facts: {}", "request: {target: payments}\nexpect: {}", "[", "request: {target: payments, hss: {}}"} {
		if _, err := readInput("request.yaml", []byte(text), demoTargets(), noon()); err == nil || !strings.Contains(err.Error(), "request.yaml") {
			t.Errorf("readInput(%q) = %v, want an error that names the file", text, err)
		}
	}
}
