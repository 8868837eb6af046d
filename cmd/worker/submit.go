package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/submit"
)

func newSubmitCommand(env cli.Environment) *cobra.Command {
	var s submit.Spec
	c := &cobra.Command{
		Use:   "submit",
		Short: "Publish a request, and wait for its result if asked to",
		Long: `submit publishes a request event: one connection by flags, or anything by a file
that holds a CloudEvent or the data of one. The request is checked first, against
the configured targets if there are any.

The only right that it needs is to publish requests. An id that is used already
ends it with exit code 1, unless the request that is stored is the same.

With --wait it prints how the request ended: exit code 1 if that is failed or
unknown, or if no result came in time. That needs the right to read results.`,
		Example: `  worker submit --target payments --endpoint-id 705290f3-0d00-41f2-aedc-71f09844e879 --claim tags.env=prod --wait
  echo '{"target": "functions", "functiongraph": {"vpc_id": "…", "subnet_id": "…"}}' | worker submit --file -`,
	}
	f := c.Flags()
	f.StringVar(&s.Target, "target", "", "`name` of the target")
	f.StringVar(&s.EndpointID, "endpoint-id", "", "`id` of the endpoint that wants to connect")
	f.StringArrayVar(&s.Claims, "claim", nil, "a claim about the requester, `path=value`, such as tags.env=prod")
	f.StringVar(&s.File, "file", "", "`file` with a CloudEvent or the data of one; - is stdin")
	f.StringVar(&s.ID, "id", "", "`id` of the event; the same source and id are the same request (default random)")
	f.StringVar(&s.Source, "source", "", "`source` of the event (default "+submit.DefaultSource+")")
	wait := f.Bool("wait", false, "wait for the result")
	timeout := cli.Duration(f, "timeout", 5*time.Minute, "how long to wait")
	output := cli.OutputFlag(c)
	config.AddFlags(f, config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := s.Check(); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return err
		}
		if err := configured(cfg, s.Target); err != nil {
			return err
		}
		req, err := s.Request(cfg.Targets, env)
		if err != nil {
			return cli.WithCode(cli.ExitInvalid, err)
		}
		return withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
			if !*wait {
				if err := bus.SubmitNew(c.Context(), req); err != nil {
					return err
				}
				return printSubmitted(c, output, req)
			}
			waiting, err := bus.WaitFor(c.Context(), req.ID)
			if err != nil {
				return fmt.Errorf("not submitted, for the result could not be waited for: %w", err)
			}
			defer waiting.Close()
			if err := bus.SubmitNew(c.Context(), req); err != nil {
				return err
			}
			return awaitResult(c, env, bus, waiting, req, *timeout, output)
		})(c, args)
	}
	return c
}

// printSubmitted says what the request is called from now on.
func printSubmitted(c *cobra.Command, output *cli.ChoiceFlag, req approval.Request) error {
	v := submit.NewSubmitted(req)
	return cli.Print(c, output, v, func(row cli.Row) {
		row("submitted request " + v.ID + " to " + v.Target)
		row("its result: worker watch --since 1h --request " + v.ID)
	})
}

// noticeAfter is how long submit waits for a result before it says that none came.
const noticeAfter = 10 * time.Second

// awaitResult prints how req ended.
func awaitResult(c *cobra.Command, env cli.Environment, bus *events.Bus, waiting *events.ResultWait, req approval.Request, timeout time.Duration, output *cli.ChoiceFlag) error {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	notice := min(noticeAfter, timeout/2)
	soon, cancelSoon := context.WithTimeout(ctx, notice)
	defer cancelSoon()
	result, err := waiting.Result(soon)
	if err != nil && expired(ctx, soon) {
		why := "a worker may not be running, or be busy"
		if served, known := bus.Served(ctx); known && !served {
			why = "no worker takes requests; is one running?"
		}
		if _, err := fmt.Fprintf(env.Stderr, "no result within %s, still waiting: %s\n", notice, why); err != nil {
			return err
		}
		result, err = waiting.Result(ctx)
	}
	switch {
	case err != nil && expired(c.Context(), ctx):
		return fmt.Errorf("request %s: no result within %s — it may still come: worker watch --since 1h --request %s; or it was no request to the worker: worker deadletters list", req.ID, timeout, req.ID)
	case err != nil:
		return err
	}
	if output.Text == "table" {
		_, err = io.WriteString(c.OutOrStdout(), inspect.Result(result, cli.Colors(c, env, c.OutOrStdout())))
	} else {
		err = cli.Print(c, output, events.ResultRecord(result), nil)
	}
	if err == nil && (result.Outcome == approval.OutcomeFailed || result.Outcome == approval.OutcomeUnknown) {
		return cli.WithCode(cli.ExitFailed, cli.ErrReported)
	}
	return err
}
