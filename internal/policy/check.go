package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// check reports what is wrong with p as a whole: contradictions, and what can
// have no effect.
func (d *decoder) check(p *policy) {
	if p.mode == approval.Shadow && p.otherwise == approval.Ignore {
		d.SetPath(strictyaml.Step{Key: "otherwise"})
		d.Report(strictyaml.SeverityWarning, p.elseAt, "no-effect", "a shadow policy never acts, so otherwise: ignore has no effect", "delete it")
		d.SetPath()
	}
	targets := make([]approval.Target, 0, len(p.targets))
	for _, name := range p.targets {
		t, _ := d.targets.ByName(name)
		targets = append(targets, t)
	}
	lines := make(map[string]int, len(p.allow)+len(p.deny))
	for _, e := range slices.Concat(p.allow, p.deny) {
		d.SetPath(e.path()...)
		if line, twice := lines[e.id]; twice && e.id != "" {
			d.SetPath(append(e.path(), strictyaml.Step{Key: "id"})...)
			d.Report(strictyaml.SeverityError, e.at, "duplicate-id", fmt.Sprintf("duplicate entry id %q, first used on line %d", e.id, line), "give each entry its own id")
			d.SetPath(e.path()...)
		} else {
			lines[e.id] = e.at.Line
		}
		d.checkEntry(e, targets)
		d.checkTimes(e)
		d.compileWhen(e, targets)
		e.when = nil
		e.onClaims = slices.ContainsFunc(e.conds, condition.onClaims)
		d.checkClaims(e, targets)
		d.SetPath()
		slices.SortStableFunc(e.conds, func(a, b condition) int { return rank(a) - rank(b) })
	}
}

// path is the place of e in its file.
func (e *entry) path() []strictyaml.Step {
	return []strictyaml.Step{{Key: e.list()}, {Index: e.index}}
}

// list is the name of the list that e is in.
func (e *entry) list() string {
	if e.deny {
		return "deny"
	}
	return "allow"
}

// rank orders conditions: verified fields first, as the index has them.
func rank(c condition) int {
	const after = int(numFields)
	switch c := c.(type) {
	case *fieldCondition:
		return int(c.field)
	case *claimCondition:
		return after
	case *fromCondition:
		return after + 1
	case *expiresCondition:
		return after + 2
	case *hoursCondition:
		return after + 3
	case *limitCondition:
		return after + 4
	}
	return after + 5
}

// checkEntry reports fields that requests to a target do not have, and an entry
// that names no account, endpoint or parameter.
func (d *decoder) checkEntry(e *entry, targets []approval.Target) {
	all := specs()
	connections, creations := "", ""
	for _, t := range targets {
		if t.Kind.Creates() {
			creations = t.Name
		} else {
			connections = t.Name
		}
	}
	identified, parameters := e.anyDomain, false
	for _, c := range e.conds {
		if lc, ok := c.(*limitCondition); ok && creations != "" {
			d.SetPath(append(e.path(), strictyaml.Step{Key: "limit"})...)
			d.Report(strictyaml.SeverityError, lc.place, "no-such-fact", "requests to "+creations+" create endpoints, and a limit counts connections", "delete it")
			d.SetPath(e.path()...)
		}
		fc, ok := c.(*fieldCondition)
		if !ok {
			continue
		}
		identified = identified || fc.field == fieldDomainID || fc.field == fieldEndpointID
		parameters = parameters || fc.field != fieldRegion && fc.field != fieldWorkspaceID
		for _, t := range targets {
			if slices.Contains(all[fc.field].kinds, t.Kind) {
				continue
			}
			d.SetPath(append(e.path(), strictyaml.Step{Key: fc.field.name()})...)
			d.Report(strictyaml.SeverityError, fc.at, "no-such-fact",
				fmt.Sprintf("requests to %s, a target of kind %s, have no %s, so the entry could never match there", t.Name, t.Kind, fc.field.name()),
				"fields of that kind are "+fieldsOf(t.Kind)+"; give targets of other kinds their own policy")
			d.SetPath(e.path()...)
			break
		}
	}
	if len(targets) == 0 || e.faulty {
		return // reported already
	}
	switch {
	case e.anyDomain && creations != "":
		d.SetPath(append(e.path(), strictyaml.Step{Key: "any_domain"})...)
		d.Report(strictyaml.SeverityError, e.anyAt, "no-such-fact", "requests to "+creations+" have no account, so any_domain has no effect", "delete it and name a parameter, such as "+parameterOf(kindOfTarget(targets, creations)))
	case e.anyDomain && (e.field(fieldDomainID) != nil || e.field(fieldEndpointID) != nil):
		d.SetPath(append(e.path(), strictyaml.Step{Key: "any_domain"})...)
		d.Report(strictyaml.SeverityError, e.anyAt, "contradiction", "any_domain contradicts the domain_id or endpoint_id of the entry", "keep one of the two")
	case connections != "" && !identified && !e.deny:
		d.Report(strictyaml.SeverityError, e.at, "for-whom", "the entry names no account and no endpoint", "add a domain_id or an endpoint_id, or write any_domain: true")
	case creations != "" && !parameters && !e.deny:
		d.Report(strictyaml.SeverityError, e.at, "for-what", "the entry names no parameter of the endpoint", "name a parameter, such as "+parameterOf(kindOfTarget(targets, creations)))
	case e.deny && len(e.conds) == 0 && !e.anyDomain:
		d.Report(strictyaml.SeverityError, e.at, "for-whom", "the entry has no condition, so it would deny everything", "name a field, or write otherwise: reject")
	case e.anyDomain && !e.deny && !slices.ContainsFunc(e.conds, condition.onClaims):
		d.SetPath(append(e.path(), strictyaml.Step{Key: "any_domain"})...)
		d.Report(strictyaml.SeverityWarning, e.anyAt, "any-domain", "the entry applies to every account"+restrictions(e), "name a domain_id if you can")
	}
	d.SetPath(e.path()...)
}

// checkClaims reports an allow that accepts on claims alone: nothing that narrows
// it down is verified.
func (d *decoder) checkClaims(e *entry, targets []approval.Target) {
	if e.deny || !e.onClaims || e.faulty || len(targets) == 0 {
		return
	}
	at, key, hint := e.anyAt, "any_domain", "name a domain_id or an endpoint_id, or delete the condition on claims"
	if !e.anyDomain {
		if slices.ContainsFunc(e.conds, narrows) {
			return
		}
		at, key, hint = e.at, "", "name the parameters that are allowed, or delete the condition on claims"
	}
	if key != "" {
		d.SetPath(append(e.path(), strictyaml.Step{Key: key})...)
	}
	d.Report(strictyaml.SeverityError, at, "claims-alone", "the entry allows requests by claims alone, and claims are not verified", hint)
	d.SetPath(e.path()...)
}

// narrows reports whether c asks what is verified of a request for certain values.
func narrows(c condition) bool {
	fc, ok := c.(*fieldCondition)
	return ok && fc.field != fieldRegion && fc.field != fieldWorkspaceID && !slices.ContainsFunc(fc.values.globs, onlyWild)
}

// checkTimes reports an entry that is over before it begins.
func (d *decoder) checkTimes(e *entry) {
	var from *fromCondition
	var expires *expiresCondition
	for _, c := range e.conds {
		switch c := c.(type) {
		case *fromCondition:
			from = c
		case *expiresCondition:
			expires = c
		}
	}
	if from != nil && expires != nil && !from.at.Before(expires.at) {
		d.SetPath(append(e.path(), strictyaml.Step{Key: "expires"})...)
		d.Report(strictyaml.SeverityError, expires.place, "contradiction", "expires is not after from", "correct from or expires")
		d.SetPath(e.path()...)
	}
}

// restrictions names what restricts an entry for any domain.
func restrictions(e *entry) string {
	names := make([]string, 0, len(e.conds)+1)
	for _, c := range e.conds {
		names = append(names, c.name())
	}
	if e.when != nil {
		names = append(names, "when")
	}
	if len(names) == 0 {
		return ", without any condition"
	}
	return ", limited only by " + strings.Join(names, ", ")
}

func kindOfTarget(targets []approval.Target, name string) approval.TargetKind {
	t, _ := approval.Targets(targets).ByName(name)
	return t.Kind
}

// parameterOf names the most important parameter of a creation of kind k.
func parameterOf(k approval.TargetKind) string {
	if k == approval.DataArtsInsight {
		return "vpc_ep_server_id"
	}
	return "vpc_id"
}

// fieldsOf names the fields that requests to targets of kind k have.
func fieldsOf(k approval.TargetKind) string {
	all := specs()
	var names []string
	for _, f := range fieldsByDoc() {
		if slices.Contains(all[f].kinds, k) {
			names = append(names, f.name())
		}
	}
	return strings.Join(names, ", ")
}
