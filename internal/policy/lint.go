package policy

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// lint adds warnings about the set as a whole to l: what can have no effect, and
// what has more than it seems.
func (l *loading) lint(s *Set) {
	warn := func(p *policy, at strictyaml.Position, path []strictyaml.Step, f strictyaml.Finding) {
		f.Severity = strictyaml.SeverityWarning
		f.Path = strictyaml.PathText(path)
		l.findings = append(l.findings, l.finding(p, at, f))
	}
	if len(s.policies) == 0 {
		l.findings = append(l.findings, strictyaml.Finding{
			Severity: strictyaml.SeverityWarning, Code: "no-policy", File: filepath.Join(l.dir, "."),
			Text: "there is no policy, so every request is held", Hint: "add a file that ends in .yaml",
		})
		return
	}
	for name := range l.snap.files {
		if filepath.Ext(name) == ".txt" && !l.used[name] {
			l.findings = append(l.findings, strictyaml.Finding{
				Severity: strictyaml.SeverityWarning, Code: "unused-file", File: l.show(name),
				Text: "no policy uses this value file", Hint: "use it in a list as {file: " + name + "}, or delete it",
			})
		}
	}
	for _, t := range l.targets {
		if s.scopes[t.Name] == nil {
			l.findings = append(l.findings, strictyaml.Finding{
				Severity: strictyaml.SeverityWarning, Code: "no-policy", File: filepath.Join(l.dir, "."),
				Text: "no policy applies to the target " + t.Name + ", so every request to it is held", Hint: "add it to the targets of a policy",
			})
		}
	}
	for _, t := range l.targets {
		if p, other := s.twoOwners(t); other != nil {
			warn(p, p.at, []strictyaml.Step{{Key: "policy"}}, strictyaml.Finding{
				Code: "two-owners", Text: fmt.Sprintf("policies of two owners decide for the target %s: %s of %s, and %s of %s", t.Name, other.name, other.owner, p.name, p.owner),
				Hint: "list the policies that may decide for it in the configuration, such as targets[].policies: [" + other.name + "]",
			})
		}
	}
	twins := make(map[string]*entry)
	work := maxComparisons
	for _, p := range s.policies {
		if f, ok := s.rejectsOthers(p); ok {
			warn(p, p.elseAt, []strictyaml.Step{{Key: "otherwise"}}, f)
		}
		if f, ok := s.rejectsByClaim(p); ok {
			warn(p, p.elseAt, []strictyaml.Step{{Key: "otherwise"}}, f)
		}
		if p.mode == approval.AcceptOnly && p.otherwise == approval.Reject {
			warn(p, p.elseAt, []strictyaml.Step{{Key: "otherwise"}}, strictyaml.Finding{
				Code: "no-effect", Text: "the mode is accept-only, so reject has no effect and requests are held",
				Hint: "write otherwise: hold, or mode: enforce",
			})
		}
		if len(p.allow)+len(p.deny) == 0 && p.otherwise == approval.Hold {
			warn(p, p.at, nil, strictyaml.Finding{Code: "no-effect", Text: "the policy has no entry, so it has no effect", Hint: "add an entry or delete the file"})
		}
		for _, e := range p.allow {
			if f, ok := s.deniedAnyway(e); ok {
				warn(p, e.at, e.path(), f)
			}
			if c, f, ok := s.voidLimit(e, &work); ok {
				warn(p, c.place, append(e.path(), strictyaml.Step{Key: "limit"}), f)
			}
			if f, ok := e.unbounded(l.targets); ok {
				warn(p, e.at, e.path(), f)
			}
			if !s.crowded(e) {
				continue
			}
			id := e.identity()
			if twin := twins[id]; twin != nil {
				warn(p, e.at, e.path(), strictyaml.Finding{
					Code: "duplicate-entry", Text: fmt.Sprintf("the entry %s/%s already allows the same", twin.policy.name, twin.id), Hint: "delete one of them",
				})
			} else {
				twins[id] = e
			}
		}
		for _, e := range slices.Concat(p.allow, p.deny) {
			for _, c := range e.conds {
				switch c := c.(type) {
				case *fieldCondition:
					for _, f := range c.oddities(p, l.targets) {
						warn(p, c.at, append(e.path(), strictyaml.Step{Key: c.field.name()}), f)
					}
				case *claimCondition:
					for _, f := range c.oddities() {
						warn(p, c.at, append(e.path(), strictyaml.Step{Key: "claims"}, strictyaml.Step{Key: c.path}), f)
					}
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

// maxOddities is how many odd values of one list are reported.
const maxOddities = 5

// oddities returns what is odd about the values of c.
func (c *fieldCondition) oddities(p *policy, targets approval.Targets) []strictyaml.Finding {
	var out []strictyaml.Finding
	if glob, value := c.values.covered(); value != "" {
		text := strconv.Quote(value) + " is already matched by " + strconv.Quote(glob)
		if c.file {
			text = "a value of the file is already matched by a pattern in it"
		}
		out = append(out, strictyaml.Finding{Code: "covered-value", Text: text, Hint: "delete one of them"})
	}
	for _, g := range c.values.globs {
		switch n := digitsOf(g); {
		case len(out) >= maxOddities:
			return out
		case onlyWild(g) || c.field.folds() && n == 0:
			out = append(out, strictyaml.Finding{
				Code: "any-value", Text: shown(g, c.file) + " matches every " + c.field.name(), Hint: "list the values that you mean, or delete the key",
			})
		case c.field.folds() && n < minDigits:
			out = append(out, strictyaml.Finding{
				Code: "broad-pattern",
				Text: fmt.Sprintf("%s fixes only %s of the id, so it can match ids of others", shown(g, c.file), strictyaml.Counted(n, "digit", "digits")),
				Hint: fmt.Sprintf("write the full id, or fix at least %d digits", minDigits),
			})
		}
	}
	if c.field == fieldRegion && c.elsewhere(p, targets) {
		regions := c.values.String()
		if c.file {
			regions = "a region of the file"
		}
		out = append(out, strictyaml.Finding{Code: "no-effect", Text: "no target of the policy is in " + regions + ", so the entry matches nothing", Hint: "write the region of the target"})
	}
	if c.field.folds() {
		return out // made of hexadecimal digits
	}
	return append(out, c.values.oddities(c.field != fieldFlavor && c.field != fieldXRole, c.file)...)
}

// shown is how a finding names the value v. A value of a value file is
// not shown: the author may have named the wrong file.
func shown(v string, file bool) string {
	if file {
		return "a value of the file"
	}
	return strconv.Quote(strictyaml.Cut(v))
}

// minDigits is how many digits of an id a pattern has to fix, so that it is not met
// by chance.
const minDigits = 8

// elsewhere reports whether c, a condition on the region, holds for no target of p.
func (c *fieldCondition) elsewhere(p *policy, targets approval.Targets) bool {
	if c.values.empty() {
		return false // reported already
	}
	return !slices.ContainsFunc(p.targets, func(name string) bool {
		t, ok := targets.ByName(name)
		return !ok || t.Region == "" || c.values.has(t.Region)
	})
}

// oddities returns what is odd about the path and the values of c.
func (c *claimCondition) oddities() []strictyaml.Finding {
	var out []strictyaml.Finding
	for _, name := range c.steps {
		if o := oddText(name, false); o.code != "" {
			out = append(out, strictyaml.Finding{Code: o.code, Text: "the name " + strconv.Quote(strictyaml.Cut(name)) + " " + o.text, Hint: o.hint})
		}
	}
	return append(out, c.values.oddities(false, c.file)...)
}

// oddities returns what is odd about the texts of m; ascii: the texts should be
// ASCII; file: they come from a value file.
func (m *matcher) oddities(ascii, file bool) []strictyaml.Finding {
	var out []strictyaml.Finding
	for _, v := range m.all() {
		o := oddText(v, ascii)
		if o.code == "" {
			continue
		}
		if len(out) >= maxOddities {
			break
		}
		out = append(out, strictyaml.Finding{Code: o.code, Text: shown(v, file) + " " + o.text, Hint: o.hint})
	}
	return out
}

// unbounded reports an allow of creations that leaves open where, or to what.
func (e *entry) unbounded(targets approval.Targets) (strictyaml.Finding, bool) {
	for _, name := range e.policy.targets {
		t, _ := targets.ByName(name)
		switch {
		case (t.Kind == approval.FunctionGraph || t.Kind == approval.HSS) && e.field(fieldVPCID) == nil:
			return strictyaml.Finding{Code: "any-vpc", Text: "the entry names no vpc_id, so endpoints may be created in any VPC", Hint: "name the VPCs that are allowed"}, true
		case t.Kind == approval.DataArtsInsight && e.field(fieldServerID) == nil && e.field(fieldServerName) == nil:
			return strictyaml.Finding{Code: "any-service", Text: "the entry names no endpoint service, so endpoints may be connected to any", Hint: "name the services that are allowed by vpc_ep_server_id"}, true
		}
	}
	return strictyaml.Finding{}, false
}

// rejectsOthers reports an "otherwise: reject" that decides what other policies of
// the target would leave to a person.
func (s *Set) rejectsOthers(p *policy) (strictyaml.Finding, bool) {
	if p.otherwise != approval.Reject || p.mode == approval.AcceptOnly {
		return strictyaml.Finding{}, false
	}
	for _, t := range p.targets {
		for _, other := range s.policies {
			if other == p || !slices.Contains(other.targets, t) || other.mode == approval.Shadow && p.mode != approval.Shadow {
				continue
			}
			if other.otherwise != approval.Reject || other.mode == approval.AcceptOnly {
				return strictyaml.Finding{
					Code: "shared-reject",
					Text: fmt.Sprintf("the target %s has other policies, such as %s, and the strictest otherwise applies: this one rejects what they would hold or ignore", t, other.name),
					Hint: "write otherwise: hold, or write otherwise: reject in all of them",
				}, true
			}
		}
	}
	return strictyaml.Finding{}, false
}

// rejectsByClaim reports an "otherwise: reject" that rejects an account which an
// allow would accept with other claims.
func (s *Set) rejectsByClaim(p *policy) (strictyaml.Finding, bool) {
	if p.otherwise != approval.Reject || p.mode == approval.AcceptOnly {
		return strictyaml.Finding{}, false
	}
	for _, other := range s.policies {
		if other.mode == approval.Shadow && p.mode != approval.Shadow || !slices.ContainsFunc(other.targets, func(t string) bool { return slices.Contains(p.targets, t) }) {
			continue
		}
		if i := slices.IndexFunc(other.allow, func(e *entry) bool { return e.onClaims }); i >= 0 {
			return strictyaml.Finding{
				Code: "reject-by-claim",
				Text: fmt.Sprintf("requests that %s/%s allows are rejected if the event lacks the claims or has others", other.name, other.allow[i].id),
				Hint: "write otherwise: hold",
			}, true
		}
	}
	return strictyaml.Finding{}, false
}

// maxComparisons bounds how many pairs of entries are compared for one set.
const maxComparisons = 2_000_000

// voidLimit reports a limit that another allow makes void: one with a higher limit
// or with none that matches what e matches, whatever else holds.
func (s *Set) voidLimit(e *entry, work *int) (at *limitCondition, f strictyaml.Finding, ok bool) {
	i := slices.IndexFunc(e.conds, func(c condition) bool { _, ok := c.(*limitCondition); return ok })
	if i < 0 || e.never {
		return nil, f, false
	}
	at, _ = e.conds[i].(*limitCondition)
	for _, t := range e.policy.targets {
		v := s.view(e.policy, t)
		if other := v.allow.wider(e, work); other != nil {
			than := "has no limit"
			if other.limit > 0 {
				than = fmt.Sprintf("has the limit %d", other.limit)
			}
			return at, strictyaml.Finding{
				Code: "void-limit",
				Text: fmt.Sprintf("the limit has no effect: %s/%s allows some or all of the same requests on %s and %s", other.policy.name, other.id, t, than),
				Hint: "delete one of the entries, or give both the same limit",
			}, true
		}
	}
	return nil, f, false
}

// wider returns an allow of x with a higher limit than e, or none, that matches
// requests of e whatever their claims, expressions and time are.
func (x *index) wider(e *entry, work *int) *entry {
	var found *entry
	try := func(other *entry) bool {
		*work--
		if other != e && (other.limit == 0 || other.limit > e.limit) && other.meets(e) {
			found = other
		}
		return found == nil && *work > 0
	}
	for _, other := range x.rest {
		if !try(other) {
			return found
		}
	}
	for f := range numFields {
		c := e.field(f)
		if c == nil || x.keyed[f].first == nil {
			continue
		}
		for _, v := range c.values.exact {
			if !x.keyed[f].each(v, try) {
				return found
			}
		}
	}
	return found
}

// meets reports whether e is sure to match some of what o matches: it has a value
// of each field of o in common, and every other condition of e is one of o. Where
// o is for every account and e for one, e is an exception that is meant.
func (e *entry) meets(o *entry) bool {
	if e.never {
		return false
	}
	for _, c := range e.conds {
		switch c := c.(type) {
		case *limitCondition:
		case *fieldCondition:
			if other := o.field(c.field); other == nil || !c.values.coversSome(&other.values) {
				return false
			}
		default:
			if !slices.ContainsFunc(o.conds, func(other condition) bool { return sameCondition(c, other) }) {
				return false
			}
		}
	}
	return true
}

// coversSome reports whether m matches whatever one of the values of o matches.
func (m *matcher) coversSome(o *matcher) bool {
	return slices.ContainsFunc(o.exact, m.has) ||
		slices.ContainsFunc(o.globs, func(g string) bool { return slices.Contains(m.globs, g) || slices.ContainsFunc(m.globs, onlyWild) })
}

// sameCondition reports whether a and b say the same.
func sameCondition(a, b condition) bool { return a.name() == b.name() && a.wanted() == b.wanted() }

// crowded reports whether the index finds other entries where it finds e; only
// those can say the same.
func (s *Set) crowded(e *entry) bool {
	if e.key == nil {
		return !e.never
	}
	x := s.view(e.policy, e.policy.targets[0]).allow
	for f := range numFields {
		c := e.field(f)
		if c == nil || len(c.values.globs) > 0 || f == fieldRegion {
			continue
		}
		return slices.ContainsFunc(c.values.exact, func(v string) bool { return len(x.keyed[f].more[v]) > 0 })
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
func (s *Set) deniedAnyway(e *entry) (strictyaml.Finding, bool) {
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
			field, denied, total = c.field.name(), n, len(c.values.exact)
		}
	}
	if worst == nil {
		return strictyaml.Finding{}, false
	}
	what := "all of its values of " + field + " are"
	if denied < total {
		what = fmt.Sprintf("%d of its %d values of %s are", denied, total, field)
	} else if total == 1 {
		what = "its " + field + " is"
	}
	return strictyaml.Finding{
		Code: "denied-anyway", Text: fmt.Sprintf("%s denied by %s/%s, and a deny beats every allow", what, worst.policy.name, worst.id),
		Hint: "delete the allow or the deny",
	}, true
}

// deniedEverywhere returns a deny without further conditions that v of f meets on
// each target of p, or nil.
func (s *Set) deniedEverywhere(p *policy, f field, v string) *entry {
	var found *entry
	for _, t := range p.targets {
		view := s.view(p, t)
		var here *entry
		view.deny.keyed[f].each(v, func(d *entry) bool {
			if len(d.conds) == 1 {
				here = d
			}
			return true
		})
		var last *entry // of those without a key
		look := func(d *entry) bool {
			fc := d.field(f)
			meets := len(d.conds) == 0 || len(d.conds) == 1 && fc != nil && fc.values.has(v)
			if meets && (last == nil || d.order > last.order) {
				last = d
			}
			return true
		}
		if patterns := view.deny.globs[f]; patterns != nil {
			patterns.each(v, look)
		}
		all(view.deny.scan, look)
		if last != nil {
			here = last
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
func (s *Set) FindingsAt(now time.Time) []strictyaml.Finding {
	out := s.Findings()
	if s == nil {
		return out
	}
	for _, p := range s.policies {
		for _, e := range slices.Concat(p.allow, p.deny) {
			for _, c := range e.conds {
				if x, ok := c.(*expiresCondition); ok && !now.Before(x.at) {
					out = append(out, strictyaml.Finding{
						Severity: strictyaml.SeverityWarning, Code: "expired", File: p.file, Line: x.place.Line, Column: x.place.Column, Path: strictyaml.PathText(append(e.path(), strictyaml.Step{Key: "expires"})),
						Text: "the entry expired on " + x.text + ", so it matches nothing", Hint: "delete it or set a later date",
						Excerpt: strictyaml.Excerpt(x.line, x.place),
					})
				}
			}
		}
	}
	strictyaml.Sort(out)
	return out
}
