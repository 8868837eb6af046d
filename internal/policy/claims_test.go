package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// TestDenyByClaimNeverRejects: whatever stands next to a condition on claims, and
// whatever an event claims, the deny holds.
func TestDenyByClaimNeverRejects(t *testing.T) {
	t.Parallel()
	forged := []approval.Claims{
		nil,
		{},
		{"team": "bad"},
		{"team": []any{"good", "bad"}},
		{"team": "good"},
		{"team": nil},
		{"team": int64(1)},
		{"tags": map[string]any{"bad": "x"}},
		{"tags": []any{"bad"}},
		{"team": "bad", "region": "cn-north-4"},
		{"domain_id": acme, "team": "bad"},
	}
	for _, tt := range []struct {
		conditions string // of the deny
		held       bool   // some of the claims make it match
	}{
		{`any_domain: true, claims: {team: bad}`, true},
		{`any_domain: true, claims: {team: "*"}`, true},
		{`claims: {team: bad}`, true},
		{`region: cn-north-4, claims: {team: bad}`, true},
		{`region: "*", claims: {team: bad}`, true},
		{`domain_id: ` + acme + `, claims: {team: bad}`, true},
		{`domain_id: "6e9dfd51*", claims: {team: bad}`, true},
		{`endpoint_id: ` + endpointA + `, claims: {team: bad}`, true},
		{`domain_id: ` + acme + `, endpoint_id: ` + endpointA + `, region: cn-*, claims: {team: bad}`, true},
		{`domain_id: ` + leftUs + `, claims: {team: bad}`, false},
		{`any_domain: true, when: 'has(claims.team)'`, true},
		{`any_domain: true, when: '!has(claims.team)'`, true},
		{`any_domain: true, when: '"team" in claims'`, true},
		{`any_domain: true, when: 'claims["team"] == "bad"'`, true},
		{`any_domain: true, when: '.claims.team == "bad"'`, true},
		{`any_domain: true, when: 'claims.exists(k, k == "team")'`, true},
		{`any_domain: true, when: 'claims.all(k, k != "other")'`, true},
		{`any_domain: true, when: 'size(claims) > 0'`, true},
		{`any_domain: true, when: 'claims != {}'`, true},
		{`any_domain: true, when: '[claims].exists(c, has(c.team))'`, true},
		{`any_domain: true, when: '["bad"].exists(claim, has(claims.team) && claims.team == claim)'`, true},
		{`any_domain: true, when: 'facts.region == "cn-north-4" && has(claims.team)'`, true},
		{`any_domain: true, when: 'facts.region == "cn-north-4" || has(claims.team)'`, true},
		{`any_domain: true, when: 'true || has(claims.team)'`, true},
		{`any_domain: true, when: 'dyn(claims).team == "bad"'`, true},
		{`any_domain: true, when: '(has(claims.team) ? claims : {"team": "bad"}).team == "bad"'`, true},
		{`domain_id: ` + acme + `, when: 'has(claims.team) && claims.team == "bad"'`, true},
		{`domain_id: ` + acme + `, claims: {team: bad}, when: 'facts.region == "cn-north-4"'`, true},
		{`domain_id: ` + acme + `, claims: {team: bad}, expires: 2030-01-01, hours: {from: "00:00", to: "24:00", timezone: UTC}`, true},
	} {
		for _, mode := range []string{"enforce", "accept-only"} {
			set := load(t, head("a")+"allow: [{id: ok, domain_id: "+acme+"}]\n",
				head("b")+"mode: "+mode+"\ndeny: [{id: no, "+tt.conditions+", reason: Because., contact: me@example.org}]\n")
			held := false
			for _, claims := range forged {
				in := connection("payments", acme)
				in.Request.Claims = claims
				d := set.Evaluate(&in)
				if d.Verdict == approval.Reject {
					t.Errorf("%s, %s: %v rejects an allowed account: %q", mode, tt.conditions, claims, d.Reasons)
				}
				if d.Rule == "no" && d.Reasons[0].Code == approval.ReasonDeniedByClaim {
					held = true
					if want := []approval.Reason{{Code: approval.ReasonDeniedByClaim, Text: "Because."}}; d.Verdict != approval.Hold || !slices.Equal(d.Reasons, want) || d.Contact != "me@example.org" {
						t.Errorf("%s, %s: %v: %s %q, contact %q; want hold %q", mode, tt.conditions, claims, d.Verdict, d.Reasons, d.Contact, want)
					}
				}
			}
			if held != tt.held {
				t.Errorf("%s, %s: held by a claim is %v, want %v", mode, tt.conditions, held, tt.held)
			}
		}
	}
}

// TestDenyOnFactsRejects: what no claim can change still rejects.
func TestDenyOnFactsRejects(t *testing.T) {
	t.Parallel()
	for _, conditions := range []string{
		"domain_id: " + acme,
		"any_domain: true",
		`any_domain: true, when: 'facts.region == "cn-north-4"'`,
		`any_domain: true, when: 'request.target + "claims" == "paymentsclaims"'`,
	} {
		set := load(t, head("a")+"deny: [{id: claimed, any_domain: true, claims: {team: bad}}, {id: fact, "+conditions+"}]\n")
		for _, claims := range []approval.Claims{nil, {"team": "bad"}} {
			in := connection("payments", acme)
			in.Request.Claims = claims
			if d := set.Evaluate(&in); d.Verdict != approval.Reject || d.Rule != "fact" {
				t.Errorf("%s with %v: %s by %q %q, want reject by fact", conditions, claims, d.Verdict, d.Rule, d.Reasons)
			}
		}
	}
}

// TestDenyOfCreations: parameters are what will be sent, so they reject; claims
// next to them hold.
func TestDenyOfCreations(t *testing.T) {
	t.Parallel()
	for conditions, want := range map[string]approval.Verdict{
		"vpc_id: " + endpointA: approval.Reject,
		`when: 'request.vpc_id.exists(v, v == "` + endpointA + `")', flavor: large`: approval.Reject,
		"vpc_id: " + endpointA + ", claims: {team: bad}":                            approval.Hold,
		"flavor: large, when: claims.team == 'bad'":                                 approval.Hold,
	} {
		set := load(t, "version: 1\npolicy: f\ntargets: [functions]\nallow: [{id: ok, vpc_id: "+endpointA+"}]\ndeny: [{id: no, "+conditions+"}]\n")
		in := creation("functions", approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: endpointA, SubnetID: endpointB, Flavor: "large"}})
		in.Request.Claims = approval.Claims{"team": "bad"}
		if d := set.Evaluate(&in); d.Verdict != want || d.Rule != "no" {
			t.Errorf("%s: %s by %q %q, want %s by no", conditions, d.Verdict, d.Rule, d.Reasons, want)
		}
	}
}

// TestAllowOnClaimsAloneIsAnError: nothing is accepted without something verified.
func TestAllowOnClaimsAloneIsAnError(t *testing.T) {
	t.Parallel()
	const creates = "version: 1\npolicy: f\ntargets: [functions]\n"
	for _, tt := range []struct {
		text string
		bad  bool
	}{
		{head("a") + "allow: [{id: x, any_domain: true, claims: {team: a}}]", true},
		{head("a") + "allow: [{id: x, any_domain: true, region: cn-north-4, claims: {team: a}}]", true},
		{head("a") + "mode: shadow\nallow: [{id: x, any_domain: true, claims: {team: []}}]", true},
		{head("a") + "mode: accept-only\nallow: [{id: x, any_domain: true, limit: 1, claims: {team: a}}]", true},
		{head("a") + "allow: [{id: x, any_domain: true, when: 'has(claims.team)'}]", true},
		{head("a") + "allow: [{id: x, any_domain: true, when: 'facts.region == \"x\" && \"a\" in claims'}]", true},
		{head("a") + "allow: [{id: x, any_domain: true, when: 'claims.exists(k, k == \"a\")'}]", true},
		{head("a") + "allow: [{id: x, any_domain: true, when: 'facts.domain_id == claims[\"me\"]'}]", true},
		{head("a") + "allow: [{id: x, any_domain: true, when: 'facts.region == \"x\"'}]", false},
		{head("a") + "allow: [{id: x, any_domain: false, domain_id: " + acme + ", claims: {team: a}}]", false},
		{head("a") + "deny: [{id: x, any_domain: true, claims: {team: a}}]", false},
		{head("a") + `allow: [{id: x, domain_id: "*", claims: {team: a}}]`, true},
		{head("a") + `allow: [{id: x, domain_id: "?*", claims: {team: a}}]`, true},
		{head("a") + `allow: [{id: x, endpoint_id: "*-*-*-*-*", claims: {team: a}}]`, true},
		{head("a") + `allow: [{id: x, endpoint_id: "????????-????-????-????-????????????"}]`, true},
		{creates + `allow: [{id: x, vpc_id: "*", claims: {team: a}}]`, true},
		{creates + `allow: [{id: x, vpc_id: "*", flavor: "?*", when: 'claims.a == 1'}]`, true},
		{creates + `allow: [{id: x, vpc_id: "*", flavor: small, when: 'claims.a == 1'}]`, false},
		{creates + "allow: [{id: x, vpc_id: " + endpointA + ", claims: {team: a}}]", false},
	} {
		_, err := Load(folder(tt.text), demoTargets())
		refused, _ := errors.AsType[*strictyaml.Error](err)
		if (refused != nil) != tt.bad {
			t.Errorf("%s: %v, want an error: %v", tt.text, err, tt.bad)
		}
		if refused != nil && (refused.Findings[0].Line == 0 || !strings.Contains(err.Error(), ";")) {
			t.Errorf("%s: %v names no place or no next step", tt.text, err)
		}
	}
}

// TestForgedClaimsNeverAct: with random policies, claims never turn a decision
// into a reject, nor an accept of a request that has no verified allow.
func TestForgedClaimsNeverAct(t *testing.T) {
	t.Parallel()
	for seed := range uint64(Tries(500)) {
		r := rand.New(rand.NewPCG(seed, 38))
		texts := randomPolicies(r)
		set := load(t, texts...)
		for range 10 {
			in := randomInput(r)
			plain := in
			plain.Request.Claims = nil
			honest := set.Evaluate(&plain)
			if d := set.Evaluate(&in); d.Verdict == approval.Reject && d.Rule != "" && (honest.Verdict != approval.Reject || honest.Rule != d.Rule) {
				t.Fatalf("seed %d: the claims %v turn %s by %s into reject by %s:\n%s", seed, in.Request.Claims, honest.Verdict, honest.Rule, d.Rule, strings.Join(texts, "---\n"))
			}
		}
	}
}

// TestClaimPathsInPolicies: a name in quotes is one name, whatever is in it, and a
// path that cannot be meant is an error.
func TestClaimPathsInPolicies(t *testing.T) {
	t.Parallel()
	claims := approval.Claims{"tags": map[string]any{
		"example.com/quarantine": "yes", "env": "prod", `a"b\c`: "x", "cost center": "y", "": "nothing", "a": map[string]any{"b.c": "deep"},
	}}
	for _, tt := range []struct{ path, want string }{ // want is the path in explain, or what the error says
		{`'tags."example.com/quarantine"': yes`, `claims.tags."example.com/quarantine"`},
		{`tags."example.com/quarantine": yes`, `claims.tags."example.com/quarantine"`},
		{`'tags."env"': prod`, "claims.tags.env"},
		{`'"tags".env': prod`, "claims.tags.env"},
		{`'tags."a\"b\\c"': x`, `claims.tags."a\"b\\c"`},
		{`'tags."cost center"': y`, `claims.tags."cost center"`},
		{`'tags.a."b.c"': deep`, `claims.tags.a."b.c"`},
		{`'tags.""': nothing`, `claims.tags.""`},
		{`tags.example.com/quarantine: yes`, "in double quotes"},
		{`'tags/x': yes`, "in double quotes"},
		{`'tags.cost center': y`, "in double quotes"},
		{`'tags. env': y`, "in double quotes"},
		{`' tags.env': y`, "in double quotes"},
		{`"tags.env\t": y`, "in double quotes"},
		{`'tags[0]': y`, "in double quotes"},
		{`'tags."a': y`, "not closed"},
		{`'tags."a"b': y`, "a dot must follow"},
		{`'tags."a\n"': y`, "backslash"},
		{`'tags..env': y`, "a name is missing"},
		{`'.tags': y`, "a name is missing"},
		{`'tags.': y`, "a name is missing"},
		{`{tags.env: prod, 'tags."env"': test}`, "duplicate"},
	} {
		path := tt.path
		if !strings.HasPrefix(path, "{") {
			path = "{" + path + "}"
		}
		set, err := Load(folder(head("a")+"allow: [{id: ok, domain_id: "+acme+"}]\ndeny:\n  - {id: no, domain_id: "+acme+", claims: "+path+"}\n"), demoTargets())
		if !strings.HasPrefix(tt.want, "claims.") {
			if refused, ok := errors.AsType[*strictyaml.Error](err); !ok || !strings.Contains(err.Error(), tt.want) || refused.Findings[0].Line != 6 {
				t.Errorf("%s: %v, want an error on line 6 with %q", tt.path, err, tt.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		in := connection("payments", acme)
		in.Request.Claims = claims
		if d := set.Evaluate(&in); d.Reasons[0].Code != approval.ReasonDeniedByClaim {
			t.Errorf("%s does not match: %s %q", tt.path, d.Verdict, d.Reasons)
		}
		in.Request.Claims = nil
		x := set.Explain(&in)
		if f := x.Policies[0].Entries[0].Failed; f == nil || f.Name != tt.want {
			t.Errorf("%s: explain shows %+v, want %s", tt.path, f, tt.want)
		}
	}
	a := load(t, head("a")+`allow: [{id: x, domain_id: `+acme+`, claims: {tags.env: prod}}]`)
	b := load(t, head("a")+`allow: [{id: x, domain_id: `+acme+`, claims: {'"tags"."env"': prod}}]`)
	if diff := cmp.Diff(a.Describe(), b.Describe()); diff != "" {
		t.Errorf("another spelling of a path is a change:\n%s", diff)
	}
}

// TestClaimsAreReadAlike puts claims through JSON and through the YAML of a policy
// test. The values, their texts and the decisions on them must be the same.
func TestClaimsAreReadAlike(t *testing.T) {
	t.Parallel()
	set := load(t, head("a")+`allow:
  - {id: n, domain_id: `+acme+`, claims: {v: ["17", "9007199254740993", "18446744073709551615", "123456789012345678901234567890", "-9223372036854775808", "1000", "0.5", "0.1234567890123456", "1e400", "true"]}}
  - {id: cel, domain_id: `+acme+`, when: 'claims.v == 9223372036854775807 || claims.v == 12u || claims.v == 0.25'}
`)
	for _, tt := range []struct {
		json, yaml string
		value      any
		text       string
		rule       string
	}{
		{`17`, `17`, int64(17), "17", "n"},
		{`17.0`, `17.0`, int64(17), "17", "n"},
		{`1e3`, `1e3`, int64(1000), "1000", "n"},
		{`12`, `12`, int64(12), "12", "cel"},
		{`-0`, `-0`, int64(0), "0", ""},
		{`9007199254740993`, `9007199254740993`, int64(9007199254740993), "9007199254740993", "n"},
		{`9007199254740992`, `9007199254740992`, int64(9007199254740992), "9007199254740992", ""},
		{`9223372036854775807`, `9223372036854775807`, int64(9223372036854775807), "9223372036854775807", "cel"},
		{`9223372036854775806`, `9223372036854775806`, int64(9223372036854775806), "9223372036854775806", ""},
		{`-9223372036854775808`, `-9223372036854775808`, int64(-9223372036854775808), "-9223372036854775808", "n"},
		{`18446744073709551615`, `18446744073709551615`, uint64(18446744073709551615), "18446744073709551615", "n"},
		{`18446744073709551616`, `18446744073709551616`, "18446744073709551616", "18446744073709551616", ""},
		{`123456789012345678901234567890`, `123456789012345678901234567890`, "123456789012345678901234567890", "123456789012345678901234567890", "n"},
		{`0.5`, `0.5`, 0.5, "0.5", "n"},
		{`0.25`, `0.25`, 0.25, "0.25", "cel"},
		{`0.1234567890123456`, `0.1234567890123456`, 0.1234567890123456, "0.1234567890123456", "n"},
		{`0.12345678901234567890`, `0.12345678901234567890`, "0.12345678901234567890", "0.12345678901234567890", ""},
		{`1e400`, `1e400`, "1e400", "1e400", "n"},
		{`1e-400`, `1e-400`, "1e-400", "1e-400", ""},
		{`1e99999999999999999999`, `1e99999999999999999999`, "1e99999999999999999999", "1e99999999999999999999", ""},
		{`true`, `true`, true, "true", "n"},
		{`true`, `True`, true, "true", "n"},
		{`true`, `TRUE`, true, "true", "n"},
		{`false`, `False`, false, "false", ""},
		{`"true"`, `"true"`, "true", "true", "n"},
		{`"True"`, `"True"`, "True", "True", ""},
		{`"yes"`, `yes`, "yes", "yes", ""},
		{`"17"`, `"17"`, "17", "17", "n"},
		{`"17"`, `'17'`, "17", "17", "n"},
		{`"2026-01-01"`, `2026-01-01`, "2026-01-01", "2026-01-01", ""},
		{`null`, `null`, nil, "", ""},
		{`null`, `~`, nil, "", ""},
		{`null`, ``, nil, "", ""},
		{`[17, "x", true, 9007199254740993]`, `[17, x, True, 9007199254740993]`, []any{int64(17), "x", true, int64(9007199254740993)}, "", ""},
		{`{"a": {"b": 9007199254740993}}`, `{a: {b: 9007199254740993}}`, map[string]any{"a": map[string]any{"b": int64(9007199254740993)}}, "", ""},
	} {
		var event approval.Claims
		if err := json.Unmarshal([]byte(`{"v": `+tt.json+`}`), &event); err != nil {
			t.Fatalf("%s: %v", tt.json, err)
		}
		in, err := readInput("x", []byte("request:\n  target: payments\n  claims:\n    v: "+tt.yaml+"\nfacts: {domain_id: "+acme+"}\n"), demoTargets(), noon())
		if err != nil {
			t.Errorf("%s: %v", tt.yaml, err)
			continue
		}
		stored, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		var again approval.Claims
		if err := json.Unmarshal(stored, &again); err != nil {
			t.Fatal(err)
		}
		want := approval.Claims{"v": tt.value}
		for name, got := range map[string]approval.Claims{"event": event, "test": in.Request.Claims, "record": again} {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s of %s (-want +got):\n%s", name, tt.json, diff)
			}
			if text, ok := approval.ClaimText(got["v"]); text != tt.text || ok != (tt.text != "") {
				t.Errorf("%s of %s is the text %q, want %q", name, tt.json, text, tt.text)
			}
			in.Request.Claims = got
			d := set.Evaluate(&in)
			if d.Rule != tt.rule && (tt.rule != "" || d.Verdict == approval.Accept) {
				t.Errorf("%s of %s: %s by %q, want %q", name, tt.json, d.Verdict, d.Rule, tt.rule)
			}
		}
	}
}

// TestClaimsOfATestAreThoseOfAnEvent: what JSON has not, or what no event may
// have, is an error and not guessed.
func TestClaimsOfATestAreThoseOfAnEvent(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("{a: ", approval.MaxClaimDepth-1) + "x" + strings.Repeat("}", approval.MaxClaimDepth-1)
	for text, bad := range map[string]bool{
		"0x10": true, "0o17": true, "017": true, ".5": true, "5.": true, "+5": true, ".inf": true, ".nan": true, "-.inf": true,
		`"0x10"`: false, `"017"`: false, "1.2.3": false, "12:30": false, "a": false, "|\n      12": false,
		deep: false, "{a: " + deep + "}": true, "[" + deep + "]": true, "[1, 0x2]": true, "!!str 12": true, "*a": true,
	} {
		_, err := readInput("x", []byte("request:\n  target: payments\n  claims:\n    v: "+text+"\nfacts: {domain_id: "+acme+"}\n"), demoTargets(), noon())
		if (err != nil) != bad {
			t.Errorf("%s: %v, want an error: %v", text, err, bad)
		}
	}
}

// TestMapsAreWalkedInOrder: an expression that walks claims says the same each time.
func TestMapsAreWalkedInOrder(t *testing.T) {
	t.Parallel()
	set := load(t, allowing(`when: 'claims.tags.map(k, claims.tags[k]) == ["1", "2", "3", "4", "5", "6"] && claims.filter(k, k != "tags")[0] == "a"'`))
	for range 50 {
		in := connection("payments", acme)
		tags := map[string]any{}
		for i := range 6 {
			tags[fmt.Sprintf("k%d", i)] = fmt.Sprint(i + 1)
		}
		in.Request.Claims = approval.Claims{"tags": tags, "b": "x", "a": "y", "c": "z"}
		if d := set.Evaluate(&in); d.Verdict != approval.Accept {
			t.Fatalf("%s %q", d.Verdict, d.Reasons)
		}
	}
}
