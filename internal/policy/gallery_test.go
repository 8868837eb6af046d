package policy

import (
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const (
	acme    = "6e9dfd51d1124e8d8498dce894923a0d"
	leftUs  = "b70fde8e849b4e76a61dd8aa0ec05c81"
	staging = "0f7b2c6a51c94d0e9a3f5be27d1c4a88"
	insight = "5d3a8e0c47f14b7f9b21c6d0e8a4f913"
	nobody  = "ffffffffffffffffffffffffffffffff"

	endpointA = "705290f3-0d00-41f2-aedc-71f09844e879"
	endpointB = "9d4c0e5a-6b1f-4f0e-8c27-3a5d9e7b1c60"
)

// demoTargets are the targets that the shipped policies are written for.
func demoTargets() approval.Targets {
	ts := approval.Targets{
		{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88"},
		{Name: "orders-gateway", Kind: approval.Gateway, ID: "b1a8c2d5-3e4f-4a6b-9c7d-8e0f1a2b3c4d"},
		{Name: "functions", Kind: approval.FunctionGraph},
		{Name: "hosts", Kind: approval.HSS},
		{Name: "insight", Kind: approval.DataArtsInsight, WorkspaceID: "a1b2c3d4e5f60718293a4b5c6d7e8f90"},
	}
	for i := range ts {
		ts[i].ProjectID = "0605767bd1c04a7c8d3f2e1b9a8c7d6e"
		ts[i].Region = "cn-north-4"
	}
	return ts
}

// noon is when the tests take place: a Wednesday.
func noon() time.Time { return time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC) }

// connection is a request of domain to connect to target, as the cloud shows it.
func connection(target, domain string) approval.Input {
	t, _ := demoTargets().ByName(target)
	return approval.Input{
		Request: approval.Request{ID: "r1", Target: t, EndpointID: endpointA},
		Facts: approval.Facts{
			EndpointID: endpointA, DomainID: domain, State: approval.Pending, MarkerID: 322312312312,
			CreatedAt: noon().Add(-time.Hour), ReadAt: noon(),
		},
		Now: noon(),
	}
}

// creation is a request to create an endpoint at target.
func creation(target string, c approval.Creation) approval.Input {
	t, _ := demoTargets().ByName(target)
	return approval.Input{Request: approval.Request{ID: "r1", Target: t, Creation: c}, Now: noon()}
}

func TestShippedPolicies(t *testing.T) {
	t.Parallel()
	set, err := LoadDir("../../policies", demoTargets())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range set.Findings() {
		t.Errorf("shipped policies are clean, but: %s", f)
	}
	claim := func(in approval.Input, claims approval.Claims) approval.Input {
		in.Request.Claims = claims
		return in
	}
	tests := []struct {
		name         string
		in           approval.Input
		want         approval.Verdict
		policy, rule string
	}{
		{"the partner", connection("payments", acme), approval.Accept, "payments", "acme"},
		{"the partner on the gateway", connection("orders-gateway", acme), approval.Accept, "payments", "acme"},
		{"who left", connection("payments", leftUs), approval.Reject, "payments", "left-us"},
		{"who left, on the gateway", connection("orders-gateway", leftUs), approval.Reject, "payments", "left-us"},
		{
			"staging with its tag", claim(connection("payments", staging), approval.Claims{"tags": map[string]any{"env": "staging"}}),
			approval.Accept, "staging", "staging",
		},
		{"staging without its tag", connection("payments", staging), approval.Hold, "", ""},
		{
			"staging is not for the gateway", claim(connection("orders-gateway", staging), approval.Claims{"tags": map[string]any{"env": "staging"}}),
			approval.Hold, "", "",
		},
		{"a stranger", connection("payments", nobody), approval.Hold, "", ""},
		{"the connection of DataArts Insight", connection("payments", insight), approval.Accept, "data-platform", "insight"},
		{"one of the partners", connection("orders-gateway", "94b0d7e35a1c4f62b8e90c7d16f3a285"), approval.Accept, "partners", "partners"},
		{
			"a function in its VPC",
			creation("functions", approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: "7c9b3f7e-2d0a-4a52-9a0e-5f6d1c2b3a41", SubnetID: endpointB, Flavor: "default"}}),
			approval.Accept, "functions", "function-network",
		},
		{
			"a function elsewhere",
			creation("functions", approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: endpointA, SubnetID: endpointB, Flavor: "default"}}),
			approval.Hold, "functions", "",
		},
		{
			"servers in their VPC",
			creation("hosts", approval.Creation{HSS: &approval.HSSEndpoints{HostIDs: []string{endpointA}, VPCs: []approval.HSSVPC{{VPCID: "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b"}}}}),
			approval.Accept, "hosts", "server-network",
		},
		{
			"a warehouse on our service",
			creation("insight", approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{DSType: "DWS", ServerID: "4189d3c2-8882-4871-a3c2-d380272eed88"}}),
			approval.Accept, "insight", "warehouse",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := set.Evaluate(&tt.in)
			if d.Verdict != tt.want || d.Policy != tt.policy || d.Rule != tt.rule {
				t.Errorf("Evaluate(%+v) = %s by %q %q %q, want %s by %q %q", tt.in, d.Verdict, d.Policy, d.Rule, d.Reasons, tt.want, tt.policy, tt.rule)
			}
		})
	}
}
