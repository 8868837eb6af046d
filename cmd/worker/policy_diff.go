package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

func newPolicyDiffCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "diff [<old> <new>]",
		Short: "Show what changes between two folders of policies",
		Long: `diff compares what two folders of policies say. The order of files and entries,
comments and spelling make no difference. With --since or --records it also decides
what was recorded by both, and shows which decisions flip. Exit code 4: something
changes, or a decision is inconclusive.

Without folders it compares policies.dir with the candidates in policies.shadow_dir.`,
		Example: `  git worktree add ../main main && worker policy diff ../main/policies policies
  worker policy diff old new --since 30d`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return cli.Exactly(2, "two folders, the old one first")(c, args)
		},
	}
	output := cli.FormatFlag(c, "table", "json")
	records := recordFlags(c, "also compare decisions of the ledger made within the last `duration`, such as 30d")
	named := targetFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			cfg, err := config.Load(env, config.FlagsOf(c))
			if err != nil {
				return err
			}
			if cfg.Policies.ShadowDir == "" {
				return cli.UsageError(c.CommandPath(), errors.New("name two folders, the old one first — or set policies.shadow_dir to compare with it"))
			}
			args = []string{cfg.Policies.Dir, cfg.Policies.ShadowDir}
		}
		bench, err := openBench(c, env, *named, args...)
		if err != nil {
			return err
		}
		old, err := bench.load(args[0])
		if err != nil {
			return err
		}
		candidate, err := bench.load(args[1])
		if err != nil {
			return err
		}
		view := workbench.Comparison{Changes: []workbench.Change{}}
		view.Changes = append(view.Changes, workbench.Diff(old, candidate)...)
		var hole error
		if records.since.Duration > 0 || records.file != "" {
			var flips workbench.Flips
			if flips, hole, err = backtest(c, env, records, bench, candidate, old); err != nil {
				return err
			}
			view.Flips = &flips
		}
		if err := view.Write(c.OutOrStdout(), output.Text, cli.Colors(c, env, c.OutOrStdout())); err != nil {
			return err
		}
		if hole != nil {
			return hole
		}
		if view.Differs() {
			return cli.WithCode(cli.ExitDiffers, cli.ErrReported)
		}
		return nil
	}
	return c
}
