package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Schema returns the JSON Schema (draft 2020-12) of policy files, for editors. It
// is made of the table that the decoder reads by.
func Schema() ([]byte, error) {
	k := newKeys()
	root := object(k.policy, "")
	root["$id"] = "policy.v1.json"
	root["title"] = "Policy of vpcep-approver"
	root["$defs"] = map[string]any{
		"allow": object(k.entry, "allow"), "deny": object(k.entry, "deny"), "hours": object(k.hours, ""), "values": valuesForm().schema,
	}
	return writeSchema(root)
}

// TestSchema returns the JSON Schema of files of tests.
func TestSchema() ([]byte, error) {
	root := object(testFileKeys(), "")
	root["$id"] = "policy-test.v1.json"
	root["title"] = "Tests for policies of vpcep-approver"
	defs := map[string]any{
		"target": object(targetKeys(), ""), "test": object(testKeys(), ""), "request": object(requestKeys(), ""),
		"facts": object(factsKeys(), ""), "expect": object(expectKeys(), ""),
	}
	functionGraph, hss, vpc, insight := creationKeys()
	defs["functiongraph"], defs["hss"] = object(functionGraph, ""), object(hss, "")
	defs["vpc"], defs["dataarts_insight"] = object(vpc, ""), object(insight, "")
	root["$defs"] = defs
	return writeSchema(root)
}

func writeSchema(root map[string]any) ([]byte, error) {
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return b.Bytes(), nil
}

// object is the schema of a mapping of table; of entries, those of one list.
func object[T any](table []key[T], list string) map[string]any {
	properties := make(map[string]any)
	required := []string{}
	for _, k := range table {
		if list != "" && k.only != "" && k.only != list {
			continue
		}
		p := maps.Clone(k.form.schema)
		p["description"] = k.doc
		properties[k.name] = p
		if k.must {
			required = append(required, k.name)
		}
	}
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// Tables returns the tables of keys and of names in expressions, in Markdown, as
// docs/policy.md holds them.
func Tables() string {
	k := newKeys()
	var b strings.Builder
	b.WriteString("### A policy\n\n")
	table(&b, k.policy, nil)
	b.WriteString("\n### An entry of allow or deny\n\n")
	kinds := make(map[string]string)
	for _, s := range specs() {
		kinds[s.name] = kindWords(s.kinds)
	}
	kinds["any_domain"] = "connections"
	kinds["limit"] = "connections"
	table(&b, k.entry, kinds)
	b.WriteString("\n### hours\n\n")
	table(&b, k.hours, nil)
	b.WriteString("\n### Names in an expression\n\n| name | type | of | what |\n| --- | --- | --- | --- |\n")
	for _, v := range variables() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", v.name, strings.ReplaceAll(v.kind.String(), "google.protobuf.Timestamp", "timestamp"), kindWords(v.kinds), v.doc)
	}
	return b.String()
}

func table[T any](b *strings.Builder, keys []key[T], of map[string]string) {
	if of == nil {
		b.WriteString("| key | value | what |\n| --- | --- | --- |\n")
	} else {
		b.WriteString("| key | of | value | what |\n| --- | --- | --- | --- |\n")
	}
	for _, k := range keys {
		name := "`" + k.name + "`"
		if k.must {
			name += " (needed)"
		}
		if of != nil {
			what := "all"
			if of[k.name] != "" {
				what = of[k.name]
			}
			if k.only != "" {
				what += ", " + k.only + " only"
			}
			name += " | " + what
		}
		words := k.form.words
		if def, ok := k.form.schema["default"]; ok {
			words += fmt.Sprintf("; default %v", def)
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, words, k.doc)
	}
}

// kindWords names kinds of targets, or what they have in common.
func kindWords(kinds []approval.TargetKind) string {
	switch {
	case len(kinds) == len(approval.TargetKinds()):
		return "all"
	case len(kinds) == 2 && kinds[0] == approval.Service:
		return "connections"
	}
	var out []string
	for _, k := range kinds {
		out = append(out, string(k))
	}
	return strings.Join(out, ", ")
}
