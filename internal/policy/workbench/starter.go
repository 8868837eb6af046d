package workbench

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Starter returns the text of a commented policy called name for target t, and
// that of a test file for it: both are right as they are, and allow only
// ids that belong to nobody.
func Starter(name string, t approval.Target) (policy, tests string, err error) {
	if err := approval.ValidName(name); err != nil {
		return "", "", fmt.Errorf("policy %q: %w", name, err)
	}
	// Each policy gets ids of its own, so that several in one folder do not
	// decide each other's tests.
	own := fmt.Sprintf("%x", sha256.Sum256([]byte(name)))
	account, other, nobody := "00000000"+own[:22]+"01", "00000000"+own[:22]+"02", "00000000"+own[:22]+"03"
	id, otherID := "00000000-0000-4000-8000-"+own[:10]+"01", "00000000-0000-4000-8000-"+own[:10]+"02"
	entry, request, facts := "", "", ""
	switch t.Kind {
	case approval.FunctionGraph:
		entry = "    vpc_id: " + id + " # the VPC that endpoints may be made in\n"
		request = ", functiongraph: {vpc_id: %s, subnet_id: " + id + "}"
	case approval.HSS:
		entry = "    vpc_id: " + id + " # the VPC that endpoints may be made in\n"
		request = ", hss: {host_id_list: [" + id + "], vpc_list: [{vpc_id: %s}]}"
	case approval.DataArtsInsight:
		entry = "    ds_type: DWS\n    vpc_ep_server_id: " + id + " # the endpoint service to connect to\n"
		request = ", dataarts_insight: {ds_type: DWS, vpc_ep_server_id: %s}"
	case approval.Service, approval.Gateway:
		entry = "    domain_id: " + account + " # the account that owns the endpoint\n    # limit: 10\n    # expires: 2027-06-30\n"
		facts = "\n    facts: {domain_id: %s}"
	default:
		return "", "", fmt.Errorf("target %s: kind %q is unknown", t.Name, t.Kind)
	}
	deny := "# deny: # beats every allow of the target, in whichever policy it is\n"
	if facts != "" {
		deny = "deny: # beats every allow of the target, in whichever policy it is\n" +
			"  - id: not-these\n    domain_id: " + other + "\n    reason: The requester reads this sentence.\n    contact: network-access@example.org\n"
	}
	policy = "# yaml-language-server: $schema=./schema/policy.v1.json\n" +
		"version: 1\npolicy: " + name + " # unique\nowner: team-" + t.Name + "\ntargets: [" + t.Name + "]\n" +
		"mode: enforce # accept-only: never rejects; shadow: decides and reports, never acts\n" +
		"allow: # any entry may match; within an entry everything must\n" +
		"  - id: first # shown in decisions and metrics\n" + entry + deny +
		"otherwise: hold # or reject, or ignore\n"

	var b strings.Builder
	b.WriteString("# yaml-language-server: $schema=./schema/policy-test.v1.json\nversion: 1\ntargets: [{name: " + t.Name + ", kind: " + string(t.Kind) + "}]\ntests:\n")
	test := func(what, value, expect string) {
		fill := func(s string) string { return strings.ReplaceAll(s, "%s", value) }
		fmt.Fprintf(&b, "  - name: %s\n    request: {target: %s%s}%s\n    expect: {%s}\n", what, t.Name, fill(request), fill(facts), expect)
	}
	accepted := "verdict: accept, policy: " + name + ", rule: first"
	if facts != "" {
		test("the account is accepted", account, accepted)
		test("the other one is rejected", other, "verdict: reject, policy: "+name+", rule: not-these")
		test("everybody else is held", nobody, "verdict: hold")
	} else {
		test("this one is created", id, accepted)
		test("everything else is held", otherID, "verdict: hold")
	}
	return policy, b.String(), nil
}
