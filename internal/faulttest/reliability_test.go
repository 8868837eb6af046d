package faulttest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReliabilityNamesTestsThatExist holds the table of docs/reliability.md to the
// tests of this package.
func TestReliabilityNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	here := map[string]bool{}
	for path, names := range declared(t) {
		for _, name := range names {
			here[name] = here[name] || filepath.Base(filepath.Dir(path)) == "faulttest"
		}
	}
	next := 1
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| F") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if want := fmt.Sprintf("F%d", next); len(cells) != 7 || strings.TrimSpace(cells[0]) != want {
			t.Errorf("the row after F%d is %q", next-1, line)
			continue
		}
		next++
		named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(cells[3], -1)
		if len(named) == 0 {
			t.Errorf("no test is named for: %s", line)
		}
		for _, m := range named {
			if !here[m[1]] {
				t.Errorf("%s is named and does not exist, for: %s", m[1], line)
			}
		}
	}
	if next <= 30 {
		t.Errorf("%d failures are in the table of docs/reliability.md", next-1)
	}
}
