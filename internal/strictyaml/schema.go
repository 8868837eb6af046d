package strictyaml

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
)

// Object is the JSON Schema of a mapping of table, for editors. Of keys that only one
// list has, it holds those of list.
func Object[D Decoder, T any](table []Key[D, T], list string) map[string]any {
	properties := make(map[string]any)
	required := []string{}
	for _, k := range table {
		if list != "" && k.Only != "" && k.Only != list {
			continue
		}
		p := maps.Clone(k.Form.Schema)
		p["description"] = k.Doc
		properties[k.Name] = p
		if k.Must {
			required = append(required, k.Name)
		}
	}
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// WriteSchema returns the text of a JSON Schema (draft 2020-12).
func WriteSchema(root map[string]any) ([]byte, error) {
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
