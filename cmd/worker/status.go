package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

func newStatusCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "List the live workers by their heartbeats",
		Long: `status lists the workers whose last heartbeat is not older than its time to live:
instance, host, version, start, requests in flight, policies and last sweep. A
worker that died is listed for a few seconds more.`,
	}
	output := cli.OutputFlag(c)
	config.AddFlags(c.Flags(), config.ClientSettings()...)
	c.RunE = withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
		workers, err := ledger.NewWorkers(bus).List(c.Context())
		if err != nil {
			return err
		}
		paused, err := ledger.NewPauses(bus).Read(c.Context())
		if err != nil {
			return err
		}
		if _, err := fmt.Fprint(env.Stderr, inspect.PauseText(paused, time.Now())); err != nil {
			return err
		}
		list := inspect.NewWorkers(workers)
		if len(list) == 0 {
			if _, err := fmt.Fprintln(env.Stderr, "no worker is alive: none has stored a heartbeat; start one with: worker run"); err != nil {
				return err
			}
		}
		return cli.Print(c, output, list, func(row cli.Row) { list.Table(row, time.Now()) })
	})
	return c
}
