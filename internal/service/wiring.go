package service

import (
	"context"
	"crypto/rand"
	"errors"
	"os"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// CloudConfig says in the words of package cloud what the settings say.
func CloudConfig(cfg config.Config, observer cloud.Observer) cloud.Config {
	c := cfg.Cloud
	return cloud.Config{
		Region:        c.Region,
		Endpoints:     c.Endpoints,
		AllowHTTP:     c.AllowHTTP,
		Auth:          cloud.Auth{Mode: c.AuthMode, Source: c.Credentials},
		RatePerSecond: c.RatePerSecond,
		Rates:         c.Rates,
		Concurrency:   c.Concurrency,
		Observer:      observer,
		Targets:       cfg.Targets,
	}
}

// BusConfig says in the words of package events what the settings say.
func BusConfig(cfg config.Config) events.Config {
	n := cfg.NATS
	return events.Config{
		URL:             n.URL,
		CredentialsFile: n.CredentialsFile,
		NKeySeedFile:    n.NKeySeedFile,
		TLSCA:           n.TLS.CA,
		TLSCert:         n.TLS.Cert,
		TLSKey:          n.TLS.Key,
		TLSFirst:        n.TLS.First,
		AllowPlaintext:  n.AllowPlaintext,
		Domain:          n.Domain,
		InboxPrefix:     n.InboxPrefix,
		MaxBytes:        int64(n.MaxBytes),
		LedgerMaxAge:    cfg.Ledger.MaxAge,
		Create:          n.Create,
		Replicas:        n.Replicas,
		Slots:           cfg.Worker.Slots,
		ShutdownGrace:   cfg.Worker.ShutdownGrace,
		Targets:         cfg.Targets,
		Version:         cli.ReadBuild().Version,
		Login:           n.User,
		Ledger:          CrashRecords,
	}
}

// CrashRecords has the ledger keep what the bus knows of deliveries and workers.
func CrashRecords(b *events.Bus) (events.CrashRecords, events.Heartbeats) {
	return ledger.NewDeliveries(b), ledger.NewWorkers(b)
}

// LabelsOf returns the values that labels of metrics take.
func LabelsOf(targets approval.Targets) metrics.Labels {
	labels := metrics.Labels{DeadLetterReasons: events.DeadLetterReasons(), Operations: cloud.Operations(), TargetAPIs: map[string][]string{}, Creations: map[string]bool{}}
	for _, class := range cloud.Classes() {
		labels.Classes = append(labels.Classes, string(class))
	}
	for _, t := range targets {
		labels.Targets = append(labels.Targets, t.Name)
		labels.Creations[t.Name] = t.Kind.Creates()
		labels.TargetAPIs[t.Name] = cloud.TargetAPIs(t)
	}
	return labels
}

// MetricsBuild says in metrics which build this is.
func MetricsBuild() metrics.Build {
	b := cli.ReadBuild()
	return metrics.Build{Version: b.Version, Revision: b.Commit, GoVersion: b.Go}
}

// instanceID names this process among the replicas.
func instanceID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/" + rand.Text()[:8]
}

// deadLetterUnprocessable turns what the worker can never settle into a dead letter.
func deadLetterUnprocessable(handle func(context.Context, *approval.Delivery) error) func(context.Context, *approval.Delivery) error {
	return func(ctx context.Context, d *approval.Delivery) error {
		err := handle(ctx, d)
		if reused, ok := errors.AsType[*worker.IDReusedError](err); ok {
			return &events.InvalidEventError{Reason: events.ReasonIDReused, Field: "id", Text: reused.Error()}
		}
		if old, ok := errors.AsType[*worker.TooOldError](err); ok {
			return &events.InvalidEventError{Reason: events.ReasonTooOld, Field: old.Field, Text: old.Error()}
		}
		if e, ok := errors.AsType[*ledger.UnstorableError](err); ok {
			return &events.InvalidEventError{Reason: events.ReasonUnstorable, Text: e.Error()}
		}
		return err
	}
}

// limiter keeps limits: the cloud counts, the ledger reserves.
type limiter struct {
	*cloud.Client
	*ledger.Ledger
}
