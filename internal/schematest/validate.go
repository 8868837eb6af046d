package schematest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Root is the folder of the module.
func Root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// Path is the file of the schema called name.
func Path(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(Root(t), "docs", "schema", name+".schema.json")
}

// Compare compares the schema called name with text, or writes it.
func Compare(t *testing.T, write bool, name, text string) {
	t.Helper()
	if write {
		if err := os.WriteFile(Path(t, name), []byte(text), 0o644); err != nil { //nolint:gosec // G306: everybody may read it
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(Path(t, name))
	if err != nil {
		t.Fatalf("%v; write it with: make docs", err)
	}
	if diff := cmp.Diff(string(file), text); diff != "" {
		t.Errorf("docs/schema/%s.schema.json differs from the type (-file +now); if that is meant: make docs\n%s", name, diff)
	}
}

// Compile returns the schema called name.
func Compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// Validate reports where text does not agree with schema.
func Validate(schema *jsonschema.Schema, text []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("no JSON: %w", err)
	}
	return schema.Validate(v)
}
