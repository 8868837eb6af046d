package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// notPlain are words that a reader cannot look up in the field's docs, or that
// stand for several things. CONTRIBUTING.md says how to write instead.
const notPlain = `purse|testimony|testify|witness|bygone|outlived|buried|burial|bury|untold|besieged|whoever|anew|mend|mended|heed|` +
	`beside|hearsay|in hand|at once|hand in|handed in|told of|tells of|is too much`

// TestPlainWords: code, texts and docs use plain words.
func TestPlainWords(t *testing.T) {
	t.Parallel()
	word := regexp.MustCompile(`(?i)\b(` + notPlain + `)\b`)
	kinds := []string{".go", ".md", ".yaml", ".yml", ".txt", ".golden", ".json", ".conf", ".sh", ""}
	root := filepath.Join("..", "..")
	found := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "data"):
			return fs.SkipDir
		case d.IsDir(), name == "LICENSE", name == "go.sum", name == "words_test.go", name == "huawei-requests.json", !slices.Contains(kinds, filepath.Ext(name)):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if w := word.FindString(line); w != "" && found < 100 {
				found++
				t.Errorf("%s:%d: %q is not plain: %.120s", strings.TrimPrefix(path, root+string(filepath.Separator)), i+1, w, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
