package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
)

// run is one call of the command line in process.
type call struct {
	args    []string
	environ map[string]string
	files   map[string]string // what ReadFile finds
	stdin   string
	tty     bool // stdout and stderr are terminals
}

// result is what came of a call.
type result struct {
	code           int
	stdout, stderr string
}

// do runs the whole command line. JSON that does not agree with its schema is a failure.
func (c call) do(ctx context.Context) result {
	var stdout, stderr bytes.Buffer
	code := execute(ctx, c.environment(&stdout, &stderr))
	if err := checkOutput(c.args, stdout.String()); err != nil {
		return result{code: -1, stdout: stdout.String(), stderr: err.Error()}
	}
	return result{code, stdout.String(), stderr.String()}
}

// environment is what the process around the call is for it.
func (c call) environment(stdout, stderr io.Writer) cli.Environment {
	env := cli.Environment{
		Args:  c.args,
		Stdin: strings.NewReader(c.stdin), Stdout: stdout, Stderr: stderr,
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := c.files[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
		IsTerminal: func(io.Writer) bool { return c.tty },
	}
	for _, name := range slices.Sorted(maps.Keys(c.environ)) {
		env.Environ = append(env.Environ, name+"="+c.environ[name])
	}
	return env
}

// String shows a call and what came of it as on a terminal.
func (r result) text(c call) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.environ)) {
		fmt.Fprintf(&b, "$ export %s=%s\n", name, c.environ[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		fmt.Fprintf(&b, "$ cat %s\n%s\n", name, strings.TrimRight(c.files[name], "\n"))
	}
	fmt.Fprintf(&b, "$ worker %s\n%s", strings.Join(c.args, " "), r.stdout)
	if r.stderr != "" {
		fmt.Fprintf(&b, "--- stderr\n%s", r.stderr)
	}
	fmt.Fprintf(&b, "--- exit %d\n", r.code)
	return b.String()
}

const goodFile = `nats:
  url: tls://broker.example.org:4222
cloud:
  region: cn-north-4
  rate_per_second: 7.5
targets:
  - {name: payments, kind: service, id: 4189d3c2-8882-4871-a3c2-d380272eed88, project_id: 6e9dfd51d1124e8d8498dce894923a0d}
  - {name: functions, kind: functiongraph, project_id: 6e9dfd51d1124e8d8498dce894923a0d}
`

// TestCommandLine holds what people read to golden files.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	wrong, err := os.ReadFile("../../internal/config/testdata/wrong.yaml") // every kind of mistake that a file can have
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		call call
		code int
	}{
		{"help", call{args: []string{"--help"}}, cli.ExitDone},
		{"help-of-config-show", call{args: []string{"help", "config", "show"}}, cli.ExitDone},
		{"help-of-healthcheck", call{args: []string{"healthcheck", "--help"}}, cli.ExitDone},
		{"help-of-a-slip", call{args: []string{"help", "config", "shwo"}}, cli.ExitUsage},
		{"group-without-command", call{args: []string{"config"}}, cli.ExitDone},
		{"command-slip", call{args: []string{"confg"}}, cli.ExitUsage},
		{"command-unknown", call{args: []string{"xyzzy"}}, cli.ExitUsage},
		{"subcommand-slip", call{args: []string{"config", "shwo"}}, cli.ExitUsage},
		{"argument-too-many", call{args: []string{"version", "now"}}, cli.ExitUsage},
		{"flag-unknown", call{args: []string{"version", "--short"}}, cli.ExitUsage},
		{"flag-without-value", call{args: []string{"config", "show", "--nats-url"}}, cli.ExitUsage},
		{"output-slip", call{args: []string{"version", "-o", "jsn"}}, cli.ExitUsage},
		{"color-slip", call{args: []string{"version", "--color", "alway"}}, cli.ExitUsage},

		{"show-defaults", call{args: []string{"config", "show"}}, cli.ExitDone},
		{"show-layers", call{
			args: []string{"config", "show", "--config", "worker.yaml", "--nats-replicas", "5", "--nats-create=false"},
			environ: map[string]string{
				"APPROVER_NATS_REPLICAS": "3", "APPROVER_CLOUD_REGION": "eu-west-101",
				"HW_ACCESS_KEY": canary, "HW_SECRET_KEY_FILE": "sk", "APPROVER_NATS_USER": canary, "APPROVER_NATS_PASSWORD_FILE": "none",
			},
			files: map[string]string{"worker.yaml": goodFile, "sk": canary, "none": canary},
		}, cli.ExitDone},
		{"show-json", call{args: []string{"config", "show", "-o", "json", "--config", "a.yaml"}, files: map[string]string{"a.yaml": goodFile}}, cli.ExitDone},
		{"show-yaml", call{args: []string{"config", "show", "-o", "yaml"}, environ: map[string]string{"APPROVER_CONFIG": "a.yaml"}, files: map[string]string{"a.yaml": goodFile}}, cli.ExitDone},

		{"config-missing", call{args: []string{"config", "show", "--config", "none.yaml"}}, cli.ExitInvalid},
		{"config-missing-by-variable", call{args: []string{"config", "show"}, environ: map[string]string{"APPROVER_CONFIG": "none.yaml"}}, cli.ExitInvalid},
		{"everything-wrong", call{
			args:    []string{"config", "show", "--worker-max-age", "soon"},
			environ: map[string]string{"APPROVER_NAT_URL": "x", "APPROVER_WORKER_SLOTS": "0", "APPROVER_COLOR": "blue"},
			files:   map[string]string{"worker.yaml": string(wrong)},
		}, cli.ExitInvalid},
		{"not-yaml", call{args: []string{"config", "show"}, files: map[string]string{"worker.yaml": "nats:\n  url: a: b\n"}}, cli.ExitInvalid},

		{"help-of-submit", call{args: []string{"submit", "--help"}}, cli.ExitDone},
		{"help-of-watch", call{args: []string{"watch", "--help"}}, cli.ExitDone},
		{"help-of-doctor", call{args: []string{"help", "doctor"}}, cli.ExitDone},
		{"help-of-replay", call{args: []string{"help", "deadletters", "replay"}}, cli.ExitDone},
		{"help-of-requests-show", call{args: []string{"help", "requests", "show"}}, cli.ExitDone},
		{"help-of-bus-status", call{args: []string{"help", "bus", "status"}}, cli.ExitDone},
		{"submit-nothing", call{args: []string{"submit"}}, cli.ExitUsage},
		{"submit-no-endpoint", call{args: []string{"submit", "--target", "payments"}}, cli.ExitUsage},
		{"submit-claim-slip", call{args: []string{"submit", "--target", "payments", "--endpoint-id", "x", "--claim", "tags"}}, cli.ExitUsage},
		{"submit-bad-id", call{args: []string{"submit", "--target", "payments", "--endpoint-id", "x"}}, cli.ExitInvalid},
		{"submit-no-file", call{args: []string{"submit", "--file", "none.json"}}, cli.ExitInvalid},
		{"watch-slip", call{args: []string{"watch", "--outcome", "acepted"}}, cli.ExitUsage},
		{"watch-unreachable", call{args: []string{"watch", "--nats-url", "nats://127.0.0.1:1"}}, cli.ExitUnreachable},

		{"help-of-policy-check", call{args: []string{"policy", "check", "--help"}}, cli.ExitDone},
		{"policy-good", call{args: []string{"policy", "check", "testdata/policies/good"}, files: map[string]string{"worker.yaml": goodFile}}, cli.ExitDone},
		{"policy-good-json", call{args: []string{"policy", "check", "testdata/policies/good", "--target", "payments=service", "--target", "functions=functiongraph", "-o", "json"}}, cli.ExitDone},
		{"policy-wrong", call{args: []string{"policy", "check", "--policies-dir", "testdata/policies/wrong"}, files: map[string]string{"worker.yaml": goodFile}}, cli.ExitInvalid},
		{"policy-wrong-json", call{args: []string{"policy", "check", "testdata/policies/wrong", "-o", "json"}, files: map[string]string{"worker.yaml": goodFile}}, cli.ExitInvalid},
		{"policy-odd", call{args: []string{"policy", "check", "testdata/policies/odd", "--color", "always"}, files: map[string]string{"worker.yaml": goodFile}}, cli.ExitDone},
		{"policy-odd-strict", call{args: []string{"policy", "check", "testdata/policies/odd", "--strict"}, files: map[string]string{"worker.yaml": goodFile}}, cli.ExitInvalid},
		{"policy-none", call{args: []string{"policy", "check", "testdata/policies/none"}}, cli.ExitInvalid},
		{"policy-target-slip", call{args: []string{"policy", "check", "--target", "payments=servce"}}, cli.ExitUsage},

		{"healthcheck-unreachable", call{args: []string{"healthcheck", "--http-probes", "127.0.0.1:1"}}, cli.ExitUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.call.do(t.Context())
			if got.code != tt.code {
				t.Errorf("exit %d, want %d", got.code, tt.code)
			}
			if strings.Contains(got.stdout+got.stderr, canary) {
				t.Errorf("a secret was printed:\n%s%s", got.stdout, got.stderr)
			}
			golden(t, "testdata/cli/"+tt.name+".txt", got.text(tt.call))
		})
	}
}

// canary stands for a secret in these tests; no output may hold it. The golden
// files show it where a call sets it.
const canary = "canary-5e7fa2"

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		args   []string
		path   string
		status int
		code   int
	}{
		{"ready", nil, "/readyz", http.StatusOK, cli.ExitDone},
		{"not ready", nil, "/readyz", http.StatusServiceUnavailable, cli.ExitFailed},
		{"alive", []string{"--live"}, "/livez", http.StatusOK, cli.ExitDone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != tt.path {
					t.Errorf("asked %s, want %s", r.URL.Path, tt.path)
				}
				w.WriteHeader(tt.status)
				if _, err := io.WriteString(w, "consumer: bound\n"); err != nil {
					t.Error(err)
				}
			}))
			t.Cleanup(srv.Close)
			args := append([]string{"healthcheck", "--http-probes", srv.Listener.Addr().String()}, tt.args...)
			got := call{args: args}.do(t.Context())
			if got.code != tt.code {
				t.Errorf("%v = %+v, want exit %d", args, got, tt.code)
			}
			if !strings.Contains(got.stdout+got.stderr, "consumer: bound") {
				t.Errorf("%v = %+v, want what the worker said", args, got)
			}
		})
	}
}

func TestAnInterruptedCommandExits130(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		<-done
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(done) })
	got := call{args: []string{"healthcheck", "--http-probes", srv.Listener.Addr().String()}}.do(ctx)
	if want := (result{cli.ExitInterrupted, "", "worker: interrupted\n"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"table", "json", "yaml"} {
		got := call{args: []string{"version", "-o", format}}.do(t.Context())
		if got.code != cli.ExitDone || !strings.Contains(got.stdout, cli.ReadBuild().Go) {
			t.Errorf("version -o %s = %+v, want exit 0 and %s", format, got, cli.ReadBuild().Go)
		}
	}
}

func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	golden(t, "../../docs/settings.md", config.Docs())
}

// waiting is a terminal at which nobody types until it is closed.
type waiting struct{ asked, closed chan struct{} }

func (w waiting) Read([]byte) (int, error) {
	close(w.asked)
	<-w.closed
	return 0, io.EOF
}

// TestInterruptedInput: a command that waits for stdin ends when it is interrupted.
func TestInterruptedInput(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"submit", "--file", "-"}, {"policy", "backtest", "testdata/workbench/now", "--records", "-"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			var stdout, stderr bytes.Buffer
			env := call{args: args, files: map[string]string{"worker.yaml": goodFile}}.environment(&stdout, &stderr)
			terminal := waiting{make(chan struct{}), make(chan struct{})}
			defer close(terminal.closed)
			env.Stdin = terminal
			go func() {
				<-terminal.asked
				cancel()
			}()
			if code := execute(ctx, env); code != cli.ExitInterrupted || stderr.String() != "worker: interrupted\n" {
				t.Errorf("exit %d, %s", code, &stderr)
			}
		})
	}
}
