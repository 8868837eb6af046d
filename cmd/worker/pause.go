package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
)

func newPauseCommand(env cli.Environment) *cobra.Command {
	return pauseCommand(env, true, &cobra.Command{
		Use:   "pause",
		Short: "Stop all accepts, rejects and creations of all workers",
		Long: `pause is the emergency stop: once it has returned with 0, no worker sends a call that
changes something in the cloud until "worker resume". Requests wait meanwhile and
are not lost. Exit code 1: it is written, and a live worker has not said that it has seen it.`,
	})
}

func newResumeCommand(env cli.Environment) *cobra.Command {
	return pauseCommand(env, false, &cobra.Command{
		Use:   "resume",
		Short: "End what worker pause began",
		Long:  `resume ends the pause of all targets, or of one; requests that waited go on.`,
	})
}

func pauseCommand(env cli.Environment, paused bool, c *cobra.Command) *cobra.Command {
	target := c.Flags().String("target", "", "only this target: `name` (default all)")
	timeout := cli.Duration(c.Flags(), "timeout", 15*time.Second, "how long to wait until every live worker has seen it")
	config.AddFlags(c.Flags(), config.ClientSettings()...)
	c.RunE = withBus(env, func(c *cobra.Command, cfg config.Config, bus *events.Bus) error {
		change := inspect.PauseChange{Target: *target, Paused: paused, Known: targetNames(cfg.Targets), Timeout: *timeout}
		return change.Do(c.Context(), bus, c.OutOrStdout())
	})
	return c
}
