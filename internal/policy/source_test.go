package policy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// reloads records what an Observer is told.
type reloads struct {
	mu  sync.Mutex
	log []string
}

func (r *reloads) PolicyReloaded(ok bool, digest string, policies, rules int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf("%t digest:%t %d/%d", ok, digest != "", policies, rules))
}

func (r *reloads) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.log
	r.log = nil
	return out
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const interval = time.Second
		dir := t.TempDir()
		var obs reloads
		var errs []error
		var digests []string
		src := NewSource(dir, demoTargets(), &obs)
		src.StableFor = 0
		src.OnError = func(err error) { errs = append(errs, err) }
		src.OnReload = func(s *Set) { digests = append(digests, s.Digest()) }
		in := connection("payments", acme)
		verdict := func() approval.Verdict { return src.Evaluate(&in).Verdict }
		expect := func(what string, want approval.Verdict, nErrs int, log ...string) {
			t.Helper()
			if got := obs.take(); verdict() != want || len(errs) != nErrs || !slices.Equal(got, log) {
				t.Fatalf("%s: %s, errors %v, told %q; want %s, %d errors, %q", what, verdict(), errs, got, want, nErrs, log)
			}
		}
		expect("never loaded", approval.Hold, 0)
		if src.Loaded() || src.Current().Digest() != "" {
			t.Error("loaded before Load")
		}

		write(t, dir, "a.yaml", "nonsense")
		if err := src.Load(t.Context()); err == nil {
			t.Fatal("Load takes nonsense")
		}
		expect("nonsense at the start", approval.Hold, 1, "false digest:false 0/0")

		ctx, stop := context.WithCancel(t.Context())
		go src.Watch(ctx, interval)
		pass := func() { <-time.After(interval); synctest.Wait() }
		pass()
		expect("the same nonsense is told once", approval.Hold, 1)

		write(t, dir, "a.yaml", head("a")+"allow: [{id: x, domain_id: "+acme+"}]")
		pass()
		expect("fixed", approval.Accept, 1, "true digest:true 1/1")
		pass()
		expect("unchanged", approval.Accept, 1)

		write(t, dir, "b.yaml", head("a"))
		pass()
		expect("an error keeps the last good set", approval.Accept, 2, "false digest:true 1/1")
		pass()
		expect("and is told once", approval.Accept, 2)

		if err := os.Remove(filepath.Join(dir, "b.yaml")); err != nil {
			t.Fatal(err)
		}
		pass()
		expect("taken back", approval.Accept, 2, "true digest:true 1/1")

		if err := os.Rename(dir, dir+"-away"); err != nil {
			t.Fatal(err)
		}
		pass()
		pass()
		expect("no folder", approval.Accept, 3, "false digest:true 1/1")
		if err := os.Rename(dir+"-away", dir); err != nil {
			t.Fatal(err)
		}
		pass()
		expect("the folder is back", approval.Accept, 3, "true digest:true 1/1")

		write(t, dir, "a.yaml", head("a")+"deny: [{id: x, domain_id: "+acme+"}]")
		if err := src.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect("asked to", approval.Reject, 3, "true digest:true 1/1")
		pass()
		expect("already in use", approval.Reject, 3)
		stop()
		synctest.Wait()
		if len(digests) != 2 || digests[0] == digests[1] {
			t.Errorf("OnReload was called with %q, want the two sets that differ", digests)
		}
	})
}

// TestSourceOfKubernetes swaps the folder as the kubelet does: the files are
// links into ..data, which is a link to a folder of the version.
func TestSourceOfKubernetes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version := func(name, text string) {
		t.Helper()
		folder := filepath.Join(dir, "..v"+name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, folder, "a.yaml", text)
		link := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink("..v"+name, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("1", head("a")+"allow: [{id: x, domain_id: "+acme+"}]")
	if err := os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	src := NewSource(dir, demoTargets(), nil)
	src.StableFor = 0
	if err := src.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	plain, err := LoadDir(dir, demoTargets())
	if err != nil || plain.Digest() != src.Current().Digest() {
		t.Errorf("through the links: %v, %v; want the same set", plain.Digest(), err)
	}
	in := connection("payments", acme)
	if d := src.Evaluate(&in); d.Verdict != approval.Accept {
		t.Errorf("first version: %s, want accept", d.Verdict)
	}
	src.StableFor = time.Hour // a swap is complete by its nature
	version("2", head("a")+"deny: [{id: x, domain_id: "+acme+"}]")
	src.look(t.Context())
	if d := src.Evaluate(&in); d.Verdict != approval.Reject {
		t.Errorf("after the swap: %s, want reject", d.Verdict)
	}
	write(t, filepath.Join(dir, "..v2"), "a.yaml", head("a"))
	if wait := src.look(t.Context()); wait <= 0 || src.Current().Rules() != 1 {
		t.Errorf("written in place: to wait %s with %d rules in force; want to wait with the last set", wait, src.Current().Rules())
	}
}

// TestReloadsUnderLoad: every decision is of one set, also while many are made
// and broken ones come between.
func TestReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src := NewSource(dir, demoTargets(), nil)
	src.StableFor = 0
	texts := []string{
		head("a") + "allow: [{id: x, domain_id: " + acme + "}]",
		head("a") + "deny: [{id: x, domain_id: " + acme + "}]",
		"broken: [",
	}
	verdicts := make(map[string]approval.Verdict)
	for i, v := range []approval.Verdict{approval.Accept, approval.Reject} {
		set := load(t, texts[i])
		write(t, dir, "p0.yaml", texts[i])
		verdicts[set.Digest()] = v
	}
	if err := src.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			in := connection("payments", acme)
			for {
				select {
				case <-done:
					return
				default:
				}
				if d := src.Evaluate(&in); verdicts[d.Digest] != d.Verdict {
					t.Errorf("%s under digest %s, want %s", d.Verdict, d.Digest, verdicts[d.Digest])
					return
				}
			}
		})
	}
	bad := 0
	rounds := Tries(200)
	if os.Getenv("FAULT_COUNTS") == "ci" { // as .ci/run does
		rounds = 1000
	}
	for i := range rounds {
		text := texts[i%2]
		if i%10 < 3 {
			text = texts[2]
		}
		write(t, dir, "p0.yaml", text)
		if err := src.Load(t.Context()); err != nil {
			bad++
		}
	}
	close(done)
	readers.Wait()
	if want := rounds * 3 / 10; bad != want {
		t.Errorf("%d loads failed, want %d", bad, want)
	}
}

func TestSourceWithACandidate(t *testing.T) {
	t.Parallel()
	source := func(text string) *Source {
		dir := t.TempDir()
		write(t, dir, "p.yaml", text)
		src := NewSource(dir, demoTargets(), nil)
		src.StableFor = 0
		return src
	}
	src := source(allowing("region: cn-*"))
	src.Shadow = source(head("candidate") + "deny: [{id: no, domain_id: " + acme + "}]")
	if err := src.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	in := connection("payments", acme)
	if d := src.Evaluate(&in); d.Verdict != approval.Accept || d.Shadow != nil {
		t.Errorf("before the candidate is loaded: %s, shadow %+v; want accept and none", d.Verdict, d.Shadow)
	}
	if err := src.Shadow.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := src.Evaluate(&in)
	if d.Verdict != approval.Accept || d.Shadow == nil || d.Shadow.Verdict != approval.Reject || d.Shadow.Rule != "no" || d.Digest != src.Current().Digest() {
		t.Errorf("got %+v, shadow %+v; want accept under the set in force, and reject by no", d, d.Shadow)
	}
}
