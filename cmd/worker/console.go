package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/console"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

func newConsoleCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "console",
		Short: "Serve the web pages on which people review requests",
		Long: `console serves web pages: what waits for a review and why, and the forms to approve
and reject. It needs no credentials of the cloud: it reads the bus and the ledger,
and signs what people say with its own key, which reviewers.yaml names. On this
machine people sign in by a one-time link; beyond it by OpenID Connect or a proxy.`,
	}
	f := c.Flags()
	people := f.StringSlice("person", nil, "`name` in reviewers.yaml of who gets a one-time link to sign in, on this machine only")
	config.AddFlags(f, append([]string{"console", "policies.dir", "policies.stable_for"}, config.ClientSettings()...)...)
	c.RunE = withLedger(env, func(c *cobra.Command, cfg config.Config, bus *events.Bus, book *ledger.Ledger) error {
		log, err := cli.NewLogger(cfg.Log.Level, cfg.Log.Format, env.Stderr, env.IsTerminal(env.Stderr), cli.Colors(c, env, env.Stderr))
		if err != nil {
			return err
		}
		s := console.Server{Config: cfg, Bus: bus, Ledger: book, Log: log, People: *people, OnLink: func(name, url string) {
			_, _ = fmt.Fprintf(c.OutOrStdout(), "sign in as %s, once: %s\n", name, url) // who closed it does not wait for links
		}}
		return s.Run(c.Context())
	})
	return c
}
