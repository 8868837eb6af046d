package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/vpcep-approver/vpcep-approver/"

// arrows tells which packages of ours each package may import. The picture is in
// docs/design.md.
func arrows() map[string][]string {
	return map[string][]string{
		"cmd/worker": {
			"docs", "internal/approval", "internal/cli", "internal/cloud/simulator", "internal/config", "internal/console", "internal/demo", "internal/doctor", "internal/events",
			"internal/inspect", "internal/ledger", "internal/policy", "internal/policy/workbench", "internal/review", "internal/scaffold", "internal/service", "internal/submit", "internal/worker",
		},
		"internal/approval":                  {},
		"internal/strictyaml":                {},
		"internal/policy":                    {"internal/approval", "internal/strictyaml"},
		"internal/policy/workbench":          {"internal/approval", "internal/cli", "internal/policy", "internal/strictyaml"},
		"internal/cli":                       {"internal/approval", "internal/strictyaml"},
		"internal/config":                    {"internal/approval", "internal/cli", "internal/cloud", "internal/events", "internal/events/broker", "internal/strictyaml"},
		"internal/cloud":                     {"internal/approval"},
		"internal/cloud/simulator":           {"internal/strictyaml"},
		"internal/cloud/openapi":             {},
		"internal/cloud/openapi/openapitest": {"internal/cloud/openapi"},
		"internal/jsonappend":                {},
		"internal/jsonappend/jsonappendtest": {},
		"internal/events":                    {"internal/approval", "internal/events/cloudevent", "internal/jsonappend"},
		"internal/events/broker":             {},
		"internal/events/cloudevent":         {"internal/jsonappend"},
		"internal/ledger":                    {"internal/approval", "internal/jsonappend"},
		"internal/ledger/ledgertest":         {"internal/approval", "internal/ledger"},
		"internal/metrics":                   {"internal/approval"},
		"internal/worker":                    {"internal/approval", "internal/metrics"},
		"internal/tracing":                   {"internal/approval"},
		"internal/tracing/tracingtest":       {},
		"internal/service":                   {"internal/approval", "internal/cli", "internal/cloud", "internal/config", "internal/events", "internal/events/broker", "internal/ledger", "internal/metrics", "internal/policy", "internal/review", "internal/strictyaml", "internal/tracing", "internal/worker", "policies"},
		"internal/demo":                      {"internal/approval", "internal/cli", "internal/cloud/simulator", "internal/config", "internal/console", "internal/events", "internal/events/broker", "internal/ledger", "internal/policy", "internal/review", "internal/service", "internal/worker", "policies"},
		"internal/doctor":                    {"internal/approval", "internal/cli", "internal/cloud", "internal/config", "internal/events", "internal/events/broker", "internal/policy", "internal/policy/workbench", "internal/service", "internal/strictyaml"},
		"internal/inspect":                   {"internal/approval", "internal/cli", "internal/events", "internal/ledger", "internal/policy", "internal/policy/workbench", "internal/review", "internal/submit"},
		"internal/console":                   {"internal/approval", "internal/cli", "internal/config", "internal/events", "internal/inspect", "internal/ledger", "internal/policy", "internal/policy/workbench", "internal/review", "internal/submit"},
		"internal/review":                    {"internal/approval", "internal/ledger", "internal/policy"},
		"internal/submit":                    {"internal/approval", "internal/cli", "internal/events"},
		"internal/scaffold":                  {"internal/approval", "internal/cli", "internal/config", "internal/policy/workbench"},
		"internal/natstest":                  {"internal/events/broker"},
		"internal/promtest":                  {},
		"internal/proxytest":                 {},
		"internal/schematest":                {},
		"internal/e2e":                       {},
		"internal/faulttest":                 {},
		"docs":                               {},
		"policies":                           {},
	}
}

// outsiders tells which packages of ours may import a library; it is held to
// the shipped code, and tests may import what they like.
func outsiders() map[string][]string {
	return map[string][]string{
		"github.com/nats-io/nats.go":          {"internal/events", "internal/events/broker", "internal/ledger", "internal/ledger/ledgertest", "internal/natstest"},
		"github.com/nats-io/nats-server":      {"internal/events/broker", "internal/natstest"},
		"github.com/cenkalti/backoff":         {"internal/cloud"},
		"github.com/sony/gobreaker":           {"internal/cloud"},
		"golang.org/x/time":                   {"internal/cloud"},
		"github.com/prometheus/client_golang": {"internal/metrics", "internal/service"},
		"github.com/rs/zerolog":               {"internal/cli", "internal/service", "internal/worker", "internal/review", "internal/events", "internal/events/broker", "internal/console", "internal/demo", "internal/tracing"},
		"go.yaml.in/yaml":                     {"internal/strictyaml", "internal/cli", "internal/config"},
		"cel.dev/cel-go":                      {"internal/policy"},
		"github.com/go-json-experiment/json":  {"internal/cloud", "internal/events", "internal/events/cloudevent", "internal/jsonappend", "internal/ledger", "internal/review"},
		"github.com/spf13/cobra":              {"cmd/worker", "internal/cli", "internal/config"},
		"github.com/getkin/kin-openapi":       {"internal/cloud/openapi/openapitest"},
		"github.com/testcontainers":           {},
		"github.com/cloudevents":              {},
		"pgregory.net/rapid":                  {},
		"github.com/google/go-cmp":            {"internal/ledger/ledgertest", "internal/schematest"},

		"github.com/prometheus/exporter-toolkit": {"internal/service"},
		"github.com/coreos/go-systemd":           {"internal/service"},
		"go.opentelemetry.io":                    {"internal/tracing", "internal/tracing/tracingtest"},
	}
}

// TestArrows holds the imports of the shipped code to the picture.
func TestArrows(t *testing.T) {
	t.Parallel()
	allowed, libraries := arrows(), outsiders()
	seen := map[string]bool{}
	for pkg, imports := range shippedImports(t, filepath.Join("..", "..")) {
		seen[pkg] = true
		for _, imp := range imports {
			if ours, ok := strings.CutPrefix(imp, module); ok {
				if !slices.Contains(allowed[pkg], ours) {
					t.Errorf("%s imports %s, which the picture does not have", pkg, ours)
				}
				continue
			}
			for library, users := range libraries {
				if (imp == library || strings.HasPrefix(imp, library+"/")) && !slices.Contains(users, pkg) {
					t.Errorf("%s imports %s, which only %q may", pkg, imp, users)
				}
			}
			if pkg == "internal/approval" && strings.Contains(imp, ".") {
				t.Errorf("internal/approval imports %s; it keeps to the standard library", imp)
			}
		}
		if _, ok := allowed[pkg]; !ok {
			t.Errorf("%s is not in the picture", pkg)
		}
	}
	for pkg := range allowed {
		if !seen[pkg] {
			t.Errorf("the picture has %s, which is not there", pkg)
		}
	}
}

// TestCommandsAreThin: a file of cmd/worker has flags, one call and what is printed.
// What is longer belongs to a package.
func TestCommandsAreThin(t *testing.T) {
	t.Parallel()
	const mostOfAFile, mostOfAll = 200, 2700
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := strings.Count(string(text), "\n")
		if all += n; n > mostOfAFile {
			t.Errorf("%s has %d lines, more than %d", file, n, mostOfAFile)
		}
	}
	if all == 0 || all > mostOfAll {
		t.Errorf("cmd/worker has %d lines without tests, more than %d", all, mostOfAll)
	}
}

// shippedImports returns the imports of each package below root, by its folder,
// without those of tests.
func shippedImports(t *testing.T, root string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != ".." && (strings.HasPrefix(name, ".") || name == "testdata") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil && file != root {
				return filepath.SkipDir // another module, which nothing shipped depends on
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		out[pkg] = append(out[pkg], []string{}...)
		for _, imp := range f.Imports {
			name, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			out[pkg] = append(out[pkg], name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
