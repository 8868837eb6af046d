package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// keys is every key of a policy file: the one source of the decoder, of the
// JSON Schema and of the tables in docs/policy.md.
type keys struct {
	policy []key[policy]
	entry  []key[entry]
	hours  []key[hoursCondition]
}

func newKeys() *keys {
	return &keys{policy: policyKeys(), entry: entryKeys(), hours: hoursKeys()}
}

// formatVersion is the version of the file format that this package reads.
const formatVersion = "1"

func textForm(words string) form {
	return form{words, map[string]any{"type": "string", "minLength": 1}}
}

func nameForm() form {
	return form{"a name of a-z, 0-9 and -", map[string]any{"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,63}$"}}
}

func instantForm() form {
	return form{"a date or a time", map[string]any{
		"type": "string", "pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2}))?$`,
	}}
}

func choiceForm(words []string, def string) form {
	return form{oneOf(words), map[string]any{"enum": words, "default": def}}
}

// valuesForm is that of a list of values.
func valuesForm() form {
	scalar := []any{"string", "number", "boolean"}
	return form{"a value, a list of values, or {file: NAME.txt}", map[string]any{
		"oneOf": []any{
			map[string]any{"type": scalar},
			map[string]any{"type": "array", "items": map[string]any{"type": scalar}},
			map[string]any{
				"type": "object", "additionalProperties": false, "required": []any{"file"},
				"properties": map[string]any{"file": map[string]any{
					"type": "string", "pattern": sideFilePattern,
					"description": "A file in the folder of the policy: one value per line; # starts a comment at the start of a line or after a space.",
				}},
			},
		},
	}}
}

func modes() []string {
	return []string{string(approval.Enforce), string(approval.AcceptOnly), string(approval.Shadow)}
}

func otherwises() []string {
	return []string{string(approval.Hold), string(approval.Reject), string(approval.Ignore)}
}

func policyKeys() []key[policy] {
	return []key[policy]{
		{
			name: "version", must: true, doc: "The version of the file format.",
			form: form{formatVersion, map[string]any{"const": 1}},
			read: func(d *decoder, n *yaml.Node, _ *policy) {
				if s, ok := d.text(n, formatVersion); ok && s != formatVersion {
					d.fail(n, "version", "unknown version "+strconv.Quote(cut(s)), "this worker supports version "+formatVersion)
				}
			},
		},
		{
			name: "policy", must: true, doc: "The name of the policy, unique in the folder. It is shown in decisions and metrics.",
			form: nameForm(),
			read: func(d *decoder, n *yaml.Node, p *policy) {
				p.name, _ = d.name(n)
				p.at = position{n.Line, n.Column}
			},
		},
		{
			name: "owner", doc: "The owner of the policy, for people. It does not affect decisions.",
			form: textForm("a text"),
			read: func(d *decoder, n *yaml.Node, p *policy) { p.owner, _ = d.text(n, "a text") },
		},
		{
			name: "targets", must: true, doc: "The targets of the configuration that the policy is for.",
			form: form{"a list of names of targets", map[string]any{
				"type": "array", "minItems": 1, "uniqueItems": true, "items": map[string]any{"type": "string", "minLength": 1},
			}},
			read: readTargets,
		},
		{
			name: "mode", doc: "How the policy is applied: enforce accepts and rejects; accept-only never rejects, what it would reject is held; shadow decides and reports, and never acts.",
			form: choiceForm(modes(), string(approval.Enforce)),
			read: func(d *decoder, n *yaml.Node, p *policy) {
				if s, ok := d.choice(n, modes()); ok {
					p.mode, p.modeAt = approval.Mode(s), position{n.Line, n.Column}
				}
			},
		},
		{
			name: "allow", doc: "Entries of which any may match for a request to be accepted.",
			form: form{"a list of entries", map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/allow"}}},
			read: func(d *decoder, n *yaml.Node, p *policy) { p.allow = d.entryList(n, p, false) },
		},
		{
			name: "deny", doc: "Entries of which any may match for a request to be rejected. A deny beats every allow of the target, in whichever policy it is.",
			form: form{"a list of entries", map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/deny"}}},
			read: func(d *decoder, n *yaml.Node, p *policy) { p.deny = d.entryList(n, p, true) },
		},
		{
			name: "otherwise", doc: "What happens where no entry matches. With several policies for one target the strictest applies: reject, then hold, then ignore.",
			form: choiceForm(otherwises(), string(approval.Hold)),
			read: func(d *decoder, n *yaml.Node, p *policy) {
				if s, ok := d.choice(n, otherwises()); ok {
					p.otherwise, p.elseAt = approval.Verdict(s), position{n.Line, n.Column}
				}
			},
		},
	}
}

func readTargets(d *decoder, n *yaml.Node, p *policy) {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.fail(n, "no-target", "the list is empty, so the policy applies to no target", "name a target of the configuration")
		return
	}
	d.items(n, "a list of names of targets", func(_ int, item *yaml.Node) {
		name, ok := d.text(item, "the name of a target")
		if !ok {
			return
		}
		if slices.Contains(p.targets, name) {
			d.fail(item, "duplicate-target", strconv.Quote(cut(name))+" is listed twice", "keep one of them")
			return
		}
		if _, ok := d.targets.ByName(name); !ok {
			names := make([]string, 0, len(d.targets))
			for _, t := range d.targets {
				names = append(names, t.Name)
			}
			hint := suggest(name, names)
			if len(names) == 0 {
				hint = "no target is configured: add it to the configuration under targets"
			}
			d.fail(item, "unknown-target", strconv.Quote(cut(name))+" is not a configured target", hint)
			return
		}
		p.targets = append(p.targets, name)
	})
}

// entryList reads allow or deny.
func (d *decoder) entryList(n *yaml.Node, p *policy, deny bool) []*entry {
	var out []*entry
	d.items(n, "a list of entries", func(i int, item *yaml.Node) {
		e := &entry{policy: p, deny: deny, index: i, at: position{item.Line, item.Column}}
		before := len(d.findings) + d.dropped
		readMapping(d, item, "an entry", d.keys.entry, e)
		e.faulty = d.errorsSince(before)
		e.alone = []*entry{e}
		out = append(out, e)
	})
	return out
}

func entryKeys() []key[entry] {
	out := []key[entry]{{
		name: "id", must: true, doc: "The name of the entry, unique in the policy. It is shown in decisions and metrics.",
		form: nameForm(),
		read: func(d *decoder, n *yaml.Node, e *entry) {
			if s, ok := d.name(n); ok {
				e.id, e.at = s, position{n.Line, n.Column}
			}
		},
	}}
	all := specs()
	for _, f := range fieldsByDoc() {
		out = append(out, fieldKey(f, all[f]))
	}
	return append(out, []key[entry]{
		{
			name: "any_domain", doc: "Matches every account. Without it an entry for connections names a domain_id or an endpoint_id.",
			form: form{"true or false", map[string]any{"type": "boolean", "default": false}},
			read: func(d *decoder, n *yaml.Node, e *entry) {
				e.anyDomain, _ = d.flag(n)
				e.anyAt = position{n.Line, n.Column}
			},
		},
		{
			name: "claims", doc: "What the event says about the requester, by path: names separated by dots, such as tags.env; a name with other characters than letters, digits, _ and - in double quotes, such as 'tags.\"example.com/team\"'. Claims only restrict an entry. They are never trusted for identity, and a deny by claims holds and never rejects.",
			form: form{"claims and their values", map[string]any{
				"type": "object", "minProperties": 1, "additionalProperties": map[string]any{"$ref": "#/$defs/values"},
				"propertyNames": map[string]any{"pattern": claimPathPattern},
			}},
			read: readClaims,
		},
		{
			name: "limit", only: "allow", doc: "The most connections that an account may have accepted on the target. Holds also for requests that are decided at the same time.",
			form: form{"a whole number from 1", map[string]any{"type": "integer", "minimum": 1, "maximum": 1_000_000}},
			read: func(d *decoder, n *yaml.Node, e *entry) {
				if e.deny {
					d.fail(n, "no-effect", "limit has no effect in a deny", "delete it")
					return
				}
				if v, ok := d.count(n); ok {
					e.limit = v
					e.conds = append(e.conds, &limitCondition{limit: v, place: position{n.Line, n.Column}})
				}
			},
		},
		{
			name: "from", doc: "When the entry comes into force: a date, which begins at 00:00 UTC, or a time with its offset.",
			form: instantForm(),
			read: func(d *decoder, n *yaml.Node, e *entry) {
				if at, ok := d.instant(n, false); ok {
					e.conds = append(e.conds, &fromCondition{at: at, text: n.Value, place: position{n.Line, n.Column}})
				}
			},
		},
		{
			name: "expires", doc: "When the entry expires: a date, which is its last day and ends at 24:00 UTC, or a time with its offset.",
			form: instantForm(),
			read: func(d *decoder, n *yaml.Node, e *entry) {
				if at, ok := d.instant(n, true); ok {
					e.conds = append(e.conds, &expiresCondition{at: at, text: n.Value, place: position{n.Line, n.Column}, line: d.line(n.Line)})
				}
			},
		},
		{
			name: "hours", doc: "The hours at which the entry is in force, in a time zone.",
			form: form{"a mapping, see below", map[string]any{"$ref": "#/$defs/hours"}},
			read: readHours,
		},
		{
			name: "when", doc: "A further condition as a CEL expression. If it cannot be evaluated, the request is neither accepted nor rejected by the entry.",
			form: form{"an expression that is true or false", map[string]any{"type": "string", "minLength": 1, "maxLength": maxExpression}},
			read: func(d *decoder, n *yaml.Node, e *entry) {
				if _, ok := d.text(n, "an expression"); ok {
					e.when = n
				}
			},
		},
		{
			name: "reason", only: "deny", doc: "The reason that the requester gets.",
			form: textForm("a sentence for the requester"),
			read: func(d *decoder, n *yaml.Node, e *entry) {
				if d.onlyDeny(n, e) {
					e.reasonText, _ = d.text(n, "a sentence for the requester")
				}
			},
		},
		{
			name: "contact", only: "deny", doc: "The contact for the requester.",
			form: textForm("an address for the requester"),
			read: func(d *decoder, n *yaml.Node, e *entry) {
				if d.onlyDeny(n, e) {
					e.contact, _ = d.text(n, "an address for the requester")
				}
			},
		},
	}...)
}

// fieldsByDoc is the order of the verified fields in the docs.
func fieldsByDoc() []field {
	return []field{
		fieldDomainID, fieldEndpointID, fieldRegion, fieldVPCID, fieldSubnetID, fieldFlavor, fieldXRole,
		fieldHostID, fieldDSType, fieldServerName, fieldServerID, fieldWorkspaceID,
	}
}

// onlyDeny reports an error and returns false if e is an allow.
func (d *decoder) onlyDeny(n *yaml.Node, e *entry) bool {
	if !e.deny {
		d.fail(n, "no-effect", "it has no effect in an allow", "move it to a deny or delete it")
	}
	return e.deny
}

// fieldKey is the key of a verified field.
func fieldKey(f field, spec fieldSpec) key[entry] {
	check := func(v, shown string) string {
		if isGlob(v) && digitsOf(v) == 0 && (f == fieldDomainID || f == fieldEndpointID) {
			return shown + " matches every account; write any_domain: true instead"
		}
		if !spec.id {
			return ""
		}
		if isGlob(v) {
			return deadGlob(v, shown)
		}
		if !approval.IsID(v) {
			return shown + " is neither a UUID nor 32 hexadecimal digits, so it matches nothing; write the id as the console shows it"
		}
		return ""
	}
	canonical := f.canonical
	return key[entry]{
		name: spec.name, doc: spec.doc,
		form: form{valuesForm().words, map[string]any{"$ref": "#/$defs/values"}},
		read: func(d *decoder, n *yaml.Node, e *entry) {
			vs, ok := d.values(n, check, canonical)
			if !ok {
				return
			}
			c := &fieldCondition{field: f, label: spec.name, values: newMatcher(vs, canonical), at: position{n.Line, n.Column}, file: n.Kind == yaml.MappingNode}
			e.never = e.never || c.values.empty()
			e.conds = append(e.conds, c)
		},
	}
}

// digitsOf is how many hexadecimal digits v, a pattern of an id, fixes.
func digitsOf(v string) int {
	n := 0
	for _, r := range v {
		if strings.ContainsRune(hexDigits, r) {
			n++
		}
	}
	return n
}

const hexDigits = "0123456789abcdefABCDEF"

// deadGlob returns why the pattern v matches no id, or an empty text. shown is what
// the text calls the pattern.
func deadGlob(v, shown string) string {
	const hint = "; write the id as the console shows it"
	if i := strings.IndexFunc(v, func(r rune) bool { return !strings.ContainsRune(hexDigits+"-*?", r) }); i >= 0 {
		r, _ := utf8.DecodeRuneInString(v[i:])
		what := fmt.Sprintf("%q (U+%04X), which no id has", r, r)
		if shown != fmt.Sprintf("%.80q", v) {
			what = "a character that no id has"
		}
		return shown + " holds " + what + ", so it matches nothing" + hint
	}
	if fixed := len(strings.ReplaceAll(v, "*", "")); fixed > maxID {
		return fmt.Sprintf("%s asks for %d characters, and an id has %d at most, so it matches nothing", shown, fixed, maxID) + hint
	}
	return ""
}

// maxID is the length of the longest ids.
const maxID = 36

// claimPathPattern is what approval.ParseClaimPath reads, for editors.
const claimPathPattern = `^([\p{L}\p{M}\p{Nd}_-]+|"([^"\\]|\\["\\])*")(\.([\p{L}\p{M}\p{Nd}_-]+|"([^"\\]|\\["\\])*"))*$`

func readClaims(d *decoder, n *yaml.Node, e *entry) {
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		d.fail(n, "no-effect", "there is no claim", "name one or delete the key")
		return
	}
	seen := make(map[string]int, len(n.Content)/2)
	d.pairs(n, "a mapping of claims to values", func(k, v *yaml.Node) {
		steps, err := approval.ParseClaimPath(k.Value)
		if err != nil {
			d.fail(k, "claim-path", err.Error(), `write names separated by dots, such as tags.env; a name with other characters in double quotes: 'tags."example.com/team"'`)
			return
		}
		path := approval.ClaimPath(steps)
		if line, twice := seen[path]; twice {
			d.fail(k, "duplicate-key", fmt.Sprintf("duplicate claim %s, first on line %d", cut(path), line), "keep one of them")
			return
		}
		seen[path] = k.Line
		if v.Kind == yaml.MappingNode && (len(v.Content) != 2 || v.Content[0].Value != "file") {
			d.fail(v, "type", "got a mapping, want values", "write the path with dots, such as tags.env: [prod]")
			return
		}
		vs, ok := d.values(v, func(_, _ string) string { return "" }, claimSpelling)
		if !ok {
			return
		}
		c := &claimCondition{path: path, steps: steps, values: newMatcher(vs, claimSpelling), at: position{v.Line, v.Column}, file: v.Kind == yaml.MappingNode}
		e.never = e.never || c.values.empty()
		e.conds = append(e.conds, c)
	})
}
