package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/demo"
)

// TestDemo runs one round of the demo as a newcomer does: every play is shown
// and ends as its scenario says, in plain text where nobody looks.
func TestDemo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes ten seconds; run without -short")
	}
	var out, errs bytes.Buffer
	env := cli.ProcessEnvironment()
	env.Args = []string{"demo", "--requests", "20"}
	env.Stdout, env.Stderr = &out, &errs
	if code := execute(context.Background(), env); code != cli.ExitDone {
		t.Errorf("exit code %d, want %d", code, cli.ExitDone)
	}
	text := out.String()
	for _, p := range demo.Steps() {
		if p.Want != "" && !strings.Contains(text, p.Who) {
			t.Errorf("the demo does not show %q", p.Who)
		}
	}
	for _, want := range []string{"ended as they should", "accepted", "rejected", "held", "created", "gone", "(letter)", "found by the sweep", "cut-after"} {
		if !strings.Contains(text, want) {
			t.Errorf("the demo does not say %q", want)
		}
	}
	if strings.Contains(text, "\x1b[") {
		t.Error("color where nobody looks")
	}
	if errs.Len() > 0 {
		t.Errorf("on stderr:\n%s", &errs)
	}
	dir := regexp.MustCompile(`policies +(\S+)/policies`).FindStringSubmatch(text)
	if dir == nil {
		t.Error("the demo does not say where its policies are")
	} else if _, err := os.Stat(dir[1]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the demo left %s behind (%v)", dir[1], err)
	}
	if t.Failed() {
		t.Logf("the demo:\n%s", text)
	}
}
