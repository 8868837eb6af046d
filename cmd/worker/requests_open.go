package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

// openRequest is a request that has not ended.
type openRequest struct {
	entry   approval.Entry // only with its request if the ledger does not know it
	waiting events.Waiting
}

// listOpen prints the requests that have not ended: those of the ledger without a
// result, and those of the bus that no worker has acknowledged.
func listOpen(c *cobra.Command, env cli.Environment, output *cli.ChoiceFlag, bus *events.Bus, book *ledger.Ledger, filter ledger.Filter, known foundEntries, limit int) error {
	open := map[string]*openRequest{}
	for _, e := range known.entries {
		open[e.Request.ID] = &openRequest{entry: e, waiting: waitingOf(e)}
	}
	all, queue, err := bus.Unacknowledged(c.Context())
	if err != nil {
		return err
	}
	cut := false
	for m, err := range queue {
		if err != nil {
			return err
		}
		if o := open[m.Request.ID]; o != nil {
			o.waiting.Since = m.StoredAt.UTC()
			continue
		}
		if limit > 0 && len(open) >= limit {
			cut = true
			break
		}
		if !filter.Match(approval.Entry{Request: m.Request, Decision: approval.Decision{At: m.StoredAt}}) {
			continue
		}
		e, err := book.Get(c.Context(), m.Request.ID)
		if bad, ok := errors.AsType[*ledger.UnreadableError](err); ok {
			known.unreadable = append(known.unreadable, bad)
			continue
		}
		if err != nil {
			return err
		}
		if e != nil { // it has ended, or the filter leaves it out
			continue
		}
		w := events.Waiting{Since: m.StoredAt.UTC(), Code: "queued", Text: "No worker has been given it yet."}
		if m.Delivered {
			w.Code, w.Text = "in_progress", "A worker has been given it."
		}
		open[m.Request.ID] = &openRequest{entry: approval.Entry{Request: m.Request}, waiting: w}
	}
	rows := make([]*openRequest, 0, len(open))
	for _, o := range open {
		rows = append(rows, o)
	}
	slices.SortFunc(rows, func(a, b *openRequest) int {
		return cmp.Or(a.waiting.Since.Compare(b.waiting.Since), cmp.Compare(a.entry.Request.ID, b.entry.Request.ID))
	})
	if limit > 0 && len(rows) > limit {
		rows, cut = rows[:limit], true
	}
	if err := printOpen(c, output, rows, time.Now()); err != nil {
		return err
	}
	if cut {
		if _, err := fmt.Fprintf(env.Stderr, "there are more; %s not acknowledged on the bus: see --limit\n", cli.Plural(all, "request is", "requests are")); err != nil {
			return err
		}
	}
	return known.incomplete()
}

// waitingOf says what an entry without a result waits for.
func waitingOf(e approval.Entry) events.Waiting {
	w := events.Waiting{Since: e.Decision.At.UTC(), Code: "in_progress", Text: "It is decided and not ended."}
	if e.Wait == nil {
		return w
	}
	if w.Since.IsZero() {
		w.Since = e.Wait.Since.UTC()
	}
	w.Code, w.Text, w.Stage, w.RequestID = e.Wait.Code, e.Wait.Text, string(e.Wait.Stage), e.Wait.RequestID
	if o := e.Wait.Operator; o != nil {
		w.API, w.Operation = o.API, o.Operation
	}
	return w
}

func printOpen(c *cobra.Command, output *cli.ChoiceFlag, open []*openRequest, now time.Time) error {
	records := []events.Record{}
	for _, o := range open {
		r := events.NewRecord(o.entry)
		r.Waiting = &o.waiting
		records = append(records, r)
	}
	return cli.Print(c, output, records, func(row cli.Row) {
		row("REQUEST", "TARGET", "ACCOUNT", "ASKS", "VERDICT", "AGE", "WAITS FOR")
		for _, o := range open {
			v, w := viewOf(o.entry), o.waiting
			why := w.Code + ": " + w.Text
			if w.API != "" {
				why = w.API + " " + w.Operation + ": " + why
			}
			if w.RequestID != "" {
				why += " [request id " + w.RequestID + "]"
			}
			row(v.ID, cli.Printable(v.Target), cli.Printable(cli.OrDash(v.DomainID)), cli.Printable(v.Asks), cli.OrDash(v.Verdict), cli.Age(now, w.Since), cli.Printable(why))
		}
	})
}
