package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

const design = "../../docs/design.md"

// TestDesignShowsThePackages holds the drawing and the table of docs/design.md to
// the packages that are there.
func TestDesignShowsThePackages(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- packages: made by `go test ./cmd/worker -update` -->\n", "<!-- /packages -->"
	data, err := os.ReadFile(design)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("docs/design.md has lost the marks around its drawing of the packages")
	}
	packages := ourImports(t)
	want := "```\n" + drawing(packages) + "```\n"
	if *update {
		if err := os.WriteFile(design, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("run go test ./cmd/worker -update (-want +got):\n%s", diff)
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:internal|cmd)/[a-z/]+)` \\|").FindAllStringSubmatch(string(data), -1) {
		rows = append(rows, m[1])
	}
	slices.Sort(rows)
	if diff := gocmp.Diff(slices.Sorted(maps.Keys(packages)), rows); diff != "" {
		t.Errorf("the table of packages in docs/design.md (-packages +rows):\n%s", diff)
	}
}

// ourImports returns the packages of the product, apart from what only tests use,
// and the ones of them that each imports.
func ourImports(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for pkg, imports := range shippedImports(t, filepath.Join("..", "..")) {
		if slices.Contains(testPackages(), pkg) || pkg == "policies" || pkg == "docs" || strings.HasPrefix(pkg, "internal/tools/") {
			continue
		}
		out[pkg] = nil
		for _, imp := range imports {
			if ours, ok := strings.CutPrefix(imp, module); ok && ours != "policies" && ours != "docs" {
				out[pkg] = append(out[pkg], ours)
			}
		}
	}
	return out
}

// testPackages are the packages that only tests import.
func testPackages() []string {
	return []string{
		"internal/cloud/openapi", "internal/cloud/openapi/openapitest", "internal/e2e", "internal/faulttest",
		"internal/jsonappend/jsonappendtest", "internal/ledger/ledgertest", "internal/natstest", "internal/promtest", "internal/proxytest", "internal/schematest",
		"internal/tracing/tracingtest",
	}
}

// drawing puts each package on a line above those that it imports.
func drawing(packages map[string][]string) string {
	var height func(pkg string) int
	height = func(pkg string) int {
		h := 0
		for _, imported := range packages[pkg] {
			h = max(h, height(imported)+1)
		}
		return h
	}
	levels := map[int][]string{}
	for pkg := range packages {
		levels[height(pkg)] = append(levels[height(pkg)], pkg)
	}
	var b strings.Builder
	for _, h := range slices.SortedFunc(maps.Keys(levels), func(a, b int) int { return cmp.Compare(b, a) }) {
		names := levels[h]
		slices.Sort(names)
		for i, name := range names {
			names[i] = strings.TrimPrefix(name, "internal/")
		}
		fmt.Fprintf(&b, "%d  %s\n", h, strings.Join(names, "   "))
	}
	return b.String()
}
