package policy

import (
	"fmt"
	"io"
	"slices"
	"strings"
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
func Diff(from, to *Set) []Change {
	before, after := from.byName(), to.byName()
	var out []Change
	for _, name := range union(before, after) {
		a, b := before[name], after[name]
		switch {
		case a == nil:
			out = append(out, Change{"added", name, "", b.summary()})
		case b == nil:
			out = append(out, Change{"removed", name, "", a.summary()})
		default:
			out = append(out, diffPolicy(a, b)...)
		}
	}
	return out
}

func (s *Set) byName() map[string]*policy {
	out := make(map[string]*policy)
	if s != nil {
		for _, p := range s.policies {
			out[p.name] = p
		}
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

func (p *policy) summary() string {
	return fmt.Sprintf("a policy for %s with %d allow, %d deny, otherwise %s, mode %s",
		strings.Join(p.targets, ", "), len(p.allow), len(p.deny), p.otherwise, p.mode)
}

func diffPolicy(a, b *policy) []Change {
	var out []Change
	word := func(what, from, to string) {
		if from != to {
			out = append(out, Change{"changed", a.name, "", fmt.Sprintf("%s from %s to %s", what, orNothing(from), orNothing(to))})
		}
	}
	targets := func(p *policy) string { return strings.Join(slices.Sorted(slices.Values(p.targets)), ", ") }
	word("targets", targets(a), targets(b))
	word("mode", string(a.mode), string(b.mode))
	word("otherwise", string(a.otherwise), string(b.otherwise))
	word("owner", a.owner, b.owner)
	before, after := a.entries(), b.entries()
	for _, id := range union(before, after) {
		x, y := before[id], after[id]
		switch {
		case x == nil:
			out = append(out, Change{"added", a.name, id, y.summary()})
		case y == nil:
			out = append(out, Change{"removed", a.name, id, x.summary()})
		default:
			for _, text := range diffEntry(x, y) {
				out = append(out, Change{"changed", a.name, id, text})
			}
		}
	}
	return out
}

// entries returns the entries of p by list and id.
func (p *policy) entries() map[string]*entry {
	out := make(map[string]*entry)
	for _, e := range slices.Concat(p.allow, p.deny) {
		out[e.list()+"/"+e.id] = e
	}
	return out
}

// says returns what e says, by key.
func (e *entry) says() map[string][]string {
	out := make(map[string][]string)
	for _, c := range e.conds {
		switch c := c.(type) {
		case *fieldCondition:
			out[c.name()] = c.values.all()
		case *claimCondition:
			out[c.name()] = c.values.all()
		default:
			out[c.name()] = []string{c.wanted()}
		}
	}
	if e.anyDomain {
		out["any_domain"] = []string{"true"}
	}
	if e.reasonText != "" {
		out["reason"] = []string{e.reasonText}
	}
	if e.contact != "" {
		out["contact"] = []string{e.contact}
	}
	return out
}

func (e *entry) summary() string {
	says := e.says()
	var parts []string
	for _, k := range union(says, nil) {
		parts = append(parts, k+" "+list(says[k]))
	}
	return strings.Join(parts, ", ")
}

func diffEntry(a, b *entry) []string {
	before, after := a.says(), b.says()
	var out []string
	for _, k := range union(before, after) {
		x, had := before[k]
		y, has := after[k]
		switch {
		case !had:
			out = append(out, k+" "+list(y)+" is new")
		case !has:
			out = append(out, k+" "+list(x)+" is gone")
		default:
			gone, fresh := without(x, y), without(y, x)
			if !isList(k) && len(gone) > 0 {
				out = append(out, k+" changes from "+x[0]+" to "+y[0])
				continue
			}
			if len(gone) > 0 {
				out = append(out, k+" loses "+list(gone))
			}
			if len(fresh) > 0 {
				out = append(out, k+" gains "+list(fresh))
			}
		}
	}
	return out
}

// isList reports whether key k of an entry holds a list of values.
func isList(k string) bool {
	_, ok := fieldNamed(k)
	return ok || strings.HasPrefix(k, "claims.")
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

// WriteChangesJSON writes changes as JSON.
func WriteChangesJSON(w io.Writer, changes []Change) error {
	return writeJSON(w, orEmpty(changes))
}
