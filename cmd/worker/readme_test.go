package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/config"
)

const readme = "../../README.md"

// TestReadmeSettings holds the table of the README to the one in the code.
func TestReadmeSettings(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- settings: made by `go test ./cmd/worker -update` -->\n", "<!-- /settings -->"
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the README has lost the marks around its settings table")
	}
	var want strings.Builder
	for line := range strings.Lines(config.Docs()) {
		if strings.HasPrefix(line, "|") {
			want.WriteString(line)
		} else if want.Len() > 0 {
			break // the first table is that of the settings
		}
	}
	if *update {
		if err := os.WriteFile(readme, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("run go test ./cmd/worker -update (-want +got):\n%s", diff)
	}
}

// TestReadmeLinks: what the README points to is there.
func TestReadmeLinks(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(data), -1) {
		if _, err := os.Stat(filepath.Join("../..", link[1])); err != nil {
			t.Errorf("the README points to %s: %v", link[1], err)
		}
	}
}
