package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v4"
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
	worker := filepath.Join(t.TempDir(), "worker")
	if out, err := exec.Command("go", "build", "-o", worker, "../../cmd/worker").CombinedOutput(); err != nil {
		t.Fatalf("build the worker: %v\n%s", err, out)
	}
	for name, s := range file.Services {
		if s.Build.Context != "" {
			if _, err := os.Stat(filepath.Join(dir, s.Build.Context, "Dockerfile")); err != nil {
				t.Errorf("service %s: %v", name, err)
			}
			// --help refuses flags that do not exist when they come before it.
			if out, err := exec.Command(worker, append(s.Command, "--help")...).CombinedOutput(); err != nil {
				t.Errorf("service %s: worker %s: %v\n%s", name, strings.Join(s.Command, " "), err, out)
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
	cmd := exec.Command(worker, "config", "show", "--config", "worker.yaml")
	cmd.Dir = dir
	for name, value := range file.Services["worker"].Environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("worker.yaml: %v\n%s", err, out)
	}
	check := exec.Command(worker, "policy", "check", "--config", "worker.yaml", "--policies-dir", filepath.Join("..", "..", "policies"))
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("the policies with the targets of worker.yaml: %v\n%s", err, out)
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
