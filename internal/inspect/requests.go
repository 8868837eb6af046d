package inspect

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

// Requests are entries of the ledger.
type Requests struct {
	Entries []approval.Entry // the latest change first
	More    bool             // whether there are entries that were left out

	unreadable []*ledger.UnreadableError
}

// Len is how many requests are listed.
func (r Requests) Len() int { return len(r.Entries) }

// Hint says that there are more.
func (r Requests) Hint() string {
	if !r.More {
		return ""
	}
	return "there are more — see --limit\n"
}

// Incomplete is an error if entries could not be read: a list with a hole is no list.
func (r Requests) Incomplete() error {
	if len(r.unreadable) == 0 {
		return nil
	}
	return fmt.Errorf("%s of the ledger could not be read, the first: %w", cli.Plural(len(r.unreadable), "entry", "entries"), r.unreadable[0])
}

// Records are the requests as JSON.
func (r Requests) Records() []events.Record {
	out := []events.Record{}
	for _, e := range r.Entries {
		out = append(out, events.NewRecord(e))
	}
	return out
}

// Table writes the requests as the rows of a table.
func (r Requests) Table(row cli.Row, now time.Time) {
	row("REQUEST", "TARGET", "ACCOUNT", "ASKS", "VERDICT", "RULE", "OUTCOME", "AGE")
	for _, e := range r.Entries {
		outcome := ""
		if e.Result != nil {
			outcome = string(e.Result.Outcome)
		}
		row(append(subject(e), cli.Printable(cli.OrDash(RulePath(e.Decision))), cli.OrDash(outcome), cli.Age(now, e.Decision.At))...)
	}
}

// subject are the cells that tell which request a row is about, and its verdict.
func subject(e approval.Entry) []string {
	return []string{
		e.Request.ID, cli.Printable(e.Request.Target.Name), cli.Printable(cli.OrDash(e.Decision.Facts.DomainID)),
		cli.Printable(Asks(e.Request)), cli.OrDash(string(e.Decision.Verdict)),
	}
}

// CheckID spells the id of a request, or the beginning of one, as the ledger does.
func CheckID(id string) (string, error) {
	id = approval.CanonicalID(id)
	if len(id) < 4 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is not the id of a request: that is 32 hexadecimal digits, of which the first 4 may be enough", id)
	}
	return id, nil
}

// History is all that is known of one request.
type History struct {
	versions []approval.Entry // at least one, the latest last
}

// FindHistory returns the versions of the one request whose id begins so.
func FindHistory(ctx context.Context, book *ledger.Ledger, id string) (History, error) {
	if len(id) < 32 {
		match, err := book.RequestIDs(ctx, id)
		if err != nil {
			return History{}, err
		}
		if len(match) > 1 {
			return History{}, cli.WithCode(cli.ExitInvalid, fmt.Errorf("%d requests begin with %s — give more of it: %s", len(match), id, strings.Join(match[:min(len(match), 5)], ", ")))
		}
		if len(match) == 1 {
			id = match[0]
		}
	}
	versions, err := book.History(ctx, id)
	if err == nil && len(versions) == 0 {
		err = cli.WithCode(cli.ExitInvalid, fmt.Errorf("the ledger has no request %s — not decided yet, or no request at all: see worker requests list, worker deadletters list", id))
	}
	return History{versions}, err
}

// Latest is the latest version.
func (h History) Latest() approval.Entry { return h.versions[len(h.versions)-1] }

// Record is the request as JSON.
func (h History) Record() events.Record {
	out := events.NewRecord(h.Latest())
	for _, e := range h.versions {
		out.History = append(out.History, events.Version{Revision: e.Revision, What: progress(e)})
	}
	return out
}

// Text is the request for people.
func (h History) Text(p cli.Palette) (string, error) {
	last := h.Latest()
	b := lines{paint: p}
	b.text.WriteString(details(last, p))
	if err := b.claims(last.Request.Claims); err != nil {
		return "", err
	}
	for _, e := range h.versions {
		b.add("history", fmt.Sprintf("revision %d: %s", e.Revision, progress(e)))
	}
	return b.text.String(), nil
}

// progress says how far a request had come.
func progress(e approval.Entry) string {
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
	if !e.Decided() {
		return "taken, and not decided yet"
	}
	return "decided to " + string(e.Decision.Verdict)
}
