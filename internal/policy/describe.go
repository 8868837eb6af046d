package policy

import (
	"slices"
	"strconv"
	"time"

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
	Review    map[string]Value   // who may decide what the policy holds, by key of the file; nil: nobody
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
		if p.review != nil {
			d.Review = s.reviewers.describe(p.review)
		}
		out = append(out, d)
	}
	return out
}

// describe describes rule. People who may review are listed by name, since groups and
// roles are in another file.
func (r *Reviewers) describe(rule *approval.ReviewRule) map[string]Value {
	may := []string{}
	for _, who := range r.All() {
		if who.In(rule.By) && who.Has(RoleReviewer) {
			may = append(may, who.Name)
		}
	}
	return map[string]Value{
		"by":             {Values: rule.By, List: true},
		"approvals":      {Values: []string{strconv.Itoa(rule.Approvals)}},
		"within":         {Values: []string{rule.Within.String()}},
		"trust_consoles": {Values: []string{strconv.FormatBool(rule.TrustConsoles)}},
		"may review":     {Values: may, List: true},
	}
}

// PersonDescription describes a person or a console of reviewers.yaml.
type PersonDescription struct {
	Console bool
	Name    string
	Keys    map[string]Value // by key of the file
}

// Describe describes the people and the consoles of r, in the order of the file.
func (r *Reviewers) Describe() []PersonDescription {
	if r == nil {
		return nil
	}
	var out []PersonDescription
	for i := range r.people {
		out = append(out, PersonDescription{Name: r.people[i].Name, Keys: r.people[i].describe()})
	}
	for _, c := range r.consoles {
		out = append(out, PersonDescription{Console: true, Name: c.Name, Keys: map[string]Value{"key": {Values: []string{c.Key}}}})
	}
	return out
}

func (r *Reviewer) describe() map[string]Value {
	roles := make([]string, 0, len(r.Roles))
	for _, role := range r.Roles {
		roles = append(roles, string(role))
	}
	out := map[string]Value{"roles": {Values: roles, List: true}}
	for key, text := range map[string]string{"key": r.Key, "oidc.issuer": r.Issuer, "oidc.subject": r.Subject, "email": r.Email} {
		if text != "" {
			out[key] = Value{Values: []string{text}}
		}
	}
	for key, list := range map[string][]string{"groups": r.Groups, "domains": r.Domains} {
		if len(list) > 0 {
			out[key] = Value{Values: list, List: true}
		}
	}
	if !r.Expires.IsZero() {
		out["expires"] = Value{Values: []string{r.Expires.UTC().Format(time.RFC3339)}}
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
