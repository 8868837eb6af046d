package policy

import (
	"iter"
	"slices"
	"strconv"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// ExampleIDs returns a warning for each entry of s that names one of ids, which
// are those of examples, in lower case and without dashes: they belong to nobody
// who should be allowed or denied.
func (s *Set) ExampleIDs(ids map[string]bool) []strictyaml.Finding {
	var out []strictyaml.Finding
	for e, c := range s.idConditions() {
		i := slices.IndexFunc(c.values.all(), func(v string) bool { return ids[approval.CanonicalID(v)] })
		if i < 0 {
			continue
		}
		out = append(out, strictyaml.Finding{
			Severity: strictyaml.SeverityWarning, Code: "example-id", File: e.policy.file, Line: c.at.Line, Column: c.at.Column, Path: strictyaml.PathText(append(e.path(), strictyaml.Step{Key: c.field.name()})),
			Text: strconv.Quote(c.values.all()[i]) + " is an id of the examples, not one of yours", Hint: "write your own id, or delete the entry",
		})
	}
	strictyaml.Sort(out)
	return out
}

// idConditions yields the conditions of all entries that compare with cloud ids.
func (s *Set) idConditions() iter.Seq2[*entry, *fieldCondition] {
	return func(yield func(*entry, *fieldCondition) bool) {
		if s == nil {
			return
		}
		for _, p := range s.policies {
			for _, e := range slices.Concat(p.allow, p.deny) {
				for _, c := range e.conds {
					if fc, ok := c.(*fieldCondition); ok && fc.field.folds() && !yield(e, fc) {
						return
					}
				}
			}
		}
	}
}
