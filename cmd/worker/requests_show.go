package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

func newRequestsShowCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "show <request>",
		Short: "Show all that is known of a request, with its history",
		Long: `show prints a request from the ledger: what was asked, the facts, the decision with
every reason, what was done and how it ended, and each version of its entry. Name
it by its id or the beginning of it, or by --source and --event-id.`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	source := f.String("source", "", "`source` of the event")
	event := f.String("event-id", "", "`id` of the event")
	output := cli.OutputFlag(c)
	config.AddFlags(f, config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, args []string) error {
		byEvent := *source != "" && *event != ""
		if byEvent == (len(args) == 1) {
			return cli.UsageError(c.CommandPath(), errors.New("name the request either by its id or by --source and --event-id"))
		}
		id := approval.RequestID(*source, *event)
		if !byEvent {
			var err error
			if id, err = inspect.CheckID(args[0]); err != nil {
				return cli.UsageError(c.CommandPath(), err)
			}
		}
		return withLedger(env, func(c *cobra.Command, _ config.Config, _ *events.Bus, book *ledger.Ledger) error {
			history, err := inspect.FindHistory(c.Context(), book, id)
			if err != nil {
				return err
			}
			if output.Text != "table" {
				return cli.Print(c, output, history.Record(), nil)
			}
			text, err := history.Text(cli.Colors(c, env, c.OutOrStdout()))
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), text)
			return err
		})(c, nil)
	}
	return c
}
