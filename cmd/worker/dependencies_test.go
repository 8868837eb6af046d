package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDependenciesHaveAReason: each direct dependency has its line in the
// decisions, and each line there its dependency.
func TestDependenciesHaveAReason(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/decisions/0001-libraries.md")
	if err != nil {
		t.Fatal(err)
	}
	var direct, told []string
	for line := range strings.Lines(string(mod)) {
		if m := regexp.MustCompile(`^\t(\S+) v\S+$`).FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			direct = append(direct, m[1])
		}
	}
	for line := range strings.Lines(string(doc)) {
		cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if !ok || !strings.HasPrefix(line, "| `") {
			continue
		}
		for name := range strings.SplitSeq(cell, ", ") {
			told = append(told, strings.Trim(name, "`"))
		}
	}
	for _, name := range direct {
		if !slices.Contains(told, name) {
			t.Errorf("go.mod requires %s, for which 0001-libraries.md gives no reason", name)
		}
	}
	for _, name := range told {
		if !slices.Contains(direct, name) {
			t.Errorf("0001-libraries.md gives a reason for %s, which go.mod does not require", name)
		}
	}
	if len(direct) < 10 {
		t.Errorf("%d direct dependencies found in go.mod: is it read right?", len(direct))
	}
}
