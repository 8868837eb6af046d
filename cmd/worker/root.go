package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
)

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, env cli.Environment) int {
	env.Stdin = cli.Interruptible(ctx, env.Stdin)
	root := newRootCommand(env) //nolint:contextcheck // commands get ctx from ExecuteContext
	root.SetArgs(env.Args)
	return cli.Finish(ctx, env.Stderr, root.ExecuteContext(ctx))
}

// newRootCommand returns the whole command line.
func newRootCommand(env cli.Environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "worker",
		Short: "Approve VPC endpoint connections on Huawei Cloud by allow-lists",
		Long: `worker approves VPC endpoint connections on Huawei Cloud by itself, safely: it
takes requests from NATS JetStream, checks each one against the facts in the
cloud, decides it by YAML allow-lists, acts, and publishes what came of it.

Settings come from flags, over APPROVER_… variables, over the file, over
defaults; "worker config docs" lists them. Exit codes: 0 done, 1 failed, 2 wrong
usage, 3 invalid input or findings, 4 tests failed or changes found, 5 a
dependency is unreachable, 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return cli.UsageError(c.CommandPath(), err)
	})
	flags := root.PersistentFlags()
	flags.String("config", "", "configuration `file` (default "+config.DefaultFile+" if it is there)")
	flags.Var(&cli.ChoiceFlag{Text: "auto", Choices: cli.ColorChoices()}, "color", "color on a terminal unless NO_COLOR is set, always, or never")
	config.AddFlags(flags, "log")

	if len(env.Args) > 0 && env.Args[0] == "run" {
		root.AddCommand(newRunCommand(env)) // to make the others as well takes 0.7 ms of 15
	} else {
		addCommands(root, env)
	}
	root.InitDefaultCompletionCmd()
	root.SetHelpCommand(newHelpCommand())
	root.InitDefaultHelpCmd()
	finishCommands(root)
	return root
}

func addCommands(root *cobra.Command, env cli.Environment) {
	root.AddCommand(
		newBusCommand(env),
		newConfigCommand(env),
		newConsoleCommand(env),
		newDemoCommand(env),
		newDeadLettersCommand(env),
		newDoctorCommand(env), newEventsCommand(),
		newHealthcheckCommand(env),
		newInitCommand(env),
		newPolicyCommand(env),
		newPauseCommand(env), newResumeCommand(env),
		newRequestsCommand(env),
		newRunCommand(env),
		newSimulateCommand(),
		newReviewsCommand(env), newStatusCommand(env),
		newSubmitCommand(env),
		newWatchCommand(env),
		newVersionCommand(),
	)
}

// newHelpCommand is "worker help config show".
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Show help for a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = noSuchCommand(about, rest[0])
			}
			if err != nil {
				return err
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// noSuchCommand is the error for a word that names no command below c.
func noSuchCommand(c *cobra.Command, word string) error {
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	return cli.UsageError(c.CommandPath(), fmt.Errorf("there is no command %q%s", c.CommandPath()+" "+word, cli.DidYouMean(word, names)))
}

// finishCommands gives every command below c the same manners with arguments.
func finishCommands(c *cobra.Command) {
	for _, sub := range c.Commands() {
		finishCommands(sub)
	}
	if c.RunE == nil && c.Run == nil { // a group
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		c.Args = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return noSuchCommand(c, args[0])
		}
		return
	}
	check := c.Args
	if check == nil {
		check = cli.NoArguments
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		return nil
	}
}
