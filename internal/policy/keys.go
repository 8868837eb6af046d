package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// keys is every key of a policy file: the one source of the decoder, of the
// JSON Schema and of the tables in docs/policy.md.
type keys struct {
	policy []key[policy]
	review []key[approval.ReviewRule]
	entry  []key[entry]
	hours  []key[hoursCondition]
}

func newKeys() *keys {
	return &keys{policy: policyKeys(), review: reviewKeys(), entry: entryKeys(), hours: hoursKeys()}
}

// formatVersion is the version of the file format that this package reads.
const formatVersion = "1"

func nameForm() strictyaml.Form {
	return strictyaml.Form{Words: "a name of a-z, 0-9 and -", Schema: map[string]any{"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,63}$"}}
}

func instantForm() strictyaml.Form {
	return strictyaml.Form{Words: "a date or a time", Schema: map[string]any{
		"type": "string", "pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2}))?$`,
	}}
}

func choiceForm(words []string, def string) strictyaml.Form {
	return strictyaml.Form{Words: strictyaml.OneOf(words), Schema: map[string]any{"enum": words, "default": def}}
}

// valuesForm is that of a list of values.
func valuesForm() strictyaml.Form {
	scalar := []any{"string", "number", "boolean"}
	return strictyaml.Form{Words: "a value, a list of values, or {file: NAME.txt}", Schema: map[string]any{
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
			Name: "version", Must: true, Doc: "The version of the file format.",
			Form: strictyaml.Form{Words: formatVersion, Schema: map[string]any{"const": 1}},
			Read: func(d *decoder, n *strictyaml.Node, _ *policy) { d.version(n) },
		},
		{
			Name: "policy", Must: true, Doc: "The name of the policy, unique in the folder. It is shown in decisions and metrics.",
			Form: nameForm(),
			Read: func(d *decoder, n *strictyaml.Node, p *policy) {
				p.name, _ = d.name(n)
				p.at = strictyaml.At(n)
			},
		},
		{
			Name: "owner", Doc: "The owner of the policy, for people. It does not affect decisions.",
			Form: strictyaml.TextForm("a text"),
			Read: func(d *decoder, n *strictyaml.Node, p *policy) { p.owner, _ = d.Text(n, "a text") },
		},
		{
			Name: "targets", Must: true, Doc: "The targets of the configuration that the policy is for.",
			Form: strictyaml.Form{Words: "a list of names of targets", Schema: map[string]any{
				"type": "array", "minItems": 1, "uniqueItems": true, "items": map[string]any{"type": "string", "minLength": 1},
			}},
			Read: readTargets,
		},
		{
			Name: "mode", Doc: "How the policy is applied: enforce accepts and rejects; accept-only never rejects, what it would reject is held; shadow decides and reports, and never acts.",
			Form: choiceForm(modes(), string(approval.Enforce)),
			Read: func(d *decoder, n *strictyaml.Node, p *policy) {
				if s, ok := d.Choice(n, modes()); ok {
					p.mode, p.modeAt = approval.Mode(s), strictyaml.At(n)
				}
			},
		},
		{
			Name: "allow", Doc: "Entries of which any may match for a request to be accepted.",
			Form: strictyaml.Form{Words: "a list of entries", Schema: map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/allow"}}},
			Read: func(d *decoder, n *strictyaml.Node, p *policy) { p.allow = d.entryList(n, p, false) },
		},
		{
			Name: "deny", Doc: "Entries of which any may match for a request to be rejected. A deny beats every allow of the target, in whichever policy it is.",
			Form: strictyaml.Form{Words: "a list of entries", Schema: map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/deny"}}},
			Read: func(d *decoder, n *strictyaml.Node, p *policy) { p.deny = d.entryList(n, p, true) },
		},
		{
			Name: "otherwise", Doc: "What happens where no entry matches. With several policies for one target the strictest applies: reject, then hold, then ignore.",
			Form: choiceForm(otherwises(), string(approval.Hold)),
			Read: func(d *decoder, n *strictyaml.Node, p *policy) {
				if s, ok := d.Choice(n, otherwises()); ok {
					p.otherwise, p.elseAt = approval.Verdict(s), strictyaml.At(n)
				}
			},
		},
		{
			Name: "review", Doc: "Who may decide what the policy holds. Without it a held request stays held until the policies or the facts change.",
			Form: strictyaml.Form{Words: "a mapping, see below", Schema: map[string]any{"$ref": "#/$defs/review"}},
			Read: readReview,
		},
	}
}

// version reads the version of a file.
func (d *decoder) version(n *strictyaml.Node) {
	if s, ok := d.Text(n, formatVersion); ok && s != formatVersion {
		d.Fail(n, "version", "unknown version "+strconv.Quote(strictyaml.Cut(s)), "this worker supports version "+formatVersion)
	}
}

func readReview(d *decoder, n *strictyaml.Node, p *policy) {
	r := approval.ReviewRule{Approvals: defaultApprovals, Within: approval.Period(defaultWithin)}
	strictyaml.ReadMapping(d, n, "who may review", d.keys.review, &r)
	p.review, p.reviewAt = &r, strictyaml.At(n)
}

func readTargets(d *decoder, n *strictyaml.Node, p *policy) {
	if n.Kind == strictyaml.List && len(n.Content) == 0 {
		d.Fail(n, "no-target", "the list is empty, so the policy applies to no target", "name a target of the configuration")
		return
	}
	d.Items(n, "a list of names of targets", func(_ int, item *strictyaml.Node) {
		name, ok := d.Text(item, "the name of a target")
		if !ok {
			return
		}
		if slices.Contains(p.targets, name) {
			d.Fail(item, "duplicate-target", strconv.Quote(strictyaml.Cut(name))+" is listed twice", "keep one of them")
			return
		}
		if _, ok := d.targets.ByName(name); !ok {
			names := make([]string, 0, len(d.targets))
			for _, t := range d.targets {
				names = append(names, t.Name)
			}
			hint := strictyaml.Suggest(name, names)
			if len(names) == 0 {
				hint = "no target is configured: add it to the configuration under targets"
			}
			d.Fail(item, "unknown-target", strconv.Quote(strictyaml.Cut(name))+" is not a configured target", hint)
			return
		}
		p.targets = append(p.targets, name)
	})
}

// entryList reads allow or deny.
func (d *decoder) entryList(n *strictyaml.Node, p *policy, deny bool) []*entry {
	var out []*entry
	d.Items(n, "a list of entries", func(i int, item *strictyaml.Node) {
		e := &entry{policy: p, deny: deny, index: i, at: strictyaml.At(item)}
		e.conds = e.room[:0]
		before := d.Count()
		strictyaml.ReadMapping(d, item, "an entry", d.keys.entry, e)
		e.faulty = d.FailedSince(before)
		out = append(out, e)
	})
	return out
}

func entryKeys() []key[entry] {
	out := []key[entry]{{
		Name: "id", Must: true, Doc: "The name of the entry, unique in the policy. It is shown in decisions and metrics.",
		Form: nameForm(),
		Read: func(d *decoder, n *strictyaml.Node, e *entry) {
			if s, ok := d.name(n); ok {
				e.id, e.at = s, strictyaml.At(n)
			}
		},
	}}
	all := specs()
	for _, f := range fieldsByDoc() {
		out = append(out, fieldKey(f, all[f]))
	}
	return append(out, []key[entry]{
		{
			Name: "any_domain", Doc: "Matches every account. Without it an entry for connections names a domain_id or an endpoint_id.",
			Form: strictyaml.Form{Words: "true or false", Schema: map[string]any{"type": "boolean", "default": false}},
			Read: func(d *decoder, n *strictyaml.Node, e *entry) {
				e.anyDomain, _ = d.Flag(n)
				e.anyAt = strictyaml.At(n)
			},
		},
		{
			Name: "claims", Doc: "What the event says about the requester, by path: names separated by dots, such as tags.env; a name with other characters than letters, digits, _ and - in double quotes, such as 'tags.\"example.com/team\"'. Claims only restrict an entry. They are never trusted for identity, and a deny by claims holds and never rejects.",
			Form: strictyaml.Form{Words: "claims and their values", Schema: map[string]any{
				"type": "object", "minProperties": 1, "additionalProperties": map[string]any{"$ref": "#/$defs/values"},
				"propertyNames": map[string]any{"pattern": claimPathPattern},
			}},
			Read: readClaims,
		},
		{
			Name: "limit", Only: "allow", Doc: "The most connections that an account may have accepted on the target. Holds also for requests that are decided at the same time. A request that depends on a connection that is being created waits.",
			Form: strictyaml.Form{Words: "a whole number from 1", Schema: map[string]any{"type": "integer", "minimum": 1, "maximum": 1_000_000}},
			Read: func(d *decoder, n *strictyaml.Node, e *entry) {
				if e.deny {
					d.Fail(n, "no-effect", "limit has no effect in a deny", "delete it")
					return
				}
				if v, ok := d.Number(n, 1, 1_000_000); ok {
					e.limit = v
					e.conds = append(e.conds, &limitCondition{limit: v, place: strictyaml.At(n)})
				}
			},
		},
		{
			Name: "from", Doc: "When the entry comes into force: a date, which begins at 00:00 UTC, or a time with its offset.",
			Form: instantForm(),
			Read: func(d *decoder, n *strictyaml.Node, e *entry) {
				if at, ok := d.instant(n, false); ok {
					e.conds = append(e.conds, &fromCondition{at: at, text: n.Value, place: strictyaml.At(n)})
				}
			},
		},
		{
			Name: "expires", Doc: "When the entry expires: a date, which is its last day and ends at 24:00 UTC, or a time with its offset.",
			Form: instantForm(),
			Read: func(d *decoder, n *strictyaml.Node, e *entry) {
				if at, ok := d.instant(n, true); ok {
					e.conds = append(e.conds, &expiresCondition{at: at, text: n.Value, place: strictyaml.At(n), line: d.Line(n.Line)})
				}
			},
		},
		{
			Name: "hours", Doc: "The hours at which the entry is in force, in a time zone.",
			Form: strictyaml.Form{Words: "a mapping, see below", Schema: map[string]any{"$ref": "#/$defs/hours"}},
			Read: readHours,
		},
		{
			Name: "when", Doc: "A further condition as a CEL expression. If it cannot be evaluated, the request is neither accepted nor rejected by the entry.",
			Form: strictyaml.Form{Words: "an expression that is true or false", Schema: map[string]any{"type": "string", "minLength": 1, "maxLength": maxExpression}},
			Read: func(d *decoder, n *strictyaml.Node, e *entry) {
				if _, ok := d.Text(n, "an expression"); ok {
					e.when = n
				}
			},
		},
		{
			Name: "reason", Only: "deny", Doc: "The reason that the requester gets.",
			Form: strictyaml.TextForm("a sentence for the requester"),
			Read: func(d *decoder, n *strictyaml.Node, e *entry) {
				if d.onlyDeny(n, e) {
					e.reasonText, _ = d.Text(n, "a sentence for the requester")
				}
			},
		},
		{
			Name: "contact", Only: "deny", Doc: "The contact for the requester.",
			Form: strictyaml.TextForm("an address for the requester"),
			Read: func(d *decoder, n *strictyaml.Node, e *entry) {
				if d.onlyDeny(n, e) {
					e.contact, _ = d.Text(n, "an address for the requester")
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
func (d *decoder) onlyDeny(n *strictyaml.Node, e *entry) bool {
	if !e.deny {
		d.Fail(n, "no-effect", "it has no effect in an allow", "move it to a deny or delete it")
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
		Name: f.name(), Doc: spec.doc,
		Form: strictyaml.Form{Words: valuesForm().Words, Schema: map[string]any{"$ref": "#/$defs/values"}},
		Read: func(d *decoder, n *strictyaml.Node, e *entry) {
			vs, ok := d.values(n, check, canonical)
			if !ok {
				return
			}
			c := &fieldCondition{field: f, values: newMatcher(vs, canonical), at: strictyaml.At(n), file: n.Kind == strictyaml.Mapping}
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

func readClaims(d *decoder, n *strictyaml.Node, e *entry) {
	if n.Kind == strictyaml.Mapping && len(n.Content) == 0 {
		d.Fail(n, "no-effect", "there is no claim", "name one or delete the key")
		return
	}
	seen := make(map[string]int, len(n.Content)/2)
	d.Pairs(n, "a mapping of claims to values", func(k, v *strictyaml.Node) {
		path, err := d.claimPath(k.Value)
		if err != nil {
			d.Fail(k, "claim-path", err.Error(), `write names separated by dots, such as tags.env; a name with other characters in double quotes: 'tags."example.com/team"'`)
			return
		}
		if line, twice := seen[path.text]; twice {
			d.Fail(k, "duplicate-key", fmt.Sprintf("duplicate claim %s, first on line %d", strictyaml.Cut(path.text), line), "keep one of them")
			return
		}
		seen[path.text] = k.Line
		if v.Kind == strictyaml.Mapping && (len(v.Content) != 2 || v.Content[0].Value != "file") {
			d.Fail(v, "type", "got a mapping, want values", "write the path with dots, such as tags.env: [prod]")
			return
		}
		vs, ok := d.values(v, func(_, _ string) string { return "" }, claimSpelling)
		if !ok {
			return
		}
		c := &claimCondition{path: path.text, steps: path.steps, values: newMatcher(vs, claimSpelling), at: strictyaml.At(v), file: v.Kind == strictyaml.Mapping}
		e.never = e.never || c.values.empty()
		e.conds = append(e.conds, c)
	})
}
