package approval

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValidID(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		"705290f3-0d00-41f2-aedc-71f09844e879": true,
		"705290F3-0D00-41F2-AEDC-71F09844E879": true,
		"6e9dfd51d1124e8d8498dce894923a0d":     true,
		"":                                     false,
		"705290f3-0d00-41f2-aedc-71f09844e87":  false,
		"705290f3-0d00-41f2-aedc-71f09844e87g": false,
		"705290f3x0d00-41f2-aedc-71f09844e879": false,
		"a/../../b":                            false,
		"6e9dfd51d1124e8d8498dce894923a0/":     false,
		"6e9dfd51d1124e8d8498dce894923a0d\n":   false,
		"6e9dfd51d1124e8d8498dce89492３a0":      false,
		"------------------------------------": false,
		strings.Repeat("6", 33):                false,
	} {
		if err := ValidID(id); (err == nil) != ok {
			t.Errorf("ValidID(%q) = %v, want it valid: %v", id, err, ok)
		}
	}
}

func TestValidName(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"payments": true, "orders-gateway": true, "0": true, strings.Repeat("a", 64): true,
		"": false, "-a": false, "A": false, "a.b": false, "a*": false, "a>": false, "a b": false, "ä": false, strings.Repeat("a", 65): false,
	} {
		if err := ValidName(name); (err == nil) != ok {
			t.Errorf("ValidName(%q) = %v, want it valid: %v", name, err, ok)
		}
	}
}

// TestRequestID: where source ends and id begins counts.
func TestRequestID(t *testing.T) {
	t.Parallel()
	seen := map[string][2]string{}
	for _, e := range [][2]string{{"a", "b"}, {"ab", ""}, {"", "ab"}, {"a", "bc"}, {"ab", "c"}, {"1:a", "b"}} {
		id := RequestID(e[0], e[1])
		if other, ok := seen[id]; ok || len(id) != 32 {
			t.Errorf("RequestID(%q) = %s, as for %q", e, id, other)
		}
		seen[id] = e
	}
	if got := RequestID("a", "b"); got != "facdde7abf1eac5b301273ab2e282f79" {
		t.Errorf("RequestID(a, b) = %s, which the ledgers of older workers do not know", got)
	}
}

// TestSubject: what is the same in the cloud is the same subject, and nothing else.
func TestSubject(t *testing.T) {
	t.Parallel()
	service := Target{Name: "payments", Kind: Service}
	hosts := Target{Name: "hosts", Kind: HSS}
	host := func(h []string, vpcs ...HSSVPC) Request {
		return Request{Target: hosts, Creation: Creation{HSS: &HSSEndpoints{HostIDs: h, VPCs: vpcs}}}
	}
	function := func(vpc, subnet, flavor string) Request {
		return Request{Target: Target{Name: "functions", Kind: FunctionGraph}, Creation: Creation{
			FunctionGraph: &FunctionGraphEndpoint{VPCID: vpc, SubnetID: subnet, Flavor: flavor},
		}}
	}
	insight := func(e DataArtsInsightEndpoint) Request {
		return Request{Target: Target{Name: "insight", Kind: DataArtsInsight}, Creation: Creation{DataArtsInsight: &e}}
	}
	for _, tt := range []struct {
		name string
		a, b Request
		same bool
	}{
		{"a connection in other case", Request{Target: service, EndpointID: "ABC"}, Request{Target: service, EndpointID: "abc"}, true},
		{"another target", Request{Target: service, EndpointID: "abc"}, Request{Target: Target{Name: "x", Kind: Service}, EndpointID: "abc"}, false},
		{"hosts in another order", host([]string{"1", "2"}), host([]string{"2", "1"}), true},
		{"VPCs in another order", host(nil, HSSVPC{VPCID: "v"}, HSSVPC{VPCID: "w"}), host(nil, HSSVPC{VPCID: "w"}, HSSVPC{VPCID: "v"}), true},
		{"a subnet is no VPC", host(nil, HSSVPC{VPCID: "v", SubnetIDs: []string{"w"}}), host(nil, HSSVPC{VPCID: "v"}, HSSVPC{VPCID: "w"}), false},
		{"a subnet of another VPC", host(nil, HSSVPC{VPCID: "v", SubnetIDs: []string{"s"}}, HSSVPC{VPCID: "w"}), host(nil, HSSVPC{VPCID: "v"}, HSSVPC{VPCID: "w", SubnetIDs: []string{"s"}}), false},
		{"another flavor of the same endpoint", function("v", "s", "large"), function("v", "s", "default"), true},
		{"another subnet", function("v", "s", ""), function("v", "t", ""), false},
		{"a service by id and by name", insight(DataArtsInsightEndpoint{DSType: "DWS", ServerID: "x"}), insight(DataArtsInsightEndpoint{DSType: "DWS", ServerName: "r.n.x"}), true},
	} {
		if got := tt.a.Subject() == tt.b.Subject(); got != tt.same {
			t.Errorf("%s: %s and %s, want the same: %v", tt.name, tt.a.Subject(), tt.b.Subject(), tt.same)
		}
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	var claims Claims
	if err := json.Unmarshal([]byte(`{"requester": "ops", "n": 3, "ok": true, "none": null, "tags": {"env": ["prod", "eu", {"x": 1}]}}`), &claims); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"requester": {"ops"}, "n": {"3"}, "ok": {"true"}, "none": nil, "tags.env": {"prod", "eu"}, "tags": nil, "tags.env.x": nil, "": nil, "nothing": nil,
	} {
		if got := claims.Values(path); !slices.Equal(got, want) {
			t.Errorf("Values(%q) = %q, want %q", path, got, want)
		}
	}
	if got := Claims(nil).Values("x"); got != nil {
		t.Errorf("no claims say %q", got)
	}
}

// TestEach: a fact comes from the cloud or the configuration, never from a claim.
func TestEach(t *testing.T) {
	t.Parallel()
	in := Input{
		Request: Request{Target: Target{Kind: Service, Region: "r"}, EndpointID: "asked", Claims: Claims{"domain_id": "claimed", "vpc_id": "v"}},
		Facts:   Facts{EndpointID: "seen", DomainID: "d", MarkerID: 1 << 60},
	}
	for name, want := range map[string]string{"region": "r", "domain_id": "d", "endpoint_id": "seen", "marker_id": "1152921504606846976", "vpc_id": "", "workspace_id": ""} {
		got := ""
		in.Each(name, func(v string) bool { got += v; return true })
		if got != want {
			t.Errorf("Each(%q) yields %q, want %q", name, got, want)
		}
	}
}

func TestVerdictsAndClaims(t *testing.T) {
	t.Parallel()
	for _, v := range Verdicts() {
		if v.Acts() != (v.Goal() != Absent) {
			t.Errorf("%s acts: %v, and its goal is %q", v, v.Acts(), v.Goal())
		}
	}
	for _, tt := range []struct {
		claim  Lock
		stands bool
	}{
		{Lock{Verdict: Accept}, true},
		{Lock{Verdict: Reject, Outcome: OutcomeRejected}, true},
		{Lock{Verdict: Accept, Outcome: OutcomeFailed}, false},
		{Lock{Verdict: Accept, Outcome: OutcomeUnknown}, false},
		{Lock{Verdict: Hold}, false},
		{Lock{Verdict: Hold, Outcome: OutcomeHeld}, false},
	} {
		if got := tt.claim.Blocks(); got != tt.stands {
			t.Errorf("%+v stands: %v, want %v", tt.claim, got, tt.stands)
		}
	}
}

func TestWhetherFactsAreOfOneConnection(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	whole := Facts{DomainID: "d", MarkerID: 1, CreatedAt: made}
	for _, tt := range []struct {
		name          string
		f             Facts
		same, differs bool
	}{
		{"the same", whole, true, false},
		{"a fraction of a second", Facts{DomainID: "d", MarkerID: 1, CreatedAt: made.Add(174 * time.Millisecond)}, true, false},
		{"no time", Facts{DomainID: "d", MarkerID: 1}, true, false},
		{"another time", Facts{DomainID: "d", MarkerID: 1, CreatedAt: made.Add(time.Second)}, false, true},
		{"another account", Facts{DomainID: "e", MarkerID: 1, CreatedAt: made}, false, true},
		{"another number", Facts{DomainID: "d", MarkerID: 2, CreatedAt: made}, false, true},
		{"no account", Facts{MarkerID: 1, CreatedAt: made}, false, false},
		{"no number", Facts{DomainID: "d", CreatedAt: made}, false, false},
		{"nothing", Facts{}, false, false},
	} {
		if same, differs := whole.Same(tt.f), whole.Differs(tt.f); same != tt.same || differs != tt.differs {
			t.Errorf("%s: same %t, differs %t; want %t and %t", tt.name, same, differs, tt.same, tt.differs)
		}
		if tt.f.Same(whole) != tt.same || tt.f.Differs(whole) != tt.differs {
			t.Errorf("%s: not the same the other way round", tt.name)
		}
	}
	if (Facts{}).Same(Facts{}) || (Facts{DomainID: "d"}).Same(Facts{DomainID: "d"}) {
		t.Error("what is not known is equal")
	}
}
