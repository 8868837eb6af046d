package policy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
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
	at      strictyaml.Position
	excerpt string
	name    string
	now     time.Time
	target  string
	input   approval.Input
	facts   bool // facts are given
	heldAt  time.Time
	said    []approval.Review
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
		approval.ReasonDeniedByClaim, approval.ReasonBudget, approval.ReasonApproved, approval.ReasonReviewReject,
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

func testFileKeys() []strictyaml.Field[testFile] {
	return []strictyaml.Field[testFile]{
		{
			Name: "version", Must: true, Doc: "The version of the file format.",
			Form: strictyaml.Form{Words: formatVersion, Schema: map[string]any{"const": 1}},
			Read: func(r *strictyaml.Reader, n *strictyaml.Node, _ *testFile) {
				if s, ok := r.Text(n, formatVersion); ok && s != formatVersion {
					r.Fail(n, "version", "unknown version "+strconv.Quote(strictyaml.Cut(s)), "this worker supports version "+formatVersion)
				}
			},
		},
		strictyaml.TimeField("now", "The time of the tests that name none; without it 2026-01-01T00:00:00Z.", func(f *testFile) *time.Time { return &f.now }),
		strictyaml.ListField("targets", "Targets that the tests are about, for where no configuration is at hand. One that is configured must be of the same kind.", "target", false, targetKeys(),
			func(f *testFile, t *approval.Target, _ *strictyaml.Node) { f.targets = append(f.targets, *t) }),
		strictyaml.ListField("tests", "The tests.", "test", true, testKeys(), func(f *testFile, c *testCase, n *strictyaml.Node) {
			c.at = strictyaml.At(n)
			f.tests = append(f.tests, c)
		}),
	}
}

func targetKeys() []strictyaml.Field[approval.Target] {
	var kinds []string
	for _, k := range approval.TargetKinds() {
		kinds = append(kinds, string(k))
	}
	return []strictyaml.Field[approval.Target]{
		strictyaml.TextField("name", "Its name in policies.", true, func(t *approval.Target, s string) { t.Name = s }),
		{
			Name: "kind", Must: true, Doc: "Its kind.", Form: strictyaml.Form{Words: strictyaml.OneOf(kinds), Schema: map[string]any{"enum": kinds}},
			Read: func(r *strictyaml.Reader, n *strictyaml.Node, t *approval.Target) {
				s, _ := r.Choice(n, kinds)
				t.Kind = approval.TargetKind(s)
			},
		},
		strictyaml.TextField("region", "Its region.", false, func(t *approval.Target, s string) { t.Region = s }),
		strictyaml.TextField("workspace_id", "Its workspace.", false, func(t *approval.Target, s string) { t.WorkspaceID = s }),
	}
}

func testKeys() []strictyaml.Field[testCase] {
	return []strictyaml.Field[testCase]{
		strictyaml.TextField("name", "What the test shows.", true, func(c *testCase, s string) { c.name = s }),
		strictyaml.TimeField("now", "The time of the decision.", func(c *testCase) *time.Time { return &c.now }),
		strictyaml.MappingField("request", "What is asked, as in an event.", "request", true, requestKeys(), func(c *testCase) *testCase { return c }),
		strictyaml.MappingField("facts", "What the cloud says about the connection.", "facts", false, factsKeys(), func(c *testCase) *approval.Facts {
			c.facts = true
			c.input.Facts.Accepted = approval.Counted(0)
			return &c.input.Facts
		}),
		strictyaml.TimeField("held_at", "Since when the request is held; without it since the first review.", func(c *testCase) *time.Time { return &c.heldAt }),
		strictyaml.ListField("reviews", "What people say of the request, if it is held.", "review", false, testReviewKeys(),
			func(c *testCase, r *approval.Review, _ *strictyaml.Node) { c.said = append(c.said, *r) }),
		strictyaml.MappingField("expect", "What is expected of the decision. What is left out may be anything.", "expect", true, expectKeys(), func(c *testCase) *Expectation { return &c.expect }),
	}
}

func requestKeys() []strictyaml.Field[testCase] {
	functionGraphKeys, hssKeys, _, insightKeys := creationKeys()
	return []strictyaml.Field[testCase]{
		strictyaml.TextField("target", "The name of the target.", true, func(c *testCase, s string) { c.target = s }),
		strictyaml.TextField("endpoint_id", "The endpoint; without it some endpoint.", false, func(c *testCase, s string) { c.input.Request.EndpointID = s }),
		{
			Name: "claims", Doc: "What the event says about the requester.", Form: strictyaml.Form{Words: "a mapping", Schema: map[string]any{"type": "object"}},
			Read: func(r *strictyaml.Reader, n *strictyaml.Node, c *testCase) {
				if m, ok := jsonValue(r, n, 0).(map[string]any); ok {
					c.input.Request.Claims = m
				} else {
					r.Fail(n, "type", "got "+strictyaml.KindOf(n)+", want a mapping", "write names and values")
				}
			},
		},
		strictyaml.MappingField("functiongraph", "The parameters of a creation.", "functiongraph", false, functionGraphKeys, func(c *testCase) *approval.FunctionGraphEndpoint {
			c.input.Request.Creation.FunctionGraph = &approval.FunctionGraphEndpoint{}
			return c.input.Request.Creation.FunctionGraph
		}),
		strictyaml.MappingField("hss", "The parameters of a creation.", "hss", false, hssKeys, func(c *testCase) *approval.HSSEndpoints {
			c.input.Request.Creation.HSS = &approval.HSSEndpoints{}
			return c.input.Request.Creation.HSS
		}),
		strictyaml.MappingField("dataarts_insight", "The parameters of a creation.", "dataarts_insight", false, insightKeys, func(c *testCase) *approval.DataArtsInsightEndpoint {
			c.input.Request.Creation.DataArtsInsight = &approval.DataArtsInsightEndpoint{}
			return c.input.Request.Creation.DataArtsInsight
		}),
	}
}

// creationKeys are those of the parameter blocks, named as the APIs name them.
func creationKeys() (
	functionGraph []strictyaml.Field[approval.FunctionGraphEndpoint], hss []strictyaml.Field[approval.HSSEndpoints],
	vpc []strictyaml.Field[approval.HSSVPC], insight []strictyaml.Field[approval.DataArtsInsightEndpoint],
) {
	functionGraph = []strictyaml.Field[approval.FunctionGraphEndpoint]{
		strictyaml.TextField("vpc_id", "The VPC.", true, func(e *approval.FunctionGraphEndpoint, s string) { e.VPCID = s }),
		strictyaml.TextField("subnet_id", "The subnet.", true, func(e *approval.FunctionGraphEndpoint, s string) { e.SubnetID = s }),
		strictyaml.TextField("flavor", "The flavor.", false, func(e *approval.FunctionGraphEndpoint, s string) { e.Flavor = s }),
		strictyaml.TextField("xrole", "The agency.", false, func(e *approval.FunctionGraphEndpoint, s string) { e.XRole = s }),
	}
	vpc = []strictyaml.Field[approval.HSSVPC]{
		strictyaml.TextField("vpc_id", "The VPC.", true, func(v *approval.HSSVPC, s string) { v.VPCID = s }),
		strictyaml.TextsField("subnet_id_list", "Its subnets.", func(v *approval.HSSVPC, vs []string) { v.SubnetIDs = vs }),
	}
	hss = []strictyaml.Field[approval.HSSEndpoints]{
		strictyaml.TextsField("host_id_list", "The servers.", func(h *approval.HSSEndpoints, vs []string) { h.HostIDs = vs }),
		strictyaml.ListField("vpc_list", "The VPCs.", "vpc", false, vpc, func(h *approval.HSSEndpoints, v *approval.HSSVPC, _ *strictyaml.Node) { h.VPCs = append(h.VPCs, *v) }),
	}
	insight = []strictyaml.Field[approval.DataArtsInsightEndpoint]{
		strictyaml.TextField("ds_type", "The kind of data source.", true, func(e *approval.DataArtsInsightEndpoint, s string) { e.DSType = s }),
		strictyaml.TextField("vpc_ep_server_name", "The service by its full name.", false, func(e *approval.DataArtsInsightEndpoint, s string) { e.ServerName = s }),
		strictyaml.TextField("vpc_ep_server_id", "The service by its id.", false, func(e *approval.DataArtsInsightEndpoint, s string) { e.ServerID = s }),
	}
	return functionGraph, hss, vpc, insight
}

func factsKeys() []strictyaml.Field[approval.Facts] {
	return []strictyaml.Field[approval.Facts]{
		strictyaml.TextField("domain_id", "The account that owns the endpoint.", false, func(f *approval.Facts, s string) { f.DomainID = s }),
		strictyaml.TextField("endpoint_id", "The endpoint; without it that of the request.", false, func(f *approval.Facts, s string) { f.EndpointID = s }),
		strictyaml.NumberField("marker_id", "The cloud's number of the endpoint.", func(f *approval.Facts, v int64) { f.MarkerID = v }),
		strictyaml.TextField("state", "The state of the connection; without it pendingAcceptance.", false, func(f *approval.Facts, s string) { f.State = approval.State(s) }),
		strictyaml.TimeField("created_at", "When the connection was made.", func(f *approval.Facts) *time.Time { return &f.CreatedAt }),
		strictyaml.TimeField("updated_at", "When it changed last.", func(f *approval.Facts) *time.Time { return &f.UpdatedAt }),
		{
			Name: "accepted", Doc: "Accepted connections of the account on the target, without this one; unknown if they were not counted; default 0.",
			Form: strictyaml.Form{Words: "a whole number, or unknown", Schema: map[string]any{"oneOf": []any{
				map[string]any{"type": "integer", "minimum": 0}, map[string]any{"const": "unknown"},
			}}},
			Read: func(r *strictyaml.Reader, n *strictyaml.Node, f *approval.Facts) {
				s, ok := r.Text(n, "a whole number, or unknown")
				if !ok {
					return
				}
				v, err := strconv.Atoi(s)
				switch {
				case s == "unknown":
					f.Accepted = approval.Count{}
				case err != nil || v < 0:
					r.Fail(n, "type", "got "+strictyaml.KindOf(n)+", want a whole number, or unknown", "write a number from 0, or unknown")
				default:
					f.Accepted = approval.Counted(v)
				}
			},
		},
	}
}

func expectKeys() []strictyaml.Field[Expectation] {
	return []strictyaml.Field[Expectation]{
		{
			Name: "verdict", Must: true, Doc: "The verdict.", Form: strictyaml.Form{Words: strictyaml.OneOf(verdicts()), Schema: map[string]any{"enum": verdicts()}},
			Read: func(r *strictyaml.Reader, n *strictyaml.Node, e *Expectation) { e.Verdict, _ = r.Choice(n, verdicts()) },
		},
		strictyaml.OptionalTextField("policy", "The policy that decides.", func(e *Expectation, s string) { e.Policy = &s }),
		strictyaml.OptionalTextField("rule", "The entry that decides.", func(e *Expectation, s string) { e.Rule = &s }),
		choicesField("reasons", "The codes of all reasons, in order.", reasonCodes(), func(e *Expectation, codes []string) { e.Reasons = codes }),
		strictyaml.NumberField("limit", "The limit that applies; 0 for none.", func(e *Expectation, v int64) { n := int(v); e.Limit = &n }),
		strictyaml.OptionalTextField("contact", "The contact for the requester.", func(e *Expectation, s string) { e.Contact = &s }),
		{
			Name: "shadow", Doc: "The verdict with the shadow policies in force.", Form: strictyaml.Form{Words: strictyaml.OneOf(verdicts()), Schema: map[string]any{"enum": verdicts()}},
			Read: func(r *strictyaml.Reader, n *strictyaml.Node, e *Expectation) {
				if s, ok := r.Choice(n, verdicts()); ok {
					e.Shadow = &s
				}
			},
		},
		strictyaml.NumberField("missing", "How many approvals are missing, over all policies; 0 if a review cannot change anything.", func(e *Expectation, v int64) { n := int(v); e.Missing = &n }),
		strictyaml.TextsField("may_review", "The names of all who may still review, in the order of reviewers.yaml; [] for nobody.", func(e *Expectation, names []string) { e.MayReview = append([]string{}, names...) }),
		choicesField("refused", "The codes of the reviews that do not count, in the order of time; [] if all count.", refusedCodes(), func(e *Expectation, codes []string) { e.Refused = codes }),
	}
}

// jsonValue reads n, inside depth others, as the value that an event in JSON would
// have. What JSON would not have, or not be sure to have, is an error.
func jsonValue(r *strictyaml.Reader, n *strictyaml.Node, depth int) any {
	if !r.Plain(n) {
		return nil
	}
	if n.Kind != strictyaml.Scalar && depth >= approval.MaxClaimDepth {
		r.Fail(n, "type", "the claims are nested too deeply", fmt.Sprintf("an event may nest claims %d levels deep", approval.MaxClaimDepth))
		return nil
	}
	switch n.Kind {
	case strictyaml.Mapping:
		m := make(map[string]any, len(n.Content)/2)
		r.Pairs(n, "a mapping", func(k, v *strictyaml.Node) { m[k.Value] = jsonValue(r, v, depth+1) })
		return m
	case strictyaml.List:
		out := make([]any, 0, len(n.Content))
		r.Items(n, "a list", func(_ int, item *strictyaml.Node) { out = append(out, jsonValue(r, item, depth+1)) })
		return out
	default:
	}
	if strictyaml.Quoted(n) || strictyaml.Block(n) {
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
	r.Fail(n, "type", strictyaml.KindOf(n)+" is not how JSON writes a value", "write true, false or a number such as 12.5 as in JSON, or put a text in quotes")
	return nil
}

// isJSONNumber reports whether text is a number by the grammar of JSON.
func isJSONNumber(text string) bool {
	first := strings.TrimPrefix(text, "-")
	return first != "" && first[0] >= '0' && first[0] <= '9' && json.Valid([]byte(text))
}
