package policy

import (
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestWhatARequestForServersLeavesOpen: servers without VPCs are in VPCs of their own,
// and VPCs without servers have servers in them. A deny may mean those, so it holds;
// an allow that names them does not cover them.
func TestWhatARequestForServersLeavesOpen(t *testing.T) {
	t.Parallel()
	const (
		one   = "705290f3-0d00-41f2-aedc-71f09844e879"
		two   = "9d4c0e5a-6b1f-4f0e-8c27-3a5d9e7b1c60"
		head  = "version: 1\npolicy: hosts\ntargets: [hosts]\notherwise: reject\n"
		allow = "allow:\n  - {id: server, host_id: " + one + "}\n  - {id: network, vpc_id: " + one + "}\n"
	)
	hosts := approval.HSSEndpoints{HostIDs: []string{one}}
	vpcs := approval.HSSEndpoints{VPCs: []approval.HSSVPC{{VPCID: one, SubnetIDs: []string{one}}}}
	both := approval.HSSEndpoints{HostIDs: hosts.HostIDs, VPCs: vpcs.VPCs}
	tests := []struct {
		name, deny string
		request    approval.HSSEndpoints
		want       approval.Verdict
		rule       string
	}{
		{"servers alone, no deny", "", hosts, approval.Accept, "server"},
		{"VPCs alone, no deny", "", vpcs, approval.Accept, "network"},
		{"servers alone, a VPC is denied", "deny:\n  - {id: no, vpc_id: " + two + "}\n", hosts, approval.Hold, "no"},
		{"servers alone, a subnet is denied", "deny:\n  - {id: no, subnet_id: " + two + "}\n", hosts, approval.Hold, "no"},
		{"servers alone, VPCs are denied by a glob", "deny:\n  - {id: no, vpc_id: \"9d4c0e5a*\"}\n", hosts, approval.Hold, "no"},
		{"servers alone, the server is denied", "deny:\n  - {id: no, host_id: " + one + "}\n", hosts, approval.Reject, "no"},
		{"servers alone, another server in a VPC is denied", "deny:\n  - {id: no, host_id: " + two + ", vpc_id: " + two + "}\n", hosts, approval.Accept, "server"},
		{"servers alone, this server in a VPC is denied", "deny:\n  - {id: no, host_id: " + one + ", vpc_id: " + two + "}\n", hosts, approval.Hold, "no"},
		{"VPCs alone, a server is denied", "deny:\n  - {id: no, host_id: " + two + "}\n", vpcs, approval.Hold, "no"},
		{"VPCs alone, another VPC is denied", "deny:\n  - {id: no, vpc_id: " + two + "}\n", vpcs, approval.Accept, "network"},
		{"both, others are denied", "deny:\n  - {id: no, host_id: " + two + "}\n  - {id: never, vpc_id: " + two + "}\n", both, approval.Accept, "network"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set := load(t, head+allow+tt.deny)
			in := creation("hosts", approval.Creation{HSS: &tt.request})
			if d := set.Evaluate(&in); d.Verdict != tt.want || d.Rule != tt.rule {
				t.Errorf("%s by %q %q, want %s by %q", d.Verdict, d.Rule, d.Reasons, tt.want, tt.rule)
			}
		})
	}
	set := load(t, head+"allow:\n  - {id: network, vpc_id: "+one+"}\n")
	in := creation("hosts", approval.Creation{HSS: &hosts})
	if d := set.Evaluate(&in); d.Verdict == approval.Accept {
		t.Errorf("an allow of a VPC covers servers in VPCs that are not known: %+v", d)
	}
}
