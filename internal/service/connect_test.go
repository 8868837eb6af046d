package service

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// reachAt connects to a server as `run` does.
func reachAt(ctx context.Context, url string, wait time.Duration, create bool, log io.Writer) (*events.Bus, error) {
	s := Service{Config: config.Config{
		NATS:   config.NATS{URL: url, Wait: wait, Create: create, Replicas: 1},
		Worker: config.Worker{Slots: 1, ShutdownGrace: time.Second},
	}, Log: zerolog.New(zerolog.SyncWriter(log))}
	counters := metrics.New(prometheus.NewRegistry(), metrics.Labels{}, MetricsBuild())
	return s.connect(ctx, counters, func(*events.Config) {})
}

// onWrite calls f once, at the first line that is logged.
type onWrite struct{ f func() }

func (w *onWrite) Write(p []byte) (int, error) {
	if f := w.f; f != nil {
		w.f = nil
		f()
	}
	return len(p), nil
}

// TestStartWaitsForTheBroker: pods start in any order.
func TestStartWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	server.Stop()
	bus, err := reachAt(t.Context(), server.URL, time.Minute, true, &onWrite{server.Start})
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
}

// TestStartWaitsForTheStreams: another job makes them, and this one may not.
func TestStartWaitsForTheStreams(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	setUp := func() {
		bus, err := reachAt(t.Context(), server.URL, 0, true, io.Discard)
		if err != nil {
			t.Error(err)
			return
		}
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	}
	bus, err := reachAt(t.Context(), server.URL, time.Minute, false, &onWrite{setUp})
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
}

// TestStartDoesNotWaitInVain: what time does not repair ends the start
// immediately, and a wait ends with its cause.
func TestStartDoesNotWaitInVain(t *testing.T) {
	t.Parallel()
	refusing := natstest.StartWith(t, broker.Options{Users: []broker.User{{Name: "other", Password: "p"}}})
	differs := natstest.Start(t)
	_, err := differs.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "VPCEP_RESULTS", Subjects: []string{"vpcep.results.>"}, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	away := natstest.Start(t)
	away.Stop()
	for _, tt := range []struct {
		name, url string
		wait      time.Duration
		code      int
		want      string
	}{
		{"a refused login", refusing.URL, time.Hour, cli.ExitUnreachable, "Authorization Violation"},
		{"a stream with other settings", differs.URL, time.Hour, cli.ExitInvalid, "VPCEP_RESULTS"},
		{"no wait", away.URL, 0, cli.ExitUnreachable, "check that the broker runs"},
		{"a short wait", away.URL, time.Millisecond, cli.ExitUnreachable, "the broker was not usable within nats.wait (1ms): "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := reachAt(t.Context(), tt.url, tt.wait, true, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) || exitCode(err) != tt.code {
				t.Errorf("%v (exit %d), want %q and exit %d", err, exitCode(err), tt.want, tt.code)
			}
		})
	}

	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := reachAt(ctx, away.URL, time.Hour, true, &onWrite{cancel}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that the wait is interrupted", err)
		}
	})
}

// exitCode is the code with which err ends the process.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*cli.ExitError](err); ok {
		return exit.Code
	}
	return cli.ExitFailed
}
