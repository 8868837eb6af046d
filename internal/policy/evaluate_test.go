package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// snapshotOf is a folder of these files, by name.
func snapshotOf(files map[string][]byte) *snapshot { return &snapshot{files: files} }

// loadSuite is LoadSuite of fsys.
func loadSuite(fsys fs.FS, dir string, targets approval.Targets) (*Suite, error) {
	snap, err := readFolder(fsys)
	if err != nil {
		return nil, err
	}
	return snap.loadSuite(dir, targets)
}

// folder is a folder of policies: each text is a file, p0.yaml, p1.yaml and so on.
func folder(texts ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i, text := range texts {
		fsys[fmt.Sprintf("p%d.yaml", i)] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// load is Load of policies that are right.
func load(t testing.TB, texts ...string) *Set {
	t.Helper()
	set, err := Load(folder(texts...), demoTargets())
	if err != nil {
		t.Fatalf("Load(%s): %v", strings.Join(texts, "\n---\n"), err)
	}
	return set
}

// head begins a policy called name for the payments service.
func head(name string) string {
	return "version: 1\npolicy: " + name + "\ntargets: [payments]\n"
}

func codes(rs []approval.Reason) []approval.ReasonCode {
	out := make([]approval.ReasonCode, 0, len(rs))
	for _, r := range rs {
		out = append(out, r.Code)
	}
	return out
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	const base = `
allow:
  - id: acme
    domain_id: [` + acme + `]
  - id: one-endpoint
    domain_id: ` + staging + `
    endpoint_id: ` + endpointB + `
  - id: tagged
    domain_id: ` + insight + `
    region: cn-*
    claims: {tags.env: [staging, test], team: "data-??"}
deny:
  - id: left
    domain_id: ` + leftUs + `
    reason: Gone.
    contact: us@example.org
  - id: banned-tag
    any_domain: true
    claims: {tags.env: forbidden}
`
	tagged := approval.Claims{"tags": map[string]any{"env": "test"}, "team": "data-42"}
	type codeList = []approval.ReasonCode
	tests := []struct {
		name  string
		extra string                   // a second policy
		edit  func(in *approval.Input) // the one difference from a request of acme
		want  approval.Verdict
		rule  string
		codes codeList
	}{
		{"allowed", "", func(*approval.Input) {}, approval.Accept, "acme", codeList{"allowed"}},
		{
			"ids are the same in upper and lower case", "",
			func(in *approval.Input) { in.Facts.DomainID = strings.ToUpper(acme) }, approval.Accept, "acme",
			codeList{"allowed"},
		},
		{
			"a stranger is held", "",
			func(in *approval.Input) { in.Facts.DomainID = nobody }, approval.Hold, "",
			codeList{"not_allowed"},
		},
		{
			"a prefix of an allowed id is a stranger", "",
			func(in *approval.Input) { in.Facts.DomainID = acme[:31] }, approval.Hold, "",
			codeList{"not_allowed"},
		},
		{
			"denied", "",
			func(in *approval.Input) { in.Facts.DomainID = leftUs }, approval.Reject, "left",
			codeList{"denied"},
		},
		{
			"a deny of another policy beats the allow", head("second") + "deny: [{id: no, domain_id: " + acme + "}]",
			func(*approval.Input) {}, approval.Reject, "no",
			codeList{"denied"},
		},
		{
			"a deny by a claim beats the allow, and holds", "",
			func(in *approval.Input) {
				in.Request.Claims = approval.Claims{"tags": map[string]any{"env": "forbidden"}}
			}, approval.Hold, "banned-tag",
			codeList{"denied_by_claim"},
		},
		{
			"an allow of another policy accepts", head("second") + "allow: [{id: ok, domain_id: " + nobody + "}]",
			func(in *approval.Input) { in.Facts.DomainID = nobody }, approval.Accept, "ok",
			codeList{"allowed"},
		},
		{
			"the strictest otherwise stands: reject", head("second") + "otherwise: reject",
			func(in *approval.Input) { in.Facts.DomainID = nobody }, approval.Reject, "",
			codeList{"not_allowed"},
		},
		{
			"hold is stricter than ignore", head("second") + "otherwise: ignore",
			func(in *approval.Input) { in.Facts.DomainID = nobody }, approval.Hold, "",
			codeList{"not_allowed"},
		},
		{
			"accept-only does not reject by otherwise", head("second") + "mode: accept-only\notherwise: reject",
			func(in *approval.Input) { in.Facts.DomainID = nobody }, approval.Hold, "",
			codeList{"not_allowed"},
		},
		{
			"accept-only holds what it denies", head("second") + "mode: accept-only\ndeny: [{id: no, domain_id: " + acme + "}]",
			func(*approval.Input) {}, approval.Hold, "no",
			codeList{"denied", "rejects_switched_off"},
		},
		{
			"a shadow policy does not act", head("second") + "mode: shadow\ndeny: [{id: no, domain_id: " + acme + "}]",
			func(*approval.Input) {}, approval.Accept, "acme",
			codeList{"allowed"},
		},
		{
			"no policy for the target", "",
			func(in *approval.Input) { in.Request.Target, _ = demoTargets().ByName("orders-gateway") },
			approval.Hold, "",
			codeList{"no_policy"},
		},
		{
			"the owner is not shown", head("second") + "otherwise: reject\nallow: [{id: any, any_domain: true}]",
			func(in *approval.Input) { in.Facts.DomainID = "" }, approval.Hold, "",
			codeList{"fact_missing"},
		},
		{
			"facts of another endpoint", head("second") + "otherwise: reject",
			func(in *approval.Input) { in.Facts.EndpointID = endpointB }, approval.Hold, "",
			codeList{"fact_missing"},
		},
		{
			"a claim that agrees with the fact", "",
			func(in *approval.Input) {
				in.Request.Claims = approval.Claims{"domain_id": strings.ToUpper(acme), "endpoint_id": endpointA, "region": "cn-north-4", "marker_id": 322312312312.0}
			}, approval.Accept, "acme",
			codeList{"allowed"},
		},
		{
			"a claim that contradicts the fact is held", head("second") + "otherwise: reject",
			func(in *approval.Input) { in.Request.Claims = approval.Claims{"domain_id": nobody} }, approval.Hold, "",
			codeList{"claim_mismatch"},
		},
		{
			"every contradiction is told", "",
			func(in *approval.Input) {
				in.Request.Claims = approval.Claims{"domain_id": nobody, "region": "cn-east-3", "marker_id": 1.0}
			}, approval.Hold, "",
			codeList{"claim_mismatch", "claim_mismatch", "claim_mismatch"},
		},
		{
			"one lie in a list is a lie", "",
			func(in *approval.Input) { in.Request.Claims = approval.Claims{"domain_id": []any{acme, nobody}} },
			approval.Hold, "",
			codeList{"claim_mismatch"},
		},
		{
			"an object is no domain", "",
			func(in *approval.Input) { in.Request.Claims = approval.Claims{"domain_id": map[string]any{}} },
			approval.Hold, "",
			codeList{"claim_mismatch"},
		},
		{
			"an empty claim says nothing", "",
			func(in *approval.Input) {
				in.Request.Claims = approval.Claims{"domain_id": "", "region": nil, "endpoint_id": []any{}}
			}, approval.Accept, "acme",
			codeList{"allowed"},
		},
		{
			"a claim about what is no fact is neither true nor false", "",
			func(in *approval.Input) { in.Request.Claims = approval.Claims{"vpc_id": "x", "project_id": "y"} },
			approval.Accept, "acme",
			codeList{"allowed"},
		},
		{
			"a deny on facts alone stands whatever is claimed", "",
			func(in *approval.Input) {
				in.Facts.DomainID = leftUs
				in.Request.Claims = approval.Claims{"domain_id": acme}
			}, approval.Reject, "left",
			codeList{"denied"},
		},
		{
			"a deny on claims does not reject who makes a false claim", "",
			func(in *approval.Input) {
				in.Request.Claims = approval.Claims{"domain_id": nobody, "tags": map[string]any{"env": "forbidden"}}
			}, approval.Hold, "",
			codeList{"claim_mismatch"},
		},
		{
			"all fields and claims match", "",
			func(in *approval.Input) { in.Facts.DomainID, in.Request.Claims = insight, tagged }, approval.Accept, "tagged",
			codeList{"allowed"},
		},
		{
			"what is missing is told", "",
			func(in *approval.Input) { in.Facts.DomainID = insight }, approval.Hold, "",
			codeList{"not_allowed", "claim_not_matched", "claim_not_matched"},
		},
		{
			"a claim with another value", "",
			func(in *approval.Input) {
				in.Facts.DomainID = insight
				in.Request.Claims = approval.Claims{"tags": map[string]any{"env": "test"}, "team": "data-4"}
			}, approval.Hold, "",
			codeList{"not_allowed", "claim_not_matched"},
		},
		{
			"an allow covers every value of a claim", "",
			func(in *approval.Input) {
				in.Facts.DomainID = insight
				in.Request.Claims = approval.Claims{"tags": map[string]any{"env": []any{"test", "prod"}}, "team": "data-42"}
			}, approval.Hold, "",
			codeList{"not_allowed", "claim_not_matched"},
		},
		{
			"an object in a list is no value, whatever the pattern", head("second") + "allow: [{id: star, domain_id: " + nobody + ", claims: {team: \"*\"}}]",
			func(in *approval.Input) {
				in.Facts.DomainID, in.Request.Claims = nobody, approval.Claims{"team": []any{"x", map[string]any{}}}
			}, approval.Hold, "",
			codeList{"not_allowed", "claim_not_matched"},
		},
		{
			"a deny needs one value of a claim", "",
			func(in *approval.Input) {
				in.Request.Claims = approval.Claims{"tags": map[string]any{"env": []any{"test", "forbidden"}}}
			}, approval.Hold, "banned-tag",
			codeList{"denied_by_claim"},
		},
		{
			"a region outside the glob", "",
			func(in *approval.Input) {
				in.Facts.DomainID, in.Request.Claims, in.Request.Target.Region = insight, tagged, "eu-west-1"
			}, approval.Hold, "",
			codeList{"not_allowed", "field_not_matched"},
		},
		{
			"the account is known but the endpoint is another", "",
			func(in *approval.Input) { in.Facts.DomainID = staging }, approval.Hold, "",
			codeList{"not_allowed", "field_not_matched"},
		},
		{
			"the account and the endpoint", "",
			func(in *approval.Input) {
				in.Facts.DomainID, in.Facts.EndpointID, in.Request.EndpointID = staging, endpointB, endpointB
			}, approval.Accept, "one-endpoint",
			codeList{"allowed"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			texts := []string{head("first") + base}
			if tt.extra != "" {
				texts = append(texts, tt.extra)
			}
			set := load(t, texts...)
			in := connection("payments", acme)
			tt.edit(&in)
			d := set.Evaluate(&in)
			if d.Verdict != tt.want || d.Rule != tt.rule || !slices.Equal(codes(d.Reasons), tt.codes) {
				t.Errorf("Evaluate(%+v)\n got %s by %q: %q\nwant %s by %q: %q", in, d.Verdict, d.Rule, d.Reasons, tt.want, tt.rule, tt.codes)
			}
			if d.Digest != set.Digest() || d.Facts != in.Facts || !d.At.Equal(in.Now) {
				t.Errorf("Evaluate(%+v) = digest %q, facts %+v, at %s; want those of the set and the input", in, d.Digest, d.Facts, d.At)
			}
		})
	}
}

func TestEvaluateTellsTheRequester(t *testing.T) {
	t.Parallel()
	set := load(t, head("p")+"deny: [{id: left, domain_id: "+leftUs+", reason: Contract ended., contact: us@example.org}]")
	in := connection("payments", leftUs)
	d := set.Evaluate(&in)
	if want := []approval.Reason{{Code: approval.ReasonDenied, Text: "Contract ended."}}; !slices.Equal(d.Reasons, want) || d.Contact != "us@example.org" {
		t.Errorf("Evaluate = %q, contact %q; want %q, us@example.org", d.Reasons, d.Contact, want)
	}
}

func TestEvaluateWithoutPolicies(t *testing.T) {
	t.Parallel()
	in := connection("payments", acme)
	var none *Set
	for name, set := range map[string]*Set{"nil": none, "zero": {}} {
		d := set.Evaluate(&in)
		if d.Verdict != approval.Hold || !slices.Equal(codes(d.Reasons), []approval.ReasonCode{approval.ReasonNotLoaded}) {
			t.Errorf("%s set: %s %q, want hold policies_not_loaded", name, d.Verdict, d.Reasons)
		}
	}
	if d := load(t).Evaluate(&in); d.Verdict != approval.Hold || !slices.Equal(codes(d.Reasons), []approval.ReasonCode{approval.ReasonNoPolicy}) {
		t.Errorf("empty folder: %s %q, want hold no_policy", d.Verdict, d.Reasons)
	}
}

func TestEvaluateCreations(t *testing.T) {
	t.Parallel()
	const a, b, c = endpointA, endpointB, "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b"
	const hosts = `version: 1
policy: hosts
targets: [hosts]
allow:
  - {id: two, vpc_id: [` + a + `, ` + b + `]}
deny:
  - {id: bad-subnet, subnet_id: [` + c + `]}
`
	const insightPolicy = `version: 1
policy: insight
targets: [insight]
allow:
  - {id: by-name, vpc_ep_server_name: "cn-north-4.*", ds_type: DWS, workspace_id: a1b2c3d4e5f60718293a4b5c6d7e8f90}
deny:
  - {id: closed, vpc_ep_server_id: ` + c + `}
`
	vpcs := func(ids ...string) *approval.HSSEndpoints {
		h := &approval.HSSEndpoints{HostIDs: []string{a}}
		for _, id := range ids {
			h.VPCs = append(h.VPCs, approval.HSSVPC{VPCID: id, SubnetIDs: []string{a}})
		}
		return h
	}
	withSubnet := vpcs(a, b)
	withSubnet.VPCs[1].SubnetIDs = []string{a, c}
	tests := []struct {
		name   string
		target string
		make   approval.Creation
		claims approval.Claims
		want   approval.Verdict
		rule   string
	}{
		{"one VPC", "hosts", approval.Creation{HSS: vpcs(a)}, nil, approval.Accept, "two"},
		{"an allow covers all VPCs", "hosts", approval.Creation{HSS: vpcs(b, a)}, nil, approval.Accept, "two"},
		{"one VPC is not allowed", "hosts", approval.Creation{HSS: vpcs(a, c)}, nil, approval.Hold, ""},
		{"the first VPC is not allowed", "hosts", approval.Creation{HSS: vpcs(c, a)}, nil, approval.Hold, ""},
		{"no VPC at all: the denied subnet may be meant", "hosts", approval.Creation{HSS: vpcs()}, nil, approval.Hold, "bad-subnet"},
		{"a deny needs one subnet", "hosts", approval.Creation{HSS: withSubnet}, nil, approval.Reject, "bad-subnet"},
		{"a claim that agrees with one of the VPCs", "hosts", approval.Creation{HSS: vpcs(a, b)}, approval.Claims{"vpc_id": b}, approval.Accept, "two"},
		{"a claim that contradicts the parameters", "hosts", approval.Creation{HSS: vpcs(a, b)}, approval.Claims{"vpc_id": c}, approval.Hold, ""},
		{"by name", "insight", approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{DSType: "DWS", ServerName: "cn-north-4.pay." + a}}, nil, approval.Accept, "by-name"},
		{"values that are no ids are exact", "insight", approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{DSType: "dws", ServerName: "cn-north-4.pay." + a}}, nil, approval.Hold, ""},
		{"a deny by id meets the name that ends in it", "insight", approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{DSType: "DWS", ServerName: "cn-north-4.pay." + c}}, nil, approval.Reject, "closed"},
		{"an allow by name does not meet the id", "insight", approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{DSType: "DWS", ServerID: a}}, nil, approval.Hold, ""},
	}
	set := load(t, hosts, insightPolicy)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := creation(tt.target, tt.make)
			in.Request.Claims = tt.claims
			if d := set.Evaluate(&in); d.Verdict != tt.want || d.Rule != tt.rule {
				t.Errorf("Evaluate(%+v) = %s by %q %q, want %s by %q", in.Request.Creation, d.Verdict, d.Rule, d.Reasons, tt.want, tt.rule)
			}
		})
	}
}

// TestFields: each yields the facts and the parameters of a request, and nothing for
// a field that it does not have.
func TestFields(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for f := range numFields + 1 {
		if f.name() == "" || names[f.name()] {
			t.Errorf("the name %q of field %d is empty or that of another", f.name(), f)
		}
		names[f.name()] = true
	}
	for _, tt := range []struct {
		in   approval.Input
		want string // the fields and their values, in the order of the index
	}{
		{connection("payments", acme), "endpoint_id=705290f3-0d00-41f2-aedc-71f09844e879 domain_id=" + acme + " region=cn-north-4 marker_id=322312312312"},
		{connection("orders-gateway", ""), "endpoint_id=705290f3-0d00-41f2-aedc-71f09844e879 region=cn-north-4 marker_id=322312312312"},
		{
			creation("functions", approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: "a", SubnetID: "b", XRole: "c"}}),
			"subnet_id=b vpc_id=a xrole=c region=cn-north-4",
		},
		{
			creation("hosts", approval.Creation{HSS: &approval.HSSEndpoints{
				HostIDs: []string{"h1", "h2"}, VPCs: []approval.HSSVPC{{VPCID: "a", SubnetIDs: []string{"b", "c"}}, {VPCID: "d"}},
			}}),
			"subnet_id=b subnet_id=c host_id=h1 host_id=h2 vpc_id=a vpc_id=d region=cn-north-4",
		},
		{
			creation("insight", approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{DSType: "DWS", ServerID: "s"}}),
			"vpc_ep_server_id=s workspace_id=a1b2c3d4e5f60718293a4b5c6d7e8f90 ds_type=DWS region=cn-north-4",
		},
		{
			creation("insight", approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{ServerName: "r.n.s"}}),
			"vpc_ep_server_name=r.n.s workspace_id=a1b2c3d4e5f60718293a4b5c6d7e8f90 region=cn-north-4",
		},
	} {
		got := ""
		for f := range numFields + 1 {
			n := 0
			each(&tt.in, f, false, func(v string) bool { got += " " + f.name() + "=" + v; n++; return true })
			creates := tt.in.Request.Creates()
			if n > 0 && !f.of(creates) {
				t.Errorf("%s has a value, but of(%t) is false", f.name(), creates)
			}
			if n > 1 && !creates {
				t.Errorf("%s has %d values; entry.judge relies on one for a connection", f.name(), n)
			}
		}
		if got = strings.TrimSpace(got); got != tt.want {
			t.Errorf("the fields of %+v are %s, want %s", tt.in.Request, got, tt.want)
		}
	}
	for f, spec := range specs() {
		if field(f).folds() != spec.id {
			t.Errorf("%s: folds is %t, but it is an id: %t", field(f).name(), field(f).folds(), spec.id)
		}
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"*", "", true},
		{"*", "anything", true},
		{"a*", "abc", true},
		{"a*", "ba", false},
		{"*c", "abc", true},
		{"*c", "abcd", false},
		{"a*c*e", "abcde", true},
		{"a*c*e", "abde", false},
		{"a?c", "abc", true},
		{"a?c", "aéc", true},
		{"a?c", "ac", false},
		{"?", "", false},
		{"*a*b", "aaab", true},
		{"*ab", "aab", true},
		{"**", "x", true},
		{"a**", "a", true},
		{"é*", "été", true},
		{"a", "ab", false},
	}
	for _, tt := range tests {
		if got := MatchGlob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("MatchGlob(%q, %q) = %t, want %t", tt.pattern, tt.s, got, tt.want)
		}
	}
}

func TestOrderNeverMatters(t *testing.T) {
	t.Parallel()
	a := head("zeta") + "allow: [{id: b, domain_id: " + acme + "}, {id: a, domain_id: " + acme + "}]"
	b := head("alpha") + "allow: [{id: z, domain_id: " + acme + "}]\notherwise: reject"
	in := connection("payments", acme)
	one, two := load(t, a, b).Evaluate(&in), load(t, b, a).Evaluate(&in)
	if one.Policy != "alpha" || one.Rule != "z" || two.Policy != one.Policy || two.Rule != one.Rule {
		t.Errorf("decided by %s %s and %s %s; want alpha z both times", one.Policy, one.Rule, two.Policy, two.Rule)
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	fsys := folder(head("a") + "allow: [{id: x, domain_id: {file: l.txt}}]")
	fsys["l.txt"] = &fstest.MapFile{Data: []byte(acme)}
	fsys["unused.txt"] = &fstest.MapFile{Data: []byte("a")}
	fsys["p0_test.yaml"] = &fstest.MapFile{Data: []byte("version: 1\ntests: []")}
	digest := func() string {
		set, err := Load(fsys, demoTargets())
		if err != nil {
			t.Fatal(err)
		}
		return set.Digest()
	}
	first := digest()
	if !strings.HasPrefix(first, "sha256:") || len(first) != 71 {
		t.Errorf("digest is %q", first)
	}
	fsys["unused.txt"].Data = []byte("b")
	fsys["p0_test.yaml"].Data = []byte("version: 1\ntests: [{}]")
	if got := digest(); got != first {
		t.Errorf("a file that is not used changes the digest: %s, %s", first, got)
	}
	fsys["l.txt"].Data = []byte(nobody)
	if got := digest(); got == first {
		t.Error("a value file does not change the digest")
	}
}

func TestLoadErrorHoldsAll(t *testing.T) {
	t.Parallel()
	_, err := Load(folder("a", "version: 2"), demoTargets())
	var le *strictyaml.Error
	if !errors.As(err, &le) || len(le.Findings) < 4 {
		t.Errorf("Load = %v, want a LoadError with everything in it", err)
	}
}
