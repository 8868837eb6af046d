package demo

import (
	"os"
	"path/filepath"
	"regexp"
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

// TestThePictureIsOfThisDemo holds the picture of the README to what the demo prints,
// but for addresses and folders: docs/images/demo.sh makes it.
func TestThePictureIsOfThisDemo(t *testing.T) {
	t.Parallel()
	picture, err := os.ReadFile(filepath.Join("..", "..", "docs", "images", "demo.svg"))
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`(nats|http)://[0-9.:]+|/tmp/\S+/policies`)
	var out strings.Builder
	s := NewOutput(&out, cli.Palette{})
	s.title()
	s.opening(&Demo{Dir: "/tmp/d", url: "http://127.0.0.1:1"}, "http://127.0.0.1:2", "nats://127.0.0.1:3")
	shown := address.ReplaceAllString(strings.ReplaceAll(string(picture), "\u00a0", " "), "")
	for line := range strings.Lines(address.ReplaceAllString(out.String(), "")) {
		if line = strings.TrimSuffix(line, "\n"); !strings.Contains(shown, line) {
			t.Errorf("docs/images/demo.svg does not show %q: run docs/images/demo.sh", line)
		}
	}
}
