package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
)

func newBusCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "bus", Short: "Make or compare the streams, the consumer and the buckets"}
	setup := &cobra.Command{
		Use:   "setup",
		Short: "Make what is missing; never change or delete what exists",
		Long: `setup makes the streams, the consumer and the bucket where they are missing, and
compares those that are there. It changes and deletes nothing. Exit code 3: something
that is there would break a promise of the worker.`,
	}
	status := &cobra.Command{
		Use:   "status",
		Short: "Compare the configuration on the broker with what is needed",
		Long: `status says in what the streams, the consumer and the bucket differ from what setup
would make. Exit code 4: a difference breaks a promise of the worker; others are the
operator's choice.`,
	}
	for _, sub := range []*cobra.Command{setup, status} {
		output := cli.OutputFlag(sub)
		config.AddFlags(sub.Flags(), append(config.ClientSettings(), "nats.replicas", "nats.max_bytes")...)
		making := sub == setup
		sub.RunE = func(c *cobra.Command, _ []string) (err error) {
			cfg, err := config.Load(env, config.FlagsOf(c))
			if err != nil {
				return err
			}
			cfg.NATS.Create = making
			bus, err := openBus(c, env, cfg)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, bus.Close()) }()
			if making {
				if err := bus.Setup(c.Context()); err != nil {
					if _, differs := errors.AsType[*events.SetupError](err); differs {
						err = cli.WithCode(cli.ExitInvalid, err)
					}
					return err
				}
			}
			differences, err := bus.Status(c.Context())
			if err != nil {
				return err
			}
			shown := inspect.NewDifferences(differences)
			if err := cli.Print(c, output, shown, shown.Table); err != nil || !shown.Matter() {
				return err
			}
			return cli.WithCode(cli.ExitDiffers, cli.ErrReported)
		}
		c.AddCommand(sub)
	}
	return c
}
