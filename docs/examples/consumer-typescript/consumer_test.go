// Package consumer tests the program in TypeScript with a NATS server.
package consumer

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/docs/examples/exampletest"
)

// TestConsumer builds the program with types made from the schema, and has it read the
// golden results of the worker, one of them twice.
func TestConsumer(t *testing.T) {
	t.Parallel()
	if os.Getenv("APPROVER_TEST_NPM") != "require" {
		t.Skip("needs npm and its registry: set APPROVER_TEST_NPM=require")
	}
	root := t.TempDir()
	dir := filepath.Join(root, "examples", "consumer-typescript")
	for from, to := range map[string]string{"src": "src", "../../schema": "../../schema"} {
		if err := os.CopyFS(filepath.Join(dir, to), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"package.json", "package-lock.json", "tsconfig.json"} {
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	npm(t, dir, true, "ci", "--no-audit", "--no-fund")
	npm(t, dir, true, "run", "--silent", "build")

	url, golden := exampletest.Start(t), exampletest.Golden(t)
	exampletest.Publish(t, url, golden["accepted"], golden["accepted"], golden["refused"], golden["held"])
	consumer := exec.CommandContext(t.Context(), "node", "dist/main.js")
	consumer.Dir, consumer.Stderr, consumer.WaitDelay = dir, os.Stderr, 10*time.Second
	consumer.Env = append(os.Environ(), "NATS_URL="+url)
	out, err := consumer.StdoutPipe()
	if err == nil {
		err = consumer.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{
		"vpcep.request.accepted: payments, endpoint 705290f3-0d00-41f2-aedc-71f09844e879: The domain is on the list.",
		"vpcep.request.refused: hosts, an endpoint: The domain is on the list.",
		"vpcep.request.held: orders, endpoint 705290f3-0d00-41f2-aedc-71f09844e879: no reason",
	} {
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
	}
	if err := consumer.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := consumer.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}

	// The types are exact: a misspelt member does not compile.
	main := filepath.Join(dir, "src", "main.ts")
	text, err := os.ReadFile(main)
	if err == nil {
		err = os.WriteFile(main, []byte(strings.Replace(string(text), "data.request.endpoint_id", "data.request.endpoint", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	npm(t, dir, false, "exec", "--", "tsc", "--noEmit")
}

// npm runs npm, which must succeed or fail.
func npm(t *testing.T, dir string, ok bool, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "npm", args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); (err == nil) != ok {
		t.Fatalf("npm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
