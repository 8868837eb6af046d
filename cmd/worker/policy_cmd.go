package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

func newPolicyCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check, test, explain and compare policies",
		Long: `policy works on allow-lists before they go live. All of it decides by the very
function that the worker decides by, and none of it calls the cloud.

Policies name targets of the configuration. Where no configuration has targets,
those that the tests next to the policies name are used, so that all of this works
in a fresh clone; --target name=kind names them by hand.`,
		Example: `  worker policy new partners --target payments=service
  worker policy check policies
  worker policy test policies --coverage --min 100
  worker policy explain policies --target payments --domain-id 6e9dfd51d1124e8d8498dce894923a0d
  worker policy backtest policies --since 30d`,
	}
	c.AddCommand(
		newPolicyBacktestCommand(env),
		newPolicyCheckCommand(env),
		newPolicyDiffCommand(env),
		newPolicyExplainCommand(env),
		newPolicyNewCommand(env),
		newPolicyRecordsCommand(env),
		newPolicySchemaCommand(),
		newPolicyTestCommand(env),
	)
	return c
}

func newPolicyCheckCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "check [dir]",
		Short: "Find errors and likely mistakes in policies",
		Long: `check reads the policies in a folder (policies.dir unless it is named) as a worker
would and reports every finding with its place, its code and a hint. Exit
code 0: a worker would load them; 3: it would not, or --strict is set and there
are warnings. Unless a folder is named, those of policies.shadow_dir are read too.

Policies name targets of the configuration. Where no configuration has targets,
those that the tests next to the policies name are used; or name them:
--target payments=service --target functions=functiongraph`,
		Example: `  worker policy check policies
  worker policy check policies --strict -o sarif > policies.sarif
  worker policy check policies --strict --now 2027-01-01   # what will have expired by then`,
		Args: cli.AtMost(1, "one folder"),
	}
	output := cli.FormatFlag(c, "table", "json", "sarif")
	strict := c.Flags().Bool("strict", false, "let warnings fail too")
	at := &cli.TimeFlag{}
	c.Flags().Var(at, "now", "find what has expired at this `time` (default now)")
	named := targetFlag(c)
	config.AddFlags(c.Flags(), "policies.dir")
	c.RunE = func(c *cobra.Command, args []string) error {
		bench, err := openBench(c, env, *named, args...)
		if err != nil {
			return err
		}
		report, err := workbench.Check(bench.dirs[0], bench.targets, at.Or(time.Now()), service.ExampleFindings)
		if err != nil {
			return err
		}
		if shadow := bench.cfg.Policies.ShadowDir; len(args) == 0 && shadow != "" {
			candidates, err := workbench.Check(shadow, bench.targets, at.Or(time.Now()), service.ExampleFindings)
			if err != nil {
				return fmt.Errorf("policies.shadow_dir: %w", err)
			}
			report.Shadow = &candidates
		}
		if err := report.Write(c.OutOrStdout(), output.Text, cli.Colors(c, env, c.OutOrStdout())); err != nil {
			return err
		}
		if report.Fails(*strict) {
			return cli.WithCode(cli.ExitInvalid, cli.ErrReported)
		}
		return nil
	}
	return c
}
