package faulttest

import (
	"os/exec"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// previousVersion is the commit of the version before this one, with which this one
// shares a broker during an upgrade. Nothing is released yet, so it is the first commit
// whose ledger is the one of the first release; set it to each release's commit.
const previousVersion = "a0e976fc17c1a38e903fb40125afab863c0d6590"

// TestUpgradeAndRollback: the version before works next to this one on one ledger, takes
// over what this one left when it is killed, and goes on alone after a rollback.
func TestUpgradeAndRollback(t *testing.T) {
	counted(t)
	t.Parallel()
	if err := exec.Command("git", "cat-file", "-e", previousVersion+"^{commit}").Run(); err != nil {
		t.Skipf("the history does not have the version before, commit %s: %v", previousVersion, err)
	}
	requests := times(0, 40, 600)
	w := newWorld(t, simulator.Config{})
	older := func(name string) *process {
		return before.start(t, name, w.config(options{}), w.environ(options{}))
	}
	first := older("older").ready()
	w.mixed(requests, "before")
	newer := w.start("newer", options{}).ready()
	w.mixed(requests, "together")
	if n := w.ends(); n < requests/2 {
		await(t, time.Minute, "both are at work", func() bool { return w.ends() >= requests/2 })
	}
	first.kill() // the newer one takes over what it left
	w.mixed(requests, "upgraded")
	w.settled(2 * time.Minute)
	again := older("again").ready()
	w.mixed(requests, "rollback")
	newer.kill() // the older one takes over what it left
	w.mixed(requests, "rolled-back")
	w.settled(2 * time.Minute)
	f := w.judge()
	if again.ended() {
		f.wrong("the older version ended: %s", tail(again.log.String(), 5))
	}
	table.add(t, row{Name: "upgrade and rollback", Tries: 5 * requests, findings: f, Took: w.took(), Note: "the version before and this one on one ledger, each killed once"})
}
