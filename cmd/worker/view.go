package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// requestView is a request, and as far as they exist its decision and result, as
// commands print it for people. events.Record is its JSON.
type requestView struct {
	ID         string
	EventID    string
	Source     string
	Time       *time.Time
	Target     string
	Kind       string
	EndpointID string
	Asks       string // what it is about, in words
	Claims     approval.Claims
	DomainID   string // a fact
	Verdict    string
	Policy     string
	Rule       string
	Reasons    []reasonView
	Contact    string
	Digest     string
	DecidedAt  *time.Time
	ActedAt    *time.Time
	Sends      int // of a creation: sends whose outcome was not known
	Outcome    string
	Status     string // what the cloud said last
	Error      *failureView
	Created    *createdView
	Attempts   int
	Reversible bool
	Seconds    []stageView
	EndedAt    *time.Time
	Worker     string
	Revision   uint64 // of the ledger
}

type reasonView struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

type failureView struct {
	Code      string
	Text      string
	RequestID string
}

type createdView struct {
	ID         string
	EndpointID string
	Addresses  []string
	Domain     string
	Status     string
	Existing   bool
}

type stageView struct {
	Stage   string
	Seconds float64
}

func viewOf(e approval.Entry) requestView {
	v := requestView{
		ID: e.Request.ID, EventID: e.Request.EventID, Source: e.Request.Source, Time: moment(e.Request.Time),
		Target: e.Request.Target.Name, Kind: string(e.Request.Target.Kind), EndpointID: e.Request.EndpointID,
		Asks: asks(e.Request), Claims: e.Request.Claims,
		DomainID: e.Decision.Facts.DomainID, Verdict: string(e.Decision.Verdict), Policy: e.Decision.Policy, Rule: e.Decision.Rule,
		Contact: e.Decision.Contact, Digest: e.Decision.Digest, DecidedAt: moment(e.Decision.At), ActedAt: moment(e.ActedAt),
		Revision: e.Revision,
	}
	for _, r := range e.Decision.Reasons {
		v.Reasons = append(v.Reasons, reasonView{string(r.Code), r.Text})
	}
	if e.Intent != nil {
		v.Sends = e.Intent.Sends
	}
	if r := e.Result; r != nil {
		v.Outcome, v.Status, v.Attempts, v.Reversible = string(r.Outcome), string(r.State), r.Attempts, r.Reversible
		v.EndedAt, v.Worker = moment(r.At), r.Version
		if f := r.Failure; f != nil {
			v.Error = &failureView{f.Code, f.Text, f.RequestID}
		}
		if c := r.Created; c != nil {
			v.Created = &createdView{c.ID, c.EndpointID, c.Addresses, c.Domain, string(c.State), c.Existing}
		}
		for _, stage := range approval.Stages() {
			if s, ok := r.Seconds[stage]; ok {
				v.Seconds = append(v.Seconds, stageView{string(stage), s})
			}
		}
	}
	return v
}

// resultOf is the view of a published result.
func resultOf(r approval.Result) requestView {
	return viewOf(approval.Entry{Request: r.Request, Decision: r.Decision, Result: &r})
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// asks says what a request is about in a few words.
func asks(r approval.Request) string {
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

// rulePath is policy/rule, or as much of it as there is.
func (v requestView) rulePath() string {
	if v.Rule == "" {
		return v.Policy
	}
	return v.Policy + "/" + v.Rule
}

// total is how long the request took, from the event to its end.
func (v requestView) total() time.Duration {
	var sum float64
	for _, s := range v.Seconds {
		sum += s.Seconds
	}
	return time.Duration(sum * float64(time.Second)).Round(time.Millisecond)
}

// line is a result on one line.
func (v requestView) line(p cli.Palette) string {
	at := "--:--:--"
	if v.EndedAt != nil {
		at = v.EndedAt.Format(time.TimeOnly)
	}
	why := ""
	if len(v.Reasons) > 0 {
		why = v.Reasons[0].Code + ": " + v.Reasons[0].Text
	}
	if v.Error != nil {
		why = v.Error.Code + ": " + v.Error.Text
	}
	return fmt.Sprintf("%s %s %-16s %-36s %-24s %8s  %s",
		at, p.Outcome(v.Outcome, fmt.Sprintf("%-10s", v.Outcome)), cli.Printable(v.Target), cli.Printable(v.Asks), cli.Printable(cli.OrDash(v.rulePath())), v.total(), cli.Printable(why))
}

// details are all that is known of a request, a line each.
func (v requestView) details(p cli.Palette) string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%s %s\n", p.Dim(fmt.Sprintf("%-10s", name)), cli.Printable(text))
		}
	}
	state := "under way"
	if v.Outcome != "" {
		state = v.Outcome
	}
	fmt.Fprintf(&b, "%s %s %s\n", p.Outcome(v.Outcome, p.Bold(state)), cli.Printable(v.Target), cli.Printable(v.Asks))
	line("request", v.ID)
	line("event", v.EventID+" from "+v.Source)
	line("domain", v.DomainID)
	decided := v.Verdict
	if v.rulePath() != "" {
		decided += " by " + v.rulePath()
	}
	line("verdict", decided)
	for _, r := range v.Reasons {
		line("because", r.Code+": "+r.Text)
	}
	line("contact", v.Contact)
	line("policies", v.Digest)
	line("status", v.Status)
	if e := v.Error; e != nil {
		line("error", e.Code+": "+e.Text)
		line("quote", e.RequestID)
	}
	if c := v.Created; c != nil {
		var parts []string
		for _, part := range append([]string{c.ID, c.EndpointID, c.Domain, c.Status}, c.Addresses...) {
			if part != "" {
				parts = append(parts, part)
			}
		}
		if c.Existing {
			parts = append(parts, "(was there before)")
		}
		line("created", strings.Join(parts, " "))
	}
	times := func(name string, t *time.Time) {
		if t != nil {
			line(name, t.Format(time.RFC3339))
		}
	}
	times("sent", v.Time)
	times("decided", v.DecidedAt)
	times("acted", v.ActedAt)
	times("ended", v.EndedAt)
	if len(v.Seconds) > 0 {
		var parts []string
		for _, s := range v.Seconds {
			parts = append(parts, fmt.Sprintf("%s %.3f s", s.Stage, s.Seconds))
		}
		line("took", strings.Join(parts, ", ")+fmt.Sprintf("; %s", cli.Plural(v.Attempts, "delivery", "deliveries")))
	}
	return b.String()
}
