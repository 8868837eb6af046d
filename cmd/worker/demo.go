package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/demo"
)

func newDemoCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run the worker with a simulated cloud and an embedded bus",
		Long: `demo runs the whole worker in this process, with NATS, a simulated cloud and the
example policies with it, and sends it requests: allowed ones, denied ones,
liars, creations, throttled calls, lost answers. It shows each decision as it
falls and ends with 0 only if every request ended as it should. Nothing outside
this machine is called, and nothing is kept.`,
	}
	requests := c.Flags().Int("requests", 40, "how many requests to send")
	serve := c.Flags().Bool("serve", false, "stay up after that, with a console in the browser, and print how to send requests of your own")
	seed := c.Flags().Uint64("seed", 1, "of the simulated cloud's ids and faults")
	faults := &cli.ChoiceFlag{Text: "mild", Choices: []string{"none", "mild", "storm"}}
	c.Flags().Var(faults, "faults", "how the simulated cloud misbehaves")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *requests < 0 || *requests > 10_000 {
			return cli.UsageError(c.CommandPath(), fmt.Errorf("--requests %d: from 0 to 10000 can be sent", *requests))
		}
		dir, err := os.MkdirTemp("", "vpcep-approver-demo-")
		if err != nil {
			return fmt.Errorf("a folder for the demo: %w", err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // it is in the folder for temporary files
		level, _ := c.Flags().GetString("log-level")
		d := &demo.Demo{
			Env: env, Dir: dir, Requests: *requests, Serve: *serve, Seed: *seed, Faults: faults.Text, LogLevel: level,
			Output: demo.NewOutput(c.OutOrStdout(), cli.Colors(c, env, c.OutOrStdout())),
		}
		return d.Run(c.Context())
	}
	return c
}
