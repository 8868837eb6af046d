package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/demo"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// fleet is workers in this process on a real NATS server, and the simulated cloud.
type fleet struct {
	*demo.Demo
	server *natstest.Server
	url    string
	cfg    config.Config
	file   string
	bus    *events.Bus // of the worker that started last
	n      int         // workers
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	env := cli.Environment{Stdout: io.Discard, Stderr: io.Discard, ReadFile: os.ReadFile, IsTerminal: func(io.Writer) bool { return false }}
	server := natstest.Start(t)
	f := &fleet{server: server, url: server.URL, Demo: &demo.Demo{Env: env, Dir: t.TempDir(), Seed: 1, Settings: map[string]string{
		"http.listen": "127.0.0.1:0", "http.probes": "127.0.0.1:0", "sweep.interval": "1s",
	}}}
	if err := f.UnpackPolicies(); err != nil {
		t.Fatal(err)
	}
	stop, err := f.StartCloud(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	if f.cfg, err = f.Config(f.url); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(f.ConfigFile())
	if err != nil {
		t.Fatal(err)
	}
	f.file = string(file)
	return f
}

// start starts a worker that runs until the test ends.
func (f *fleet) start(t *testing.T) {
	t.Helper()
	ready, ended := make(chan struct{}), make(chan error, 1)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	s := service.Service{Config: f.cfg, Log: zerolog.Nop(), Limits: worker.DefaultLimits(), WatchEvery: time.Second, Ready: func(bus *events.Bus, _ service.URLs) {
		f.bus = bus
		close(ready)
	}}
	s.Limits.Visible, s.Limits.StabilizeFor = 2*time.Second, time.Second
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the worker did not start: %v", err)
	}
	f.n++
	heartbeats := ledger.NewWorkers(f.bus)
	await(t, "the worker has a heartbeat", func() bool {
		live, err := heartbeats.List(t.Context())
		return err == nil && len(live) == f.n
	})
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	})
}

func (f *fleet) do(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return call{args: append(args, "--config", "worker.yaml", "--nats-url", f.url), files: map[string]string{"worker.yaml": f.file}}.do(ctx)
}

// submit submits a connection to each target that has some, and a creation.
func (f *fleet) submit(t *testing.T, prefix string) (ids []string) {
	t.Helper()
	send := func(target, kind, data string) {
		id := prefix + " " + target
		body := fmt.Sprintf(`{"specversion": "1.0", "id": %q, "source": "/test", "type": %q, "data": {"target": %q, %s}}`, id, kind, target, data)
		await(t, "the request is stored", func() bool {
			return f.bus.SubmitRaw(t.Context(), target, map[string][]string{"Content-Type": {"application/cloudevents+json"}}, []byte(body)) == nil
		})
		ids = append(ids, approval.RequestID("/test", id))
	}
	for target, id := range map[string]string{"payments": demo.Service, "orders-gateway": demo.Gateway} {
		send(target, "vpcep.connection.requested", fmt.Sprintf(`"endpoint_id": %q`, f.Sim.Connect(id, simulator.Connection{DomainID: demo.Acme}).ID))
	}
	send("functions", "vpcep.endpoint.requested", `"functiongraph": {"vpc_id": "7c9b3f7e-2d0a-4a52-9a0e-5f6d1c2b3a41", "subnet_id": "5b0e7a11-0000-4000-8000-000000000001", "flavor": "default"}`)
	return ids
}

func (f *fleet) effects() int { return len(f.Sim.Counters().Effects) }

// entries waits until ok holds for the entry of each request.
func (f *fleet) entries(t *testing.T, what string, ids []string, ok func(*approval.Entry) bool) {
	t.Helper()
	bucket, err := f.bus.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	book := ledger.New(bucket, nil)
	for _, id := range ids {
		await(t, what, func() bool {
			e, err := book.Get(t.Context(), id)
			return err == nil && e != nil && ok(e)
		})
	}
}

// done reports whether a request has ended as it should.
func done(t *testing.T, e *approval.Entry) bool {
	t.Helper()
	if e.Result != nil && e.Result.Outcome != approval.OutcomeAccepted && e.Result.Outcome != approval.OutcomeCreated {
		t.Fatalf("%s ended as %s: %+v", e.Request.EventID, e.Result.Outcome, e.Decision.Reasons)
	}
	return e.Result != nil
}

// TestPauseStopsEveryWorker: once pause has returned, neither worker sends anything that
// changes the cloud, nor does one that starts later; after resume all is done exactly once.
func TestPauseStopsEveryWorker(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(t)
	f.start(t)
	if got := f.do(t, "pause"); got.code != cli.ExitDone || !strings.Contains(got.stdout, "seen by all live workers: 2") {
		t.Fatalf("%+v", got)
	}
	f.start(t)
	ids := f.submit(t, "all")
	f.entries(t, "it waits for the end of the pause", ids, func(e *approval.Entry) bool { return e.Wait != nil && e.Wait.Code == "paused" })
	status := f.do(t, "status", "-o", "json")
	var workers inspect.Workers
	if err := json.Unmarshal([]byte(status.stdout), &workers); err != nil || len(workers) != 3 || len(workers[0].Paused) != len(f.cfg.Targets) || !strings.Contains(status.stderr, "all targets") {
		t.Errorf("%v: %+v", err, status)
	}
	if got := f.do(t, "resume", "--target", "payments"); got.code != cli.ExitInvalid || !strings.Contains(got.stderr, "all targets are paused") {
		t.Errorf("%+v", got)
	}
	f.server.Restart()
	await(t, "the workers are back", func() bool { return strings.Count(f.do(t, "status").stdout, "running") == 3 })
	ids = append(ids, f.submit(t, "again")[:2]...) // the connections
	f.entries(t, "it waits, too", ids, func(e *approval.Entry) bool { return e.Wait != nil && e.Wait.Code == "paused" })
	if n := f.effects(); n != 0 {
		t.Fatalf("%d effects while paused", n)
	}
	if got := f.do(t, "resume"); got.code != cli.ExitDone || !strings.Contains(got.stdout, "seen by all live workers: 3") {
		t.Fatalf("%+v", got)
	}
	f.entries(t, "it is done", ids, func(e *approval.Entry) bool { return done(t, e) })
	if n := f.effects(); n != len(ids) {
		t.Errorf("%d effects of %d requests", n, len(ids))
	}
	if got := f.do(t, "status"); got.stderr != "" {
		t.Errorf("%+v", got)
	}
}

// TestPauseOfOneTarget leaves the others alone.
func TestPauseOfOneTarget(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(t)
	if got := f.do(t, "pause", "--target", "paymens"); got.code != cli.ExitInvalid || !strings.Contains(got.stderr, "did you mean payments?") {
		t.Errorf("%+v", got)
	}
	if got := f.do(t, "pause", "--target", "payments"); got.code != cli.ExitDone {
		t.Fatalf("%+v", got)
	}
	ids := f.submit(t, "one")
	paused := func(e *approval.Entry) bool { return e.Request.Target.Name == "payments" }
	f.entries(t, "the others are done", ids, func(e *approval.Entry) bool {
		return paused(e) && e.Wait != nil && e.Wait.Code == "paused" || done(t, e)
	})
	if n := f.effects(); n != len(ids)-1 {
		t.Errorf("%d effects of %d requests, one of them paused", n, len(ids))
	}
	if got := f.do(t, "resume", "--target", "payments"); got.code != cli.ExitDone {
		t.Fatalf("%+v", got)
	}
	f.entries(t, "it is done", ids, func(e *approval.Entry) bool { return done(t, e) })
	if n := f.effects(); n != len(ids) {
		t.Errorf("%d effects of %d requests", n, len(ids))
	}
}

// TestPauseNamesWhoHasNotSeenIt: a worker of an earlier version does not read the key.
func TestPauseNamesWhoHasNotSeenIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got := f.do(t.Context(), "", "pause"); got.code != cli.ExitDone || !strings.Contains(got.stdout, "seen by all live workers: 0") {
		t.Errorf("without a worker: %+v", got)
	}
	f.serve(t, approval.OutcomeAccepted)
	await(t, "the worker is alive", func() bool { return strings.Contains(f.do(t.Context(), "", "status").stdout, "running") })
	got := f.do(t.Context(), "", "pause", "--timeout", "2s")
	if got.code != cli.ExitFailed || !strings.Contains(got.stdout, "NOT SEEN by ") || !strings.Contains(got.stderr, "1 of 1 live workers did not say within 2s") {
		t.Errorf("%+v", got)
	}
}
