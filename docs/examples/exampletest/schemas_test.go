package exampletest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCodeFromEverySchema makes Go types from each schema and compiles them.
func TestCodeFromEverySchema(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../schema/*.schema.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d schemas: %v", len(files), err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module generated\n\ngo 1.26.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".schema.json"), "-", "")
		out := filepath.Join(dir, name, "types.go")
		if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
			t.Fatal(err)
		}
		command(t, ".", "go", "tool", "go-jsonschema", "--tags", "json", "--struct-name-from-title", "-p", name, "-o", out, file)
	}
	command(t, dir, "go", "build", "./...")
}

func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
