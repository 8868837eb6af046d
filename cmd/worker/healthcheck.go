package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

func newHealthcheckCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the worker on this machine whether it is ready",
		Long: `healthcheck asks /readyz of the worker that listens on http.probes. Exit code 0:
ready; 1: it answers that it is not; 5: it does not answer.`,
	}
	live := c.Flags().Bool("live", false, "ask /livez instead: whether the process works at all")
	timeout := cli.Duration(c.Flags(), "timeout", 3*time.Second, "how long to wait for the answer")
	config.AddFlags(c.Flags(), "http")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		path := "/readyz"
		if *live {
			path = "/livez"
		}
		target := "http://" + cli.LocalAddress(cfg.HTTP.Probes) + path
		text, err := service.AskProbe(c.Context(), target, *timeout)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), text)
		return err
	}
	return c
}
