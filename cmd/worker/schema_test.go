package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/docs"
	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/doctor"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
	"github.com/vpcep-approver/vpcep-approver/internal/schematest"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
	"github.com/vpcep-approver/vpcep-approver/internal/submit"
)

// outputs tells what each command prints as JSON, by the name of its schema. Others
// print a result.
func outputs() map[string]any {
	list := func(items any) map[string]any { return map[string]any{"type": "array", "items": items} }
	ref := func(name string) map[string]any { return map[string]any{"$ref": name + ".schema.json"} }
	return map[string]any{
		"bus-status":       schematest.Of[inspect.Differences](),
		"config-show":      schematest.Of[config.Shown](),
		"deadletters-list": list(ref("deadletters-show")),
		"deadletters-show": schematest.Of[inspect.DeadLetter](),
		"doctor":           schematest.Of[doctor.Check](),
		"policy-backtest":  schematest.Of[workbench.BacktestReport](),
		"policy-check":     schematest.Of[workbench.CheckReport](),
		"policy-diff":      schematest.Of[workbench.Comparison](),
		"policy-explain":   schematest.Of[inspect.ExplainedJSON](),
		"policy-test":      schematest.Of[workbench.TestReport](),
		"requests-list":    list(ref("result")),
		"reviews-list":     list(ref("reviews-show")),
		"reviews-show":     schematest.Of[inspect.ReviewJSON](),
		"status":           schematest.Of[inspect.Workers](),
		"submit":           schematest.Of[submit.Submitted](),
		"version":          schematest.Of[cli.BuildInfo](),
	}
}

// TestOutputSchemas makes the schemas of what commands print as JSON, or compares them.
func TestOutputSchemas(t *testing.T) { // not in parallel: other tests read what it writes
	verdicts := append(texts(approval.Verdicts()), "")
	for name, shape := range outputs() {
		r := schematest.Reflector{Refs: map[reflect.Type]string{
			reflect.TypeFor[events.Record]():         "result.schema.json",
			reflect.TypeFor[events.RequestRecord]():  "result.schema.json#/$defs/Request",
			reflect.TypeFor[events.DecisionRecord](): "result.schema.json#/$defs/Decision",
			reflect.TypeFor[events.FactsRecord]():    "result.schema.json#/$defs/Facts",
		}, Extra: map[string]map[string]any{}}
		switch name {
		case "policy-explain", "policy-backtest", "policy-diff":
			r.Extra["Verdict"] = map[string]any{"enum": verdicts}
		case "doctor":
			r.Extra["Check.status"] = map[string]any{"enum": []string{doctor.OK, doctor.Warning, doctor.Failed, doctor.Skipped}}
		case "policy-check":
			r.Extra["Severity"] = map[string]any{"enum": []strictyaml.Severity{strictyaml.SeverityError, strictyaml.SeverityWarning}}
		}
		command := strings.ReplaceAll(name, "-", " ")
		title := ""
		for word := range strings.FieldsSeq(command) {
			title += strings.ToUpper(word[:1]) + word[1:]
		}
		schematest.Compare(t, *update, name, r.Document(t, title+"Output", "What worker "+command+" prints as JSON.", shape))
	}
}

func texts[T ~string](values []T) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// schemaOf is the name of the schema of what a command prints as JSON.
func schemaOf(c *cobra.Command, args []string) string {
	name := strings.ReplaceAll(strings.TrimPrefix(c.CommandPath(), "worker "), " ", "-")
	switch {
	case slices.Contains([]string{"requests-show", "watch", "policy-records"}, name), name == "submit" && slices.Contains(args, "--wait"):
		return "result"
	case name == "bus-setup":
		return "bus-status"
	}
	return name
}

// compiled are the schemas in docs/schema by name.
var compiled = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	out := map[string]*jsonschema.Schema{}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	for _, name := range docs.Names()[1:] {
		schema, err := compiler.Compile(filepath.Join("..", "..", "docs", "schema", name+".schema.json"))
		if err != nil {
			return nil, err
		}
		out[name] = schema
	}
	return out, nil
})

// checkOutput reports what a command printed as JSON that its schema does not allow.
func checkOutput(args []string, stdout string) error {
	at := slices.Index(args, "-o")
	if *update || at < 0 || at+1 >= len(args) || args[at+1] != "json" || stdout == "" {
		return nil
	}
	schemas, err := compiled()
	if err != nil {
		return err
	}
	c, _, err := newRootCommand(cli.Environment{}).Find(args)
	if err != nil {
		return err
	}
	name := schemaOf(c, args)
	if schemas[name] == nil {
		return fmt.Errorf("docs/schema has no %s for the output of %s", name, c.CommandPath())
	}
	for dec := json.NewDecoder(strings.NewReader(stdout)); dec.More(); { // watch prints several
		var text json.RawMessage
		if err := dec.Decode(&text); err != nil {
			return err
		}
		if err := schematest.Validate(schemas[name], text); err != nil {
			return fmt.Errorf("docs/schema/%s.schema.json: %w", name, err)
		}
	}
	return nil
}

// TestEveryOutputHasASchema looks at every command that prints JSON.
func TestEveryOutputHasASchema(t *testing.T) {
	t.Parallel()
	found := 0
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			look(sub)
		}
		flag := c.Flags().Lookup("output")
		if flag == nil {
			return
		}
		choice, ok := flag.Value.(*cli.ChoiceFlag)
		if !ok || !slices.Contains(choice.Choices, "json") {
			return
		}
		found++
		if name := schemaOf(c, nil); name != "result" && outputs()[name] == nil {
			t.Errorf("%s prints JSON, and outputs has no schema %s", c.CommandPath(), name)
		}
	}
	look(newRootCommand(cli.Environment{}))
	if found < 15 {
		t.Errorf("%d commands print JSON: are they found?", found)
	}
}

// TestOutputsAgreeWithTheSchema runs what no other test prints as JSON; the others are
// checked wherever a test runs a command.
func TestOutputsAgreeWithTheSchema(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, args := range [][]string{
		{"version", "-o", "json"},
		{"submit", "--target", "payments", "--endpoint-id", endpointA, "-o", "json"},
		{"bus", "setup", "-o", "json"},
		{"reviews", "list", "-o", "json", "--policies-dir", "testdata/workbench/now"},
	} {
		got := f.do(t.Context(), "", args...)
		if args[0] == "version" {
			got = call{args: args}.do(t.Context())
		}
		if got.code != cli.ExitDone || got.stdout == "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	held := resultFor(approval.Request{ID: strings.Repeat("a", 32), Source: "/x", EventID: "1", Target: f.cfg.Targets[0], EndpointID: endpointA}, approval.OutcomeHeld)
	item := review.Item{
		ReviewRecord: approval.ReviewRecord{Request: held.Request, Facts: held.Decision.Facts, Reviews: approval.Reviews{HeldAt: held.At}},
	}
	item.State.Decision = held.Decision
	text, err := json.Marshal(inspect.Reviews{item}.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkOutput([]string{"reviews", "list", "-o", "json"}, string(text)); err != nil {
		t.Error(err)
	}
}

// checkResult reports what is not valid by the schema of a result.
func checkResult(t *testing.T, name string, record []byte) {
	t.Helper()
	if err := schematest.Validate(schematest.Compile(t, "result"), record); err != nil {
		t.Errorf("%s: %v\n%s", name, err, record)
	}
}

// TestRecordsAgreeWithTheSchema validates recorded decisions.
func TestRecordsAgreeWithTheSchema(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(recordedLines) {
		if strings.TrimSpace(line) != "" {
			checkResult(t, "a recorded decision", []byte(line))
		}
	}
}

// TestEventsSchema prints, lists and writes the documents.
func TestEventsSchema(t *testing.T) {
	t.Parallel()
	list := call{args: []string{"events", "schema"}}.do(t.Context())
	for _, name := range docs.Names() {
		file := filepath.Join("..", "..", "docs", "schema", name+".schema.json")
		if name == docs.AsyncAPI {
			file = filepath.Join("..", "..", "docs", "asyncapi.yaml")
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := (call{args: []string{"events", "schema", name}}).do(t.Context()); got != (result{stdout: string(want)}) {
			t.Errorf("events schema %s: %+v", name, got)
		}
		if !strings.Contains(list.stdout, name+" ") {
			t.Errorf("the list does not have %s:\n%s", name, list.stdout)
		}
	}
	dir := t.TempDir()
	if got := (call{args: []string{"events", "schema", "--dir", dir}}).do(t.Context()); got != (result{}) {
		t.Fatalf("%+v", got)
	}
	if schema, err := jsonschema.NewCompiler().Compile(filepath.Join(dir, "schema", "request-ended.schema.json")); err != nil || schema == nil {
		t.Errorf("what is written does not resolve: %v", err)
	}
	if got := (call{args: []string{"events", "schema", "resul"}}).do(t.Context()); got.code != cli.ExitUsage || !strings.Contains(got.stderr, "result") {
		t.Errorf("%+v", got)
	}
}
