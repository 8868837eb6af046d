// Package service wires the worker: it builds every part, runs them until the
// context ends and closes them in reverse.
package service

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
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
	"github.com/vpcep-approver/vpcep-approver/internal/review"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// Service is the worker with all its parts; the demo runs the same one.
type Service struct {
	Config     config.Config
	Log        zerolog.Logger
	Limits     worker.Limits
	WatchEvery time.Duration  // between looks at the policy files
	Server     *broker.Server // the NATS server inside the process; nil: run starts one if the settings ask for it
	// Ready is called once requests are taken. Nil: nobody asks.
	Ready func(bus *events.Bus, urls URLs)
}

// Run wires the worker, top to bottom, and works until ctx ends; everything is
// closed in reverse. It returns nil after a clean drain.
func (s *Service) Run(ctx context.Context) (err error) {
	cfg := s.Config
	registry := prometheus.NewRegistry()
	counters := metrics.New(registry, LabelsOf(cfg.Targets), MetricsBuild())

	changed := make(chan struct{}, 1)
	policies, err := s.loadPolicies(ctx, counters, changed)
	if err != nil {
		return err
	}
	tracer, err := s.startTracing(ctx, counters)
	if err != nil {
		return cli.WithCode(cli.ExitInvalid, err)
	}
	defer tracer.close(ctx)
	warnings := newAlarms(counters, s.Log)
	client, err := cloud.New(tracer.cloud(CloudConfig(cfg, warnings)))
	if err != nil {
		return cli.WithCode(cli.ExitInvalid, err)
	}

	if cfg.NATS.Embedded() && s.Server == nil {
		if s.Server, s.Config.NATS.User, err = startBroker(cfg.NATS, s.Log); err != nil {
			return err
		}
		defer s.Server.Shutdown()
	}
	var sweep *worker.Sweep // set before the first heartbeat
	ttl := events.HeartbeatTTL(events.DefaultAckWait)
	share := cloud.NewFleetShare(client, ttl)
	slots := worker.NewTargetSlots(cfg.Worker.Slots, len(cfg.Targets), time.Now)
	stopped := &pauses{targets: cfg.Targets, ttl: ttl, metrics: counters, log: s.Log}
	bus, err := s.connect(ctx, counters, func(c *events.Config) {
		c.Admission = slots
		c.Describe = func(w *approval.WorkerStatus) {
			w.PolicyDigest, w.LastSweep = policies.Current().Digest(), sweep.Last()
			w.Faults, w.Connections = warnings.current(), map[string]approval.Connections{}
			for _, t := range cfg.Targets {
				w.Connections[t.Name] = client.Connections(t)
			}
		}
		c.Ledger = countedRecords(share, stopped)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bus.Close()) }()
	var opening sync.WaitGroup
	opening.Go(func() { _, _ = bus.WorkersBucket(ctx) }) // the first heartbeat tells what is wrong with it
	defer opening.Wait()
	bucket, err := bus.Bucket(ctx)
	if err != nil {
		return cli.WithCode(cli.ExitUnreachable, err)
	}
	book := ledger.New(bucket, counters)

	w := &worker.Worker{
		Cloud: client, Creator: client, Limiter: limiter{client, book}, Policy: policies, Ledger: book, Reviews: ledger.NewReviews(book, bus), Results: bus, Pauses: stopped,
		Metrics: counters, Log: s.Log, Now: time.Now, Limits: s.Limits, Started: time.Now(), Targets: cfg.Targets,
		Slots: slots, Version: cli.ReadBuild().Version,
	}
	installFailpoints(w)
	handle := tracer.worker(w)
	accepted := acceptedCount{
		cloud: client, log: s.Log, targets: cfg.Targets,
		swept: make(chan struct{}, 1), tried: map[string]time.Time{},
	}
	sweep = &worker.Sweep{
		Cloud: client, Locks: book, Results: bus, Reviews: ledger.NewReviews(book, bus), Requests: bus, Policy: policies, Metrics: counters, Log: s.Log, Now: time.Now,
		Targets: cfg.Targets, Interval: cfg.Sweep.Interval, InstanceID: instanceID(), Trigger: changed,
		After: func(ctx context.Context) {
			accepted.afterSweep()
			measureReviews(ctx, book.ReviewRecords(ctx, ""), policies.Current(), cfg.Targets, counters)
		},
	}
	listeners, err := listen(ctx, cfg.HTTP, s.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, listeners.close()) }()

	// Probes and metrics are served until the last request in progress is settled,
	// which is after ctx has ended.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(serving)
	working, drain := context.WithCancel(serving) // ends when ctx does, or a part fails
	defer drain()
	defer context.AfterFunc(ctx, drain)()
	probes := probes{bus: bus, policies: policies, draining: working.Done()}
	group.Go(func() error {
		return listeners.serveMetrics(serving, metricsHandler(registry, cfg.HTTP.Pprof), s.Log)
	})
	group.Go(func() error { return listeners.serveProbes(serving, probes.handler(), s.Log) })
	group.Go(func() error { s.watch(working, policies, listeners.web); return nil })
	group.Go(func() error { s.releaseStart(working); return nil })
	watch := approvalWatch{cloud: client, metrics: counters, log: s.Log, targets: cfg.Targets}
	count := review.Counter{Ledger: book, Policies: policies, Requests: bus, Observer: counters, Log: s.Log}
	consumeReviews := func(ctx context.Context) { bus.ConsumeReviews(ctx, countReview(&count, counters)) }
	for _, run := range []func(context.Context){sweep.Run, accepted.run, watch.run, consumeReviews} {
		group.Go(func() error {
			if sleep(working, requestsFirst) {
				run(working)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		return bus.Consume(working, handle)
	})

	urls := listeners.urls()
	s.Log.Info().Str("version", w.Version).Str("region", cfg.Cloud.Region).Int("targets", len(cfg.Targets)).
		Str("policies", policies.Current().Digest()).Str("metrics", urls.Metrics+"/metrics").Str("probes", urls.Probes).Msg("taking requests")
	notify(s.Log, daemon.SdNotifyReady)
	defer context.AfterFunc(working, func() { notify(s.Log, daemon.SdNotifyStopping) })()
	if s.Ready != nil {
		s.Ready(bus, urls)
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.Log.Info().Msg("stopped with nothing in progress")
	return nil
}

// requestsFirst is the head start that waiting requests have over work that looks at
// every target.
const requestsFirst = 250 * time.Millisecond

// sleep reports whether d passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// releaseStart gives back the parts of the executable that only the start needed, once
// the first requests and the first sweep have used theirs, and again after collections.
func (s *Service) releaseStart(ctx context.Context) {
	for _, wait := range []time.Duration{time.Second, 9 * time.Second} {
		if !sleep(ctx, wait) {
			return
		}
		if _, err := releaseExecutable(); err != nil {
			s.Log.Debug().Err(err).Msg("parts of the executable that the start needed stay in memory")
		}
	}
}

// watch loads the policies and the web configuration, nil if there is none, when
// their files change, and on SIGHUP, until ctx ends. What goes wrong is told to
// OnError, or logged.
func (s *Service) watch(ctx context.Context, policies *policy.Source, web *webConfig) {
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
		watching.Go(func() { source.Watch(ctx, s.WatchEvery) })
	}
	tick := time.NewTicker(webConfigEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			web.reload()
		case <-hangup:
			web.reload()
			for _, source := range sources {
				if _, unstable := errors.AsType[*policy.UnstableError](source.Load(ctx)); unstable {
					s.Log.Info().Stringer("stable_for", s.Config.Policies.StableFor).Msg("policies have changed a moment ago; they are loaded once they have stayed the same")
				}
			}
		case <-ctx.Done():
			return
		}
	}
}
