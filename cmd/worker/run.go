package main

import (
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// memoryLimit is from where on the collector runs more often, in bytes.
const memoryLimit = 56 << 20

// garbage is how much may be garbage below it, in percent of what is used. Most of what a
// request takes is gone when it ends, so that the collector has less to do the later it runs.
const garbage = 200

// manySlots is from where on the stacks of the requests in progress are most of the
// memory, and the collector lets the heap grow by a share of them, too. With a limit of
// the operator's own there is room for that.
const manySlots = 512

// limitMemory has the collector keep the worker small, unless the environment says
// otherwise.
func limitMemory(env cli.Environment, slots int) {
	variables := env.Variables()
	limited, percent := variables["GOMEMLIMIT"] != "", garbage
	if !limited {
		debug.SetMemoryLimit(memoryLimit)
		if slots > manySlots {
			percent = 5
		}
	}
	if variables["GOGC"] == "" {
		debug.SetGCPercent(percent)
	}
}

func newRunCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the worker",
		Long: `run takes requests from NATS JetStream until it gets SIGTERM or SIGINT; it then
takes no more, finishes or gives back what is in progress, and ends with 0. A
second signal ends it immediately. Policies that changed are loaded once they have
stayed the same for policies.stable_for; SIGHUP has it look at them now.

With --dry-run it only says in the log what it would decide about each pending
connection and each creation that was asked for. It is no replica: it may run next to
workers, takes nothing from them, and neither the broker nor the cloud is changed.`,
	}
	dry := c.Flags().Bool("dry-run", false, "decide and log, and never act")
	config.AddFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		log, err := cli.NewLogger(cfg.Log.Level, cfg.Log.Format, env.Stderr, env.IsTerminal(env.Stderr), cli.Colors(c, env, env.Stderr))
		if err != nil {
			return err
		}
		log.Info().Str("file", config.Source(env, config.FlagsOf(c))).Msg("configuration")
		limits := worker.DefaultLimits()
		limits.MaxAge, limits.ConfirmFor, limits.LedgerMaxAge = cfg.Worker.MaxAge, cfg.Worker.ConfirmFor, cfg.Ledger.MaxAge
		limitMemory(env, cfg.Worker.Slots)
		s := service.Service{Config: cfg, Log: log, Limits: limits, WatchEvery: 2 * time.Second}
		if *dry {
			return s.DryRun(c.Context())
		}
		return s.Run(c.Context())
	}
	return c
}
