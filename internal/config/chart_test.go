package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

var update = flag.Bool("update", false, "write the settings to the schema of the chart")

// TestChartKnowsTheSettings holds the part `config` of the values' schema to the
// table of settings, so that helm refuses a misspelt setting with its place.
func TestChartKnowsTheSettings(t *testing.T) {
	t.Parallel()
	const file = "../../deploy/helm/vpcep-approver/values.schema.json"
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(have, &schema); err != nil {
		t.Fatal(err)
	}
	properties, _ := schema["properties"].(map[string]any)
	properties["config"] = configSchema(t)
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(schema); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(have, want.Bytes()) {
		t.Errorf("%s does not have the settings of the table; run go test ./internal/config -update", file)
	}
}

// configSchema is the JSON Schema of a configuration file.
func configSchema(t *testing.T) map[string]any {
	t.Helper()
	root := section()
	for _, s := range settings() {
		if s.secret {
			continue
		}
		parts := strings.Split(s.key, ".")
		at := root
		for _, name := range parts[:len(parts)-1] {
			inner, ok := at["properties"].(map[string]any)[name].(map[string]any)
			if !ok {
				inner = section()
				at["properties"].(map[string]any)[name] = inner
			}
			at = inner
		}
		at["properties"].(map[string]any)[parts[len(parts)-1]] = valueSchema(t, s)
	}
	target := section()
	for _, f := range targetFields() {
		target["properties"].(map[string]any)[f.key] = map[string]any{"type": "string"}
	}
	target["properties"].(map[string]any)["kind"] = map[string]any{"enum": approval.TargetKinds()}
	target["properties"].(map[string]any)[targetPolicies] = map[string]any{"type": "array", "items": map[string]any{"type": "string"}}
	target["required"] = []string{"name", "kind", "project_id"}
	root["properties"].(map[string]any)[targetsKey] = map[string]any{"type": "array", "items": target}
	return root
}

func section() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
}

// wholeRange is the end of an integer's text, which says what is allowed.
var wholeRange = regexp.MustCompile(`; (\d+) to (\d+)$`)

func valueSchema(t *testing.T, s Setting) map[string]any {
	t.Helper()
	types := map[string]any{
		"bool": "boolean", "int": "integer", "number": "number", "rate": []string{"string", "number"},
	}
	switch {
	case s.form == "int":
		limits := wholeRange.FindStringSubmatch(s.doc)
		if limits == nil {
			t.Fatalf("the text of %s does not end in what is allowed: %q", s.key, s.doc)
		}
		return map[string]any{"type": "integer", "minimum": json.Number(limits[1]), "maximum": json.Number(limits[2])}
	case s.form == "duration":
		return map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`}
	case types[s.form] != nil:
		return map[string]any{"type": types[s.form]}
	case strings.Contains(s.form, "|"):
		return map[string]any{"enum": strings.Split(s.form, "|")}
	}
	return map[string]any{"type": "string"}
}

// TestChartSchemaFollowsTheFile: what valueSchema makes of a form is what a file
// may hold.
func TestChartSchemaFollowsTheFile(t *testing.T) {
	t.Parallel()
	forms := map[string]bool{}
	for _, s := range settings() {
		if !s.secret && !strings.Contains(s.form, "|") {
			forms[s.form] = true
		}
	}
	want := []string{"bool", "cidr", "duration", "host:port", "int", "name", "number", "path", "rate", "region", "subject", "url"}
	if got := slices.Sorted(maps.Keys(forms)); !slices.Equal(got, want) {
		t.Errorf("the forms are %q; give valueSchema what is new and list it here", got)
	}
}
