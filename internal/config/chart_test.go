package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
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
	properties["config"] = configSchema()
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
func configSchema() map[string]any {
	root := section()
	for _, s := range Settings() {
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
		at["properties"].(map[string]any)[parts[len(parts)-1]] = valueSchema(s.form)
	}
	target := section()
	for _, f := range targetFields() {
		target["properties"].(map[string]any)[f.key] = map[string]any{"type": "string"}
	}
	target["properties"].(map[string]any)[targetPolicies] = map[string]any{"type": "array", "items": map[string]any{"type": "string"}}
	target["required"] = []string{"name", "kind", "project_id"}
	root["properties"].(map[string]any)[targetsKey] = map[string]any{"type": "array", "items": target}
	return root
}

func section() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
}

func valueSchema(form string) map[string]any {
	types := map[string]any{
		"bool": "boolean", "int": "integer", "number": "number", "rate": []string{"string", "number"},
	}
	switch {
	case types[form] != nil:
		return map[string]any{"type": types[form]}
	case strings.Contains(form, "|"):
		return map[string]any{"enum": strings.Split(form, "|")}
	}
	return map[string]any{"type": "string"}
}

// TestChartSchemaFollowsTheFile: what valueSchema makes of a form is what a file
// may hold.
func TestChartSchemaFollowsTheFile(t *testing.T) {
	t.Parallel()
	forms := map[string]bool{}
	for _, s := range Settings() {
		if !s.secret && !strings.Contains(s.form, "|") {
			forms[s.form] = true
		}
	}
	want := []string{"bool", "cidr", "duration", "host:port", "int", "name", "number", "path", "rate", "region", "subject", "url"}
	if got := slices.Sorted(maps.Keys(forms)); !slices.Equal(got, want) {
		t.Errorf("the forms are %q; give valueSchema what is new and list it here", got)
	}
}
