package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
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
		views, now := []workerView{}, time.Now()
		for _, w := range workers {
			views = append(views, workerViewOf(w))
		}
		if len(views) == 0 {
			if _, err := fmt.Fprintln(env.Stderr, "no worker is alive: none has stored a heartbeat; start one with: worker run"); err != nil {
				return err
			}
		}
		return cli.Print(c, output, views, func(row cli.Row) {
			row("INSTANCE", "HOST", "VERSION", "STATE", "SINCE", "IN FLIGHT", "TARGETS", "LAST SWEEP", "POLICIES")
			for _, w := range views {
				lastSweep := "-"
				if w.LastSweep != nil {
					lastSweep = cli.Age(now, *w.LastSweep)
				}
				digest, _ := strings.CutPrefix(w.PolicyDigest, "sha256:")
				row(cli.Printable(w.Instance), cli.Printable(cli.OrDash(w.Host)), cli.Printable(cli.OrDash(w.Version)), cli.Printable(string(w.State)), cli.Age(now, w.StartedAt),
					strconv.Itoa(w.InFlight), strconv.Itoa(len(w.Targets)), lastSweep, cli.Printable(cli.OrDash(digest[:min(len(digest), 12)])))
			}
		})
	})
	return c
}

// workerView is a worker as commands print it.
type workerView struct {
	Instance     string               `json:"instance"`
	Host         string               `json:"host,omitempty"`
	Version      string               `json:"version,omitempty"`
	State        approval.WorkerState `json:"state"`
	StartedAt    time.Time            `json:"started_at"`
	SentAt       time.Time            `json:"sent_at"` // of the last heartbeat, by the clock of the worker
	InFlight     int                  `json:"in_flight"`
	Targets      []string             `json:"targets"`
	PolicyDigest string               `json:"policy_digest,omitempty"`
	LastSweep    *time.Time           `json:"last_sweep_at,omitempty"` // none yet, or another worker sweeps
}

func workerViewOf(w approval.WorkerStatus) workerView {
	return workerView{
		Instance: w.Instance, Host: w.Host, Version: w.Version, State: w.State, StartedAt: w.StartedAt, SentAt: w.SentAt,
		InFlight: w.InFlight, Targets: append([]string{}, w.Targets...), PolicyDigest: w.PolicyDigest, LastSweep: moment(w.LastSweep),
	}
}
