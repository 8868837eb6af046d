package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryLinkedModule: each direct dependency of go.mod that the worker links stands in
// the text with its version, and the text is the same twice.
func TestEveryLinkedModule(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..")
	modules, err := linked(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := write(&first, modules); err != nil {
		t.Fatal(err)
	}
	if err := write(&second, modules); err != nil {
		t.Fatal(err)
	}
	if first.String() != second.String() {
		t.Error("two runs write different texts")
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"github.com/nats-io/nats.go", "github.com/cenkalti/backoff/v4", "github.com/prometheus/client_golang", "github.com/rs/zerolog"} {
		line := regexp.MustCompile(regexp.QuoteMeta(name) + ` v\S+`).FindString(string(mod))
		if line == "" || !strings.Contains(first.String(), "\n"+line+"\n") {
			t.Errorf("the text does not have %q of go.mod", line)
		}
	}
	for _, want := range []string{"the Go standard library go", "Apache License", "Redistribution and use"} {
		if !strings.Contains(first.String(), want) {
			t.Errorf("the text lacks %q", want)
		}
	}
}

// TestModuleWithoutLicense: what has no license is not shipped.
func TestModuleWithoutLicense(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "license.go"), []byte("package p\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &module{Name: "example.org/p v1.0.0", Dir: dir, packages: map[string]bool{dir: true}}
	if err := write(&bytes.Buffer{}, []*module{m}); err == nil || !strings.Contains(err.Error(), m.Name) {
		t.Errorf("write of a module without a license: %v, want an error that names it", err)
	}
}
