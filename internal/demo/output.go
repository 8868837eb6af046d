package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// Output prints the demo for a person.
type Output struct {
	out         io.Writer
	paint       cli.Palette
	began       time.Time
	ended       map[approval.Outcome][]float64 // seconds of each request, by outcome
	deadLetters int
	faults      []string // what did not go as it should
}

// NewOutput returns an Output that writes to out.
func NewOutput(out io.Writer, paint cli.Palette) *Output {
	return &Output{out: out, paint: paint, began: time.Now(), ended: map[approval.Outcome][]float64{}}
}

// line prints a line; a terminal that is gone changes nothing for the demo.
func (s *Output) line(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", args...) }

// title is the first line; it is printed before anything starts.
func (s *Output) title() {
	s.line("%s  not for production: all of it runs in this process and is gone afterwards", s.paint.Bold("vpcep-approver demo"))
}

func (s *Output) opening(d *Demo, base, nats string) {
	s.line("  NATS JetStream   %s", nats)
	s.line("  simulated cloud  %s  VPCEP, APIG, FunctionGraph, HSS, DataArts Insight, IAM", d.url)
	s.line("  policies         %s", d.Dir+"/policies")
	s.line("  metrics          %s/metrics", base)
	s.line("")
	s.line("%s", s.paint.Dim(fmt.Sprintf("%6s  %-10s %-14s %-46s %s", "time", "outcome", "target", "who asks", "why")))
}

// result shows how a request of p ended, or one that the demo did not send.
func (s *Output) result(r approval.Result, p Step, ours bool) {
	who := p.Who
	if !ours {
		who = "found by the sweep"
		if r.Request.Source != worker.SweepSource {
			who = "sent by you"
		}
	}
	why := ""
	if d := r.Decision; d.Rule != "" {
		why = d.Policy + "/" + d.Rule + ": "
	}
	var texts []string
	for _, reason := range r.Decision.Reasons {
		texts = append(texts, reason.Text)
	}
	why += strings.Join(texts, " ")
	if r.Failure != nil {
		why += " " + r.Failure.Text
	}
	if r.Attempts > 1 {
		why += s.paint.Dim(fmt.Sprintf(" (delivery %d)", r.Attempts))
	}
	mark := ""
	total := 0.0
	for _, seconds := range r.Seconds {
		total += seconds
	}
	s.ended[r.Outcome] = append(s.ended[r.Outcome], total)
	if ours && r.Outcome != p.Want {
		mark = s.paint.Red(" ← should be " + string(p.Want))
		s.fault(fmt.Sprintf("%s: %s ended %s and should have ended %s", p.target, p.Who, r.Outcome, p.Want))
	}
	s.row(string(r.Outcome), s.color(r.Outcome), r.Request.Target.Name, who, why+mark)
}

func (s *Output) row(outcome string, color func(string) string, target, who, why string) {
	s.line("%5.1fs  %s %-14s %-46s %s", time.Since(s.began).Seconds(), color(fmt.Sprintf("%-10s", outcome)), target, who, why)
}

func (s *Output) color(o approval.Outcome) func(string) string {
	switch o {
	case approval.OutcomeAccepted, approval.OutcomeCreated:
		return s.paint.Green
	case approval.OutcomeRejected, approval.OutcomeFailed, approval.OutcomeUnknown:
		return s.paint.Red
	default:
		return s.paint.Yellow
	}
}

func (s *Output) deadLetter(l events.DeadLetter) {
	s.deadLetters++
	s.row("(letter)", s.paint.Yellow, "-", "someone, with an event that cannot be served", l.Reason+": "+l.Text)
}

func (s *Output) missing(p Step) {
	s.fault(fmt.Sprintf("%s: %s has no result; it should have ended %s", p.target, p.Who, p.Want))
}

func (s *Output) fault(text string) { s.faults = append(s.faults, text) }

// wrong reports whether something did not go as it should.
func (s *Output) wrong() bool { return len(s.faults) > 0 }

func (s *Output) summary(c simulator.Counters) {
	s.line("")
	s.line("%s", s.paint.Dim(fmt.Sprintf("%-12s %8s %8s %8s", "outcome", "requests", "median", "slowest")))
	total := s.deadLetters
	for _, o := range approval.Outcomes() {
		seconds := slices.Sorted(slices.Values(s.ended[o]))
		if n := len(seconds); n > 0 {
			total += n
			s.line("%-12s %8d %7.1fs %7.1fs", o, n, seconds[n/2], seconds[n-1])
		}
	}
	s.line("%-12s %8d", "dead letters", s.deadLetters)
	s.line("")
	var calls []string
	for _, name := range slices.Sorted(maps.Keys(c.Calls)) {
		calls = append(calls, fmt.Sprintf("%s %d", name, c.Calls[name]))
	}
	s.line("The cloud was called %d times: %s.", c.Total(""), strings.Join(calls, ", "))
	var faults []string
	for _, kind := range slices.Sorted(maps.Keys(c.Faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", kind, c.Faults[kind]))
	}
	if len(faults) > 0 {
		s.line("It misbehaved: %s.", strings.Join(faults, ", "))
	}
	s.line("What that changed: %d accepted, %d rejected, %d created; %d reversed.",
		c.Count(simulator.EffectAccept, ""), c.Count(simulator.EffectReject, ""), c.Count(simulator.EffectCreate, ""), c.Reversals)
	if c.Reversals > 0 {
		s.fault("the cloud was asked to turn a decision round")
	}
	if len(s.faults) == 0 {
		s.line("%s", s.paint.Green(fmt.Sprintf("All %d requests ended as they should, in %.1f s.", total, time.Since(s.began).Seconds())))
		return
	}
	s.line("%s", s.paint.Red(fmt.Sprintf("%d of %d requests did not end as they should:", len(s.faults), total)))
	for _, f := range s.faults {
		s.line("  - %s", f)
	}
}

// invite tells how to go on by hand.
func (s *Output) invite(d *Demo, base string) {
	s.line("")
	s.line("The demo stays up until you press Ctrl-C. Send a request of your own, in another terminal:")
	s.line("")
	s.line("  curl -s %s/_sim/connections -d '{\"target\": \"%s\", \"domain_id\": \"%s\"}'   # someone makes an endpoint", d.url, Service, Acme)
	s.line("  go run ./cmd/worker submit --config %s --target payments --endpoint-id ID --wait", d.ConfigFile())
	s.line("  go run ./cmd/worker watch --config %s", d.ConfigFile())
	s.line("  curl -s %s/metrics", base)
	s.line("")
	s.line("Review what is held, in another terminal or, as below, in the browser:")
	s.line("")
	s.line("  go run ./cmd/worker reviews list --config %s", d.ConfigFile())
	s.line("  go run ./cmd/worker reviews approve ID --config %s --key %s --reason \"known partner\" --wait", d.ConfigFile(), d.reviewerKeyFile())
	s.line("")
	s.line("Edit the policies in %s; they are loaded when they change.", d.Dir+"/policies")
}

// link prints where to review in the browser.
func (s *Output) link(_, url string) {
	s.line("Open the console in a browser; the link works once, then there is a new one:")
	s.line("  %s", s.paint.Bold(url))
}
