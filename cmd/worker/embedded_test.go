package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/demo"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// TestEmbeddedServerLetsNobodyInWithoutALogin runs the worker with the server
// inside it, and tries what other processes of the machine could do.
func TestEmbeddedServerLetsNobodyInWithoutALogin(t *testing.T) {
	t.Parallel()
	env := cli.Environment{Stdout: io.Discard, Stderr: io.Discard, ReadFile: os.ReadFile, IsTerminal: func(io.Writer) bool { return false }}
	data := filepath.Join(t.TempDir(), "data")
	d := &demo.Demo{Env: env, Dir: t.TempDir(), Seed: 1, Settings: map[string]string{
		"nats.url": "embedded", "nats.data_dir": data, "nats.listen": freePort(t), "http.listen": "127.0.0.1:0", "http.probes": "127.0.0.1:0",
	}}
	if err := d.UnpackPolicies(); err != nil {
		t.Fatal(err)
	}
	closeCloud, err := d.StartCloud(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeCloud)
	cfg, err := d.Config("embedded")
	if err != nil {
		t.Fatal(err)
	}
	url := "nats://" + cfg.NATS.Listen
	command := func(args ...string) result {
		return call{args: append(args, "--nats-url", "embedded", "--nats-data-dir", data), environ: map[string]string{"APPROVER_NATS_LISTEN": cfg.NATS.Listen}}.do(t.Context())
	}

	if got := command("bus", "status"); got.code != cli.ExitUnreachable || !strings.Contains(got.stderr, "no embedded NATS server runs in "+data) {
		t.Errorf("before the start: %+v", got)
	}
	var log bytes.Buffer
	newService := func(log io.Writer, ready func(*events.Bus, service.URLs)) *service.Service {
		return &service.Service{Config: cfg, Log: zerolog.New(zerolog.SyncWriter(log)), Limits: worker.DefaultLimits(), WatchEvery: time.Second, Ready: ready}
	}
	started, ended := make(chan struct{}), make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- newService(&log, func(*events.Bus, service.URLs) { close(started) }).Run(ctx) }()
	select {
	case <-started:
	case err := <-ended:
		t.Fatalf("the worker did not start: %v", err)
	}

	if nc, err := nats.Connect(url); err == nil {
		nc.Close()
		t.Error("connected without a login")
	}
	producer(t, url, data)
	if got := command("bus", "status"); got.code != cli.ExitDone {
		t.Errorf("a command on this machine: %+v", got)
	}
	second := newService(io.Discard, func(*events.Bus, service.URLs) { t.Error("the second started") })
	second.Config.NATS.Listen = "127.0.0.1:0"
	if err := second.Run(t.Context()); !errors.Is(err, broker.ErrLocked) || !strings.Contains(err.Error(), data) {
		t.Errorf("a second worker with the same folder: %v", err)
	}

	stop()
	if err := <-ended; err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	for _, user := range []string{broker.WorkerUser, broker.ProducerUser} {
		password, err := broker.ReadPassword(data, user)
		if err != nil || strings.Contains(log.String(), password) {
			t.Errorf("the password of %s: %v, in the log: %t", user, err, err == nil)
		}
	}
}

// producer tries what the embedded server's user for producers may do.
func producer(t *testing.T, url, data string) {
	t.Helper()
	password, err := broker.ReadPassword(data, broker.ProducerUser)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(url, nats.UserInfo(broker.ProducerUser, password), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for subject, may := range map[string]bool{
		"vpcep.requests.payments":           true,
		"vpcep.requests._sweep.payments":    false,
		"vpcep.results.accepted.a.b":        false,
		"$KV.vpcep-ledger.request.a":        false,
		"$JS.API.STREAM.PURGE.KV_ledger":    false,
		"$JS.API.STREAM.INFO.VPCEP_RESULTS": false,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if !may {
			ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		}
		if _, err := js.Publish(ctx, subject, []byte("{}")); (err == nil) != may {
			t.Errorf("the producer publishes on %s: %v", subject, err)
		}
		cancel()
	}
}

// freePort returns an address of this machine on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it was only to find a port
	return l.Addr().String()
}
