package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

func newBusCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "bus", Short: "Make or compare the streams, the consumer and the buckets"}
	setup := &cobra.Command{
		Use:   "setup",
		Short: "Make what is missing; never change or delete what exists",
		Long: `setup makes the streams, the consumer and the bucket where they are missing, and
compares those that are there. It changes and deletes nothing. Exit code 3: something
that is there would break a promise of the worker.`,
	}
	status := &cobra.Command{
		Use:   "status",
		Short: "Compare the configuration on the broker with what is needed",
		Long: `status says in what the streams, the consumer and the bucket differ from what setup
would make. Exit code 4: a difference breaks a promise of the worker; others are the
operator's choice.`,
	}
	for _, sub := range []*cobra.Command{setup, status} {
		output := cli.OutputFlag(sub)
		config.AddFlags(sub.Flags(), append(config.ClientSettings(), "nats.replicas", "nats.max_bytes")...)
		making := sub == setup
		sub.RunE = func(c *cobra.Command, _ []string) (err error) {
			cfg, err := config.Load(env, config.FlagsOf(c))
			if err != nil {
				return err
			}
			cfg.NATS.Create = making
			bus, err := openBus(c, env, cfg)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, bus.Close()) }()
			if making {
				if err := bus.Setup(c.Context()); err != nil {
					if _, differs := errors.AsType[*events.SetupError](err); differs {
						err = cli.WithCode(cli.ExitInvalid, err)
					}
					return err
				}
			}
			differences, err := bus.Status(c.Context())
			if err != nil {
				return err
			}
			return printDifferences(c, output, differences)
		}
		c.AddCommand(sub)
	}
	return c
}

// differenceView is a difference as commands print it.
type differenceView struct {
	Resource string `json:"resource"`
	Field    string `json:"field,omitempty"` // empty: all of it is missing
	Have     string `json:"have,omitempty"`
	Want     string `json:"want,omitempty"`
	Matters  bool   `json:"matters"`
	Effect   string `json:"effect,omitempty"`
	Fix      string `json:"fix,omitempty"`
}

func printDifferences(c *cobra.Command, output *cli.ChoiceFlag, differences []events.Difference) error {
	views, matter := []differenceView{}, 0
	for _, d := range differences {
		views = append(views, differenceView(d))
		if d.Matters {
			matter++
		}
	}
	err := cli.Print(c, output, views, func(row cli.Row) {
		if len(views) == 0 {
			row("streams, consumer and bucket are as they should be")
			return
		}
		row("RESOURCE", "FIELD", "IS", "SHOULD BE", "MATTERS", "EFFECT AND FIX")
		for _, v := range views {
			matters := "no: the operator's choice"
			if v.Matters {
				matters = "yes"
			}
			if v.Field == "" {
				row(v.Resource, "-", "missing", "there", matters, v.Fix)
				continue
			}
			row(v.Resource, v.Field, v.Have, v.Want, matters, strings.Join(slices.DeleteFunc([]string{v.Effect, v.Fix}, func(s string) bool { return s == "" }), ": "))
		}
	})
	if err == nil && matter > 0 {
		return cli.WithCode(cli.ExitDiffers, cli.ErrReported)
	}
	return err
}
