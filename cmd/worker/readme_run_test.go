package main

import (
	"bytes"
	"context"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/demo"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

// TestReadmeRunsForReal follows "Run it for real" of the README to the letter, in
// a fresh copy of the tree, against the simulated cloud. All that differs is
// where the cloud is, the credentials, and the ports, which come from the
// environment.
func TestReadmeRunsForReal(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the binary in a copy of the tree")
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash to follow the README with")
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Run it for real\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var steps []string
	for _, block := range regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(section, -1) {
		for line := range strings.Lines(block[1]) {
			steps = append(steps, strings.TrimSpace(line))
		}
	}

	simulated, account := realCloud(t)
	shell := &readmeShell{bash: bash, dir: freshCopy(t), env: append(os.Environ(),
		"HUAWEICLOUD_SDK_AK="+simulator.DefaultAuth().AccessKey, "HUAWEICLOUD_SDK_SK="+simulator.DefaultAuth().SecretKey,
		"APPROVER_CLOUD_ENDPOINTS_VPCEP="+simulated,
		"GOFLAGS=-trimpath -ldflags=-s", // what was compiled in another copy counts; quicker to link
		"APPROVER_NATS_LISTEN="+freeAddress(t), "APPROVER_HTTP_LISTEN="+freeAddress(t), "APPROVER_HTTP_PROBES="+freeAddress(t),
	)}
	did := map[string]string{}
	for _, step := range steps {
		switch {
		case strings.HasPrefix(step, "export HUAWEICLOUD_SDK_AK=…"): // the environment holds them
		case strings.HasSuffix(step, "vpcep-approver run"):
			shell.start(t, step)
		default:
			did[step] = shell.do(t, step)
		}
	}
	if out := did["../vpcep-approver submit --target payments --endpoint-id 705290f3-0d00-41f2-aedc-71f09844e879 --wait"]; !strings.Contains(out, "held") {
		t.Errorf("the request of somebody whom no rule allows ended so:\n%s\nwant it held", out)
	}

	// An account that the policy allows is accepted.
	policyFile := filepath.Join(shell.dir, "policies", "payments.yaml")
	rules, err := os.ReadFile(policyFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(rules, []byte(account)) {
		t.Fatalf("the starter policy does not name %s:\n%s", account, rules)
	}
	if out := shell.do(t, "../vpcep-approver submit --target payments --endpoint-id 805290f3-0d00-41f2-aedc-71f09844e879 --wait"); !strings.Contains(out, "accepted") {
		t.Errorf("the request of an account that the policy allows ended so:\n%s\nwant it accepted", out)
	}
	if out := shell.do(t, "git -C .. status --porcelain 2>/dev/null || true"); strings.Contains(out, "M policies/") {
		t.Errorf("the steps changed the examples:\n%s", out)
	}
}

// realCloud serves a cloud with what the README names: a service with one
// connection of somebody, and one of the account of the starter policy.
func realCloud(t *testing.T) (url, account string) {
	t.Helper()
	const service, project = "4189d3c2-8882-4871-a3c2-d380272eed88", "0123456789abcdef0123456789abcdef"
	rules, _, err := starterOf("payments")
	if err != nil {
		t.Fatal(err)
	}
	account = regexp.MustCompile(`domain_id: ([0-9a-f]{32})`).FindStringSubmatch(rules)[1]
	sim := simulator.New(simulator.Config{Seed: 1})
	sim.AddProject(simulator.Project{ID: project, Name: "cn-north-4"})
	sim.AddService(simulator.Service{ID: service, Name: "payments", ProjectID: project, DomainID: project, ApprovalEnabled: true})
	sim.Connect(service, simulator.Connection{ID: "705290f3-0d00-41f2-aedc-71f09844e879", DomainID: demo.Stranger})
	sim.Connect(service, simulator.Connection{ID: "805290f3-0d00-41f2-aedc-71f09844e879", DomainID: account})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	return server.URL, account
}

// freshCopy copies the files that git knows or would take; without git, all but
// its own. It is what a clone of the present tree would hold.
func freshCopy(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "clone")
	list, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("there is no git to list the files of the tree: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // the address is all that is wanted
	return l.Addr().String()
}

// readmeShell runs one line after the other, each in the folder where the last
// one ended.
type readmeShell struct {
	bash, dir string
	env       []string
}

func (s *readmeShell) do(t *testing.T, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	where := filepath.Join(t.TempDir(), "pwd")
	c := exec.CommandContext(ctx, s.bash, "-euo", "pipefail", "-c", line+"\npwd > "+where)
	c.Dir, c.Env = s.dir, s.env
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("$ %s\n%s%v", line, out, err)
	}
	now, err := os.ReadFile(where)
	if err != nil {
		t.Fatal(err)
	}
	s.dir = strings.TrimSpace(string(now))
	return string(out)
}

// start runs line until the test ends, and returns once the worker is ready.
func (s *readmeShell) start(t *testing.T, line string) {
	t.Helper()
	var out bytes.Buffer
	c := exec.CommandContext(context.WithoutCancel(t.Context()), s.bash, "-c", "exec "+line) // the cleanup ends it
	c.Dir, c.Env, c.Stdout, c.Stderr = s.dir, s.env, &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := <-ended; err != nil {
			t.Errorf("$ %s\n%s%v", line, out.String(), err)
		}
	})
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		check := exec.CommandContext(t.Context(), filepath.Join(s.dir, "../vpcep-approver"), "healthcheck")
		check.Dir, check.Env = s.dir, s.env
		if check.Run() == nil {
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("$ %s\n%sended: %v", line, out.String(), err)
		case <-tick.C:
		}
	}
}

// starterOf returns the starter policy for a service of this name.
func starterOf(name string) (rules, tests string, err error) {
	return workbench.Starter(name, approval.Target{Name: name, Kind: approval.Service})
}
