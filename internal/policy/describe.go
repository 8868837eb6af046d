package policy

import (
	"slices"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Description describes one policy of a set, for tools.
type Description struct {
	Name      string
	Owner     string
	File      string // as findings name it
	Mode      approval.Mode
	Otherwise approval.Verdict
	Targets   []string
	Entries   []EntryDescription // the allows first, each in the order of the file
}

// EntryDescription describes one entry.
type EntryDescription struct {
	List string // allow or deny
	ID   string
	Line int
	Keys map[string]Value // by key of the file; claims as claims.PATH
}

// Value is the value of a key of an entry.
type Value struct {
	Values []string
	List   bool // the key takes a list of values
}

// Describe describes the policies of s, by name.
func (s *Set) Describe() []Description {
	if s == nil {
		return nil
	}
	out := make([]Description, 0, len(s.policies))
	for _, p := range s.policies {
		d := Description{
			Name: p.name, Owner: p.owner, File: p.file, Mode: p.mode, Otherwise: p.otherwise, Targets: slices.Clone(p.targets),
		}
		for _, e := range slices.Concat(p.allow, p.deny) {
			d.Entries = append(d.Entries, EntryDescription{List: e.list(), ID: e.id, Line: e.at.Line, Keys: e.describe()})
		}
		out = append(out, d)
	}
	return out
}

func (e *entry) describe() map[string]Value {
	out := make(map[string]Value)
	for _, c := range e.conds {
		switch c := c.(type) {
		case *fieldCondition:
			out[c.name()] = Value{Values: c.values.all(), List: true}
		case *claimCondition:
			out[c.name()] = Value{Values: c.values.all(), List: true}
		default:
			out[c.name()] = Value{Values: []string{c.wanted()}}
		}
	}
	for key, text := range map[string]string{"reason": e.reasonText, "contact": e.contact} {
		if text != "" {
			out[key] = Value{Values: []string{text}}
		}
	}
	if e.anyDomain {
		out["any_domain"] = Value{Values: []string{"true"}}
	}
	return out
}
