package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/modules/nats"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	startTime = 90 * time.Second // for a container to be up
	workerUID = "65532:65532"
	httpPort  = "9090/tcp"
	probePort = "9091/tcp"
	cloudPort = "8080/tcp"
)

// stack is a worker with all it needs, each in a container.
type stack struct {
	t      *testing.T
	nats   *nats.NATSContainer
	cloud  testcontainers.Container
	worker testcontainers.Container
}

// start runs a stack until the end of the test.
func start(t *testing.T) *stack {
	t.Helper()
	img := prepare(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*startTime)
	defer cancel()
	net, err := network.New(ctx)
	testcontainers.CleanupNetwork(t, net)
	if err != nil {
		t.Fatalf("make a network: %v", err)
	}
	s := &stack{t: t}

	s.nats, err = nats.Run(ctx, img.nats, network.WithNetwork([]string{"nats"}, net), testcontainers.WithCmd("-js"))
	s.keep("nats", s.nats, err)

	s.run(ctx, img, net, nil)
	return s
}

// run starts the cloud, and the worker with more variables, where NATS runs.
func (s *stack) run(ctx context.Context, img images, net *testcontainers.DockerNetwork, env map[string]string) {
	s.t.Helper()
	var err error
	s.cloud, err = testcontainers.Run(ctx, img.worker,
		network.WithNetwork([]string{"cloud"}, net),
		testcontainers.WithExposedPorts(cloudPort),
		testcontainers.WithCmd("simulate", "--listen", ":8080", "--admin", "--faults", "none"),
		testcontainers.WithHostConfigModifier(locked()),
		testcontainers.WithWaitStrategy(wait.ForHTTP(countersPath).WithPort(cloudPort).WithStartupTimeout(startTime)),
	)
	s.keep("cloud", s.cloud, err)
	s.fillCloud()

	s.worker, err = testcontainers.Run(ctx, img.worker,
		network.WithNetwork([]string{"worker"}, net),
		testcontainers.WithExposedPorts(httpPort, probePort),
		testcontainers.WithEnv(credentials()),
		// The file is said aloud, since it sends credentials to the simulated cloud.
		testcontainers.WithEnv(map[string]string{"APPROVER_CONFIG": "worker.yaml", "APPROVER_NATS_ALLOW_PLAINTEXT": "true"}),
		testcontainers.WithEnv(env),
		testcontainers.WithHostConfigModifier(locked(configFolder(s.t)+":/etc/vpcep-approver:ro")),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/readyz").WithPort(probePort).WithStartupTimeout(startTime)),
	)
	s.keep("worker", s.worker, err)
}

// keep has c ended with the test, and its log printed if the test failed.
func (s *stack) keep(name string, c testcontainers.Container, err error) {
	s.t.Helper()
	s.t.Cleanup(func() {
		logsOf(s.t, name, c)
		if err := testcontainers.TerminateContainer(c, testcontainers.StopTimeout(time.Second)); err != nil {
			s.t.Errorf("end the container %s: %v", name, err)
		}
	})
	if err != nil {
		s.t.Fatalf("start the container %s: %v", name, err)
	}
}

// locked takes from a container what a worker does not need: a root that can be
// written, and every capability.
func locked(binds ...string) func(*container.HostConfig) {
	return func(hc *container.HostConfig) {
		hc.ReadonlyRootfs = true
		hc.CapDrop = []string{"ALL"}
		hc.SecurityOpt = []string{"no-new-privileges"}
		hc.Binds = append(hc.Binds, binds...)
	}
}

// configFolder returns a folder with the worker's settings and policies, as
// testdata holds them.
func configFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "config"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// address returns the URL of a port of a container, as it is now.
func (s *stack) address(c testcontainers.Container, port string) string {
	s.t.Helper()
	url, err := c.PortEndpoint(s.t.Context(), port, "http")
	if err != nil {
		s.t.Fatal(err)
	}
	return url
}

// get asks the worker's HTTP listener.
func (s *stack) get(path string) (status int, body string) {
	s.t.Helper()
	port := probePort
	if path == "/metrics" {
		port = httpPort
	}
	return s.ask(http.MethodGet, s.address(s.worker, port)+path, nil)
}

func (s *stack) ask(method, url string, body io.Reader) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// metric returns the value of a series of /metrics, such as `up{a="b"}`.
func (s *stack) metric(series string) string {
	s.t.Helper()
	status, text := s.get("/metrics")
	if status != http.StatusOK {
		s.t.Fatalf("/metrics: status %d: %s", status, text)
	}
	for line := range strings.SplitSeq(text, "\n") {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return value
		}
	}
	return "(no such series)"
}

// exec runs a command in the worker's container.
func (s *stack) exec(command ...string) (code int, output string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	code, r, err := s.worker.Exec(ctx, command, tcexec.Multiplexed())
	if err != nil {
		s.t.Fatalf("exec %q: %v", command, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return code, string(text)
}

// eventually waits until check finds nothing wrong, at most for a minute.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: still after a minute: %v", what, err)
		}
	}
}

// settled says what the worker has not settled.
func (s *stack) settled() error {
	for _, series := range []string{"vpcep_approver_consumer_pending_messages", "vpcep_approver_consumer_ack_pending_messages"} {
		if n := s.metric(series); n != "0" {
			return fmt.Errorf("%s is %s", series, n)
		}
	}
	return nil
}

// isReady says why the worker is not ready.
func (s *stack) isReady() error {
	if status, text := s.get("/readyz"); status != http.StatusOK {
		return fmt.Errorf("/readyz: status %d: %s", status, text)
	}
	return nil
}

// inspect returns what the engine says of the worker's container.
func (s *stack) inspect() *container.InspectResponse {
	s.t.Helper()
	found, err := s.worker.Inspect(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// sameWorker checks that the worker runs and was never started again.
func (s *stack) sameWorker(before *container.InspectResponse) {
	s.t.Helper()
	after := s.inspect()
	if !after.State.Running || after.RestartCount != 0 || after.State.StartedAt != before.State.StartedAt {
		s.t.Errorf("the worker runs: %t, was started %d times again, at %s and at %s", after.State.Running, after.RestartCount, before.State.StartedAt, after.State.StartedAt)
	}
}
