package policy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// testFile is a test file for policies.
type testFile struct {
	now     time.Time
	targets approval.Targets
	tests   []*testCase
}

// testCase is one test: a request, the facts, and what is expected.
type testCase struct {
	file    string
	at      position
	excerpt string
	name    string
	now     time.Time
	target  string
	input   approval.Input
	facts   bool // facts are given
	expect  Expectation
}

func reasonCodes() []string {
	var out []string
	for _, c := range []approval.ReasonCode{
		approval.ReasonAllowed, approval.ReasonDenied, approval.ReasonNotAllowed, approval.ReasonNoPolicy,
		approval.ReasonClaimMismatch, approval.ReasonNotLoaded, approval.ReasonNotEvaluated, approval.ReasonFactMissing,
		approval.ReasonLimitReached, approval.ReasonExpired, approval.ReasonNotYetValid, approval.ReasonOutsideHours,
		approval.ReasonConditionFalse, approval.ReasonClaimNotMatched, approval.ReasonFieldNotMatched,
		approval.ReasonRejectsSwitched, approval.ReasonShadow, approval.ReasonCountUnknown,
		approval.ReasonDeniedByClaim, approval.ReasonBudget,
	} {
		out = append(out, string(c))
	}
	return out
}

func verdicts() []string {
	var out []string
	for _, v := range approval.Verdicts() {
		out = append(out, string(v))
	}
	return out
}

func (d *decoder) moment(n *yaml.Node, into *time.Time) {
	const want = "a time such as 2026-11-18T12:00:00Z"
	s, ok := d.text(n, want)
	if !ok {
		return
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		d.fail(n, "time", "got "+kindOf(n)+", want "+want, "write it in that form")
		return
	}
	*into = at.UTC()
}

func instantKey[T any](name, doc string, get func(*T) *time.Time) key[T] {
	return key[T]{
		name: name, doc: doc,
		form: form{"a time such as 2026-11-18T12:00:00Z", map[string]any{"type": "string", "format": "date-time"}},
		read: func(d *decoder, n *yaml.Node, into *T) { d.moment(n, get(into)) },
	}
}

func textKey[T any](name, doc string, must bool, set func(*T, string)) key[T] {
	return key[T]{
		name: name, doc: doc, must: must, form: textForm("a text"),
		read: func(d *decoder, n *yaml.Node, into *T) {
			if s, ok := d.text(n, "a text"); ok {
				set(into, s)
			}
		},
	}
}

// nothingKey is a key of a text, where "" means none.
func nothingKey[T any](name, doc string, set func(*T, string)) key[T] {
	return key[T]{
		name: name, doc: doc + ` "" for none.`, form: form{`a text, or "" for none`, map[string]any{"type": "string"}},
		read: func(d *decoder, n *yaml.Node, into *T) {
			if n.Kind == yaml.ScalarNode && n.Value == "" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 && d.plain(n) {
				set(into, "")
			} else if s, ok := d.text(n, `a text, or "" for none`); ok {
				set(into, s)
			}
		},
	}
}

func textsKey[T any](name, doc string, set func(*T, []string)) key[T] {
	return key[T]{
		name: name, doc: doc, form: form{"a list of texts", map[string]any{"type": "array", "items": map[string]any{"type": "string"}}},
		read: func(d *decoder, n *yaml.Node, into *T) {
			var out []string
			d.items(n, "a list", func(_ int, item *yaml.Node) {
				if s, ok := d.text(item, "a text"); ok {
					out = append(out, s)
				}
			})
			set(into, out)
		},
	}
}

// numberKey is one of a whole number from 0.
func numberKey[T any](name, doc string, set func(*T, int64)) key[T] {
	return key[T]{
		name: name, doc: doc, form: form{"a whole number", map[string]any{"type": "integer", "minimum": 0}},
		read: func(d *decoder, n *yaml.Node, into *T) {
			s, ok := d.text(n, "a whole number")
			if !ok {
				return
			}
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil || v < 0 {
				d.fail(n, "type", "got "+kindOf(n)+", want a whole number", "write a number from 0")
				return
			}
			set(into, v)
		},
	}
}

// mappingKey is one whose value is a mapping of table.
func mappingKey[T, V any](name, doc, ref string, must bool, table []key[V], get func(*T) *V) key[T] {
	return key[T]{
		name: name, doc: doc, must: must, form: form{"a mapping, see below", map[string]any{"$ref": "#/$defs/" + ref}},
		read: func(d *decoder, n *yaml.Node, into *T) { readMapping(d, n, "a mapping", table, get(into)) },
	}
}

// listKey is one whose value is a list of mappings of table.
func listKey[T, V any](name, doc, ref string, must bool, table []key[V], add func(*T, *V, *yaml.Node)) key[T] {
	return key[T]{
		name: name, doc: doc, must: must,
		form: form{"a list of mappings, see below", map[string]any{"type": "array", "items": map[string]any{"$ref": "#/$defs/" + ref}}},
		read: func(d *decoder, n *yaml.Node, into *T) {
			d.items(n, "a list", func(_ int, item *yaml.Node) {
				v := new(V)
				readMapping(d, item, "a mapping", table, v)
				add(into, v, item)
			})
		},
	}
}

func testFileKeys() []key[testFile] {
	return []key[testFile]{
		{
			name: "version", must: true, doc: "The version of the file format.",
			form: form{formatVersion, map[string]any{"const": 1}},
			read: func(d *decoder, n *yaml.Node, _ *testFile) {
				if s, ok := d.text(n, formatVersion); ok && s != formatVersion {
					d.fail(n, "version", "unknown version "+strconv.Quote(cut(s)), "this worker supports version "+formatVersion)
				}
			},
		},
		instantKey("now", "The time of the tests that name none; without it 2026-01-01T00:00:00Z.", func(f *testFile) *time.Time { return &f.now }),
		listKey("targets", "Targets that the tests are about, for where no configuration is at hand. One that is configured must be of the same kind.", "target", false, targetKeys(),
			func(f *testFile, t *approval.Target, _ *yaml.Node) { f.targets = append(f.targets, *t) }),
		listKey("tests", "The tests.", "test", true, testKeys(), func(f *testFile, c *testCase, n *yaml.Node) {
			c.at = position{n.Line, n.Column}
			f.tests = append(f.tests, c)
		}),
	}
}

func targetKeys() []key[approval.Target] {
	var kinds []string
	for _, k := range approval.TargetKinds() {
		kinds = append(kinds, string(k))
	}
	return []key[approval.Target]{
		textKey("name", "Its name in policies.", true, func(t *approval.Target, s string) { t.Name = s }),
		{
			name: "kind", must: true, doc: "Its kind.", form: form{oneOf(kinds), map[string]any{"enum": kinds}},
			read: func(d *decoder, n *yaml.Node, t *approval.Target) {
				s, _ := d.choice(n, kinds)
				t.Kind = approval.TargetKind(s)
			},
		},
		textKey("region", "Its region.", false, func(t *approval.Target, s string) { t.Region = s }),
		textKey("workspace_id", "Its workspace.", false, func(t *approval.Target, s string) { t.WorkspaceID = s }),
	}
}

func testKeys() []key[testCase] {
	return []key[testCase]{
		textKey("name", "What the test shows.", true, func(c *testCase, s string) { c.name = s }),
		instantKey("now", "The time of the decision.", func(c *testCase) *time.Time { return &c.now }),
		mappingKey("request", "What is asked, as in an event.", "request", true, requestKeys(), func(c *testCase) *testCase { return c }),
		mappingKey("facts", "What the cloud says about the connection.", "facts", false, factsKeys(), func(c *testCase) *approval.Facts {
			c.facts = true
			c.input.Facts.Accepted = approval.Counted(0)
			return &c.input.Facts
		}),
		mappingKey("expect", "What is expected of the decision. What is left out may be anything.", "expect", true, expectKeys(), func(c *testCase) *Expectation { return &c.expect }),
	}
}

func requestKeys() []key[testCase] {
	functionGraphKeys, hssKeys, _, insightKeys := creationKeys()
	return []key[testCase]{
		textKey("target", "The name of the target.", true, func(c *testCase, s string) { c.target = s }),
		textKey("endpoint_id", "The endpoint; without it some endpoint.", false, func(c *testCase, s string) { c.input.Request.EndpointID = s }),
		{
			name: "claims", doc: "What the event says about the requester.", form: form{"a mapping", map[string]any{"type": "object"}},
			read: func(d *decoder, n *yaml.Node, c *testCase) {
				if m, ok := d.json(n, 0).(map[string]any); ok {
					c.input.Request.Claims = m
				} else {
					d.fail(n, "type", "got "+kindOf(n)+", want a mapping", "write names and values")
				}
			},
		},
		mappingKey("functiongraph", "The parameters of a creation.", "functiongraph", false, functionGraphKeys, func(c *testCase) *approval.FunctionGraphEndpoint {
			c.input.Request.Creation.FunctionGraph = &approval.FunctionGraphEndpoint{}
			return c.input.Request.Creation.FunctionGraph
		}),
		mappingKey("hss", "The parameters of a creation.", "hss", false, hssKeys, func(c *testCase) *approval.HSSEndpoints {
			c.input.Request.Creation.HSS = &approval.HSSEndpoints{}
			return c.input.Request.Creation.HSS
		}),
		mappingKey("dataarts_insight", "The parameters of a creation.", "dataarts_insight", false, insightKeys, func(c *testCase) *approval.DataArtsInsightEndpoint {
			c.input.Request.Creation.DataArtsInsight = &approval.DataArtsInsightEndpoint{}
			return c.input.Request.Creation.DataArtsInsight
		}),
	}
}

// creationKeys are those of the parameter blocks, named as the APIs name them.
func creationKeys() (
	functionGraph []key[approval.FunctionGraphEndpoint], hss []key[approval.HSSEndpoints],
	vpc []key[approval.HSSVPC], insight []key[approval.DataArtsInsightEndpoint],
) {
	functionGraph = []key[approval.FunctionGraphEndpoint]{
		textKey("vpc_id", "The VPC.", true, func(e *approval.FunctionGraphEndpoint, s string) { e.VPCID = s }),
		textKey("subnet_id", "The subnet.", true, func(e *approval.FunctionGraphEndpoint, s string) { e.SubnetID = s }),
		textKey("flavor", "The flavor.", false, func(e *approval.FunctionGraphEndpoint, s string) { e.Flavor = s }),
		textKey("xrole", "The agency.", false, func(e *approval.FunctionGraphEndpoint, s string) { e.XRole = s }),
	}
	vpc = []key[approval.HSSVPC]{
		textKey("vpc_id", "The VPC.", true, func(v *approval.HSSVPC, s string) { v.VPCID = s }),
		textsKey("subnet_id_list", "Its subnets.", func(v *approval.HSSVPC, vs []string) { v.SubnetIDs = vs }),
	}
	hss = []key[approval.HSSEndpoints]{
		textsKey("host_id_list", "The servers.", func(h *approval.HSSEndpoints, vs []string) { h.HostIDs = vs }),
		listKey("vpc_list", "The VPCs.", "vpc", false, vpc, func(h *approval.HSSEndpoints, v *approval.HSSVPC, _ *yaml.Node) { h.VPCs = append(h.VPCs, *v) }),
	}
	insight = []key[approval.DataArtsInsightEndpoint]{
		textKey("ds_type", "The kind of data source.", true, func(e *approval.DataArtsInsightEndpoint, s string) { e.DSType = s }),
		textKey("vpc_ep_server_name", "The service by its full name.", false, func(e *approval.DataArtsInsightEndpoint, s string) { e.ServerName = s }),
		textKey("vpc_ep_server_id", "The service by its id.", false, func(e *approval.DataArtsInsightEndpoint, s string) { e.ServerID = s }),
	}
	return functionGraph, hss, vpc, insight
}

func factsKeys() []key[approval.Facts] {
	return []key[approval.Facts]{
		textKey("domain_id", "The account that owns the endpoint.", false, func(f *approval.Facts, s string) { f.DomainID = s }),
		textKey("endpoint_id", "The endpoint; without it that of the request.", false, func(f *approval.Facts, s string) { f.EndpointID = s }),
		numberKey("marker_id", "The cloud's number of the endpoint.", func(f *approval.Facts, v int64) { f.MarkerID = v }),
		textKey("state", "The state of the connection; without it pendingAcceptance.", false, func(f *approval.Facts, s string) { f.State = approval.State(s) }),
		instantKey("created_at", "When the connection was made.", func(f *approval.Facts) *time.Time { return &f.CreatedAt }),
		instantKey("updated_at", "When it changed last.", func(f *approval.Facts) *time.Time { return &f.UpdatedAt }),
		{
			name: "accepted", doc: "Accepted connections of the account on the target, without this one; unknown if they were not counted; default 0.",
			form: form{"a whole number, or unknown", map[string]any{"oneOf": []any{
				map[string]any{"type": "integer", "minimum": 0}, map[string]any{"const": "unknown"},
			}}},
			read: func(d *decoder, n *yaml.Node, f *approval.Facts) {
				s, ok := d.text(n, "a whole number, or unknown")
				if !ok {
					return
				}
				v, err := strconv.Atoi(s)
				switch {
				case s == "unknown":
					f.Accepted = approval.Count{}
				case err != nil || v < 0:
					d.fail(n, "type", "got "+kindOf(n)+", want a whole number, or unknown", "write a number from 0, or unknown")
				default:
					f.Accepted = approval.Counted(v)
				}
			},
		},
	}
}

func expectKeys() []key[Expectation] {
	return []key[Expectation]{
		{
			name: "verdict", must: true, doc: "The verdict.", form: form{oneOf(verdicts()), map[string]any{"enum": verdicts()}},
			read: func(d *decoder, n *yaml.Node, e *Expectation) { e.Verdict, _ = d.choice(n, verdicts()) },
		},
		nothingKey("policy", "The policy that decides.", func(e *Expectation, s string) { e.Policy = &s }),
		nothingKey("rule", "The entry that decides.", func(e *Expectation, s string) { e.Rule = &s }),
		{
			name: "reasons", doc: "The codes of all reasons, in order.",
			form: form{"a list of codes", map[string]any{"type": "array", "items": map[string]any{"enum": reasonCodes()}}},
			read: func(d *decoder, n *yaml.Node, e *Expectation) {
				e.Reasons = []string{}
				d.items(n, "a list of codes", func(_ int, item *yaml.Node) {
					if s, ok := d.choice(item, reasonCodes()); ok {
						e.Reasons = append(e.Reasons, s)
					}
				})
			},
		},
		numberKey("limit", "The limit that applies; 0 for none.", func(e *Expectation, v int64) { n := int(v); e.Limit = &n }),
		nothingKey("contact", "The contact for the requester.", func(e *Expectation, s string) { e.Contact = &s }),
		{
			name: "shadow", doc: "The verdict with the shadow policies in force.", form: form{oneOf(verdicts()), map[string]any{"enum": verdicts()}},
			read: func(d *decoder, n *yaml.Node, e *Expectation) {
				if s, ok := d.choice(n, verdicts()); ok {
					e.Shadow = &s
				}
			},
		},
	}
}

// json reads n, inside depth others, as the value that an event in JSON would
// have. What JSON would not have, or not be sure to have, is an error.
func (d *decoder) json(n *yaml.Node, depth int) any {
	if !d.plain(n) {
		return nil
	}
	if n.Kind != yaml.ScalarNode && depth >= approval.MaxClaimDepth {
		d.fail(n, "type", "the claims are nested too deeply", fmt.Sprintf("an event may nest claims %d levels deep", approval.MaxClaimDepth))
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		d.pairs(n, "a mapping", func(k, v *yaml.Node) { m[k.Value] = d.json(v, depth+1) })
		return m
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		d.items(n, "a list", func(_ int, item *yaml.Node) { out = append(out, d.json(item, depth+1)) })
		return out
	default:
	}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return n.Value
	}
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		switch strings.ToLower(n.Value) {
		case "true":
			return true
		case "false":
			return false
		}
	case "!!int", "!!float":
		if isJSONNumber(n.Value) {
			return approval.ClaimNumber(n.Value)
		}
	default:
		return n.Value
	}
	d.fail(n, "type", kindOf(n)+" is not how JSON writes a value", "write true, false or a number such as 12.5 as in JSON, or put a text in quotes")
	return nil
}

// isJSONNumber reports whether text is a number by the grammar of JSON.
func isJSONNumber(text string) bool {
	first := strings.TrimPrefix(text, "-")
	return first != "" && first[0] >= '0' && first[0] <= '9' && json.Valid([]byte(text))
}
