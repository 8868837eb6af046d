package faulttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// TestBrokenReviewersFile: while reviewers.yaml is broken nobody is accepted by it. At
// the start everything is held; later the last good file stays in force.
func TestBrokenReviewersFile(t *testing.T) {
	t.Parallel()
	keys := newKeyring(t)
	good := reviewSets()[0].files(keys)
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range good {
		put(name, text)
	}
	reviewers := good[policy.ReviewersFile]
	broken := strings.Replace(reviewers, "consoles:", "  - {name: mallory, key: "+keys.public["mallory"]+", groups: [network]}\nconsoles: [", 1)
	synctest.Test(t, func(t *testing.T) {
		src := policy.NewSource(dir, targets(), nil)
		o := newOffice(newRig(t, 3, 100, simulator.Config{}, loadPolicies(t, good)), keys)
		o.evaluate, o.current = src.Evaluate, src.Current
		load := func(text string, loads bool) {
			t.Helper()
			put(policy.ReviewersFile, text)
			if err := src.LoadStable(t.Context(), time.Minute); (err == nil) != loads {
				t.Fatalf("load the policies: %v", err)
			}
		}
		say := func(r approval.Request, who ...string) {
			t.Helper()
			for _, name := range who {
				if name == "mallory" {
					o.say(o.cheat(t, "unknown key", r, true, nil))
					continue
				}
				o.say(o.honest(t, r, name, true, false))
			}
			pass(t.Context(), time.Minute)
		}
		ask := func(event string) approval.Request {
			r := o.connect("payments", stranger)
			o.ground.mu.Lock()
			o.truths[r.Subject()] = reviewTruth(stranger)
			o.ground.mu.Unlock()
			r = o.event(r, event)
			o.submit(r)
			pass(t.Context(), time.Minute)
			return r
		}
		state := func(r approval.Request) string {
			c, _ := o.sim.Connection(r.EndpointID)
			return c.State
		}

		load(broken, false)
		early := ask("early")
		say(early, "ann", "bob", "mallory")
		if got := state(early); got != simulator.PendingAcceptance {
			t.Errorf("no file has been good, and the connection is %s", got)
		}
		load(reviewers, true)
		again := early
		again.Source, again.EventID = approval.SweepSource, "again"
		again.ID = approval.RequestID(again.Source, again.EventID)
		if err := o.Submit(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		pass(t.Context(), time.Minute)
		say(early, "ann", "bob")
		if got := state(early); got != simulator.Accepted {
			t.Errorf("the file is good, two have approved, and the connection is %s", got)
		}
		load(broken, false)
		late := ask("late")
		say(late, "ann", "mallory")
		if got := state(late); got != simulator.PendingAcceptance {
			t.Errorf("one has approved, and one of the broken file, and the connection is %s", got)
		}
		say(late, "bob")
		if got := state(late); got != simulator.Accepted {
			t.Errorf("two of the last good file have approved, and the connection is %s", got)
		}
		f := o.judge()
		for _, s := range o.said {
			if !s.ended {
				f.lost("the review of %s has no end", s.who)
			}
		}
		table.add(t, row{Name: "F31 a broken reviewers.yaml", Tries: len(o.said), findings: f})
	})
}
