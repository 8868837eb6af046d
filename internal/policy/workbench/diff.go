package workbench

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// Change is one thing that differs between two sets.
type Change struct {
	Kind   string `json:"kind"` // added, removed or changed
	Policy string `json:"policy"`
	Rule   string `json:"rule,omitempty"` // such as allow/acme; empty if it is about the policy as a whole
	Text   string `json:"text"`
}

// String is c on one line.
func (c Change) String() string {
	at := c.Policy
	if c.Rule != "" {
		at += " " + c.Rule
	}
	return fmt.Sprintf("%s %s: %s", c.mark(), at, c.Text)
}

func (c Change) mark() string {
	switch c.Kind {
	case "added":
		return "+"
	case "removed":
		return "-"
	}
	return "~"
}

// Diff returns what changes from one set to another, in the order of policies
// and entries. Either may be nil. Order of files and entries, comments and
// spelling make no difference.
func Diff(from, to *policy.Set) []Change {
	before, after := byName(from), byName(to)
	var out []Change
	for _, name := range union(before, after) {
		a, b := before[name], after[name]
		switch {
		case a == nil:
			out = append(out, Change{"added", name, "", policySummary(b)})
		case b == nil:
			out = append(out, Change{"removed", name, "", policySummary(a)})
		default:
			out = append(out, diffPolicy(a, b)...)
		}
	}
	return append(out, diffEntries(policy.ReviewersFile, persons(from), persons(to))...)
}

// persons returns the people and consoles of s as entries, by their place in the file
// and name.
func persons(s *policy.Set) map[string]*policy.EntryDescription {
	out := make(map[string]*policy.EntryDescription)
	for _, p := range s.Reviewers().Describe() {
		list := "reviewers"
		if p.Console {
			list = "consoles"
		}
		out[list+"/"+p.Name] = &policy.EntryDescription{List: list, ID: p.Name, Keys: p.Keys}
	}
	return out
}

func byName(s *policy.Set) map[string]*policy.Description {
	out := make(map[string]*policy.Description)
	for _, p := range s.Describe() {
		out[p.Name] = &p
	}
	return out
}

// union returns the keys of both, in order.
func union[T any](a, b map[string]T) []string {
	var out []string
	for k := range a {
		out = append(out, k)
	}
	for k := range b {
		out = append(out, k)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func policySummary(p *policy.Description) string {
	allow := 0
	for _, e := range p.Entries {
		if e.List == "allow" {
			allow++
		}
	}
	text := fmt.Sprintf("a policy for %s with %d allow, %d deny, otherwise %s, mode %s",
		strings.Join(p.Targets, ", "), allow, len(p.Entries)-allow, p.Otherwise, p.Mode)
	if p.Review != nil {
		text += ", reviewed by " + strings.Join(p.Review["by"].Values, ", ")
	}
	return text
}

func diffPolicy(a, b *policy.Description) []Change {
	var out []Change
	word := func(what, from, to string) {
		if from != to {
			out = append(out, Change{"changed", a.Name, "", fmt.Sprintf("%s from %s to %s", what, orNothing(from), orNothing(to))})
		}
	}
	targets := func(p *policy.Description) string { return strings.Join(slices.Sorted(slices.Values(p.Targets)), ", ") }
	word("targets", targets(a), targets(b))
	word("mode", string(a.Mode), string(b.Mode))
	word("otherwise", string(a.Otherwise), string(b.Otherwise))
	word("owner", a.Owner, b.Owner)
	return append(out, diffEntries(a.Name, entries(a), entries(b))...)
}

// diffEntries returns what changes in the entries of the policy or file called name.
func diffEntries(name string, before, after map[string]*policy.EntryDescription) []Change {
	var out []Change
	for _, id := range union(before, after) {
		x, y := before[id], after[id]
		switch {
		case x == nil:
			out = append(out, Change{"added", name, id, entrySummary(y)})
		case y == nil:
			out = append(out, Change{"removed", name, id, entrySummary(x)})
		default:
			for _, text := range diffEntry(x, y) {
				out = append(out, Change{"changed", name, id, text})
			}
		}
	}
	return out
}

// entries returns the entries of p by list and id, and its review.
func entries(p *policy.Description) map[string]*policy.EntryDescription {
	out := make(map[string]*policy.EntryDescription)
	for _, e := range p.Entries {
		out[e.List+"/"+e.ID] = &e
	}
	if p.Review != nil {
		out["review"] = &policy.EntryDescription{List: "review", Keys: p.Review}
	}
	return out
}

func entrySummary(e *policy.EntryDescription) string {
	var parts []string
	for _, k := range union(e.Keys, nil) {
		parts = append(parts, k+" "+policy.FormatValues(e.Keys[k].Values))
	}
	return strings.Join(parts, ", ")
}

func diffEntry(a, b *policy.EntryDescription) []string {
	before, after := a.Keys, b.Keys
	var out []string
	for _, k := range union(before, after) {
		x, had := before[k]
		y, has := after[k]
		switch {
		case !had:
			out = append(out, k+" "+policy.FormatValues(y.Values)+" is new")
		case !has:
			out = append(out, k+" "+policy.FormatValues(x.Values)+" is removed")
		default:
			gone, fresh := without(x.Values, y.Values), without(y.Values, x.Values)
			if !x.List && len(gone) > 0 {
				out = append(out, k+" changes from "+x.Values[0]+" to "+y.Values[0])
				continue
			}
			if len(gone) > 0 {
				out = append(out, k+" loses "+policy.FormatValues(gone))
			}
			if len(fresh) > 0 {
				out = append(out, k+" gains "+policy.FormatValues(fresh))
			}
		}
	}
	return out
}

// without returns the values of a that are not in b.
func without(a, b []string) []string {
	in := make(map[string]bool, len(b))
	for _, v := range b {
		in[v] = true
	}
	var out []string
	for _, v := range a {
		if !in[v] {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// WriteChanges writes changes one a line.
func WriteChanges(w io.Writer, changes []Change) error {
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(c.String() + "\n")
	}
	if len(changes) == 0 {
		b.WriteString("nothing changes\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
