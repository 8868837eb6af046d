// Package docs holds the part of the documentation that programs read: the JSON Schemas
// of events and of what commands print as JSON, and the AsyncAPI document.
package docs

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

//go:embed asyncapi.yaml schema/*.schema.json
var files embed.FS

const (
	// AsyncAPI is the name of the document that describes the bus.
	AsyncAPI = "asyncapi"

	asyncAPIFile = "asyncapi.yaml"
	schemaDir    = "schema"
	schemaSuffix = ".schema.json"
)

// Names lists the documents, the AsyncAPI document first.
func Names() []string {
	names := []string{AsyncAPI}
	entries, _ := files.ReadDir(schemaDir) // it is embedded
	for _, entry := range entries {
		names = append(names, strings.TrimSuffix(entry.Name(), schemaSuffix))
	}
	return names
}

// Summary is what the document called name is about, in a sentence.
func Summary(name string) (string, error) {
	if name == AsyncAPI {
		return "The streams, subjects and messages of the bus, as AsyncAPI 3.1.", nil
	}
	text, err := Read(name)
	if err != nil {
		return "", err
	}
	var schema struct {
		Description string `json:"description"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		return "", fmt.Errorf("read the schema %s: %w", name, err)
	}
	first, _, _ := strings.Cut(schema.Description, ". ")
	return strings.TrimSuffix(first, ".") + ".", nil
}

// Read returns the document called name.
func Read(name string) ([]byte, error) {
	file := path.Join(schemaDir, name+schemaSuffix)
	if name == AsyncAPI {
		file = asyncAPIFile
	}
	text, err := files.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("there is no schema %q", name)
	}
	return text, nil
}

// Write writes every document below dir, so that references between them resolve.
func Write(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, schemaDir), 0o755); err != nil { //nolint:gosec // G301: documents are no secret
		return fmt.Errorf("write the schemas: %w", err)
	}
	return fs.WalkDir(files, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.FromSlash(file)), text, 0o644) //nolint:gosec // G306: documents are no secret
		}
		if err != nil {
			return fmt.Errorf("write the schemas: %w", err)
		}
		return nil
	})
}
