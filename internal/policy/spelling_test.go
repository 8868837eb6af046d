package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// TestSpellingsOfIDs: an id is the same with dashes and without, in upper and lower
// case, wherever it stands: nobody passes a deny, or misses an allow, by spelling.
func TestSpellingsOfIDs(t *testing.T) {
	t.Parallel()
	const dashed = "4189d3c2-8882-4871-a3c2-d380272eed88"
	compact := strings.ReplaceAll(dashed, "-", "")
	spellings := []string{dashed, compact, strings.ToUpper(dashed), strings.ToUpper(compact)}
	patterns := []string{"4189d3c2*", "4189d3c2-8882-*", "4189D3C28882*", "*-d380272eed88", "*a3c2d380272eed88", "4189d3c2-????-4871-a3c2-d380272eed88"}

	creation := func(target string, c approval.Creation) approval.Input {
		tg, ok := demoTargets().ByName(target)
		if !ok {
			t.Fatalf("no target %s", target)
		}
		return approval.Input{Request: approval.Request{Target: tg, Creation: c}}
	}
	fields := map[string]struct {
		target string
		input  func(id string) approval.Input
	}{
		"domain_id": {"payments", func(id string) approval.Input { return connection("payments", id) }},
		"endpoint_id": {"payments", func(id string) approval.Input {
			in := connection("payments", acme)
			in.Request.EndpointID, in.Facts.EndpointID = id, dashed
			return in
		}},
		"vpc_id": {"functions", func(id string) approval.Input {
			return creation("functions", approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: id, SubnetID: acme}})
		}},
		"subnet_id": {"functions", func(id string) approval.Input {
			return creation("functions", approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: acme, SubnetID: id}})
		}},
		"host_id": {"hosts", func(id string) approval.Input {
			return creation("hosts", approval.Creation{HSS: &approval.HSSEndpoints{HostIDs: []string{id}, VPCs: []approval.HSSVPC{{VPCID: acme, SubnetIDs: []string{acme}}}}})
		}},
		"vpc_ep_server_id": {"insight", func(id string) approval.Input {
			return creation("insight", approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{DSType: "MySQL", ServerID: id}})
		}},
	}
	decide := func(key, target, list, value string, in approval.Input) approval.Decision {
		t.Helper()
		text := "version: 1\npolicy: p\ntargets: [" + target + "]\n" + list + ": [{id: x, " + key + ": \"" + value + "\"}]\n"
		return load(t, text).Evaluate(&in)
	}
	for key, f := range fields {
		for _, seen := range spellings {
			for _, value := range append(spellings, patterns...) {
				if d := decide(key, f.target, "deny", value, f.input(seen)); d.Verdict != approval.Reject {
					t.Errorf("a deny on %s %s lets %s pass: %+v", key, value, seen, d)
				}
				if d := decide(key, f.target, "allow", value, f.input(seen)); d.Verdict != approval.Accept {
					t.Errorf("an allow of %s %s misses %s: %+v", key, value, seen, d)
				}
			}
			other := strings.Replace(seen, "4", "5", 1)
			for _, value := range append(spellings, patterns...) {
				if key == "endpoint_id" || value == "*-d380272eed88" || value == "*a3c2d380272eed88" {
					continue
				}
				if d := decide(key, f.target, "allow", value, f.input(other)); d.Verdict != approval.Hold {
					t.Errorf("an allow of %s %s takes %s: %+v", key, value, other, d)
				}
			}
		}
	}

	// A service by its full name, and the id at the end of that.
	byName := func(id string) approval.Input {
		return creation("insight", approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{DSType: "MySQL", ServerName: "cn-north-4.payments." + id}})
	}
	for _, seen := range spellings {
		for _, value := range spellings {
			for key, text := range map[string]string{"vpc_ep_server_id": value, "vpc_ep_server_name": "cn-north-4.payments." + value} {
				if d := decide(key, "insight", "deny", text, byName(seen)); d.Verdict != approval.Reject {
					t.Errorf("a deny on %s %s lets the service %s pass: %+v", key, text, seen, d)
				}
			}
			if d := decide("vpc_ep_server_name", "insight", "allow", "*.payments."+value, byName(seen)); d.Verdict != approval.Accept {
				t.Errorf("a pattern of the name of %s misses %s: %+v", value, seen, d)
			}
		}
	}

	// Claims: one that says the same as the fact, and one that an entry asks for.
	for _, seen := range spellings {
		for _, value := range spellings {
			set := load(t, head("p")+"allow: [{id: x, domain_id: "+compact+", claims: {vpc: "+value+"}}]")
			in := connection("payments", compact)
			in.Request.Claims = approval.Claims{"domain_id": seen, "vpc": seen}
			if d := set.Evaluate(&in); d.Verdict != approval.Accept {
				t.Errorf("claims of %s, and %s in the policy: %+v", seen, value, d)
			}
		}
	}

	// Expressions see one spelling, whatever the request has.
	set := load(t, "version: 1\npolicy: p\ntargets: [functions]\nallow: [{id: x, vpc_id: \"*\", when: 'request.vpc_id == [\""+dashed+"\"]'}]")
	for _, seen := range spellings {
		in := fields["vpc_id"].input(seen)
		if d := set.Evaluate(&in); d.Verdict != approval.Accept {
			t.Errorf("an expression sees another id than %s: %+v", seen, d)
		}
	}
}

// TestDuplicatesInAnySpelling: an id that stands in a list twice is found.
func TestDuplicatesInAnySpelling(t *testing.T) {
	t.Parallel()
	set := load(t, head("p")+"allow: [{id: x, domain_id: [6e9dfd51d1124e8d8498dce894923a0d, 6E9DFD51-d112-4e8d-8498-dce894923a0d]}]")
	if !slices.ContainsFunc(set.Findings(), func(f strictyaml.Finding) bool { return f.Code == "duplicate-value" }) {
		t.Errorf("findings are %v, want one about the duplicate", set.Findings())
	}
}
