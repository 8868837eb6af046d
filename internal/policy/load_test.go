package policy

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, diff)
	}
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	side, err := os.ReadFile("testdata/errors/bad.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			snap := snapshot{name: source, "bad.txt": side}
			_, err = snap.load("policies", demoTargets())
			if _, ok := errors.AsType[*LoadError](err); !ok {
				t.Fatalf("load = %v, want a LoadError", err)
			}
			golden(t, "errors/"+strings.TrimSuffix(name, ".yaml")+".golden", err.Error()+"\n")
		})
	}
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	fsys := folder(head("a"), head("a"))
	fsys["old.yml"] = &fstest.MapFile{Data: []byte(head("b"))}
	fsys[".hidden.yaml"] = &fstest.MapFile{Data: []byte("nonsense")}
	fsys["README.md"] = &fstest.MapFile{Data: []byte("nonsense")}
	fsys["sub/c.yaml"] = &fstest.MapFile{Data: []byte("nonsense")}
	_, err := Load(fsys, demoTargets())
	want := `2 errors:
old.yml: the file is not read, for its name does not end in .yaml; call it old.yaml, or move it elsewhere
p1.yaml:2:9: policy: a policy is called "a" already, in p0.yaml on line 2; give each its own name
     2 | policy: a
       |         ^`
	if err == nil || err.Error() != want {
		t.Errorf("Load = %v, want %s", err, want)
	}
}

func TestLoadOfNoFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "missing")
	if _, err := LoadDir(dir, demoTargets()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("LoadDir = %v, want an error that names %s", err, dir)
	}
}

func TestManyErrorsAreCut(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(head("a") + "allow:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  - {id: e%d, domain_id: x}\n", i)
	}
	_, err := Load(folder(b.String()), demoTargets())
	var le *LoadError
	if !errors.As(err, &le) || len(le.Findings) != maxFindings+1 {
		t.Fatalf("Load = %v, want %d findings and the number of the others", err, maxFindings)
	}
	if last := le.Findings[0]; !strings.Contains(last.Text, "900 errors more") {
		t.Errorf("first finding is %q, want the number of the others", last)
	}
}

// TestScalarsAreReadAsWritten: an id may look like a number to YAML.
func TestScalarsAreReadAsWritten(t *testing.T) {
	t.Parallel()
	for _, id := range []string{
		"01234567890123456789012345678901",
		"12345678901234567890123456789e10",
		"0x1234567890123456789012345678aa"[2:] + "00",
	} {
		set := load(t, head("a")+"allow: [{id: 123, domain_id: "+id+"}]")
		in := connection("payments", id)
		if d := set.Evaluate(&in); d.Verdict != approval.Accept || d.Rule != "123" {
			t.Errorf("domain %s: %s by %q %q, want accept", id, d.Verdict, d.Rule, d.Reasons)
		}
	}
	set := load(t, head("a")+"allow: [{id: a, any_domain: true, claims: {n: 17, yes: true}}]")
	in := connection("payments", acme)
	in.Request.Claims = approval.Claims{"n": 17.0, "yes": true}
	if d := set.Evaluate(&in); d.Verdict != approval.Accept {
		t.Errorf("numbers and booleans: %s %q, want accept", d.Verdict, d.Reasons)
	}
}

func TestExcerptIsCut(t *testing.T) {
	t.Parallel()
	line := []byte(strings.Repeat("é", 300) + "X" + strings.Repeat("y", 300))
	lines := strings.Split(excerpt(line, 7, 301), "\n")
	caret := strings.IndexByte(lines[1], '^')
	if at := []rune(lines[0])[caret]; at != 'X' || len([]rune(lines[0])) > maxExcerpt+20 {
		t.Errorf("the caret is under %q in %q", at, lines[0])
	}
}
