package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
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

// TestSchema returns the JSON Schema of test files.
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
