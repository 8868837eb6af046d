package inspect

import (
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

// Difference is a difference between what is on the broker and what should be there, as
// commands print it.
type Difference struct {
	Resource string `json:"resource"`
	Field    string `json:"field,omitempty"` // absent: all of it is missing
	Have     string `json:"have,omitempty"`
	Want     string `json:"want,omitempty"`
	Matters  bool   `json:"matters"` // whether it breaks a promise; else it is the operator's choice
	Effect   string `json:"effect,omitempty"`
	Fix      string `json:"fix,omitempty"`
}

// Differences are all that were found.
type Differences []Difference

// NewDifferences returns what was found on the broker.
func NewDifferences(found []events.Difference) Differences {
	out := Differences{}
	for _, d := range found {
		out = append(out, Difference(d))
	}
	return out
}

// Matter reports whether one of them breaks a promise.
func (list Differences) Matter() bool {
	return slices.ContainsFunc(list, func(d Difference) bool { return d.Matters })
}

// Table writes the differences as the rows of a table.
func (list Differences) Table(row cli.Row) {
	if len(list) == 0 {
		row("streams, consumers and buckets are as they should be")
		return
	}
	row("RESOURCE", "FIELD", "IS", "SHOULD BE", "MATTERS", "EFFECT AND FIX")
	for _, d := range list {
		matters := "no: the operator's choice"
		if d.Matters {
			matters = "yes"
		}
		if d.Field == "" {
			row(d.Resource, "-", "missing", "there", matters, d.Fix)
			continue
		}
		row(d.Resource, d.Field, d.Have, d.Want, matters, strings.Join(slices.DeleteFunc([]string{d.Effect, d.Fix}, func(s string) bool { return s == "" }), ": "))
	}
}
