package torture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatsNameTestsThatExist holds docs/threats.md to the tree.
func TestThreatsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "threats.md"))
	if err != nil {
		t.Fatal(err)
	}
	here, anywhere := map[string]bool{}, map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(src), -1) {
			anywhere[m[1]] = true
			if filepath.Base(filepath.Dir(path)) == "torture" {
				here[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| threat ") {
			continue
		}
		rows++
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`( \\*torture\\*)?").FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("no test is named for: %s", line)
		}
		for _, m := range named {
			name, torture := m[1], m[2] != ""
			if torture && !here[name] || !torture && !anywhere[name] {
				t.Errorf("%s is named and does not exist, for: %s", name, line)
			}
		}
	}
	if rows < 30 {
		t.Errorf("%d threats were found in docs/threats.md; is it read rightly?", rows)
	}
}
