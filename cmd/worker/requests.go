package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

func newRequestsCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "requests", Short: "List and show requests: what was decided, and how they ended"}
	c.AddCommand(newRequestsListCommand(env), newRequestsShowCommand(env))
	return c
}

// withLedger runs do with the ledger.
func withLedger(env cli.Environment, do func(c *cobra.Command, book *ledger.Ledger) error) func(*cobra.Command, []string) error {
	return withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
		bucket, err := bus.Bucket(c.Context())
		if err != nil {
			return fmt.Errorf("%w — see: worker bus status", err)
		}
		return do(c, ledger.New(bucket, nil))
	})
}

func newRequestsListCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List requests, the latest first",
	}
	f := c.Flags()
	var filter ledger.Filter
	f.StringVar(&filter.Target, "target", "", "only this target: `name`")
	f.StringVar(&filter.EndpointID, "endpoint-id", "", "only requests about this endpoint: `id`")
	f.StringVar(&filter.DomainID, "domain-id", "", "only connections of this account: `id`")
	f.BoolVar(&filter.Open, "open", false, "only those that have not ended, with what they wait for, oldest first")
	outcomes := f.StringSlice("outcome", nil, "only these outcomes: `name,…`")
	cli.CompleteFlag(c, "outcome", outcomeNames())
	since := f.Duration("since", 0, "only those decided within the last `duration`")
	until := f.Duration("until", 0, "only those decided before the last `duration`")
	limit := f.Int("limit", 50, "at most this many; 0: all")
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
		found, err := entries(c.Context(), book, filter)
		if err != nil {
			return err
		}
		if len(found.entries) == 0 {
			if err := configured(cfg, filter.Target); err != nil {
				return err
			}
		}
		if filter.Open {
			return listOpen(c, env, output, bus, book, filter, found, *limit)
		}
		return printRequests(c, env, output, found, *limit, now)
	}
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if filter.Outcomes, err = parseOutcomes(*outcomes); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		if filter.Open && len(filter.Outcomes) > 0 {
			return cli.UsageError(c.CommandPath(), errors.New("--open and --outcome: an open request has no outcome yet; leave one out"))
		}
		if err := filterIDs(&filter); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		return withBus(env, func(c *cobra.Command, cfg config.Config, bus *events.Bus) error {
			bucket, err := bus.Bucket(c.Context())
			if err != nil {
				return fmt.Errorf("%w; see: worker bus status", err)
			}
			return list(c, cfg, bus, ledger.New(bucket, nil))
		})(c, args)
	}
	return c
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
	return cli.WithCode(cli.ExitInvalid, fmt.Errorf("there is no target %q%s; the configuration has %s", target, cli.DidYouMean(cli.Suggest(target, names)), strings.Join(names, ", ")))
}

// found is what the ledger gave, and what of it could not be read.
type foundEntries struct {
	entries    []approval.Entry // the latest decision first
	unreadable []*ledger.UnreadableError
}

func entries(ctx context.Context, book *ledger.Ledger, filter ledger.Filter) (foundEntries, error) {
	var out foundEntries
	for e, err := range book.List(ctx, filter) {
		if bad, ok := errors.AsType[*ledger.UnreadableError](err); ok {
			out.unreadable = append(out.unreadable, bad)
			continue
		}
		if err != nil {
			return out, err
		}
		out.entries = append(out.entries, e)
	}
	slices.SortStableFunc(out.entries, func(a, b approval.Entry) int {
		return cmp.Or(b.Decision.At.Compare(a.Decision.At), cmp.Compare(a.Request.ID, b.Request.ID))
	})
	return out, nil
}

// printRequests prints at most limit of what was found. What could not be read is
// told on stderr and makes the command fail: a list with a hole is no list.
func printRequests(c *cobra.Command, env cli.Environment, output *cli.ChoiceFlag, found foundEntries, limit int, now time.Time) error {
	all := len(found.entries)
	if limit > 0 && all > limit {
		found.entries = found.entries[:limit]
	}
	records := []events.Record{}
	for _, e := range found.entries {
		records = append(records, events.NewRecord(e))
	}
	err := cli.Print(c, output, records, func(row cli.Row) {
		row("REQUEST", "TARGET", "ACCOUNT", "ASKS", "VERDICT", "RULE", "OUTCOME", "AGE")
		for i, e := range found.entries {
			v := viewOf(e)
			row(v.ID, cli.Printable(v.Target), cli.Printable(cli.OrDash(v.DomainID)), cli.Printable(v.Asks), cli.OrDash(v.Verdict), cli.Printable(cli.OrDash(v.rulePath())), cli.OrDash(v.Outcome), cli.Age(now, found.entries[i].Decision.At))
		}
	})
	if err != nil {
		return err
	}
	if all > len(records) {
		if _, err := fmt.Fprintf(env.Stderr, "%d more — see --limit\n", all-len(records)); err != nil {
			return err
		}
	}
	return found.incomplete()
}

// incomplete is the error of a list in which entries are missing.
func (f foundEntries) incomplete() error {
	if len(f.unreadable) == 0 {
		return nil
	}
	return fmt.Errorf("%s could not be read, the first: %w", cli.Plural(len(f.unreadable), "entry", "entries"), f.unreadable[0])
}

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
			id = strings.ToLower(args[0])
		}
		if len(id) < 4 || strings.Trim(id, "0123456789abcdef") != "" {
			return cli.UsageError(c.CommandPath(), fmt.Errorf("%q is not the id of a request: that is 32 hexadecimal digits, of which the first 4 may be enough", id))
		}
		return withLedger(env, func(c *cobra.Command, book *ledger.Ledger) error {
			history, err := historyOf(c.Context(), book, id)
			if err != nil {
				return err
			}
			return printHistory(c, env, output, history)
		})(c, nil)
	}
	return c
}

// historyOf returns the versions of the one request whose id begins so.
func historyOf(ctx context.Context, book *ledger.Ledger, id string) ([]approval.Entry, error) {
	if len(id) < 32 {
		found, err := entries(ctx, book, ledger.Filter{})
		if err != nil {
			return nil, err
		}
		var match []string
		for _, e := range found.entries {
			if strings.HasPrefix(e.Request.ID, id) {
				match = append(match, e.Request.ID)
			}
		}
		if len(match) > 1 {
			return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("%d requests begin with %s — give more of it: %s", len(match), id, strings.Join(match[:min(len(match), 5)], ", ")))
		}
		if len(match) == 1 {
			id = match[0]
		}
	}
	history, err := book.History(ctx, id)
	if err == nil && len(history) == 0 {
		err = cli.WithCode(cli.ExitInvalid, fmt.Errorf("the ledger has no request %s — not decided yet, or no request at all: see worker requests list, worker deadletters list", id))
	}
	return history, err
}

func printHistory(c *cobra.Command, env cli.Environment, output *cli.ChoiceFlag, history []approval.Entry) error {
	last := history[len(history)-1]
	record := events.NewRecord(last)
	for _, e := range history {
		record.History = append(record.History, events.Version{Revision: e.Revision, What: stateOf(e)})
	}
	if output.Text != "table" {
		return cli.Print(c, output, record, nil)
	}
	v := viewOf(last)
	p := cli.Colors(c, env, c.OutOrStdout())
	var b strings.Builder
	b.WriteString(v.details(p))
	if len(v.Claims) > 0 {
		claims, err := json.Marshal(v.Claims)
		if err != nil {
			return fmt.Errorf("write the claims: %w", err)
		}
		fmt.Fprintf(&b, "%s %s\n", p.Dim("claims    "), cli.Printable(string(claims)))
	}
	for _, h := range record.History {
		fmt.Fprintf(&b, "%s revision %d: %s\n", p.Dim("history   "), h.Revision, h.What)
	}
	_, err := io.WriteString(c.OutOrStdout(), b.String())
	return err
}

// stateOf says how far a request had come.
func stateOf(e approval.Entry) string {
	switch {
	case e.Result != nil:
		return "ended " + string(e.Result.Outcome)
	case !e.ActedAt.IsZero():
		return "the cloud took it at " + e.ActedAt.UTC().Format(time.RFC3339)
	case e.Intent != nil && e.Intent.Created != nil:
		return "the cloud created it"
	case e.Intent != nil:
		return "about to create, " + cli.Plural(e.Intent.Sends, "send", "sends") + " with unknown outcome"
	}
	return "decided to " + string(e.Decision.Verdict)
}
