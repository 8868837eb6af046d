package faulttest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// declared returns the tests and fuzz targets of each file.
func declared(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range declaration.FindAllStringSubmatch(string(src), -1) {
			out[path] = append(out[path], m[1])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDecodersAreFuzzed is F21 as far as it is ours: the targets are there, and
// .ci/run finds them by name and runs each.
func TestDecodersAreFuzzed(t *testing.T) {
	t.Parallel()
	targets := map[string]bool{}
	for path, names := range declared(t) {
		for _, name := range names {
			if strings.HasPrefix(name, "Fuzz") {
				targets[filepath.Base(filepath.Dir(path))+"."+name] = true
			}
		}
	}
	var f findings
	for _, want := range []string{"events.FuzzDecode", "cloud.FuzzErrorBody", "cloud.FuzzTimes", "policy.FuzzLoad", "policy.FuzzEvaluate", "config.FuzzConfigFile"} {
		if !targets[want] {
			f.wrong("%s is not there", want)
		}
	}
	table.add(t, row{Name: "F21 fuzzing", Tries: len(targets), findings: f, Note: "targets; run by .ci/run fuzz"})
}

// TestThreatsNameTestsThatExist holds docs/threats.md to the tree.
func TestThreatsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "threats.md"))
	if err != nil {
		t.Fatal(err)
	}
	here, anywhere := map[string]bool{}, map[string]bool{}
	for path, names := range declared(t) {
		for _, name := range names {
			anywhere[name] = true
			if filepath.Base(filepath.Dir(path)) == "faulttest" {
				here[name] = true
			}
		}
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| threat ") {
			continue
		}
		rows++
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`( \\*faulttest\\*)?").FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("no test is named for: %s", line)
		}
		for _, m := range named {
			name, faulttest := m[1], m[2] != ""
			if faulttest && !here[name] || !faulttest && !anywhere[name] {
				t.Errorf("%s is named and does not exist, for: %s", name, line)
			}
		}
	}
	if rows < 30 {
		t.Errorf("%d threats were found in docs/threats.md; is it read rightly?", rows)
	}
}
