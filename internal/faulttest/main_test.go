package faulttest

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var (
	counts = countsOf(os.Getenv("FAULT_COUNTS"))
	table  = &report{}
	build  = &binary{}
	before = &binary{commit: previousVersion}
	turns  = &pace{}
)

// level is how much is tried: the short counts, those of CI, the full ones, which take
// hours, or the least.
type level struct{ short, ci, full bool }

// least reports whether a row runs at few of its points and only with what is quick.
func (l level) least() bool { return l == level{} }

func countsOf(name string) level {
	switch name {
	case "":
		return level{}
	case "short":
		return level{short: true}
	case "ci":
		return level{ci: true}
	case "full":
		return level{full: true}
	}
	panic(fmt.Sprintf("FAULT_COUNTS=%q is none of short, ci and full", name))
}

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for other processes more than they compute.
	parallel := "12"
	if counts.least() {
		parallel = "24"
	}
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err) // there is no such flag any more
	}
	for _, role := range []string{"WORKER", "SETUP", "PRODUCER", "READER", "OPERATOR", "REVIEWER", "CONSOLE"} {
		if err := os.Setenv("VPCEP_"+role+"_PASSWORD", rolePassword); err != nil {
			panic(err) // the names are good
		}
	}
	go turns.watch() // to the end of the process
	m.Run()
	table.print(os.Stdout)
	if path := os.Getenv("FAULT_TABLE"); path != "" {
		var b strings.Builder
		table.print(&b)
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			panic(err) // the caller asked for it
		}
	}
	build.remove()
	before.remove()
}

// times returns how often to try something; the least form tries it as often as the short one.
func times(short, ci, full int) int {
	switch {
	case counts.full:
		return full
	case counts.ci:
		return ci
	}
	return short
}

// counted skips a test that takes half a minute of the machine unless its counts are asked
// for, as CI does.
func counted(t *testing.T) {
	t.Helper()
	if !counts.ci && !counts.full {
		t.Skip("takes long: FAULT_COUNTS=ci")
	}
}

// slow skips a test that needs real time when only quick ones are wanted.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes real time; run without -short")
	}
}

// together lets t run in parallel, but for the full form of what needs
// the whole machine for itself.
func together(t *testing.T) {
	t.Helper()
	if !counts.full {
		t.Parallel()
	}
}
