package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

func newReviewsCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "reviews",
		Short: "List, show, approve or reject requests that wait for a person",
		Long: `reviews are what people say of requests that the policies hold. A policy says who may
decide with its key review; reviewers.yaml in the folder of policies names the people.
A review is signed, published on the bus and counted by the workers.`,
	}
	c.AddCommand(newReviewsListCommand(env), newReviewsShowCommand(env), newReviewsSayCommand(env, review.Approve), newReviewsSayCommand(env, review.Reject), newReviewsKeygenCommand(env))
	return c
}

// reviewSettings are those of commands that judge by the policies.
func reviewSettings() []string { return append([]string{"policies.dir"}, config.ClientSettings()...) }

func newReviewsListCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List what waits for a review, the oldest first",
		Long: `list prints the work list: requests that are held and still pending, with what is
missing and who may act, by the policies of this machine (policies.dir). With --mine
it has only what you may still decide: say who you are with --key or --name.`,
	}
	f := c.Flags()
	target := f.String("target", "", "only of this target")
	mine := f.Bool("mine", false, "only what you may still decide")
	key := f.String("key", "", "`file` with your seed, for --mine")
	name := f.String("name", "", "your `name` in reviewers.yaml, for --mine")
	output := cli.OutputFlag(c)
	config.AddFlags(f, reviewSettings()...)
	c.RunE = withLedger(env, func(c *cobra.Command, cfg config.Config, _ *events.Bus, book *ledger.Ledger) error {
		set, err := policy.LoadDir(cfg.Policies.Dir, cfg.Targets)
		if err != nil {
			return cli.WithCode(cli.ExitInvalid, err)
		}
		who, err := inspect.WhoReviews(set, *mine, *key, *name)
		if err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		list, err := inspect.FindReviews(c.Context(), book, set, *target, who, time.Now())
		if err == nil && len(list) == 0 {
			err = configured(cfg, *target)
		}
		if err != nil {
			return err
		}
		if output.Text != "table" {
			return cli.Print(c, output, list.JSON(), nil)
		}
		if len(list) == 0 {
			_, err = fmt.Fprintln(env.Stderr, "nothing waits for a review")
			return err
		}
		return cli.Print(c, output, list, func(row cli.Row) { list.Table(row, time.Now()) })
	})
	return c
}

func newReviewsShowCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "show <request>",
		Short: "Show a request that waits, its facts, the rules and the reviews so far",
		Args:  cli.Exactly(1, "the id of a request, or the beginning of it"),
	}
	output := cli.OutputFlag(c)
	config.AddFlags(c.Flags(), reviewSettings()...)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withLedger(env, func(c *cobra.Command, cfg config.Config, _ *events.Bus, book *ledger.Ledger) error {
			set, err := policy.LoadDir(cfg.Policies.Dir, cfg.Targets)
			if err != nil {
				return cli.WithCode(cli.ExitInvalid, err)
			}
			record, err := inspect.FindReview(c.Context(), book, args[0])
			if err != nil {
				return err
			}
			item := review.NewItem(record, set, time.Now())
			if output.Text != "table" {
				return cli.Print(c, output, inspect.NewReviewJSON(&item), nil)
			}
			explain, err := inspect.ExplainReview(&item, set, time.Now())
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), inspect.ReviewText(&item, explain, cli.Colors(c, env, c.OutOrStdout())))
			return err
		})(c, nil)
	}
	return c
}

func newReviewsKeygenCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "keygen",
		Short: "Make the key of a reviewer, and print the line for reviewers.yaml",
		Long: `keygen writes a new seed to a file that only you can read, and prints the line with
the public key for reviewers.yaml. The key signs reviews; do not use it to log in.`,
		Args: cli.NoArguments,
	}
	f := c.Flags()
	name := f.String("name", "", "`name` of the reviewer in reviewers.yaml")
	file := f.String("out", "", "`file` for the seed (default <name>.nk)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := approval.ValidName(*name); err != nil {
			return cli.UsageError(c.CommandPath(), fmt.Errorf("say whose key it is, with --name: %w", err))
		}
		path := cmp.Or(*file, *name+".nk")
		public, err := review.NewKey(path, *name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(env.Stderr, "wrote the seed to %s; keep it secret\n", path); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "  - {name: %s, key: %s}\n", *name, public)
		return err
	}
	return c
}
