package faulttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// binary is the worker with crash points, built once for all tests.
type binary struct {
	commit string // of an older version; empty: the files as they are
	once   sync.Once
	dir    string
	err    error
}

// path builds the worker at the first call.
func (b *binary) path(t testing.TB) string {
	t.Helper()
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "faulttest"); b.err != nil {
			return
		}
		root := filepath.Join("..", "..")
		if b.commit != "" {
			root = filepath.Join(b.dir, "source")
			if b.err = checkOut(b.commit, root); b.err != nil {
				return
			}
		}
		c := exec.Command("go", "build", "-tags", "failpoints", "-ldflags", "-s -w", "-o", filepath.Join(b.dir, "worker"), "./cmd/worker")
		c.Dir = root
		out, err := c.CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("build the worker: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return filepath.Join(b.dir, "worker")
}

// checkOut writes the files of a commit to dir.
func checkOut(commit, dir string) error {
	files, err := exec.Command("git", "-C", filepath.Join("..", ".."), "archive", commit).Output()
	if err != nil {
		return fmt.Errorf("read the files of commit %s: %w", commit, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	c := exec.Command("tar", "-x", "-C", dir)
	c.Stdin = bytes.NewReader(files)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack the files of commit %s: %w\n%s", commit, err, out)
	}
	return nil
}

func (b *binary) remove() {
	if b.dir != "" {
		_ = os.RemoveAll(b.dir) // what stays is in the system's temporary folder
	}
}

// process is one running worker.
type process struct {
	t      *testing.T
	name   string
	http   string // address of metrics
	probes string
	cmd    *exec.Cmd
	log    *buffer
	done   chan struct{} // closed when it has ended
}

// buffer is what a process writes, to be read while it writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs the worker with this configuration file; env is added to the few
// variables that it gets. It is killed at the end of the test.
func start(t *testing.T, name, config string, env []string, args ...string) *process {
	t.Helper()
	return build.start(t, name, config, env, args...)
}

func (b *binary) start(t *testing.T, name, config string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, http: freeAddress(t), probes: freeAddress(t), log: &buffer{}, done: make(chan struct{})}
	args = append([]string{"run", "--config", config, "--http-listen", p.http, "--http-probes", p.probes, "--log-format", "json"}, args...)
	p.cmd = exec.Command(b.path(t), args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start the worker %s: %v", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is read from cmd.ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of worker %s, but for what it finished:\n%s", name, tail(remarkable(p.log.String()), 15))
		}
	})
	return p
}

// nextPort counts the addresses that were given out.
var nextPort atomic.Int32

// freeAddress returns an address that nobody else is given, below the ports that
// the system hands out by itself, where another could take it meanwhile.
func freeAddress(t *testing.T) string {
	t.Helper()
	const first, ports = 18_000, 14_000
	own := int32(os.Getpid()) * 499 % ports // where concurrent processes begin
	for range ports {
		address := fmt.Sprintf("127.0.0.1:%d", first+(own+nextPort.Add(1))%ports)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue // in use by something else
		}
		_ = l.Close() // only its address is wanted
		return address
	}
	t.Fatal("no port is free")
	return ""
}

// remarkable are the lines of a log that do not only tell of a finished request.
func remarkable(log string) string {
	lines := strings.Split(log, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, `"message":"finished"`) }), "\n")
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (p *process) signal(s syscall.Signal) {
	if !p.ended() {
		_ = p.cmd.Process.Signal(s) // it may end at this very moment
	}
}

// kill ends p with SIGKILL and returns once it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stopped reports whether p has been stopped by SIGSTOP.
func (p *process) stopped() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return false
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	return len(after) > 0 && (after[0] == 'T' || after[0] == 't')
}

// wake lets p go on after it was stopped.
func (p *process) wake() { p.signal(syscall.SIGCONT) }

// terminate sends SIGTERM and returns how long the end took and the exit code.
func (p *process) terminate(within time.Duration) (time.Duration, int, error) {
	begin := time.Now()
	p.signal(syscall.SIGTERM)
	if !until(context.Background(), within, p.ended) {
		return time.Since(begin), 0, fmt.Errorf("worker %s runs still %s after SIGTERM", p.name, within)
	}
	return time.Since(begin), p.cmd.ProcessState.ExitCode(), nil
}

// ready waits until p says that it can work.
func (p *process) ready() *process {
	p.t.Helper()
	if !until(p.t.Context(), 2*time.Minute, func() bool { return p.ended() || p.answers("/readyz") }) || p.ended() {
		p.t.Fatalf("worker %s is not ready:\n%s", p.name, tail(p.log.String(), 30))
	}
	return p
}

func (p *process) answers(path string) bool {
	status, _, err := p.get(path)
	return err == nil && status == http.StatusOK
}

func (p *process) get(path string) (int, string, error) {
	address := p.probes
	if path == "/metrics" {
		address = p.http
	}
	client := http.Client{Timeout: 20 * time.Second}
	res, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), errors.Join(err, res.Body.Close())
}

// metric is the sum of the series of a metric whose labels contain these texts,
// such as `reason="poison"`; -1 if p cannot be asked.
func (p *process) metric(name string, labels ...string) float64 {
	_, text, err := p.get("/metrics")
	if err != nil {
		return -1
	}
	sum := 0.0
	for line := range strings.SplitSeq(text, "\n") {
		series, value, ok := strings.Cut(line, " ")
		base, _, _ := strings.Cut(series, "{")
		if i := strings.LastIndexByte(line, ' '); ok && i > 0 {
			series, value = line[:i], line[i+1:]
		}
		if base != name || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series, l) }) {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err == nil {
			sum += v
		}
	}
	return sum
}

// memory is what p holds of the machine's memory, in bytes; 0 if it cannot be told.
func (p *process) memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	var kib int64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		return 0
	}
	return kib << 10
}
