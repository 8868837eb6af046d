package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// TestTheFirstLineComesBeforeTheStart: a person who starts the demo sees something
// immediately, and not only when the broker and the cloud are up.
func TestTheFirstLineComesBeforeTheStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	d := &Demo{Dir: file, Output: NewOutput(&out, cli.Palette{})} // nothing can start in a file
	if err := d.Run(t.Context()); err == nil {
		t.Error("the demo ran without a folder")
	}
	if !strings.HasPrefix(out.String(), "vpcep-approver demo ") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("it printed %q, want the first line", out.String())
	}
}
