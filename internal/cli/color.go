package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// ColorVariable sets the color mode as --color does.
const ColorVariable = "APPROVER_COLOR"

// Palette colors text, or leaves it alone: the zero value.
type Palette struct{ on bool }

func (p Palette) paint(code, s string) string {
	if !p.on {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Red returns s in red.
func (p Palette) Red(s string) string { return p.paint("31", s) }

// Green returns s in green.
func (p Palette) Green(s string) string { return p.paint("32", s) }

// Yellow returns s in yellow.
func (p Palette) Yellow(s string) string { return p.paint("33", s) }

// Dim returns s dimmed.
func (p Palette) Dim(s string) string { return p.paint("2", s) }

// Bold returns s in bold.
func (p Palette) Bold(s string) string { return p.paint("1", s) }

// ColorChoices are the values of --color.
func ColorChoices() []string { return []string{"auto", "always", "never"} }

// Colors decides whether w, stdout or stderr, gets color: --color, else the
// variable, else only a terminal whose user did not set NO_COLOR.
func Colors(c *cobra.Command, env Environment, w io.Writer) Palette {
	vars := env.Variables()
	choice := vars[ColorVariable]
	if f := c.Flags().Lookup("color"); f != nil && f.Changed {
		choice = f.Value.String()
	}
	switch choice {
	case "always":
		return Palette{on: true}
	case "never":
		return Palette{}
	}
	return Palette{on: env.IsTerminal(w) && vars["NO_COLOR"] == "" && vars["TERM"] != "dumb"}
}

// Outcome gives an outcome the color of what it means for the requester.
func (p Palette) Outcome(outcome, text string) string {
	switch approval.Outcome(outcome) {
	case approval.OutcomeAccepted, approval.OutcomeCreated:
		return p.Green(text)
	case approval.OutcomeRejected, approval.OutcomeRefused:
		return p.Red(text)
	case approval.OutcomeHeld:
		return p.Yellow(text)
	case approval.OutcomeFailed, approval.OutcomeUnknown:
		return p.Bold(p.Red(text))
	case approval.OutcomeIgnored, approval.OutcomeGone, approval.OutcomeSuperseded:
		return p.Dim(text)
	}
	return text
}
