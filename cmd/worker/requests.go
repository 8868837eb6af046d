package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

func newRequestsCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "requests", Short: "List and show requests: what was decided, and how they ended"}
	c.AddCommand(newRequestsListCommand(env), newRequestsShowCommand(env))
	return c
}

func newRequestsListCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List requests, the latest change first",
	}
	f := c.Flags()
	var filter ledger.Filter
	f.StringVar(&filter.Target, "target", "", "only this target: `name`")
	f.StringVar(&filter.EndpointID, "endpoint-id", "", "only requests about this endpoint: `id`")
	f.StringVar(&filter.DomainID, "domain-id", "", "only connections of this account: `id`")
	f.BoolVar(&filter.Open, "open", false, "only those that have not ended, with what they wait for, oldest first")
	outcomes := f.StringSlice("outcome", nil, "only these outcomes: `name,…`")
	cli.CompleteFlag(c, "outcome", inspect.OutcomeNames())
	since := cli.Duration(f, "since", 0, "only those decided within the last `duration`")
	until := cli.Duration(f, "until", 0, "only those decided before the last `duration`")
	limit := cli.Number(f, "limit", 50, "at most this many; 0: all")
	output := cli.OutputFlag(c)
	config.AddFlags(f, config.ClientSettings()...)
	list := func(c *cobra.Command, cfg config.Config, bus *events.Bus, book *ledger.Ledger) error {
		now := time.Now()
		if *since > 0 {
			filter.Since = now.Add(-*since)
		}
		if *until > 0 {
			filter.Until = now.Add(-*until)
		}
		var found requestList
		var err error
		if filter.Open {
			found, err = inspect.FindOpen(c.Context(), bus, book, filter, *limit)
		} else {
			found, err = inspect.Find(c.Context(), bus, book, filter, *limit)
		}
		if err == nil && found.Len() == 0 {
			err = configured(cfg, filter.Target)
		}
		if err != nil {
			return err
		}
		if err := cli.Print(c, output, found.Records(), func(row cli.Row) { found.Table(row, now) }); err != nil {
			return err
		}
		if _, err := io.WriteString(env.Stderr, found.Hint()); err != nil {
			return err
		}
		return found.Incomplete()
	}
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if filter.Outcomes, err = inspect.ParseOutcomes(*outcomes); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		if *since > 0 && *since <= *until {
			return cli.UsageError(c.CommandPath(), fmt.Errorf("--since %s and --until %s: nothing is between them; --since must be longer", *since, *until))
		}
		if filter.Open && len(filter.Outcomes) > 0 {
			return cli.UsageError(c.CommandPath(), errors.New("--open and --outcome: an open request has no outcome yet; leave one out"))
		}
		if err := filterIDs(&filter); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		return withLedger(env, list)(c, args)
	}
	return c
}

// requestList is what requests list prints.
type requestList interface {
	Len() int
	Records() []events.Record
	Table(row cli.Row, now time.Time)
	Hint() string      // that there are more; for stderr
	Incomplete() error // that some could not be read
}

// filterIDs checks the ids of f and spells them as the ledger does.
func filterIDs(f *ledger.Filter) error {
	for _, id := range []struct {
		flag  string
		value *string
		spell func(string) string
	}{
		{"--endpoint-id", &f.EndpointID, approval.UUID},
		{"--domain-id", &f.DomainID, approval.CanonicalID},
	} {
		if *id.value == "" {
			continue
		}
		if err := approval.ValidID(*id.value); err != nil {
			return fmt.Errorf("%s: %w", id.flag, err)
		}
		*id.value = id.spell(*id.value)
	}
	return nil
}

// configured reports whether target is in the configuration, if it has any.
func configured(cfg config.Config, target string) error {
	if _, ok := cfg.Targets.ByName(target); ok || target == "" || len(cfg.Targets) == 0 {
		return nil
	}
	var names []string
	for _, t := range cfg.Targets {
		names = append(names, t.Name)
	}
	return cli.WithCode(cli.ExitInvalid, fmt.Errorf("there is no target %q%s; the configuration has %s", target, cli.DidYouMean(target, names), strings.Join(names, ", ")))
}
