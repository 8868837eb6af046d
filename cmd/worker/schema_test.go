package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

const resultSchema = "../../docs/schema/result.schema.json"

// schemaOf is the JSON Schema of what is written of a type. Unknown members are
// allowed, so that a newer worker may say more. What has no omitzero is required.
func schemaOf(t *testing.T, typ reflect.Type, enums map[string][]string) map[string]any {
	t.Helper()
	switch {
	case typ == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case typ == reflect.TypeFor[approval.Claims]():
		return map[string]any{"type": "object"}
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return schemaOf(t, typ.Elem(), enums)
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t, typ.Elem(), enums)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t, typ.Elem(), enums)}
	case reflect.Struct:
		return schemaOfStruct(t, typ, enums)
	default:
		t.Fatalf("%s: a type that the schema does not know", typ)
		return nil
	}
}

func schemaOfStruct(t *testing.T, typ reflect.Type, enums map[string][]string) map[string]any {
	t.Helper()
	properties, required := map[string]any{}, []string{}
	for field := range typ.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			t.Fatalf("%s.%s has no JSON name", typ, field.Name)
		}
		schema := schemaOf(t, field.Type, enums)
		if strings.Contains(options, "string") {
			schema = map[string]any{"type": "string", "pattern": "^-?[0-9]+$"}
		}
		if values := enums[name]; values != nil && schema["type"] == "string" {
			schema["enum"] = values
		}
		properties[name] = schema
		if !strings.Contains(options, "omitzero") {
			required = append(required, name)
		}
	}
	out := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// stringsOf are the values of a type of strings.
func stringsOf[T ~string](values ...T) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// TestResultSchema makes the schema of a result, or compares it with the type.
func TestResultSchema(t *testing.T) {
	t.Parallel()
	schema := schemaOf(t, reflect.TypeFor[events.Record](), map[string][]string{
		"outcome":     stringsOf(append(approval.Outcomes(), events.ShadowOutcome)...),
		"verdict":     append(stringsOf(approval.Verdicts()...), ""), // empty: not decided yet
		"target_kind": stringsOf(approval.TargetKinds()...),
	})
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "vpcep-approver result"
	schema["description"] = "The data of a result event, and what worker requests, watch, submit --wait and policy records print of a request as JSON. " +
		"acted_at, sends, revision, waiting and history are of the ledger and absent in events. Made from the type by go test ./cmd/worker -update."
	var text bytes.Buffer
	if err := cli.WriteJSON(&text, schema); err != nil {
		t.Fatal(err)
	}
	golden(t, resultSchema, text.String())
}

// checkResult reports what is not valid by the schema of a result.
func checkResult(t *testing.T, name string, record []byte) {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(resultSchema)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(record))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, record)
	}
}

// TestResultsAgreeWithTheSchema validates the golden events and recorded decisions.
func TestResultsAgreeWithTheSchema(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../internal/events/testdata/result-*.golden")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d golden events: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var event struct {
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(text, &event); err != nil {
			t.Fatal(err)
		}
		checkResult(t, file, event.Data)
	}
	for line := range strings.Lines(recordedLines) {
		if strings.TrimSpace(line) != "" {
			checkResult(t, "a recorded decision", []byte(line))
		}
	}
}
