package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
)

func newDeadLettersCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "deadletters", Short: "List, show, replay or drop dead letters"}
	c.AddCommand(
		newDeadLettersListCommand(env),
		newDeadLettersShowCommand(env),
		newDeadLettersEndCommand(env, "replay", "replayed", "Submit dead letters again, as they were, and remove them",
			`replay submits the original message again; do it once what was wrong is fixed. The
dead letter is removed. Name dead letters by their numbers, or all of a reason.`, (*events.Bus).Replay),
		newDeadLettersEndCommand(env, "drop", "dropped", "Remove dead letters for good",
			`drop removes dead letters; the original stays in the stream of requests for as long
as that keeps messages. Name dead letters by their numbers, or all of a reason.`, (*events.Bus).Drop),
	)
	return c
}

func newDeadLettersListCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List dead letters, the oldest first"}
	f := c.Flags()
	reason := reasonFlag(c)
	limit := cli.Number(f, "limit", 50, "at most this many, the latest; 0: all")
	output := cli.OutputFlag(c)
	config.AddFlags(f, config.ClientSettings()...)
	c.RunE = withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
		found, err := inspect.FindDeadLetters(c.Context(), bus, reason.Text, *limit)
		if err != nil {
			return err
		}
		err = cli.Print(c, output, found.List, func(row cli.Row) { found.Table(row, time.Now()) })
		if err == nil && found.More > 0 {
			_, err = fmt.Fprintf(env.Stderr, "%d older — see --limit\n", found.More)
		}
		return err
	})
	return c
}

// reasonFlag adds --reason.
func reasonFlag(c *cobra.Command) *cli.ChoiceFlag {
	f := &cli.ChoiceFlag{Choices: events.DeadLetterReasons(), Form: "reason"}
	c.Flags().Var(f, "reason", "only of this reason: "+strings.Join(f.Choices, ", "))
	cli.CompleteFlag(c, "reason", f.Choices)
	return f
}

func newDeadLettersShowCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "show <number>",
		Short: "Show a dead letter with its original headers and bytes",
		Args:  cobra.ExactArgs(1),
	}
	output := cli.OutputFlag(c)
	config.AddFlags(c.Flags(), config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, args []string) error {
		numbers, err := parseNumbers(args)
		if err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		return withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
			d, err := bus.DeadLetter(c.Context(), numbers[0])
			if err != nil {
				return noDeadLetter(err)
			}
			v := inspect.NewDeadLetter(d)
			if output.Text != "table" {
				return cli.Print(c, output, v, nil)
			}
			_, err = io.WriteString(c.OutOrStdout(), v.Details(cli.Colors(c, env, c.OutOrStdout())))
			return err
		})(c, nil)
	}
	return c
}

// noDeadLetter makes a number that is not there invalid input.
func noDeadLetter(err error) error {
	if errors.Is(err, events.ErrNoDeadLetter) {
		return cli.WithCode(cli.ExitInvalid, fmt.Errorf("%w — see: worker deadletters list", err))
	}
	return err
}

func parseNumbers(args []string) ([]uint64, error) {
	var out []uint64
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q is not the number of a dead letter", arg)
		}
		out = append(out, n)
	}
	return out, nil
}

// newDeadLettersEndCommand is replay or drop: what they end, and how many, is
// chosen the same way.
func newDeadLettersEndCommand(env cli.Environment, name, done, short, long string, end func(*events.Bus, context.Context, uint64) error) *cobra.Command {
	c := &cobra.Command{Use: name + " [number…]", Short: short, Long: long, Args: cobra.ArbitraryArgs}
	reason := reasonFlag(c)
	all := c.Flags().Bool("all", false, "all of them")
	config.AddFlags(c.Flags(), config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, args []string) error {
		numbers, err := parseNumbers(args)
		many := *all || reason.Text != ""
		switch {
		case err != nil:
			return cli.UsageError(c.CommandPath(), err)
		case many == (len(numbers) > 0):
			return cli.UsageError(c.CommandPath(), errors.New("name dead letters either by their numbers, or by --reason or --all"))
		}
		return withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
			if many {
				found, err := inspect.FindDeadLetters(c.Context(), bus, reason.Text, 0)
				if err != nil {
					return err
				}
				for _, d := range found.List {
					numbers = append(numbers, d.Number)
				}
			}
			for i, n := range numbers {
				if err := end(bus, c.Context(), n); err != nil {
					return noDeadLetter(fmt.Errorf("%s %d of %d, then: %w", done, i, len(numbers), err))
				}
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s\n", done, cli.Plural(len(numbers), "dead letter", "dead letters"))
			return err
		})(c, nil)
	}
	return c
}
