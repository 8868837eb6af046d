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

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// simulateStop is how long calls in hand may take after the end was asked for.
const simulateStop = 3 * time.Second

// simulation is what `worker simulate` was asked for.
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
		Short: "Serves the cloud's APIs from this machine, simulated, with faults if wanted",
		Long: `simulate serves VPCEP, APIG, FunctionGraph, HSS, DataArts Insight and IAM on one
address, prints how to point the worker at it, and stays up until it is
interrupted. It checks signatures and tokens, walks connections through their
states, and misbehaves as --faults and --fault say. Nothing is kept.

A fault is API[/OPERATION]:KIND[:KEY=VALUE,…], with * for any API, such as
  vpcep:throttle-400:count=3
  */ListServiceConnections:stale-list:delay=10s,probability=0.2
  functiongraph:cut-after:after=30s,for=1m
The kinds are ` + kindsInWords() + `.`,
		Example: "  worker simulate --admin --fault 'vpcep:throttle-400:count=3'\n  worker simulate --listen 127.0.0.1:8440 --faults none --script cloud.yaml",
	}
	flags := c.Flags()
	flags.StringVar(&s.listen, "listen", "127.0.0.1:0", "`address` to serve on; port 0 takes a free one")
	flags.Uint64Var(&s.cfg.Seed, "seed", 1, "of all ids and of the faults' dice")
	flags.StringArrayVar(&s.faults, "fault", nil, "a `fault` to make; can be given again")
	preset := &cli.ChoiceFlag{Text: "mild", Choices: simulator.Presets()}
	flags.Var(preset, "faults", "a set of faults to make besides")
	flags.StringVar(&s.script, "script", "", "YAML `file` with services, gateways, connections and timed faults, instead of those of the demo")
	flags.BoolVar(&s.cfg.Admin, "admin", false, "serve calls below /_sim/ that show and change the simulated cloud, to whoever can reach the address")
	flags.DurationVar(&s.cfg.Latency, "latency", 0, "of every answer")
	flags.BoolVar(&s.cfg.SmallMarkers, "small-marker-ids", false, "number endpoints from 1 on; real marker ids go beyond what 32 bits hold")
	flags.StringVar(&s.auth.AccessKey, "access-key", s.auth.AccessKey, "that signatures are checked with; invent one")
	flags.StringVar(&s.auth.SecretKey, "secret-key", s.auth.SecretKey, "that belongs to it; never a real one")
	cli.CompleteFlag(c, "faults", simulator.Presets())
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

// check reads what the flags say.
func (s *simulation) check() error {
	if s.cfg.Latency < 0 {
		return fmt.Errorf("--latency %s: an answer cannot come before its question; give 0 or more", s.cfg.Latency)
	}
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		return fmt.Errorf("--listen %q: not an address with a port, such as 127.0.0.1:8440", s.listen)
	}
	if s.auth.AccessKey == "" || s.auth.SecretKey == "" {
		return errors.New("--access-key and --secret-key: both are needed; leave both away for those of the simulator")
	}
	set, err := simulator.FaultPreset(s.preset)
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
	s.cfg.Region = demoRegion
	s.cfg.DataArtsDomainID = demoInsight
	s.cfg.Delays = simulator.Delays{
		Visible: 500 * time.Millisecond, Create: 2 * time.Second, Accept: 3 * time.Second,
		Delete: 2 * time.Second, ListLag: 500 * time.Millisecond,
	}
	return nil
}

// run serves until ctx ends.
func (s *simulation) run(ctx context.Context, out io.Writer) error {
	world := demoWorld()
	if s.script != "" {
		text, err := os.ReadFile(s.script)
		if err != nil {
			return cli.WithCode(cli.ExitInvalid, fmt.Errorf("--script: %w", err))
		}
		if world, err = readScript(text); err != nil {
			return cli.WithCode(cli.ExitInvalid, fmt.Errorf("--script %s: %w", s.script, err))
		}
		world.configure(&s.cfg)
	}
	sim := simulator.New(s.cfg)
	if err := world.build(sim); err != nil {
		return cli.WithCode(cli.ExitInvalid, fmt.Errorf("--script %s: %w", s.script, err))
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return cli.WithCode(cli.ExitFailed, fmt.Errorf("--listen %s: %w — choose another port, or 0 for any that is free", s.listen, err))
	}
	if err := s.explain(out, listener.Addr(), world); err != nil {
		return errors.Join(err, listener.Close())
	}
	// Calls that a fault makes wait are let go when ctx ends.
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
	if server.Shutdown(stop) != nil { // somebody holds a connection; it is cut
		err = server.Close()
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// explain prints where the cloud is and how to use it.
func (s *simulation) explain(out io.Writer, at net.Addr, world *script) error {
	url := "http://" + at.String()
	var text strings.Builder
	fmt.Fprintf(&text, "simulated cloud: %s\n", url)
	fmt.Fprintf(&text, "faults: %s", s.preset)
	if n := len(s.faults) + len(world.Faults); n > 0 {
		fmt.Fprintf(&text, ", and %d of your own", n)
	}
	fmt.Fprintf(&text, "\n\nIn the shell of the worker:\n\n  export HUAWEICLOUD_SDK_AK=%s HUAWEICLOUD_SDK_SK=%s\n", s.auth.AccessKey, s.auth.SecretKey)
	fmt.Fprintf(&text, "\nIn its configuration:\n\n  cloud:\n    region: %s\n    auth: {mode: aksk}\n    endpoints:\n", s.cfg.Region)
	for _, api := range simulator.APIs() {
		fmt.Fprintf(&text, "      %s: %s\n", api, url)
	}
	text.WriteString("  targets:\n")
	for _, v := range world.Services {
		fmt.Fprintf(&text, "    - {name: %s, kind: service, id: %s, project_id: %s}\n", targetName("service", v.Name, v.ID), v.ID, v.ProjectID)
	}
	for _, g := range world.Gateways {
		fmt.Fprintf(&text, "    - {name: %s, kind: gateway, id: %s, project_id: %s", targetName("gateway", g.Name, g.ID), g.ID, g.ProjectID)
		if g.ServiceID != "" {
			fmt.Fprintf(&text, ", service_id: %s", g.ServiceID)
		}
		text.WriteString("}\n")
	}
	if s.cfg.Admin {
		fmt.Fprintf(&text, "\nA consumer connects:\n\n  curl -d '{\"target\": \"%s\", \"domain_id\": \"%s\"}' %s/_sim/connections\n", world.someTarget(), demoAcme, url)
		fmt.Fprintf(&text, "\nWhat the cloud was asked, and did:\n\n  curl %s/_sim/counters\n", url)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// targetName is a name for a target in the configuration.
func targetName(kind, name, id string) string {
	if name != "" {
		return name
	}
	return kind + "-" + strings.ToLower(id[:min(8, len(id))])
}
