package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// composeFile is what the test looks at of a compose file.
type composeFile struct {
	Services map[string]struct {
		Image       string            `yaml:"image"`
		Command     []string          `yaml:"command"`
		Environment map[string]string `yaml:"environment"`
		Volumes     []string          `yaml:"volumes"`
		DependsOn   []string          `yaml:"depends_on"`
		ReadOnly    bool              `yaml:"read_only"`
		Build       struct {
			Context string `yaml:"context"`
		} `yaml:"build"`
	} `yaml:"services"`
	Volumes map[string]any `yaml:"volumes"`
}

// TestCompose holds deploy/compose to the rest of the project: what it mounts is
// there, its commands exist, and the worker takes its settings.
func TestCompose(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "deploy", "compose")
	text, err := os.ReadFile(filepath.Join(dir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if file.Services["worker"].Image == "" || !file.Services["worker"].ReadOnly {
		t.Errorf("the worker is not there, or its root can be written: %+v", file.Services["worker"])
	}
	var environ []string
	for name, value := range file.Services["worker"].Environment {
		if name != "APPROVER_CONFIG" { // another path below
			environ = append(environ, name+"="+value)
		}
	}
	do := func(args ...string) (string, int) {
		var out bytes.Buffer
		env := cli.ProcessEnvironment()
		env.Args, env.Environ, env.Stdout, env.Stderr = args, environ, &out, &out
		code := execute(context.Background(), env)
		return out.String(), code
	}
	for name, s := range file.Services {
		if s.Build.Context != "" {
			if _, err := os.Stat(filepath.Join(dir, s.Build.Context, "Dockerfile")); err != nil {
				t.Errorf("service %s: %v", name, err)
			}
			// --help refuses flags that do not exist when they come before it.
			if out, code := do(slices.Concat(s.Command, []string{"--help"})...); code != cli.ExitDone {
				t.Errorf("service %s: worker %s ended with %d\n%s", name, strings.Join(s.Command, " "), code, out)
			}
		}
		for _, other := range s.DependsOn {
			if _, ok := file.Services[other]; !ok {
				t.Errorf("service %s depends on %s, which is not there", name, other)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, named := file.Volumes[source]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, source)); err != nil {
				t.Errorf("service %s: volume %s: %v", name, v, err)
			}
		}
	}
	settings := filepath.Join(dir, "worker.yaml")
	if out, code := do("config", "show", "--config", settings); code != cli.ExitDone {
		t.Errorf("worker.yaml: ended with %d\n%s", code, out)
	}
	if out, code := do("policy", "check", "--config", settings, "--policies-dir", filepath.Join("..", "..", "policies")); code != cli.ExitDone {
		t.Errorf("the policies with the targets of worker.yaml: ended with %d\n%s", code, out)
	}
}

// TestComposeBroker holds the broker's settings to what docs/design.md asks for.
func TestComposeBroker(t *testing.T) {
	t.Parallel()
	opts, err := server.ProcessConfigFile(filepath.Join("..", "..", "deploy", "compose", "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if !opts.JetStream || !opts.SyncAlways || opts.StoreDir != "/data" {
		t.Errorf("got JetStream %t, sync always %t, store %q; want both, and the mounted /data", opts.JetStream, opts.SyncAlways, opts.StoreDir)
	}
}
