package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

// openBus connects a command to the bus that the settings name.
func openBus(c *cobra.Command, env cli.Environment, cfg config.Config) (*events.Bus, error) {
	bus, err := connectBus(c.Context(), c, env, cfg)
	if e, ok := errors.AsType[*cli.ExitError](err); ok && e.Code == cli.ExitUnreachable {
		return nil, cli.WithCode(cli.ExitUnreachable, fmt.Errorf("%w — see: worker doctor", e.Err))
	}
	return bus, err
}

// connectBus is openBus without the hint in its error.
func connectBus(ctx context.Context, c *cobra.Command, env cli.Environment, cfg config.Config) (*events.Bus, error) {
	log, err := cli.NewLogger(cfg.Log.Level, cfg.Log.Format, env.Stderr, env.IsTerminal(env.Stderr), cli.Colors(c, env, env.Stderr))
	if err != nil {
		return nil, err
	}
	b := service.BusConfig(cfg)
	b.Log, b.Name = log, "vpcep-approver "+c.Name()
	if cfg.NATS.Embedded() {
		b.URL = "nats://" + cli.LocalAddress(cfg.NATS.Listen)
		if b.Login, err = service.EmbeddedLogin(cfg.NATS); err != nil {
			return nil, err
		}
	}
	bus, err := events.Connect(ctx, b)
	if err != nil {
		return nil, cli.WithCode(cli.ExitUnreachable, err)
	}
	return bus, nil
}

// withBus runs do with the configuration and the bus.
func withBus(env cli.Environment, do func(c *cobra.Command, cfg config.Config, bus *events.Bus) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) (err error) {
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		bus, err := openBus(c, env, cfg)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, bus.Close()) }()
		return do(c, cfg, bus)
	}
}

// withLedger runs do with the configuration, the bus and the ledger.
func withLedger(env cli.Environment, do func(*cobra.Command, config.Config, *events.Bus, *ledger.Ledger) error) func(*cobra.Command, []string) error {
	return withBus(env, func(c *cobra.Command, cfg config.Config, bus *events.Bus) error {
		bucket, err := bus.Bucket(c.Context())
		if err != nil {
			return fmt.Errorf("%w; see: worker bus status", err)
		}
		return do(c, cfg, bus, ledger.New(bucket, nil))
	})
}

// expired reports whether a wait ended by its own limit and not by the process's
// end.
func expired(outer, waiting context.Context) bool {
	return outer.Err() == nil && waiting.Err() != nil
}
