package inspect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// OutcomeNames are the values of --outcome.
func OutcomeNames() []string {
	var names []string
	for _, o := range approval.Outcomes() {
		names = append(names, string(o))
	}
	return names
}

// ParseOutcomes reads the values of --outcome.
func ParseOutcomes(texts []string) ([]approval.Outcome, error) {
	var out []approval.Outcome
	for _, text := range texts {
		if !slices.Contains(approval.Outcomes(), approval.Outcome(text)) {
			return nil, fmt.Errorf("--outcome %s: not one of %s%s", text, strings.Join(OutcomeNames(), ", "), cli.DidYouMean(text, OutcomeNames()))
		}
		out = append(out, approval.Outcome(text))
	}
	return out, nil
}
