package faulttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// account returns an account that no other test knows.
func account(n int) string { return fmt.Sprintf("%032x", 0xacc0000+n) }

// The accounts of the folders that are written slowly.
const (
	alwaysDenied = 5 // accounts from 0 on are denied by the old files and by the new ones
	newlyDenied  = 8 // those that follow are denied by the new ones only
	denied2      = 3 // likewise, by another policy
)

// folderFiles are the files of a folder, of which every part allows too much: the
// deny entries come last, and lists of accounts lie in files of their own.
func folderFiles(version int) map[string]string {
	list := func(from, to int) string {
		var b strings.Builder
		for n := from; n < to; n++ {
			b.WriteString(account(n) + "\n")
		}
		return b.String()
	}
	blocked, more := list(0, alwaysDenied), list(100, 101)
	if version > 0 {
		blocked, more = list(0, alwaysDenied+newlyDenied), list(100, 101+denied2)
	}
	return map[string]string{
		"open.yaml": fmt.Sprintf(`version: 1
policy: open
owner: faulttest-%d
targets: [payments, orders]
allow:
  - id: everybody
    any_domain: true
deny:
  - id: blocked
    domain_id: {file: blocked.txt}
    reason: Blocked.
`, version),
		"blocked.txt": blocked,
		"more.yaml": fmt.Sprintf(`version: 1
policy: more
owner: faulttest-%d
targets: [payments, orders]
deny:
  - id: more
    domain_id: {file: more.txt}
    reason: Blocked, too.
`, version),
		"more.txt": more,
	}
}

// orders returns all orders of these names.
func orders(names []string) [][]string {
	if len(names) == 0 {
		return [][]string{nil}
	}
	var out [][]string
	for i, first := range names {
		for _, rest := range orders(slices.Concat(names[:i], names[i+1:])) {
			out = append(out, append([]string{first}, rest...))
		}
	}
	return out
}

// writing returns what a file holds one after the other while it is written: with
// its lines from the first on, in any order, or together.
func writing(dice *rand.Rand, name, text string) []string {
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	there := make([]bool, len(lines))
	order := make([]int, len(lines))
	for i := range order {
		order[i] = i
	}
	switch {
	case dice.IntN(6) == 0:
		return []string{text}
	case strings.HasSuffix(name, ".txt") && dice.IntN(2) == 0, dice.IntN(4) == 0:
		dice.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	out := []string{""}
	for _, n := range order {
		there[n] = true
		var b strings.Builder
		for i, line := range lines {
			if there[i] {
				b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
			}
		}
		out = append(out, b.String())
	}
	return out
}

// TestFolderWrittenSlowly is F26: the files of a folder of policies are written in
// every order, and so are their lines, with pauses that are shorter than
// policies.stable_for. Nothing is decided by a part of them.
func TestFolderWrittenSlowly(t *testing.T) {
	t.Parallel()
	all := orders([]string{"open.yaml", "blocked.txt", "more.yaml", "more.txt"})
	rounds := times(1, 2, 100)
	var f findings
	begin, writes, decisions := time.Now(), 0, 0
	for round := range rounds {
		for i, order := range all {
			simulated(t, func(t *testing.T) {
				w, d, found := writeSlowly(t, uint64(round*len(all)+i), order)
				writes, decisions = writes+w, decisions+d
				f.join(found)
			})
		}
	}
	table.add(t, row{Name: "F26 policies written slowly", Tries: rounds * len(all), findings: f, Took: time.Since(begin), Note: fmt.Sprintf("%d writes, %d decisions meanwhile", writes, decisions)})
}

func writeSlowly(t *testing.T, seed uint64, order []string) (writes, decisions int, f findings) {
	t.Helper()
	dice := rand.New(rand.NewPCG(seed, 26))
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sets := map[string]int{"": -1} // by digest; with none everything is held
	for version := range 2 {
		files := folderFiles(version)
		for _, name := range []string{"creations.yaml", "insight.yaml"} {
			files[name] = policies()[name]
			put(name, files[name])
		}
		sets[loadPolicies(t, files).Digest()] = version
	}
	src := policy.NewSource(dir, targets(), nil)
	src.StableFor = time.Duration(1+dice.IntN(10)) * time.Second
	fromNothing := seed%4 == 3
	if !fromNothing {
		for name, text := range folderFiles(0) {
			put(name, text)
		}
		if err := src.LoadStable(t.Context(), 3*src.StableFor); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		_ = src.LoadStable(ctx, src.StableFor) // Watch goes on where this ends
		src.Watch(ctx, 2*time.Second)
	})
	defer watching.Wait()
	defer cancel()

	r := newRig(t, 1, 500, simulator.Config{Seed: seed})
	r.evaluate = src.Evaluate
	held := approval.OutcomeHeld
	ask := func(n int, allowed, denied bool) {
		domain := account(n)
		req := r.connect([]string{"payments", "orders"}[dice.IntN(2)], domain)
		r.ground.mu.Lock()
		r.truths[req.Subject()] = truth{Domain: domain, Allowed: allowed, Denied: denied}
		r.ground.mu.Unlock()
		var outcomes []approval.Outcome
		if allowed {
			outcomes = append(outcomes, approval.OutcomeAccepted)
		}
		if denied {
			outcomes = append(outcomes, approval.OutcomeRejected)
		}
		if fromNothing || allowed && denied { // it may change while it is carried out
			outcomes = append(outcomes, held)
		}
		decisions++
		r.submit(r.event(req, fmt.Sprintf("slowly-%d", decisions), outcomes...))
	}
	askAny := func() {
		ask(dice.IntN(alwaysDenied), false, true)
		ask(alwaysDenied+dice.IntN(newlyDenied), true, true)
		ask(101+dice.IntN(denied2), true, true)
		ask(1000, true, false)
	}
	var complete time.Time
	files := folderFiles(1)
	for _, name := range order {
		if dice.IntN(3) == 0 && !fromNothing {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, text := range writing(dice, name, files[name]) {
			put(name, text)
			writes++
			complete = time.Now()
			pass(t.Context(), time.Duration(dice.Int64N(int64(src.StableFor))))
			if dice.IntN(5) == 0 {
				_ = src.Load(ctx) // as an operator asks for it; that it waits is no fault
			}
			if dice.IntN(4) == 0 {
				askAny()
			}
			if version, known := sets[src.Current().Digest()]; !known || version > 0 && text != files[order[len(order)-1]] {
				f.wrong("seed %d: after %d writes, in the order %v, a part of the files is in force: %s", seed, writes, order, src.Current().Names())
				return writes, decisions, f
			}
		}
	}
	pass(t.Context(), src.StableFor+5*time.Second)
	if sets[src.Current().Digest()] != 1 {
		f.wrong("seed %d: the files are complete and not in force", seed)
	}
	fromNothing = false
	ask(alwaysDenied, false, true)
	ask(101, false, true)
	ask(1000, true, false)
	f.join(r.judge())
	for _, end := range r.ends {
		version, known := sets[end.Decision.Digest]
		if !known || version > 0 && end.Decision.At.Before(complete) {
			f.wrong("seed %d: request %s was decided by a part of the files, %s", seed, end.Request.EventID, end.Decision.Digest)
		}
	}
	return writes, decisions, f
}
