// Package inspect reads what the ledger and the bus hold of requests, dead letters
// and workers, and prints it for people. The JSON of a request is events.Record.
package inspect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// Asks says what a request is about in a few words.
func Asks(r approval.Request) string {
	switch c := r.Creation; {
	case c.FunctionGraph != nil:
		return "create in VPC " + c.FunctionGraph.VPCID
	case c.HSS != nil:
		text := "create for " + cli.Plural(len(c.HSS.HostIDs), "host", "hosts")
		if len(c.HSS.HostIDs) == 0 {
			text = "create for all hosts"
		}
		if len(c.HSS.VPCs) > 0 {
			text += " in " + cli.Plural(len(c.HSS.VPCs), "VPC", "VPCs")
		}
		return text
	case c.DataArtsInsight != nil:
		return "create to service " + c.DataArtsInsight.ServiceID()
	}
	return r.EndpointID
}

// RulePath is policy/rule of a decision, or as much of it as there is.
func RulePath(d approval.Decision) string {
	if d.Rule == "" {
		return d.Policy
	}
	return d.Policy + "/" + d.Rule
}

// total is how long the request took, from the event to its end.
func total(r approval.Result) time.Duration {
	var sum float64
	for _, stage := range approval.Stages() {
		sum += r.Seconds[stage]
	}
	return time.Duration(sum * float64(time.Second)).Round(time.Millisecond)
}

// Line is a result on one line.
func Line(r approval.Result, p cli.Palette) string {
	at := "--:--:--"
	if !r.At.IsZero() {
		at = r.At.UTC().Format(time.TimeOnly)
	}
	why := ""
	if reasons := r.Decision.Reasons; len(reasons) > 0 {
		why = string(reasons[0].Code) + ": " + reasons[0].Text
	}
	if f := r.Failure; f != nil {
		why = f.Code + ": " + f.Text
	}
	outcome := string(r.Outcome)
	return fmt.Sprintf("%s %s %-16s %-36s %-24s %8s  %s",
		at, p.Outcome(outcome, fmt.Sprintf("%-10s", outcome)), cli.Printable(r.Request.Target.Name), cli.Printable(Asks(r.Request)),
		cli.Printable(cli.OrDash(RulePath(r.Decision))), total(r), cli.Printable(why))
}

// lines builds a text of names and values, a line each.
type lines struct {
	text  strings.Builder
	paint cli.Palette
}

// add adds a line, unless it has no text.
func (l *lines) add(name, text string) {
	if text != "" {
		fmt.Fprintf(&l.text, "%s %s\n", l.paint.Dim(fmt.Sprintf("%-10s", name)), cli.Printable(text))
	}
}

func (l *lines) time(name string, t time.Time) {
	if !t.IsZero() {
		l.add(name, t.UTC().Format(time.RFC3339))
	}
}

// Result is all that a result says, a line each.
func Result(r approval.Result, p cli.Palette) string {
	return details(approval.Entry{Request: r.Request, Decision: r.Decision, Result: &r}, p)
}

// details are all that is known of a request, a line each.
func details(e approval.Entry, p cli.Palette) string {
	b := lines{paint: p}
	r := cmp.Or(e.Result, &approval.Result{})
	outcome := string(r.Outcome)
	fmt.Fprintf(&b.text, "%s %s %s\n", p.Outcome(outcome, p.Bold(cmp.Or(outcome, "under way"))), cli.Printable(e.Request.Target.Name), cli.Printable(Asks(e.Request)))
	b.add("request", e.Request.ID)
	b.add("event", e.Request.EventID+" from "+e.Request.Source)
	b.decision(e.Decision)
	b.add("status", string(r.State))
	if f := r.Failure; f != nil {
		b.add("error", f.Code+": "+f.Text)
		b.add("quote", f.RequestID)
	}
	if r.Created != nil {
		b.created(*r.Created)
	}
	b.time("sent", e.Request.Time)
	b.time("decided", e.Decision.At)
	b.time("acted", e.ActedAt)
	b.time("ended", r.At)
	b.seconds(*r)
	return b.text.String()
}

func (l *lines) decision(d approval.Decision) {
	l.add("domain", d.Facts.DomainID)
	verdict := string(d.Verdict)
	if path := RulePath(d); path != "" {
		verdict += " by " + path
	}
	l.add("verdict", verdict)
	for _, reason := range d.Reasons {
		l.add("because", string(reason.Code)+": "+reason.Text)
	}
	l.add("contact", d.Contact)
	l.add("policies", d.Digest)
}

func (l *lines) created(c approval.Created) {
	var parts []string
	for _, part := range append([]string{c.ID, c.EndpointID, c.Domain, string(c.State)}, c.Addresses...) {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if c.Existing {
		parts = append(parts, "(was there before)")
	}
	l.add("created", strings.Join(parts, " "))
}

func (l *lines) seconds(r approval.Result) {
	var parts []string
	for _, stage := range approval.Stages() {
		if s, ok := r.Seconds[stage]; ok {
			parts = append(parts, fmt.Sprintf("%s %.3f s", stage, s))
		}
	}
	if len(parts) > 0 {
		l.add("took", strings.Join(parts, ", ")+"; "+cli.Plural(r.Attempts, "delivery", "deliveries"))
	}
}

func (l *lines) claims(c approval.Claims) error {
	if len(c) == 0 {
		return nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write the claims: %w", err)
	}
	l.add("claims", string(text))
	return nil
}
