package inspect

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

// Explained is what policy explain prints.
type Explained struct {
	Input       approval.Input
	Recorded    *approval.Decision // nil if the request is none of the ledger
	Explanation workbench.Explanation
}

// Write writes a as JSON or as text for people.
func (a Explained) Write(w io.Writer, format string, p cli.Palette) error {
	if format == "json" {
		return a.writeJSON(w)
	}
	var b strings.Builder
	a.asked(&b, p)
	if err := a.tree(&b, p); err != nil {
		return err
	}
	if d := a.Recorded; d != nil {
		line := fmt.Sprintf("recorded: %s%s, on %s by %s", d.Verdict, byRule(*d), d.At.UTC().Format(time.RFC3339), cli.OrDash(d.Digest))
		switch now := a.Explanation.Decision; {
		case now.NeedsCount:
			line = p.Yellow(cli.Printable(line) + "; inconclusive without --accepted")
		case now.Verdict != d.Verdict:
			line = p.Yellow(cli.Printable(line) + "; it flips")
		default:
			line = cli.Printable(line)
		}
		b.WriteString(line + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// byRule names the rule of a decision at the end of a sentence.
func byRule(d approval.Decision) string {
	if path := RulePath(d); path != "" {
		return " by " + path
	}
	return ""
}

// asked writes the request, and the facts, a line each.
func (a Explained) asked(b *strings.Builder, p cli.Palette) {
	line := func(name, text string) {
		fmt.Fprintf(b, "%s %s\n", p.Dim(fmt.Sprintf("%-8s", name)), cli.Printable(text))
	}
	req, facts := a.Input.Request, a.Input.Facts
	line("request", fmt.Sprintf("%s (%s) %s", req.Target.Name, req.Target.Kind, Asks(req)))
	if !req.Creates() {
		text := "the cloud does not show the connection — give --domain-id"
		if a.Recorded != nil {
			text = "the cloud did not show the connection"
		}
		if facts.Found() {
			accepted := "not counted"
			if facts.Accepted.Known {
				accepted = strconv.Itoa(facts.Accepted.N)
			}
			text = fmt.Sprintf("domain_id %s, state %s, accepted %s", cli.OrDash(facts.DomainID), facts.State, accepted)
			if !facts.CreatedAt.IsZero() {
				text += ", created_at " + facts.CreatedAt.UTC().Format(time.RFC3339)
			}
		}
		line("facts", text)
	}
	if len(req.Claims) > 0 {
		claims, err := json.Marshal(req.Claims)
		if err != nil { // they came as JSON
			claims = []byte("?")
		}
		line("claims", string(claims))
	}
	line("now", a.Input.Now.UTC().Format(time.RFC3339))
	b.WriteString("\n")
}

// tree writes what each entry says, and the verdict.
func (a Explained) tree(b *strings.Builder, p cli.Palette) error {
	var text strings.Builder
	if err := a.Explanation.WriteText(&text); err != nil {
		return err
	}
	for line := range strings.Lines(cli.PrintableLines(text.String())) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "├─ ✓"):
			line = p.Green(line)
		case strings.HasPrefix(line, "├─ ?"):
			line = p.Yellow(line)
		case strings.HasPrefix(line, "│"):
			line = p.Dim(line)
		case strings.HasPrefix(line, "verdict: "), strings.HasPrefix(line, "reviews: "):
			line = p.Bold(line)
		}
		b.WriteString(line + "\n")
	}
	return nil
}

// ExplainedJSON is what policy explain prints as JSON.
type ExplainedJSON struct {
	Now      time.Time              `json:"now"`
	Request  events.RequestRecord   `json:"request"`
	Facts    events.FactsRecord     `json:"facts"`
	Recorded *events.DecisionRecord `json:"recorded,omitempty"` // absent if the request is none of the ledger
	workbench.ExplanationJSON
}

// writeJSON writes the request and what the policies say of it.
func (a Explained) writeJSON(w io.Writer) error {
	record := events.NewRecord(approval.Entry{Request: a.Input.Request, Decision: approval.Decision{Facts: a.Input.Facts}})
	v := ExplainedJSON{Now: a.Input.Now.UTC(), Request: record.Request, Facts: record.Facts, ExplanationJSON: a.Explanation.JSON()}
	if a.Recorded != nil {
		recorded := events.NewRecord(approval.Entry{Decision: *a.Recorded})
		v.Recorded = &recorded.Decision
	}
	return cli.WriteJSON(w, v)
}
