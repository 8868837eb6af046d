package policy_test

import (
	"fmt"
	"testing/fstest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

func ExampleLoad() {
	targets := approval.Targets{{Name: "payments", Kind: approval.Service, Region: "cn-north-4"}}
	folder := fstest.MapFS{"payments.yaml": {Data: []byte(`version: 1
policy: payments
targets: [payments]
allow:
  - id: acme
    domain_id: 6e9dfd51d1124e8d8498dce894923a0d
`)}}
	set, err := policy.Load(folder, targets)
	if err != nil {
		fmt.Println(err)
		return
	}
	d := set.Evaluate(&approval.Input{
		Request: approval.Request{Target: targets[0]},
		Facts:   approval.Facts{DomainID: "6e9dfd51d1124e8d8498dce894923a0d", State: approval.Pending},
		Now:     time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC),
	})
	fmt.Println(d.Verdict, d.Policy, d.Rule)
	// Output: accept payments acme
}

func ExampleLoad_errors() {
	folder := fstest.MapFS{"payments.yaml": {Data: []byte(`version: 1
policy: payments
targets: [payments]
allow:
  - id: acme
    domain_id: [acme]
`)}}
	_, err := policy.Load(folder, approval.Targets{{Name: "payments", Kind: approval.Service}})
	fmt.Println(err)
	// Output:
	// 1 error:
	// payments.yaml:6:17: allow[0].domain_id[0]: "acme" is neither a UUID nor 32 hexadecimal digits, so it matches nothing; write the id as the console shows it
	//      6 |     domain_id: [acme]
	//        |                 ^
}
