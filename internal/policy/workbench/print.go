package workbench

import (
	"fmt"
	"io"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// Print writes the report for people.
func (r TestReport) Print(w io.Writer, coverage bool, p cli.Palette) error {
	var text, b strings.Builder
	if err := r.WriteText(&text, coverage); err != nil {
		return err
	}
	for line := range strings.Lines(cli.PrintableLines(text.String())) {
		switch rest, failed := strings.CutPrefix(line, "FAIL "); {
		case failed:
			b.WriteString(p.Red("FAIL") + " " + rest)
		case strings.HasPrefix(line, "     | "):
			b.WriteString(p.Dim(strings.TrimSuffix(line, "\n")) + "\n")
		default:
			b.WriteString(line)
		}
	}
	if r.Failed() == 0 {
		b.WriteString(p.Green("ok") + "\n")
	} else {
		b.WriteString(p.Red("failed") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Comparison is what changes from one set to another.
type Comparison struct {
	Changes []Change `json:"changes"`
	Flips   *Flips   `json:"flips,omitempty"` // nil if nothing recorded was asked for
}

// Differs reports whether anything changes.
func (v Comparison) Differs() bool {
	return len(v.Changes) > 0 || v.Flips != nil && v.Flips.Differs()
}

// Write writes v as JSON or as text for people.
func (v Comparison) Write(w io.Writer, format string, p cli.Palette) error {
	if format == "json" {
		return cli.WriteJSON(w, v)
	}
	var text, b strings.Builder
	if err := WriteChanges(&text, v.Changes); err != nil {
		return err
	}
	for line := range strings.Lines(cli.PrintableLines(text.String())) {
		switch line = strings.TrimSuffix(line, "\n"); line[:1] {
		case "+":
			line = p.Green(line)
		case "-":
			line = p.Red(line)
		case "~":
			line = p.Yellow(line)
		}
		b.WriteString(line + "\n")
	}
	if v.Flips != nil {
		b.WriteString("\n")
		if err := v.Flips.Print(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Differs reports whether a decision flips, or may.
func (f Flips) Differs() bool { return len(f.Flips)+len(f.Inconclusive) > 0 }

// Print writes the table of WriteText so that nothing in it steers a terminal.
func (f Flips) Print(w io.Writer) error {
	var text strings.Builder
	if err := f.WriteText(&text); err != nil {
		return err
	}
	_, err := io.WriteString(w, cli.PrintableLines(text.String()))
	return err
}

// BacktestReport is what a backtest found, without the flips that are allowed.
type BacktestReport struct {
	Flips
	Allowed int `json:"allowed"` // flips that are
}

// NewBacktestReport takes the flips that are allowed out of flips.
func NewBacktestReport(flips Flips, allowed AllowedFlips) BacktestReport {
	v := BacktestReport{Flips: flips.Without(allowed)}
	v.Allowed = len(flips.Flips) + len(flips.Inconclusive) - len(v.Flips.Flips) - len(v.Inconclusive)
	return v
}

// Print writes v for people: the table, and hints to what to do next.
func (v BacktestReport) Print(out, hints io.Writer) error {
	if err := v.Flips.Print(out); err != nil {
		return err
	}
	if v.Allowed > 0 {
		if _, err := fmt.Fprintf(out, "%s more, and allowed\n", cli.Plural(v.Allowed, "flip", "flips")); err != nil {
			return err
		}
	}
	hint := ""
	switch {
	case len(v.Flips.Flips) > 0:
		hint = "a flip that is meant goes into a file for --allow-flips, such as: " + cli.Printable(v.Flips.Flips[0].Key())
	case len(v.Inconclusive) > 0:
		hint = "records of decisions without a limit hold no count; list expected flips in a file for --allow-flips, such as: " + cli.Printable(v.Inconclusive[0].Key())
	case v.Total == 0:
		hint = "nothing was compared: no decision is on record for that time — see: worker requests list, and --since"
	default:
		return nil
	}
	_, err := fmt.Fprintln(hints, hint)
	return err
}
