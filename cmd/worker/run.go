package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// gcPercent has the collector run more often than it does by itself: the
// worker waits for others most of the time, and holds less memory for it.
const gcPercent = 25

func newRunCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Runs the worker",
		Long: `run takes requests from NATS JetStream until it gets SIGTERM or SIGINT; it then
takes no more, finishes or gives back what it has in hand, and ends with 0. A
second signal ends it at once. The policies are watched; SIGHUP loads them now.`,
	}
	config.AddFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		log, err := cli.NewLogger(cfg.Log.Level, cfg.Log.Format, env.Stderr, env.IsTerminal(env.Stderr), cli.Colors(c, env, env.Stderr))
		if err != nil {
			return err
		}
		log.Info().Str("file", config.Source(env, config.FlagsOf(c))).Msg("configuration")
		limits := worker.DefaultLimits()
		limits.MaxAge, limits.ConfirmFor = cfg.Worker.MaxAge, cfg.Worker.ConfirmFor
		if env.Variables()["GOGC"] == "" {
			debug.SetGCPercent(gcPercent)
		}
		s := service{cfg: cfg, log: log, limits: limits, watchEvery: 2 * time.Second}
		return s.run(c.Context())
	}
	return c
}

// service is the worker with all its parts; the demo runs the same one.
type service struct {
	cfg        config.Config
	log        zerolog.Logger
	limits     worker.Limits
	watchEvery time.Duration  // between looks at the policy files
	server     *broker.Server // the NATS server inside the process; nil: run starts one if the settings ask for it
	// ready is told once requests are taken, with the URL of the HTTP listener.
	// Nil: nobody asks.
	ready func(bus *events.Bus, base string)
}

// run wires the worker, top to bottom, and works until ctx ends; everything is
// closed in reverse. It returns nil after a clean drain.
func (s *service) run(ctx context.Context) (err error) {
	cfg := s.cfg
	registry := prometheus.NewRegistry()
	counters := metrics.New(registry, labelsOf(cfg.Targets), metricsBuild())

	changed := make(chan struct{}, 1)
	policies, err := s.loadPolicies(ctx, counters, changed)
	if err != nil {
		return err
	}
	client, err := cloud.New(cloudConfig(cfg, newAlarms(counters, s.log)))
	if err != nil {
		return cli.WithCode(cli.ExitInvalid, err)
	}

	if cfg.NATS.Embedded() && s.server == nil {
		if s.server, s.cfg.NATS.User, err = startBroker(cfg.NATS, s.log); err != nil {
			return err
		}
		defer s.server.Shutdown()
	}
	var sweep *worker.Sweep // set before the first heartbeat
	bus, err := s.connect(ctx, counters, func(w *approval.WorkerStatus) {
		w.PolicyDigest, w.LastSweep = policies.Current().Digest(), sweep.Last()
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bus.Close()) }()
	bucket, err := bus.Bucket(ctx)
	if err != nil {
		return cli.WithCode(cli.ExitUnreachable, err)
	}
	book := ledger.New(bucket, counters)

	w := &worker.Worker{
		Cloud: client, Creator: client, Limiter: places{client, book}, Policy: policies, Ledger: book, Results: bus,
		Metrics: counters, Log: s.log, Now: time.Now, Limits: s.limits, Started: time.Now(), Targets: cfg.Targets,
		Slots: worker.NewTargetSlots(cfg.Worker.Slots, len(cfg.Targets), time.Now), Version: cli.ReadBuild().Version,
	}
	instrument(w)
	sweep = &worker.Sweep{
		Cloud: client, Locks: book, Requests: bus, Policy: policies, Metrics: counters, Log: s.log, Now: time.Now,
		Targets: cfg.Targets, Interval: cfg.Sweep.Interval, InstanceID: instanceID(), Trigger: changed,
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("http.listen: %w — is another worker running here?", err)
	}

	// Probes and metrics are served until the last request in hand is settled,
	// which is after ctx has ended.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(serving)
	working, drain := context.WithCancel(serving) // ends when ctx does, or a part fails
	defer drain()
	defer context.AfterFunc(ctx, drain)()
	probes := probes{bus: bus, policies: policies, draining: working.Done()}
	group.Go(func() error { return serveHTTP(serving, listener, probes.handler(registry)) })
	group.Go(func() error { s.watch(working, policies); return nil })
	group.Go(func() error { sweep.Run(working); return nil })
	watch := approvalWatch{cloud: client, metrics: counters, log: s.log, targets: cfg.Targets}
	group.Go(func() error { watch.run(working); return nil })
	group.Go(func() error {
		defer stop()
		return bus.Consume(working, layingAside(w.Handle))
	})

	base := "http://" + listener.Addr().String()
	s.log.Info().Str("version", w.Version).Str("region", cfg.Cloud.Region).Int("targets", len(cfg.Targets)).
		Str("policies", policies.Current().Digest()).Str("metrics", base+"/metrics").Msg("taking requests")
	if s.ready != nil {
		s.ready(bus, base)
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.log.Info().Msg("stopped with nothing in hand")
	return nil
}

// loadPolicies loads the policies, which must be good to begin with, and those on
// trial, whose faults never keep the others from working. changed gets a token
// whenever those in force change.
func (s *service) loadPolicies(ctx context.Context, counters *metrics.Metrics, changed chan<- struct{}) (*policy.Source, error) {
	dirs := s.cfg.Policies
	live := counters.Set(metrics.LiveSet)
	policies := policy.NewSource(dirs.Dir, s.cfg.Targets, live)
	policies.StableFor = dirs.StableFor
	policies.OnError = func(err error) {
		s.log.Error().Err(err).Msg("the policies cannot be loaded; the last good ones stay in force")
		live.PolicyFindings(string(policy.SeverityError), errorsIn(err))
	}
	policies.Check = func(set *policy.Set) error { return refuseExamples(s.cfg, set) }
	policies.OnReload = func(set *policy.Set) {
		s.log.Info().Str("digest", set.Digest()).Int("policies", set.Policies()).Int("rules", set.Rules()).Msg("policies loaded")
		live.PolicyFindings(string(policy.SeverityWarning), logFindings(s.log, set))
		if set.HasShadow() {
			counters.ShadowRules(metrics.LiveSet, set.Names())
		} else {
			counters.ShadowRules(metrics.LiveSet, nil)
		}
		select {
		case changed <- struct{}{}: // what is held may be allowed now
		default:
		}
	}
	// While nothing is loaded everything is held, so a start waits for a folder that
	// was written a moment ago, and begins without it if that takes long.
	err := policies.LoadStable(ctx, 2*dirs.StableFor)
	if _, unstable := errors.AsType[*policy.UnstableError](err); unstable {
		s.log.Warn().Err(err).Msg("no policies are loaded yet; everything is held until then")
	} else if err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("policies.dir %s: %w", dirs.Dir, err))
	}
	if dirs.ShadowDir == "" {
		return policies, nil
	}
	onTrial := counters.Set(metrics.ShadowSet)
	policies.Shadow = policy.NewSource(dirs.ShadowDir, s.cfg.Targets, onTrial)
	policies.Shadow.StableFor = dirs.StableFor
	policies.Shadow.OnError = func(err error) {
		s.log.Warn().Err(err).Msg("the candidate policies cannot be loaded; the last good ones stay on trial, and the policies in force are not affected")
		onTrial.PolicyFindings(string(policy.SeverityError), errorsIn(err))
	}
	policies.Shadow.OnReload = func(set *policy.Set) {
		s.log.Info().Str("digest", set.Digest()).Msg("candidate policies loaded")
		counters.ShadowRules(metrics.ShadowSet, set.Names())
		onTrial.PolicyFindings(string(policy.SeverityWarning), logFindings(s.log, set))
	}
	_ = policies.Shadow.Load(ctx) // OnError is told, and watching loads it later
	return policies, nil
}

// startBroker starts the NATS server inside the process, where producers and the
// other commands reach it at nats.listen, and returns how the worker logs in.
func startBroker(cfg config.NATS, log zerolog.Logger) (*broker.Server, func() (user, password string, err error), error) {
	worker, login := broker.User{Name: broker.WorkerUser}, cfg.User
	if login != nil {
		var err error
		if worker.Name, worker.Password, err = login(); err != nil {
			return nil, nil, cli.WithCode(cli.ExitInvalid, err)
		}
	}
	producer := broker.User{
		Name: broker.ProducerUser, Publish: []string{events.RequestsSubject + ".>"},
		DenyPublish: []string{events.SweepSubject, events.SweepSubject + ".>"}, Subscribe: []string{"_INBOX.>"},
	}
	server, err := broker.Start(broker.Options{
		Dir: cfg.DataDir, Listen: cfg.Listen, SyncAlways: true, Log: log, Users: []broker.User{worker, producer},
	})
	if errors.Is(err, broker.ErrLocked) {
		err = cli.WithCode(cli.ExitInvalid, err)
	}
	if login == nil {
		login = ownLogin(cfg)
	}
	return server, login, err
}

// ownLogin is the login that the embedded server made for the worker.
func ownLogin(cfg config.NATS) func() (user, password string, err error) {
	return func() (string, string, error) {
		password, err := broker.ReadPassword(cfg.DataDir, broker.WorkerUser)
		return broker.WorkerUser, password, err
	}
}

// connect reaches the bus and makes or checks what is on it. describe adds to
// heartbeats.
func (s *service) connect(ctx context.Context, observer events.Observer, describe func(*approval.WorkerStatus)) (*events.Bus, error) {
	cfg := busConfig(s.cfg)
	cfg.Observer, cfg.Log, cfg.Describe = observer, s.log, describe
	if s.server != nil {
		cfg.InProcess = s.server
	}
	bus, err := events.Connect(ctx, cfg)
	if err != nil {
		return nil, cli.WithCode(cli.ExitUnreachable, err)
	}
	if err := bus.Setup(ctx); err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, errors.Join(err, bus.Close()))
	}
	return bus, nil
}

// watch loads the policies when their files change, and on SIGHUP, until ctx
// ends. What goes wrong is told to OnError.
func (s *service) watch(ctx context.Context, policies *policy.Source) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	sources := []*policy.Source{policies}
	if policies.Shadow != nil {
		sources = append(sources, policies.Shadow)
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	for _, source := range sources {
		watching.Go(func() { source.Watch(ctx, s.watchEvery) })
	}
	for {
		select {
		case <-hangup:
			for _, source := range sources {
				if _, unstable := errors.AsType[*policy.UnstableError](source.Load(ctx)); unstable {
					s.log.Info().Stringer("stable_for", s.cfg.Policies.StableFor).Msg("policies have changed a moment ago; they are loaded once they have stayed the same")
				}
			}
		case <-ctx.Done():
			return
		}
	}
}
