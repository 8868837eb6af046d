package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

func newPolicyTestCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "test [dir]",
		Short: "Run the tests of the policies",
		Long: `test decides the requests in the files *_test.yaml of a folder (policies.dir unless it
is named) by the policies in their folder, and compares. For a test that fails it shows
what differs and why it was decided so. Targets that the files name need no
configuration. Exit code 3: the policies or the tests cannot be read, or there are
no tests; 4: a test failed, or fewer entries than --min decided one.`,
		Example: `  worker policy test policies
  worker policy test policies --coverage --min 100
  worker policy test policies -o junit > policies.xml`,
		Args: cli.AtMost(1, "one folder"),
	}
	output := cli.FormatFlag(c, "table", "json", "junit")
	coverage := c.Flags().Bool("coverage", false, "tell which entries decided no test")
	least := c.Flags().Int("min", 0, "fail if less than this `percentage` of the entries decided a test")
	named := targetFlag(c)
	config.AddFlags(c.Flags(), "policies.dir")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *least < 0 || *least > 100 {
			return cli.UsageError(c.CommandPath(), fmt.Errorf("--min %d is no percentage: write 0 to 100", *least))
		}
		bench, err := openBench(c, env, *named, args...)
		if err != nil {
			return err
		}
		dir := bench.dirs[0]
		report, err := workbench.RunTests(dir, bench.targets)
		if err != nil {
			return policyError(err)
		}
		if len(report.Results) == 0 {
			return cli.WithCode(cli.ExitInvalid, fmt.Errorf("no tests in %s — write a file *_test.yaml next to the policies; worker policy new begins one", dir))
		}
		out := c.OutOrStdout()
		switch output.Text {
		case "json":
			err = report.WriteJSON(out)
		case "junit":
			err = report.WriteJUnit(out)
		default:
			err = report.Print(out, *coverage || *least > 0, cli.Colors(c, env, out))
		}
		if err != nil {
			return err
		}
		short := 100*report.Covered() < float64(*least)
		if short {
			if _, err := fmt.Fprintf(env.Stderr, "too few entries decided a test: %.0f %%, and --min is %d\n", 100*report.Covered(), *least); err != nil {
				return err
			}
		}
		if report.Failed() > 0 || short {
			return cli.WithCode(cli.ExitDiffers, cli.ErrReported)
		}
		return nil
	}
	return c
}
