package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/demo"
)

// simulateStop is the time that running calls have to finish at shutdown.
const simulateStop = 3 * time.Second

// simulation holds the flags of `worker simulate`.
type simulation struct {
	listen string
	script string
	preset string
	faults []string
	cfg    simulator.Config
	auth   simulator.Auth
}

func newSimulateCommand() *cobra.Command {
	s := &simulation{auth: simulator.DefaultAuth()}
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Serve a simulated cloud on a local address",
		Long: `Serve VPCEP, APIG, FunctionGraph, HSS, DataArts Insight and IAM on one address
until interrupted, and print the configuration that points the worker to it. The
simulator checks signatures and tokens, and stores nothing. --faults and --fault
make it fail.

The format of a fault is API[/OPERATION]:KIND[:KEY=VALUE,…], with * for any API:
  vpcep:throttle-400:count=3
  */ListServiceConnections:stale-list:delay=10s,probability=0.2
  functiongraph:cut-after:after=30s,for=1m
The kinds are ` + kindsInWords() + `.`,
		Example: "  worker simulate --admin --fault 'vpcep:throttle-400:count=3'\n  worker simulate --listen 127.0.0.1:8440 --faults none --script cloud.yaml",
	}
	flags := c.Flags()
	flags.StringVar(&s.listen, "listen", "127.0.0.1:0", "listen `address`; port 0 selects a free port")
	flags.Uint64Var(&s.cfg.Seed, "seed", 1, "random seed for ids and faults")
	flags.StringArrayVar(&s.faults, "fault", nil, "additional `fault`; repeatable")
	preset := &cli.ChoiceFlag{Text: "mild", Choices: simulator.FaultProfiles()}
	flags.Var(preset, "faults", "fault `profile`")
	flags.StringVar(&s.script, "script", "", "YAML `file` with services, gateways, connections and timed faults; replaces those of the demo")
	flags.BoolVar(&s.cfg.Admin, "admin", false, "serve the admin API below /_sim/, which shows and changes the simulated cloud without authentication")
	flags.DurationVar(&s.cfg.Latency, "latency", 0, "delay added to every response")
	flags.BoolVar(&s.cfg.SmallMarkers, "small-marker-ids", false, "marker ids that start at 1; real ones exceed 32 bits")
	flags.StringVar(&s.auth.AccessKey, "access-key", s.auth.AccessKey, "access key that signatures are checked with; never use a real one")
	flags.StringVar(&s.auth.SecretKey, "secret-key", s.auth.SecretKey, "secret key that signatures are checked with; never use a real one")
	cli.CompleteFlag(c, "faults", simulator.FaultProfiles())
	c.RunE = func(c *cobra.Command, _ []string) error {
		s.preset = preset.Text
		if err := s.check(); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		return s.run(c.Context(), c.OutOrStdout())
	}
	return c
}

func kindsInWords() string {
	var out []string
	for _, k := range simulator.FaultKinds() {
		out = append(out, string(k))
	}
	return strings.Join(out, ", ")
}

// check validates the flags and sets cfg.
func (s *simulation) check() error {
	if s.cfg.Latency < 0 {
		return fmt.Errorf("--latency %s: must not be negative", s.cfg.Latency)
	}
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		return fmt.Errorf("--listen %q: not an address with a port, such as 127.0.0.1:8440", s.listen)
	}
	if s.auth.AccessKey == "" || s.auth.SecretKey == "" {
		return errors.New("--access-key and --secret-key: must not be empty; omit both to use the defaults")
	}
	set, err := simulator.FaultProfile(s.preset)
	if err != nil {
		return fmt.Errorf("--faults: %w", err)
	}
	s.cfg.Faults = slices.Clone(set)
	for _, text := range s.faults {
		f, err := simulator.ParseFault(text)
		if err != nil {
			return fmt.Errorf("--fault %w", err)
		}
		s.cfg.Faults = append(s.cfg.Faults, f)
	}
	s.cfg.Auth = s.auth
	s.cfg.Region = demo.Region
	s.cfg.DataArtsDomainID = demo.Insight
	s.cfg.Delays = simulator.Delays{
		Visible: 500 * time.Millisecond, Create: 2 * time.Second, Accept: 3 * time.Second,
		Delete: 2 * time.Second, ListLag: 500 * time.Millisecond,
	}
	return nil
}

// run serves until ctx ends.
func (s *simulation) run(ctx context.Context, out io.Writer) error {
	world := demo.Script()
	if s.script != "" {
		text, err := os.ReadFile(s.script)
		if err != nil {
			return cli.WithCode(cli.ExitInvalid, fmt.Errorf("--script: %w", err))
		}
		if world, err = simulator.ReadScript(s.script, text); err != nil {
			return cli.WithCode(cli.ExitInvalid, fmt.Errorf("--script: %w", err))
		}
		world.Configure(&s.cfg)
	}
	sim := simulator.New(s.cfg)
	if err := world.Build(sim); err != nil {
		return cli.WithCode(cli.ExitInvalid, fmt.Errorf("--script %s: %w", s.script, err))
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return cli.WithCode(cli.ExitFailed, fmt.Errorf("--listen %s: %w; choose another port, or 0 for a free one", s.listen, err))
	}
	if err := s.explain(out, listener.Addr(), world); err != nil {
		return errors.Join(err, listener.Close())
	}
	// Calls that a fault delays end with ctx.
	server := &http.Server{
		Handler: sim, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), simulateStop)
	defer cancel()
	if server.Shutdown(stop) != nil { // a call takes too long
		err = server.Close()
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// explain prints the address and how to use it.
func (s *simulation) explain(out io.Writer, at net.Addr, world *simulator.Script) error {
	url := "http://" + at.String()
	var text strings.Builder
	fmt.Fprintf(&text, "simulated cloud: %s\n", url)
	fmt.Fprintf(&text, "faults: %s", s.preset)
	if n := len(s.faults) + len(world.Faults); n > 0 {
		fmt.Fprintf(&text, ", and %d from --fault and --script", n)
	}
	fmt.Fprintf(&text, "\n\nIn the shell of the worker:\n\n  export HUAWEICLOUD_SDK_AK=%s HUAWEICLOUD_SDK_SK=%s\n", s.auth.AccessKey, s.auth.SecretKey)
	fmt.Fprintf(&text, "\nIn its configuration:\n\n  cloud:\n    region: %s\n    auth: {mode: aksk}\n    endpoints:\n", s.cfg.Region)
	for _, api := range simulator.APIs() {
		fmt.Fprintf(&text, "      %s: %s\n", api, url)
	}
	text.WriteString("  targets:\n")
	if err := world.WriteTargets(&text); err != nil {
		return err
	}
	if s.cfg.Admin {
		fmt.Fprintf(&text, "\nConnect a consumer:\n\n  curl -d '{\"target\": \"%s\", \"domain_id\": \"%s\"}' %s/_sim/connections\n", world.ExampleTarget(), demo.Acme, url)
		fmt.Fprintf(&text, "\nShow what was called and changed:\n\n  curl %s/_sim/counters\n", url)
	}
	_, err := io.WriteString(out, text.String())
	return err
}
