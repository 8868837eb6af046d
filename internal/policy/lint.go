package policy

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// lint adds warnings about the set as a whole to l: what can have no effect, and
// what has more than it seems.
func (l *loading) lint(s *Set) {
	warn := func(p *policy, at position, path []step, f Finding) {
		f.Severity = SeverityWarning
		d := decoder{path: path}
		f.Path = d.where()
		l.findings = append(l.findings, l.finding(p, at, f))
	}
	if len(s.policies) == 0 {
		l.findings = append(l.findings, Finding{
			Severity: SeverityWarning, Code: "no-policy", File: filepath.Join(l.dir, "."),
			Text: "there is no policy, so every request is held", Mend: "add a file that ends in .yaml",
		})
		return
	}
	for name := range l.snap.files {
		if filepath.Ext(name) == ".txt" && !l.used[name] {
			l.findings = append(l.findings, Finding{
				Severity: SeverityWarning, Code: "unused-file", File: l.show(name),
				Text: "no policy names this file of values", Mend: "name it in a list as {file: " + name + "}, or delete it",
			})
		}
	}
	for _, t := range l.targets {
		if s.scopes[t.Name] == nil {
			l.findings = append(l.findings, Finding{
				Severity: SeverityWarning, Code: "no-policy", File: filepath.Join(l.dir, "."),
				Text: "no policy is for the target " + t.Name + ", so every request to it is held", Mend: "name it under targets of a policy",
			})
		}
	}
	for _, t := range l.targets {
		if p, other := s.twoOwners(t); other != nil {
			warn(p, p.at, []step{{key: "policy"}}, Finding{
				Code: "two-owners", Text: fmt.Sprintf("the target %s is decided by policies of two owners: %s of %s, and %s of %s", t.Name, other.name, other.owner, p.name, p.owner),
				Mend: "say in the configuration which policies may decide for it, such as targets[].policies: [" + other.name + "]",
			})
		}
	}
	twins := make(map[string]*entry)
	for _, p := range s.policies {
		if p.mode == approval.AcceptOnly && p.otherwise == approval.Reject {
			warn(p, p.elseAt, []step{{key: "otherwise"}}, Finding{
				Code: "no-effect", Text: "the mode is accept-only, so reject has no effect and requests are held",
				Mend: "write otherwise: hold, or mode: enforce",
			})
		}
		if len(p.allow)+len(p.deny) == 0 && p.otherwise == approval.Hold {
			warn(p, p.at, nil, Finding{Code: "no-effect", Text: "the policy has no entry, so it changes nothing", Mend: "add an entry or delete the file"})
		}
		for _, e := range p.allow {
			if f, ok := s.deniedAnyway(e); ok {
				warn(p, e.at, e.path(), f)
			}
			if !s.crowded(e) {
				continue
			}
			id := e.identity()
			if twin := twins[id]; twin != nil {
				warn(p, e.at, e.path(), Finding{
					Code: "duplicate-entry", Text: fmt.Sprintf("the entry %s/%s allows the same already", twin.policy.name, twin.id), Mend: "delete one of them",
				})
			} else {
				twins[id] = e
			}
		}
		for _, e := range slices.Concat(p.allow, p.deny) {
			for _, c := range e.conds {
				fc, ok := c.(*fieldCondition)
				if !ok {
					continue
				}
				if glob, value := fc.values.covered(); value != "" {
					text := strconv.Quote(value) + " is matched by " + strconv.Quote(glob) + " already"
					if fc.file {
						text = "a value of the file is matched by a pattern of it already"
					}
					warn(p, fc.at, append(e.path(), step{key: fc.label}), Finding{Code: "covered-value", Text: text, Mend: "delete one of them"})
				}
			}
		}
	}
}

// twoOwners returns two policies of different owners that act on t, if anybody may
// decide for it.
func (s *Set) twoOwners(t approval.Target) (p, other *policy) {
	if t.Policies != "" {
		return nil, nil
	}
	for _, p := range s.policies {
		if p.owner == "" || p.mode == approval.Shadow || !slices.Contains(p.targets, t.Name) {
			continue
		}
		if other != nil && other.owner != p.owner {
			return p, other
		}
		if other == nil {
			other = p
		}
	}
	return nil, nil
}

// crowded reports whether the index finds other entries where it finds e; only
// those can say the same.
func (s *Set) crowded(e *entry) bool {
	if !e.keyed {
		return !e.never
	}
	x := s.view(e.policy, e.policy.targets[0]).allow
	for f := range numFields {
		c := e.field(f)
		if c == nil || len(c.values.globs) > 0 || f == fieldRegion {
			continue
		}
		return slices.ContainsFunc(c.values.exact, func(v string) bool { return len(x.keyed[f][v]) > 1 })
	}
	return false
}

// view returns the view of a target that the entries of p are in.
func (s *Set) view(p *policy, target string) *view {
	if p.mode == approval.Shadow {
		return s.scopes[target].shadow
	}
	return s.scopes[target].live
}

// identity is the same for entries of the same targets and mode that say the same.
func (e *entry) identity() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %s", e.policy.targets, e.policy.mode)
	for _, c := range e.conds {
		fmt.Fprintf(&b, " %s=", c.name())
		switch c := c.(type) {
		case *fieldCondition:
			fmt.Fprintf(&b, "%q", c.values.all())
		case *claimCondition:
			fmt.Fprintf(&b, "%q", c.values.all())
		default:
			b.WriteString(c.wanted())
		}
	}
	return b.String()
}

// covered returns a value of m and a pattern that matches it too, if there are such.
func (m *matcher) covered() (glob, value string) {
	for _, g := range m.globs {
		for _, v := range m.exact {
			if m.globHas(g, v) {
				return g, v
			}
		}
	}
	return "", ""
}

// deniedAnyway reports that values of an allow are denied whatever else holds,
// on every target of the policy.
func (s *Set) deniedAnyway(e *entry) (Finding, bool) {
	var worst *entry // the deny to name
	field, denied, total := "", 0, 0
	for f := range numFields {
		c := e.field(f)
		if c == nil || len(c.values.globs) > 0 {
			continue
		}
		n := 0
		for _, v := range c.values.exact {
			if d := s.deniedEverywhere(e.policy, f, v); d != nil {
				n++
				worst = d
			}
		}
		if n > denied {
			field, denied, total = c.label, n, len(c.values.exact)
		}
	}
	if worst == nil {
		return Finding{}, false
	}
	what := "all of its values of " + field + " are"
	if denied < total {
		what = fmt.Sprintf("%d of its %d values of %s are", denied, total, field)
	} else if total == 1 {
		what = "its " + field + " is"
	}
	return Finding{
		Code: "denied-anyway", Text: fmt.Sprintf("%s denied by %s/%s, and a deny beats every allow", what, worst.policy.name, worst.id),
		Mend: "delete it here or there",
	}, true
}

// deniedEverywhere returns a deny without further conditions that v of f meets on
// each target of p, or nil.
func (s *Set) deniedEverywhere(p *policy, f field, v string) *entry {
	var found *entry
	for _, t := range p.targets {
		view := s.view(p, t)
		var here *entry
		for _, d := range view.deny.keyed[f][v] {
			if len(d.conds) == 1 {
				here = d
			}
		}
		for _, d := range view.deny.rest {
			fc := d.field(f)
			if len(d.conds) == 0 || len(d.conds) == 1 && fc != nil && fc.values.has(v) {
				here = d
			}
		}
		if here == nil {
			return nil
		}
		found = here
	}
	return found
}

// FindingsAt is Findings and what depends on the time: entries that expired
// before now.
func (s *Set) FindingsAt(now time.Time) []Finding {
	out := s.Findings()
	if s == nil {
		return out
	}
	for _, p := range s.policies {
		for _, e := range slices.Concat(p.allow, p.deny) {
			for _, c := range e.conds {
				if x, ok := c.(*expiresCondition); ok && !now.Before(x.at) {
					d := decoder{path: append(e.path(), step{key: "expires"})}
					out = append(out, Finding{
						Severity: SeverityWarning, Code: "expired", File: p.file, Line: x.place.line, Column: x.place.column, Path: d.where(),
						Text: "the entry expired on " + x.text + ", so it matches nobody", Mend: "delete it or set a later day",
						Excerpt: excerpt(x.line, x.place.line, x.place.column),
					})
				}
			}
		}
	}
	sortFindings(out)
	return out
}
