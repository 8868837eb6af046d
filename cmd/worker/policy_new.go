package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

func newPolicySchemaCommand() *cobra.Command {
	schemas := map[string]func() ([]byte, error){"policy": policy.Schema, "test": policy.TestSchema, "reviewers": policy.ReviewersSchema}
	c := &cobra.Command{
		Use:   "schema [policy|test|reviewers]",
		Short: "Print the JSON Schema of policies, of their tests or of reviewers, for editors",
		Long: `schema prints the JSON Schema of a file of a policy, of tests, or of reviewers.yaml. An
editor that knows the YAML language server completes and checks a file that begins with

  # yaml-language-server: $schema=./schema/policy.v1.json`,
		Example:   "  worker policy schema > policies/schema/policy.v1.json\n  worker policy schema test > policies/schema/policy-test.v1.json\n  worker policy schema reviewers > policies/schema/reviewers.v1.json",
		ValidArgs: []string{"policy", "test", "reviewers"},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && schemas[args[0]] == nil {
				return fmt.Errorf("there is no schema of %q%s — name policy, test or reviewers", args[0], cli.DidYouMean(args[0], c.ValidArgs))
			}
			return cli.AtMost(1, "policy, test or reviewers")(c, args)
		},
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := schemas[append(args, "policy")[0]]()
		if err != nil {
			return err
		}
		_, err = c.OutOrStdout().Write(text)
		return err
	}
	return c
}

func newPolicyNewCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "new <name>",
		Short: "Write a commented starter policy with a test",
		Long: `new writes a policy for a target and a file of tests for it, and the schemas for
editors if they are missing. They are right as they are, and allow only ids that
belong to nobody. Nothing is ever overwritten.`,
		Example: "  worker policy new partners --target payments\n  worker policy new partners --target payments=service --dir policies",
		Args:    cli.Exactly(1, "the new policy, with a-z, 0-9 and -"),
	}
	f := c.Flags()
	target := f.String("target", "", "`name` of the target, or name=kind of one that is not configured")
	dir := f.String("dir", "", "`folder` to write to (default policies.dir)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *target == "" {
			return cli.UsageError(c.CommandPath(), fmt.Errorf("no --target — name the target that the policy is for, such as payments, or payments=service; kinds are %s", config.KindList()))
		}
		if err := approval.ValidName(args[0]); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		where := *dir
		if where == "" {
			where = cfg.Policies.Dir
		}
		b := bench{cfg: cfg, dirs: []string{where}, targets: cfg.Targets}
		if info, err := os.Stat(where); err == nil && info.IsDir() && len(b.targets) == 0 {
			if b.targets, err = policy.TestTargets(where, nil); err != nil {
				return policyError(err)
			}
		}
		t, _, err := b.pick(*target)
		if err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		written, err := workbench.WriteStarter(where, args[0], t)
		if err != nil {
			return err
		}
		return tellNext(c.OutOrStdout(), where, written)
	}
	return c
}

// tellNext says what was written and what to do with it.
func tellNext(w io.Writer, dir string, written []string) error {
	for _, name := range written {
		if _, err := fmt.Fprintln(w, "wrote "+name); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, `
next: put your own ids into %[1]s and expect them in its tests, then
  worker policy check %[2]s
  worker policy test %[2]s --coverage
`, written[0], dir)
	return err
}
