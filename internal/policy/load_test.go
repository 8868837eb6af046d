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
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
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
			snap := snapshotOf(map[string][]byte{name: source, "bad.txt": side})
			_, err = snap.load("policies", demoTargets())
			if _, ok := errors.AsType[*strictyaml.Error](err); !ok {
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
	want := `4 errors:
.hidden.yaml: the file is not read: its name begins with a dot; rename it to hidden.yaml, or move it elsewhere
old.yml: the file is not read: its name does not end in .yaml; rename it to old.yaml, or move it elsewhere
p1.yaml:2:9: policy: duplicate policy name "a", first used in p0.yaml on line 2; give each policy its own name
     2 | policy: a
       |         ^
sub: the folder is not read, and it contains c.yaml; move its policies up, or the folder elsewhere`
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
	var le *strictyaml.Error
	if !errors.As(err, &le) || len(le.Findings) != strictyaml.MaxFindings+1 {
		t.Fatalf("Load = %v, want %d findings and the number of the others", err, strictyaml.MaxFindings)
	}
	if last := le.Findings[0]; !strings.Contains(last.Text, "900 more errors") {
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
	set := load(t, head("a")+"allow: [{id: a, domain_id: "+acme+", claims: {n: 17, yes: true}}]")
	in := connection("payments", acme)
	in.Request.Claims = approval.Claims{"n": 17.0, "yes": true}
	if d := set.Evaluate(&in); d.Verdict != approval.Accept {
		t.Errorf("numbers and booleans: %s %q, want accept", d.Verdict, d.Reasons)
	}
}

// TestOneMeaningOfALine: what another program takes for the end of a line, or
// does not show, has no place in a policy or a value file.
func TestOneMeaningOfALine(t *testing.T) {
	t.Parallel()
	const hidden = "allow: # nobody%s  - {id: x, any_domain: true}\n"
	for _, tt := range []struct{ name, breaks, want string }{
		{"a carriage return", "\r", "a.yaml:4:16: the file holds a carriage return that no newline follows; end lines with a newline"},
		{"U+0085", "\u0085", "a.yaml:4:16: the file holds U+0085, which ends a line for YAML and not for an editor; end lines with a newline"},
		{"U+2028", "\u2028", "a.yaml:4:16: the file holds U+2028, which ends a line for YAML and not for an editor; end lines with a newline"},
		{"U+2029", "\u2029", "a.yaml:4:16: the file holds U+2029, which ends a line for YAML and not for an editor; end lines with a newline"},
		{"NUL", "\x00", "a.yaml:4:16: the file holds the control character U+0000; save it as UTF-8 text"},
		{"a byte order mark", "\ufeff", "a.yaml:4:16: the file holds the invisible character U+FEFF; delete it"},
		{"text from right to left", "\u202e", "a.yaml:4:16: the file holds the invisible character U+202E; delete it"},
		{"a space of no width", "\u200b", "a.yaml:4:16: the file holds the invisible character U+200B; delete it"},
		{"a newline after a byte order mark", "\n", ""},
		{"a carriage return and a newline", "\r\n", ""},
		{"joiners of letters", " نمی\u200cخواهم क\u200d\n", ""},
	} {
		text := head("a") + fmt.Sprintf(hidden, tt.breaks)
		for _, mark := range []string{"", "\ufeff"} {
			set, err := snapshotOf(map[string][]byte{"a.yaml": []byte(mark + text)}).load("", demoTargets())
			refused, ok := errors.AsType[*strictyaml.Error](err)
			switch {
			case tt.want == "" && (err != nil || set.Rules() != 1):
				t.Errorf("%s: %v, %d rules, want one", tt.name, err, set.Rules())
			case tt.want != "" && (!ok || len(refused.Findings) != 1 || refused.Findings[0].String() != tt.want):
				t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
			}
		}
		listed := snapshotOf(map[string][]byte{"a.yaml": []byte(head("a") + "allow: [{id: x, domain_id: {file: v.txt}}]"), "v.txt": []byte("# " + tt.breaks + acme + "\n")})
		if _, err := listed.load("", demoTargets()); (err == nil) != (tt.want == "") {
			t.Errorf("%s in a value file: %v", tt.name, err)
		}
	}
}
