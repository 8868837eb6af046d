package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

// backtest decides the records by candidate, and by current if there is one. hole
// tells which of them could not be read.
func backtest(c *cobra.Command, env cli.Environment, records *recordSource, b bench, candidate, current *policy.Set) (flips workbench.Flips, hole, err error) {
	list, hole, err := records.read(c, env)
	if err != nil {
		return flips, nil, err
	}
	flips, err = workbench.Backtest(list, candidate, current, b.targets)
	return flips, hole, err
}

func newPolicyBacktestCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "backtest [dir]",
		Short: "Decide recorded requests again, and show what flips",
		Long: `backtest takes decisions from the ledger and decides them by the policies in a
folder (policies.dir unless it is named), on the facts and at the time of the record.
A verdict that differs from the recorded one is a flip; with --against, one that
differs from what another folder of policies says. Exit code 4: a flip that is not
in --allow-flips, so that it serves as a gate before a merge.

A file of allowed flips has a pattern a line, # begins a comment:
  hold>accept payments partners/acme *     # from and to, target, policy and entry, account

Where a limit applies and the connections of the account were not counted when the
decision was recorded, every count is tried. If the verdict depends on it, whether it
flips is inconclusive, which fails like a flip: hold>unknown in a file of allowed flips.`,
		Example: `  worker policy backtest policies --since 30d
  worker policy backtest policies --against ../main/policies --allow-flips flips.txt
  worker policy backtest policies --records records.jsonl -o json`,
		Args: cli.AtMost(1, "one folder"),
	}
	output := cli.FormatFlag(c, "table", "json")
	records := recordFlags(c, "decisions made within the last `duration` (default 30d; of a file, all)")
	against := c.Flags().String("against", "", "compare with what the policies in this `folder` say, and not with what was recorded")
	allow := c.Flags().String("allow-flips", "", "`file` of flips that are meant")
	named := targetFlag(c)
	config.AddFlags(c.Flags(), "policies.dir")
	c.RunE = func(c *cobra.Command, args []string) error {
		view, hole, err := runBacktest(c, env, records, *against, *allow, *named, args)
		if err != nil {
			return err
		}
		if output.Text == "json" {
			err = cli.WriteJSON(c.OutOrStdout(), view)
		} else {
			err = view.Print(c.OutOrStdout(), env.Stderr)
		}
		switch {
		case err != nil:
			return err
		case hole != nil:
			return hole
		case view.Differs():
			return cli.WithCode(cli.ExitDiffers, cli.ErrReported)
		}
		return nil
	}
	return c
}

func runBacktest(c *cobra.Command, env cli.Environment, records *recordSource, against, allow string, named, dirs []string) (view workbench.BacktestReport, hole, err error) {
	if len(dirs) == 0 {
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return view, nil, err
		}
		dirs = []string{cfg.Policies.Dir}
	}
	if against != "" {
		dirs = append(slices.Clone(dirs), against)
	}
	bench, err := openBench(c, env, named, dirs...)
	if err != nil {
		return view, nil, err
	}
	candidate, err := bench.load(bench.dirs[0])
	if err != nil {
		return view, nil, err
	}
	var current *policy.Set
	if against != "" {
		if current, err = bench.load(against); err != nil {
			return view, nil, err
		}
	}
	var allowed workbench.AllowedFlips
	if allow != "" {
		if allowed, err = readAllowed(env, allow); err != nil {
			return view, nil, err
		}
	}
	flips, hole, err := backtest(c, env, records, bench, candidate, current)
	if err != nil {
		return view, nil, err
	}
	return workbench.NewBacktestReport(flips, allowed), hole, nil
}

func readAllowed(env cli.Environment, name string) (workbench.AllowedFlips, error) {
	data, err := env.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no file %s", name)
	}
	var allowed workbench.AllowedFlips
	if err == nil {
		if allowed, err = workbench.ReadAllowedFlips(bytes.NewReader(data)); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	if err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("--allow-flips: %w", err))
	}
	return allowed, nil
}
