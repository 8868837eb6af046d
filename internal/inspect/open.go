package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

// Open are requests that have not ended, the oldest first.
type Open struct {
	rows           []*openRequest
	unacknowledged int  // on the bus, also those that are not listed
	more           bool // than were asked for
	unreadable     []*ledger.UnreadableError
}

// openRequest is a request that has not ended.
type openRequest struct {
	entry   approval.Entry // only with its request if the ledger does not know it
	waiting events.Waiting
}

// FindOpen returns the requests that have not ended: those of the ledger without a
// result, and those of the bus that no worker has acknowledged. It returns at most
// limit of them; 0 is all.
func FindOpen(ctx context.Context, bus *events.Bus, book *ledger.Ledger, filter ledger.Filter, limit int) (Open, error) {
	var out Open
	decided, err := newFinder(bus, book, filter, 0).find(ctx)
	if err != nil {
		return out, err
	}
	out.unreadable = decided.unreadable
	open := map[string]*openRequest{}
	for _, e := range decided.Entries {
		open[e.Request.ID] = &openRequest{entry: e, waiting: waitingOf(e)}
	}
	all, queue, err := bus.Unacknowledged(ctx)
	if err != nil {
		return out, err
	}
	out.unacknowledged = all
	for m, err := range queue {
		if err != nil {
			return out, err
		}
		if o := open[m.Request.ID]; o != nil {
			o.waiting.Since = m.StoredAt.UTC()
			continue
		}
		if limit > 0 && len(open) >= limit {
			out.more = true
			break
		}
		if !filter.Match(approval.Entry{Request: m.Request, Decision: approval.Decision{At: m.StoredAt}}) {
			continue
		}
		e, err := book.Get(ctx, m.Request.ID)
		if bad, ok := errors.AsType[*ledger.UnreadableError](err); ok {
			out.unreadable = append(out.unreadable, bad)
			continue
		}
		if err != nil {
			return out, err
		}
		if e == nil { // else it has ended, or the filter leaves it out
			open[m.Request.ID] = &openRequest{entry: approval.Entry{Request: m.Request}, waiting: queued(m)}
		}
	}
	for _, o := range open {
		out.rows = append(out.rows, o)
	}
	slices.SortFunc(out.rows, func(a, b *openRequest) int {
		return cmp.Or(a.waiting.Since.Compare(b.waiting.Since), cmp.Compare(a.entry.Request.ID, b.entry.Request.ID))
	})
	if limit > 0 && len(out.rows) > limit {
		out.rows, out.more = out.rows[:limit], true
	}
	return out, nil
}

// queued says what a request waits for that the ledger does not know.
func queued(m events.Unacknowledged) events.Waiting {
	w := events.Waiting{Since: m.StoredAt.UTC(), Code: "queued", Text: "No worker has been given it yet."}
	if m.Delivered {
		w.Code, w.Text = "in_progress", "A worker has been given it."
	}
	return w
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

// Len is how many requests are listed.
func (o Open) Len() int { return len(o.rows) }

// Hint says that there are more.
func (o Open) Hint() string {
	if !o.more {
		return ""
	}
	return fmt.Sprintf("there are more; %s not acknowledged on the bus: see --limit\n", cli.Plural(o.unacknowledged, "request is", "requests are"))
}

// Incomplete is an error if entries could not be read.
func (o Open) Incomplete() error { return Requests{unreadable: o.unreadable}.Incomplete() }

// Records are the requests as JSON.
func (o Open) Records() []events.Record {
	records := []events.Record{}
	for _, r := range o.rows {
		record := events.NewRecord(r.entry)
		record.Waiting = &r.waiting
		records = append(records, record)
	}
	return records
}

// Table writes the requests as the rows of a table.
func (o Open) Table(row cli.Row, now time.Time) {
	row("REQUEST", "TARGET", "ACCOUNT", "ASKS", "VERDICT", "AGE", "WAITS FOR")
	for _, r := range o.rows {
		w := r.waiting
		why := w.Code + ": " + w.Text
		if w.API != "" {
			why = w.API + " " + w.Operation + ": " + why
		}
		if w.RequestID != "" {
			why += " [request id " + w.RequestID + "]"
		}
		row(append(subject(r.entry), cli.Age(now, w.Since), cli.Printable(why))...)
	}
}
