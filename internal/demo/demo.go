// Package demo runs the whole service in one process, against a simulated cloud,
// sends it requests and checks how they end.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
	"github.com/vpcep-approver/vpcep-approver/policies"
)

const (
	demoPace    = 180 * time.Millisecond // between requests
	demoPatient = 60 * time.Second       // for the last result, before it counts as lost
)

// Demo is one run of the demo.
type Demo struct {
	Env      cli.Environment
	Dir      string
	Requests int
	Serve    bool
	Seed     uint64
	Faults   string
	LogLevel string // empty: errors only
	Output   *Output
	edit     func(cfg *simulator.Config) // nil: the demo's cloud as it is
	Settings map[string]string           // over those of the demo's configuration, by key

	Sim *simulator.Simulator
	url string // of the simulated cloud

	mu          sync.Mutex
	awaited     map[string]Step // what has no result yet, by request id
	deadLetters int             // dead letters that must come
	finished    chan struct{}   // closed when all has come
}

// Run starts everything, sends the requests and judges what came of them.
func (d *Demo) Run(ctx context.Context) error {
	d.Output.title()
	d.awaited, d.finished = map[string]Step{}, make(chan struct{})
	if err := d.UnpackPolicies(); err != nil {
		return err
	}
	if d.Serve {
		if err := d.addReviews(); err != nil {
			return err
		}
	}
	server, err := broker.Start(broker.Options{Dir: filepath.Join(d.Dir, "nats"), Listen: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	closeCloud, err := d.StartCloud(ctx)
	if err != nil {
		return err
	}
	defer closeCloud()
	cfg, err := d.Config(server.URL())
	if err != nil {
		return err
	}
	log, err := cli.NewLogger(cfg.Log.Level, cfg.Log.Format, d.Env.Stderr, d.Env.IsTerminal(d.Env.Stderr), cli.Palette{})
	if err != nil {
		return err
	}

	limits := worker.DefaultLimits()
	limits.Visible, limits.StabilizeFor = 2*time.Second, 2*time.Second
	type up struct {
		bus  *events.Bus
		base string
	}
	ready := make(chan up, 1)
	s := service.Service{Config: cfg, Log: log, Limits: limits, Server: server, WatchEvery: time.Second, Ready: func(bus *events.Bus, urls service.URLs) {
		ready <- up{bus, urls.Metrics}
	}}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Run(working) })
	group.Go(func() error {
		defer stop()
		select {
		case <-working.Done():
			return nil
		case u := <-ready:
			return d.runSteps(working, u.bus, u.base, server.URL(), func(ctx context.Context) error {
				return d.serveConsole(ctx, cfg, u.bus, log)
			})
		}
	})
	return group.Wait()
}

// UnpackPolicies puts the example policies where they can be edited while the
// demo stays up.
func (d *Demo) UnpackPolicies() error {
	return fs.WalkDir(policies.Files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := policies.Files.ReadFile(name)
		if err != nil {
			return err
		}
		to := filepath.Join(d.Dir, "policies", name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o600)
	})
}

// StartCloud serves a simulated cloud on this machine.
func (d *Demo) StartCloud(ctx context.Context) (stop func(), err error) {
	cfg := simulator.Config{
		Seed: d.Seed, Region: Region, DomainID: Project, DataArtsDomainID: Insight, Admin: true, Faults: d.faultProfile(),
		Delays:  simulator.Delays{Create: 150 * time.Millisecond, Accept: 400 * time.Millisecond},
		Latency: 15 * time.Millisecond,
	}
	if d.edit != nil {
		d.edit(&cfg)
	}
	d.Sim = simulator.New(cfg)
	d.Sim.AddService(simulator.Service{ID: Service, Name: "payments", ProjectID: Project, DomainID: Project, ApprovalEnabled: true})
	d.Sim.AddGateway(simulator.Gateway{ID: Gateway, ProjectID: Project, DomainID: Project})
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the simulated cloud: %w", err)
	}
	d.url = "http://" + listener.Addr().String()
	server := &http.Server{Handler: d.Sim, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			_, _ = fmt.Fprintln(d.Env.Stderr, "worker: the simulated cloud:", err)
		}
	}()
	return func() {
		_ = server.Close() // nothing is kept
		<-served
	}, nil
}

// faultProfile is how the cloud misbehaves all the time; plays add their own faults.
func (d *Demo) faultProfile() []simulator.Fault {
	if d.Faults != "storm" {
		return nil
	}
	return []simulator.Fault{
		{Kind: "throttle-429", Probability: 0.05},
		{Kind: "server-error", Status: 503, Probability: 0.05},
		{Kind: "html", Probability: 0.02},
		{Kind: "slow", Delay: 500 * time.Millisecond, Probability: 0.05},
		{API: simulator.VPCEP, Kind: "cut-after", Probability: 0.03},
		{API: simulator.APIG, Kind: "cut-before", Probability: 0.03},
	}
}

// Config is the demo's configuration, by the same loader as everybody's.
func (d *Demo) Config(nats string) (config.Config, error) {
	file := d.ConfigFile()
	text := fmt.Sprintf(demoConfig, nats, d.url, filepath.Join(d.Dir, "policies"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return config.Config{}, fmt.Errorf("the configuration of the demo: %w", err)
	}
	auth := simulator.DefaultAuth()
	env := d.Env
	env.Environ = []string{"HUAWEICLOUD_SDK_AK=" + auth.AccessKey, "HUAWEICLOUD_SDK_SK=" + auth.SecretKey}
	flags := config.Flags{File: file, Values: map[string]string{"log.level": "error"}}
	if d.Serve {
		flags.Values["console.listen"], flags.Values["console.key_file"] = "127.0.0.1:0", d.keyFile()
	}
	maps.Copy(flags.Values, d.Settings)
	if d.LogLevel != "" {
		flags.Values["log.level"] = d.LogLevel
	}
	return config.Load(env, flags)
}

// ConfigFile is the file in which the demo keeps its configuration.
func (d *Demo) ConfigFile() string { return filepath.Join(d.Dir, "worker.yaml") }

// runSteps sends the requests, shows what comes of them and judges it. Then it stays
// up with serve if that is wanted.
func (d *Demo) runSteps(ctx context.Context, bus *events.Bus, base, nats string, serve func(context.Context) error) error {
	d.Output.opening(d, base, nats)
	showing, done := context.WithCancel(ctx)
	defer done()
	group, showing := errgroup.WithContext(showing)
	group.Go(func() error { return d.follow(showing, bus) })
	group.Go(func() error { return d.countDeadLetters(showing, bus) })
	group.Go(func() error {
		defer done()
		if err := d.send(showing, bus); err != nil {
			return err
		}
		select {
		case <-d.finished:
		case <-showing.Done():
		case <-time.After(demoPatient):
		}
		d.judge()
		if d.Serve && ctx.Err() == nil {
			d.Output.invite(d, base)
			return serve(ctx)
		}
		return nil
	})
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err == nil && d.Output.wrong() && !d.Serve {
		return cli.ErrReported
	}
	return err
}

// send prepares and publishes each play.
func (d *Demo) send(ctx context.Context, bus *events.Bus) error {
	round := Steps()
	for n := range d.Requests {
		p := round[n%len(round)]
		if p.fault != nil && n < len(round) && d.Faults != "none" {
			d.Sim.Inject(*p.fault)
		}
		id := fmt.Sprintf("request-%d", n+1)
		header, body := message(p, id, d.body(p, n, id), n%2 == 1)
		d.mu.Lock()
		if p.Want == "" {
			d.deadLetters++
		} else {
			d.awaited[approval.RequestID(demoSource, id)] = p
		}
		d.mu.Unlock()
		if err := bus.SubmitRaw(ctx, p.target, header, body); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(demoPace):
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Requests = -1 // all are sent
	d.endIfDone()
	return nil
}

// endIfDone ends the waiting once all that was sent has come back. The caller
// holds the lock.
func (d *Demo) endIfDone() {
	if d.Requests >= 0 || len(d.awaited) > 0 || d.deadLetters > 0 {
		return
	}
	select {
	case <-d.finished:
	default:
		close(d.finished)
	}
}

// demoSource is the source of the demo's events.
const demoSource = "demo.example/network-team"

// body is the data of the event of p, which is the n-th request. The connection
// that it is about is made in the cloud first.
func (d *Demo) body(p Step, n int, id string) string {
	switch {
	case p.raw != "":
		return p.raw
	case p.create != nil:
		return fmt.Sprintf(`{"target": %q, %s}`, p.target, p.create(n))
	}
	endpoint := fmt.Sprintf("0e0e0e0e-0000-4000-8000-%012d", n) // nowhere
	if p.domain != "-" {
		of := Service
		if p.target == "orders-gateway" {
			of = Gateway
		}
		endpoint = d.Sim.Connect(of, simulator.Connection{DomainID: p.domain}).ID
	}
	claims := p.claims
	if claims == "" {
		claims = fmt.Sprintf(`{"ticket": %q}`, "NET-"+id)
	}
	return fmt.Sprintf(`{"target": %q, "endpoint_id": %q, "claims": %s}`, p.target, endpoint, claims)
}

// message makes a CloudEvent in one of the two modes of the NATS binding, as any
// other producer would.
func message(p Step, id, data string, binary bool) (map[string][]string, []byte) {
	if p.raw != "" {
		return nil, []byte(data)
	}
	kind := "vpcep.connection.requested"
	if p.create != nil {
		kind = "vpcep.endpoint.requested"
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	if binary {
		return map[string][]string{
			"ce-specversion": {"1.0"}, "ce-id": {id}, "ce-source": {demoSource}, "ce-type": {kind}, "ce-time": {now},
			"ce-datacontenttype": {"application/json"},
		}, []byte(data)
	}
	return map[string][]string{"Content-Type": {"application/cloudevents+json"}}, fmt.Appendf(nil,
		`{"specversion": "1.0", "id": %q, "source": %q, "type": %q, "time": %q, "datacontenttype": "application/json", "data": %s}`,
		id, demoSource, kind, now, data)
}

// follow shows each result as it comes.
func (d *Demo) follow(ctx context.Context, bus *events.Bus) error {
	for r, err := range bus.Results(ctx, events.ResultFilter{Follow: true}) {
		if err != nil {
			return err
		}
		d.mu.Lock()
		p, ours := d.awaited[r.Request.ID]
		delete(d.awaited, r.Request.ID)
		d.Output.result(r, p, ours)
		d.endIfDone()
		d.mu.Unlock()
	}
	return nil
}

// countDeadLetters shows each dead letter as it comes.
func (d *Demo) countDeadLetters(ctx context.Context, bus *events.Bus) error {
	for letter, err := range bus.FollowDeadLetters(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.deadLetters--
		d.Output.deadLetter(letter)
		d.endIfDone()
		d.mu.Unlock()
	}
	return nil
}

// judge shows the summary, and what did not end as it should.
func (d *Demo) judge() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.awaited {
		d.Output.missing(p)
	}
	if d.deadLetters > 0 {
		d.Output.fault(fmt.Sprintf("%d events should have become dead letters and did not", d.deadLetters))
	}
	d.Output.summary(d.Sim.Counters())
}
