package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// findingsOf are those of the folder dir, whether or not it loads.
func findingsOf(t *testing.T, dir string) []strictyaml.Finding {
	t.Helper()
	set, err := LoadDir(dir, demoTargets())
	if refused, ok := errors.AsType[*strictyaml.Error](err); ok {
		return refused.Findings
	}
	if err != nil {
		t.Fatal(err)
	}
	return set.Findings()
}

// TestNamesThatLookLikePolicies: what people take for a policy is read or is an
// error, and what is left out is named.
func TestNamesThatLookLikePolicies(t *testing.T) {
	t.Parallel()
	const fails, warns, silent = strictyaml.SeverityError, strictyaml.SeverityWarning, strictyaml.Severity("")
	policy := head("other")
	tests := []struct {
		name, text string
		want       strictyaml.Severity
	}{
		{"BLOCKED.YAML", policy, fails},
		{"blocked.Yaml", policy, fails},
		{"blocked.yml", policy, fails},
		{"blocked.YML", policy, fails},
		{"blocked.yaml ", policy, fails},
		{"blocked.yaml.", policy, fails},
		{"blocked.yaml.txt", policy, fails},
		{".blocked.yaml", policy, fails},
		{".blocked.yml", policy, fails},
		{"load_test.yaml", policy, fails},
		{"load_test.yml", policy, fails},
		{"allow_test.yaml", "allow: []", fails},
		{"empty_test.yaml", "", fails},
		{"words_test.yaml", "nothing", fails},
		{"broken_test.yaml", "tests: [", fails},
		{"real_test.yaml", "version: 1\ntests: []\n", silent},
		{"sub/blocked.yaml", policy, fails},
		{"sub/deeper/blocked.YML", policy, fails},
		{".sub/blocked.yaml", policy, fails},
		{"blocked.yaml/README.md", policy, fails},
		{"schema/policy.json", policy, silent},
		{"..data/blocked.yaml", policy, warns},
		{"..2026_11_27_10_00_00.1/blocked.yaml", policy, warns},
		{"blocked.yaml~", policy, warns},
		{".blocked.yaml.swp", policy, warns},
		{".#blocked.yaml", policy, warns},
		{"#blocked.yaml#", policy, warns},
		{"blocked.yaml.bak", policy, warns},
		{"blocked.yaml.tmp.1234", policy, warns},
		{"BLOCKED.TXT", acme, warns},
		{"blocked.json", "{}", warns},
		{"blocked", policy, warns},
		{"README.md", "text", silent},
		{"LICENSE", "text", silent},
		{".gitkeep", "", silent},
		{".git/config.yaml", policy, silent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "a.yaml", allowingAll("a"))
			at := filepath.Join(dir, tt.name)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir, tt.name, tt.text)
			top, _, _ := strings.Cut(tt.name, "/")
			var got strictyaml.Severity
			for _, f := range findingsOf(t, dir) {
				if f.File == filepath.Join(dir, top) && f.Code != "unused-file" {
					got = f.Severity
				}
			}
			if got != tt.want {
				t.Errorf("the finding about %q is %q, want %q; all are %v", tt.name, got, tt.want, findingsOf(t, dir))
			}
		})
	}
}

// allowingAll is a policy for every target of the tests, so that no finding is
// about a target without one.
func allowingAll(name string) string {
	return "version: 1\npolicy: " + name + "\ntargets: [payments]\nallow: [{id: x, domain_id: " + acme + "}]\n"
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

// TestACopyOfAMountedFolder: where ..data is a folder and no link, the worker and
// every tool read the folder itself.
func TestACopyOfAMountedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a.yaml", allowingAll("a"))
	write(t, dir, "b.yaml", head("b")+"deny: [{id: y, domain_id: "+leftUs+"}]")
	for _, folder := range []string{"..data", "..2026_11_27"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, folder), "a.yaml", allowingAll("old"))
	}
	src := NewSource(dir, demoTargets(), nil)
	src.StableFor = 0
	if err := src.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	set, err := LoadDir(dir, demoTargets())
	if err != nil || set.Digest() != src.Current().Digest() || set.Policies() != 2 {
		t.Errorf("a tool reads %s, %v; the worker %s of %d policies, want 2", set.Digest(), err, src.Current().Digest(), set.Policies())
	}
	if suite, err := LoadSuite(dir, demoTargets()); err != nil || suite.Set.Rules() != 2 {
		t.Errorf("tests run with %+v, %v; want both entries", suite, err)
	}
	named := 0
	for _, f := range set.Findings() {
		if f.Code == "left-out" {
			named++
		}
	}
	if named != 2 {
		t.Errorf("%d folders are named, want 2: %v", named, set.Findings())
	}
}

// TestFilesNextToAMountedFolder: what lies next to the link ..data is not read, and
// nobody has to guess that.
func TestFilesNextToAMountedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..v1"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "..v1"), "a.yaml", allowingAll("a"))
	link(t, "..v1", filepath.Join(dir, "..data"))
	link(t, "..data/a.yaml", filepath.Join(dir, "a.yaml"))
	link(t, "..data/gone.yaml", filepath.Join(dir, "gone.yaml")) // the kubelet is not done yet
	for _, f := range findingsOf(t, dir) {
		if f.Fails() {
			t.Errorf("an error of a mounted folder: %v", f)
		}
	}
	write(t, dir, "extra.yaml", head("extra"))
	if _, err := LoadDir(dir, demoTargets()); err == nil || !strings.Contains(err.Error(), "extra.yaml") {
		t.Errorf("LoadDir = %v, want an error that names extra.yaml", err)
	}
}

// TestLinksStayInTheFolder: no link makes the worker, or a tool, read a file of
// somewhere else, and nothing of such a file is shown.
func TestLinksStayInTheFolder(t *testing.T) {
	t.Parallel()
	const secret = "CANARY-of-a-secret"
	outside := t.TempDir()
	write(t, outside, "sk", secret)
	write(t, outside, "sk.yaml", secret)
	if err := os.Mkdir(filepath.Join(outside, "policies"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(outside, "policies"), "b.yaml", head("b"))
	using := head("a") + "allow: [{id: x, domain_id: {file: zz.txt}}]"
	tests := []struct {
		name, at, to string
		fails        bool
	}{
		{"absolute", "zz.txt", filepath.Join(outside, "sk"), true},
		{"relative", "zz.txt", "../" + filepath.Base(outside) + "/sk", true},
		{"by way of a link in the folder", "zz.txt", "away/sk", true},
		{"a policy", "b.yaml", filepath.Join(outside, "sk.yaml"), true},
		{"a policy that would be good", "b.yaml", filepath.Join(outside, "policies", "b.yaml"), true},
		{"a version", "..data", filepath.Join(outside, "policies"), true},
		{"nothing", "zz.txt", "missing", true},
		{"itself", "zz.txt", "zz.txt", true},
		{"within the folder", "zz.txt", "lists/partners", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "a.yaml", using)
			if tt.at != "zz.txt" {
				write(t, dir, "zz.txt", acme)
			}
			if err := os.Mkdir(filepath.Join(dir, "lists"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "lists/partners", acme)
			link(t, outside, filepath.Join(dir, "away"))
			link(t, tt.to, filepath.Join(dir, tt.at))
			_, err := LoadDir(dir, demoTargets())
			if (err != nil) != tt.fails {
				t.Fatalf("LoadDir = %v, want an error: %t", err, tt.fails)
			}
			src := NewSource(dir, demoTargets(), nil)
			src.StableFor = 0
			if also := src.Load(t.Context()); (also != nil) != tt.fails {
				t.Errorf("the worker's Load = %v, want an error: %t", also, tt.fails)
			}
			if err != nil && (!strings.Contains(err.Error(), "link "+tt.at) || strings.Contains(err.Error(), secret)) {
				t.Errorf("LoadDir = %v, want an error about the link %s, without the secret", err, tt.at)
			}
		})
	}
}

// TestWhatIsNoIDIsNotShown: a value file may be a secret by mistake.
func TestWhatIsNoIDIsNotShown(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"CANARY", acme + "\n  CANARY", "CANARY and more", acme + ",CANARY", "CANARY*" + strings.Repeat("x", maxGlob), "CANARY\x00", acme + "#CANARY"} {
		snap := snapshotOf(map[string][]byte{"a.yaml": []byte(head("a") + "allow: [{id: x, domain_id: {file: v.txt}}]"), "v.txt": []byte(text)})
		_, err := snap.load("", demoTargets())
		if err == nil || !strings.Contains(err.Error(), "v.txt") || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%q: load = %v, want an error about v.txt that does not show it", text, err)
		}
	}
	for _, key := range []string{"region", "claims: {a: {file: v.txt}}, domain_id"} {
		text := head("a") + "allow: [{id: x, " + key + ": " + acme + "}]"
		if key == "region" {
			text = head("a") + "allow: [{id: x, any_domain: true, region: {file: v.txt}}]"
		}
		snap := snapshotOf(map[string][]byte{"a.yaml": []byte(text), "v.txt": []byte("CANARY\nCANARY\nCANA*\n")})
		set, err := snap.load("", demoTargets())
		if err != nil || len(set.Findings()) == 0 || strings.Contains(fmt.Sprint(set.Findings()), "CANA") {
			t.Errorf("%s: %v, findings %v; want some that do not show the values", key, err, set.Findings())
		}
	}
}

func TestCommentsInAFileOfValues(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"payments#prod":                   true,
		"#payments\npayments#prod # team": true,
		"  # payments#prod":               false,
		"payments # prod":                 false,
		"payments\t# prod":                false,
		"payments\u00a0# prod":            false,
	} {
		snap := snapshotOf(map[string][]byte{
			"a.yaml": []byte(head("a") + "allow: [{id: x, domain_id: " + acme + ", claims: {team: {file: v.txt}}}]"),
			"v.txt":  []byte("other\n" + text + "\n"),
		})
		set, err := snap.load("", demoTargets())
		if err != nil {
			t.Fatal(err)
		}
		in := connection("payments", acme)
		in.Request.Claims = approval.Claims{"team": "payments#prod"}
		if got := set.Evaluate(&in).Verdict == approval.Accept; got != want {
			t.Errorf("%q: accepted %t, want %t", text, got, want)
		}
		in.Request.Claims = approval.Claims{"team": "payments"}
		if got := set.Evaluate(&in).Verdict == approval.Accept; got != (strings.HasPrefix(text, "payments ") || strings.HasPrefix(text, "payments\t") || strings.HasPrefix(text, "payments\u00a0")) {
			t.Errorf("%q: the team payments is accepted: %t", text, got)
		}
	}
}

func TestAnEmptyFileOfValues(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"":                               false,
		"\n\n":                           false,
		"# partners\n":                   false,
		"\n# empty on purpose\n":         false,
		"# empty on purpose":             true,
		"\ufeff# empty on purpose\r\n":   true,
		"# empty on purpose\n" + leftUs:  true,
		"# partners\n" + leftUs + "# x":  false, // no id
		"# partners\n" + leftUs + " # x": true,
	} {
		snap := snapshotOf(map[string][]byte{"a.yaml": []byte(head("a") + "deny: [{id: x, domain_id: {file: v.txt}}]"), "v.txt": []byte(text)})
		if _, err := snap.load("", demoTargets()); (err == nil) != good {
			t.Errorf("%q: load = %v, want an error: %t", text, err, !good)
		}
	}
}

// fickle is a folder in which a file appears or vanishes while it is read.
type fickle struct {
	fstest.MapFS
	lists int
	edit  func(fstest.MapFS)
}

func (f *fickle) ReadDir(name string) ([]fs.DirEntry, error) {
	if f.lists++; f.lists == 2 {
		f.edit(f.MapFS)
	}
	return f.MapFS.ReadDir(name)
}

func TestAFolderThatChangesWhileItIsRead(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(fstest.MapFS){
		"a file appears":  func(m fstest.MapFS) { m["z.yaml"] = &fstest.MapFile{Data: []byte(head("z"))} },
		"a file vanishes": func(m fstest.MapFS) { delete(m, "p0.yaml") },
	} {
		if _, err := Load(&fickle{MapFS: folder(head("a")), edit: edit}, demoTargets()); !errors.Is(err, errChanging) {
			t.Errorf("%s: Load = %v, want %v", name, err, errChanging)
		}
	}
}

// TestAFolderThatIsStillBeingWritten: a part of a deny list is never in force,
// however slowly and in whatever order the files come.
func TestAFolderThatIsStillBeingWritten(t *testing.T) {
	t.Parallel()
	denying := head("deny") + "deny: [{id: blocked, domain_id: {file: blocked.txt}}]\n"
	allowing := head("allow") + "allow: [{id: all, any_domain: true}]\n"
	var blocked []string
	for i := range 23 {
		blocked = append(blocked, fmt.Sprintf("%032x", i+1))
	}
	for _, order := range [][]string{{"allow", "deny", "blocked"}, {"blocked", "allow", "deny"}, {"deny", "blocked", "allow"}} {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				src := NewSource(dir, demoTargets(), nil)
				write(t, dir, "a.yaml", allowing+denyingLine(nobody))
				first := load(t, allowing+denyingLine(nobody))
				if err := src.LoadStable(t.Context(), time.Minute); err != nil {
					t.Fatal(err)
				}
				in := connection("payments", blocked[22])
				if src.Evaluate(&in).Verdict != approval.Accept {
					t.Fatal("the last of the list is not allowed to begin with")
				}
				go src.Watch(t.Context(), 2*time.Second)
				check := func(what string) {
					t.Helper()
					synctest.Wait()
					d := src.Evaluate(&in)
					if d.Verdict == approval.Accept && d.Rule != "all" || src.Current().Rules() != first.Rules() {
						t.Fatalf("%s: a part is in force: %+v, %d rules", what, d, src.Current().Rules())
					}
				}
				if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
					t.Fatal(err)
				}
				for _, name := range order {
					switch name {
					case "blocked":
						for i := range blocked {
							write(t, dir, "blocked.txt", strings.Join(blocked[:i+1], "\n"))
							<-time.After(time.Second)
							check(fmt.Sprintf("%d lines", i+1))
						}
					case "deny":
						write(t, dir, "deny.yaml", denying)
					case "allow":
						write(t, dir, "allow.yaml", allowing)
					}
					<-time.After(3 * time.Second)
					check(name)
				}
				<-time.After(7 * time.Second)
				synctest.Wait()
				if d := src.Evaluate(&in); d.Verdict != approval.Reject || src.Current().Policies() != 2 {
					t.Errorf("at rest: %s by %d policies, want reject by 2", d.Verdict, src.Current().Policies())
				}
			})
		})
	}
}

func denyingLine(domain string) string { return "deny: [{id: one, domain_id: " + domain + "}]\n" }

// TestAStartWaitsForAFreshFolder: the wait is left out only where the change times
// prove that nothing is being written. Files keep the time of their last write when
// they are copied, and that proves nothing.
func TestAStartWaitsForAFreshFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a.yaml", allowingAll("a"))
	long := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "a.yaml"), long, long); err != nil {
		t.Fatal(err)
	}
	src := NewSource(dir, demoTargets(), nil)
	src.StableFor = time.Hour
	err := src.Load(t.Context())
	if _, unstable := errors.AsType[*UnstableError](err); !unstable || src.Loaded() {
		t.Errorf("Load = %v, loaded %t; want an UnstableError and nothing loaded", err, src.Loaded())
	}
	src = NewSource(dir, demoTargets(), nil)
	src.StableFor = time.Millisecond
	if err := src.LoadStable(t.Context(), time.Minute); err != nil || !src.Loaded() {
		t.Errorf("LoadStable = %v, loaded %t; want it loaded", err, src.Loaded())
	}
	if err := src.Load(t.Context()); err != nil {
		t.Errorf("Load of what is loaded = %v", err)
	}
}

func TestSettledByChangeTimes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		snap snapshot
		want bool
	}{
		{"long ago", snapshot{dated: true, changed: now.Add(-6 * time.Second)}, true},
		{"just now", snapshot{dated: true, changed: now.Add(-4 * time.Second)}, false},
		{"in the future", snapshot{dated: true, changed: now.Add(time.Hour)}, false},
		{"not known", snapshot{changed: now.Add(-time.Hour)}, false},
	} {
		if got := tt.snap.stableAt(now, 5*time.Second); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

// TestChangeTimesOfAllFiles: the newest one counts, whichever file has it.
func TestChangeTimesOfAllFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	begin := time.Now().Add(-time.Minute)
	for _, name := range []string{"a.yaml", "a_test.yaml", "v.txt", "README.md"} {
		write(t, dir, name, "x")
		snap, err := readDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		at, known := changeTime(info)
		if snap.dated != known || known && (snap.changed.Before(at) || at.Before(begin)) {
			t.Errorf("%s: the folder changed %s, known %t; want %s", name, snap.changed, snap.dated, at)
		}
	}
}

// TestAFolderThatDoesNotComeToRest: a folder that keeps changing is reported.
func TestAFolderThatDoesNotComeToRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var obs reloads
		told := 0
		src := NewSource(dir, demoTargets(), &obs)
		src.OnError = func(err error) { told++; t.Log(err) }
		go src.Watch(t.Context(), 2*time.Second)
		for i := range 100 {
			write(t, dir, "a.yaml", allowingAll(fmt.Sprintf("a%d", i)))
			<-time.After(time.Second)
		}
		synctest.Wait()
		if got := obs.take(); told != 1 || len(got) != 1 || src.Loaded() {
			t.Errorf("told %d times, %q, loaded %t; want once, and nothing loaded", told, got, src.Loaded())
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		if !src.Loaded() {
			t.Error("not loaded once it came to rest")
		}
	})
}

// TestTargetsAdmitPolicies: a policy that names a target of others is an error,
// and the set is not loaded.
func TestTargetsAdmitPolicies(t *testing.T) {
	t.Parallel()
	targets := demoTargets()
	for i := range targets {
		if targets[i].Name == "payments" {
			targets[i].Policies = "payments,platform-*"
		}
	}
	for name, good := range map[string]bool{"payments": true, "platform-a": true, "platform": false, "team-b": false, "xpayments": false} {
		for _, mode := range []string{"enforce", "shadow"} {
			_, err := Load(folder(head(name)+"mode: "+mode+"\ndeny: [{id: x, domain_id: "+acme+"}]"), targets)
			if (err == nil) != good {
				t.Errorf("%s in mode %s: Load = %v, want an error: %t", name, mode, err, !good)
			}
			if err != nil && (!strings.Contains(err.Error(), "the target payments does not admit the policy "+name) || !strings.Contains(err.Error(), "payments, platform-*")) {
				t.Errorf("%s: Load = %v, want both names and what is admitted", name, err)
			}
		}
	}
}

func TestTwoOwnersOfOneTarget(t *testing.T) {
	t.Parallel()
	text := func(name, owner, more string) string {
		return head(name) + "owner: " + owner + "\n" + more + "allow: [{id: " + name + ", domain_id: " + acme + ", region: " + name + "}]\n"
	}
	count := func(targets approval.Targets, texts ...string) (n int) {
		t.Helper()
		set, err := Load(folder(texts...), targets)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range set.Findings() {
			if f.Code == "two-owners" && strings.Contains(f.Text, "team-a") && strings.Contains(f.Text, "team-b") {
				n++
			}
		}
		return n
	}
	admitting := demoTargets()
	for i := range admitting {
		admitting[i].Policies = "*"
	}
	if n := count(demoTargets(), text("a", "team-a", ""), text("b", "team-b", "")); n != 1 {
		t.Errorf("two owners: %d findings, want 1", n)
	}
	for name, n := range map[string]int{
		"one owner":      count(demoTargets(), text("a", "team-a", ""), text("b", "team-a", "")),
		"one on trial":   count(demoTargets(), text("a", "team-a", ""), text("b", "team-b", "mode: shadow\n")),
		"said who may":   count(admitting, text("a", "team-a", ""), text("b", "team-b", "")),
		"no other owner": count(demoTargets(), text("a", "team-a", ""), head("b")+"deny: [{id: x, domain_id: "+leftUs+"}]"),
	} {
		if n != 0 {
			t.Errorf("%s: %d findings, want none", name, n)
		}
	}
}
