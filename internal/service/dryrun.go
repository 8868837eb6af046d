package service

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// DryRun says in the log what a worker with these settings would decide, until ctx ends.
// It writes nothing to the broker, and what it calls in the cloud only reads. It is no
// replica: it takes no request from a worker and serves no metrics or probes.
func (s *Service) DryRun(ctx context.Context) (err error) {
	cfg := s.Config
	counters := metrics.New(prometheus.NewRegistry(), LabelsOf(cfg.Targets), MetricsBuild())
	changed := make(chan struct{}, 1)
	policies, err := s.loadPolicies(ctx, counters, changed)
	if err != nil {
		return err
	}
	client, err := cloud.New(CloudConfig(cfg, newAlarms(counters, s.Log)))
	if err != nil {
		return cli.WithCode(cli.ExitInvalid, err)
	}
	d := worker.DryRun{
		Cloud: client, Policy: policies, Log: s.Log, Now: time.Now, Targets: cfg.Targets, Interval: cfg.Sweep.Interval, Trigger: changed,
	}
	if cfg.NATS.Embedded() {
		s.Log.Warn().Msg("nats.url is embedded, so no events are read: nothing is known of claims and creations")
	} else {
		c := BusConfig(cfg)
		c.Log = s.Log
		bus, err := events.Connect(ctx, c)
		if err != nil {
			return cli.WithCode(cli.ExitUnreachable, err)
		}
		defer func() { err = errors.Join(err, bus.Close()) }()
		d.Requests = bus
	}
	var group errgroup.Group
	group.Go(func() error { s.watch(ctx, policies, nil); return nil })
	group.Go(func() error { d.Run(ctx); return nil })
	s.Log.Info().Str("region", cfg.Cloud.Region).Int("targets", len(cfg.Targets)).Str("policies", policies.Current().Digest()).Msg("dry run: nothing will be done")
	return group.Wait()
}
