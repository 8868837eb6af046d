package promtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

const (
	payments  = "4189d3c2-8882-4871-a3c2-d380272eed88" // the service of the demo
	contained = "c0ffee00c0ffee00c0ffee00c0ffee01"     // an account that only the policies below know
	trace     = "4bf92f3577b34da6a3ce929d0e0e4736"

	// requests of the demo, five a second, so that they come for more than a minute.
	requests = "400"
)

// morePolicies give the demo what it lacks: a limit that is used, an entry that
// expires, a candidate that would decide otherwise, and somebody who may review.
func morePolicies() map[string]string {
	return map[string]string{
		"contained.yaml": "version: 1\npolicy: contained\ntargets: [payments]\nreview: {by: [demo]}\nallow:\n" +
			"  - {id: few, domain_id: [" + contained + "], limit: 5, expires: 2099-12-31}\n",
		"candidate.yaml": "version: 1\npolicy: candidate\ntargets: [payments]\nmode: shadow\nallow:\n  - {id: everyone, any_domain: true}\n",
	}
}

// load is two workers on one bus and one cloud.
type load struct {
	binary, config, cloud string
	targets               []string // addresses that are scraped
}

// startLoad starts the demo and another worker next to it, and sends some requests
// of its own.
func startLoad(t *testing.T) *load {
	t.Helper()
	l := &load{binary: filepath.Join(t.TempDir(), "worker")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", l.binary, "../../cmd/worker")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the worker: %v\n%s", err, out)
	}
	demo := start(t, l.binary, nil, "demo", "--serve", "--requests", requests)
	l.cloud = demo.find(t, `simulated cloud +(http://\S+)`)
	dir := filepath.Dir(demo.find(t, `policies +(/\S+)`))
	l.config = filepath.Join(dir, "worker.yaml")
	first := demo.find(t, `metrics +http://(\S+)/metrics`)
	for name, text := range morePolicies() {
		write(t, filepath.Join(dir, "policies", name), text)
	}
	auth := simulator.DefaultAuth()
	second := start(t, l.binary, []string{"HUAWEICLOUD_SDK_AK=" + auth.AccessKey, "HUAWEICLOUD_SDK_SK=" + auth.SecretKey},
		"run", "--config", l.config, "--http-listen", "127.0.0.1:0", "--http-probes", "127.0.0.1:0", "--log-format", "json")
	l.targets = []string{first, second.find(t, `"metrics":"http://([^/"]+)/metrics"`)}
	l.await(t, first, `vpcep_approver_policy_rule_expiry_timestamp_seconds{policy="contained",rule="few"}`)
	for n := range 3 {
		l.request(t, fmt.Sprint("contained-", n))
	}
	return l
}

// request has an endpoint ask for a connection, in an event with a trace.
func (l *load) request(t *testing.T, id string) {
	t.Helper()
	body := fmt.Sprintf(`{"target": %q, "domain_id": %q}`, payments, contained)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.cloud+"/_sim/connections", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // it is read whole
	var made struct{ ID string }
	if err := json.NewDecoder(res.Body).Decode(&made); err != nil || made.ID == "" {
		t.Fatalf("connect: status %d, %v", res.StatusCode, err)
	}
	event := filepath.Join(t.TempDir(), "event.json")
	write(t, event, fmt.Sprintf(`{"specversion": "1.0", "id": %q, "source": "promtest", "type": "vpcep.connection.requested", "time": %q,
		"traceparent": "00-%s-00f067aa0ba902b7-01", "datacontenttype": "application/json", "data": {"target": "payments", "endpoint_id": %q}}`,
		id, time.Now().UTC().Format(time.RFC3339), trace, made.ID))
	submit := exec.CommandContext(t.Context(), l.binary, "submit", "--config", l.config, "--file", event, "--wait")
	if out, err := submit.CombinedOutput(); err != nil {
		t.Fatalf("submit: %v\n%s", err, out)
	}
}

// await waits until a worker serves a series.
func (l *load) await(t *testing.T, address, series string) {
	t.Helper()
	eventually(t, 30*time.Second, "the series "+series, func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close() //nolint:errcheck // it is read whole
		text, err := io.ReadAll(res.Body)
		return err == nil && strings.Contains(string(text), "\n"+series+" ")
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok, and fails after a time that only a fault takes.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", within, what)
		}
	}
}

// process is a program that runs until the test ends, and what it has printed.
type process struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ended chan struct{}
}

// start runs a program with the environment of the test and more.
func start(t *testing.T, program string, env []string, args ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{})}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	cmd.Env = append(os.Environ(), env...)
	read, out := io.Pipe()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(read); lines.Scan(); {
			p.mu.Lock()
			p.text.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
		}
	}()
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // how it ends says nothing here
		_ = out.Close()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-p.ended
		if t.Failed() {
			t.Logf("%s %s printed:\n%.8000s", filepath.Base(program), args[0], p.printed())
		}
	})
	return p
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// find waits for a line that matches, and returns what its group holds.
func (p *process) find(t *testing.T, pattern string) string {
	t.Helper()
	found := ""
	eventually(t, 60*time.Second, pattern, func() bool {
		m := regexp.MustCompile(pattern).FindStringSubmatch(p.printed())
		if m != nil {
			found = m[1]
		}
		return m != nil
	})
	return found
}
