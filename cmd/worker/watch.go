package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
)

func newWatchCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "watch",
		Short: "Follow results as they are published",
		Long: `watch prints each result on a line, until it is interrupted. With --since it
begins with those that are stored already, with --no-follow it ends after them.`,
	}
	f := c.Flags()
	var filter events.ResultFilter
	f.StringVar(&filter.Target, "target", "", "only this target: `name`")
	f.StringVar(&filter.RequestID, "request", "", "only this request: `id`")
	outcomes := f.StringSlice("outcome", nil, "only these outcomes: `name,…`")
	cli.CompleteFlag(c, "outcome", inspect.OutcomeNames())
	since := cli.Duration(f, "since", 0, "begin with the results of the last `duration`")
	noFollow := f.Bool("no-follow", false, "end after the stored results")
	count := cli.Number(f, "count", 0, "end after this many results; 0: go on")
	output := &cli.ChoiceFlag{Text: "text", Choices: []string{"text", "json"}}
	f.VarP(output, "output", "o", "how to print; json: an object a line")
	cli.CompleteFlag(c, "output", output.Choices)
	config.AddFlags(f, config.ClientSettings()...)
	follow := func(c *cobra.Command, cfg config.Config, bus *events.Bus) error {
		if !*noFollow { // of a target that is not configured no result will come
			if err := configured(cfg, filter.Target); err != nil {
				return err
			}
		}
		filter.Follow = !*noFollow
		switch {
		case *since > 0:
			filter.Since = time.Now().Add(-*since)
		case !*noFollow:
			filter.New = true
		}
		out := c.OutOrStdout()
		p := cli.Colors(c, env, out)
		seen := 0
		for result, err := range bus.Results(c.Context(), filter) {
			if err != nil {
				return err
			}
			if output.Text == "json" {
				err = json.NewEncoder(out).Encode(events.ResultRecord(result))
			} else {
				_, err = fmt.Fprintln(out, inspect.Line(result, p))
			}
			if err != nil {
				return err
			}
			if seen++; seen == *count {
				break
			}
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if filter.Outcomes, err = inspect.ParseOutcomes(*outcomes); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		return withBus(env, follow)(c, args)
	}
	return c
}
