package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/doctor"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

func newDoctorCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything that the worker depends on, and say how to fix it",
		Long: `doctor checks configuration, policies, broker, streams, permissions, credentials,
clock and each API, a line each. It decides nothing and calls nothing that changes
a connection. On the broker it tries each right that the worker needs with messages
that the broker refuses to store.
Exit code: that of the first check that failed; 3 for what is configured wrongly,
5 for what cannot be reached, 1 for the rest.`,
	}
	timeout := cli.Duration(c.Flags(), "timeout", 15*time.Second, "how long each check may take")
	output := &cli.ChoiceFlag{Text: "text", Choices: []string{"text", "json"}}
	c.Flags().VarP(output, "output", "o", "how to print; json: an object a line")
	cli.CompleteFlag(c, "output", output.Choices)
	config.AddFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		out := c.OutOrStdout()
		d := doctor.Doctor{
			Env: env, Flags: config.FlagsOf(c), Timeout: *timeout,
			Report: doctor.Printer(out, output.Text, cli.Colors(c, env, out)),
			Connect: func(ctx context.Context, cfg config.Config) (*events.Bus, error) {
				return connectBus(ctx, c, env, cfg)
			},
		}
		return d.Run(c.Context())
	}
	return c
}
