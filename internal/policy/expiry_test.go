package policy_test

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// TestExpiries: what expires next comes first, and what has expired is left out.
func TestExpiries(t *testing.T) {
	t.Parallel()
	set, err := policy.Load(fstest.MapFS{"a.yaml": {Data: []byte(`version: 1
policy: a
targets: [payments]
allow:
  - {id: last, endpoint_id: [705290f3-0d00-41f2-aedc-71f09844e879], expires: 2027-03-01}
  - {id: never, endpoint_id: [705290f3-0d00-41f2-aedc-71f09844e870]}
  - {id: past, endpoint_id: [705290f3-0d00-41f2-aedc-71f09844e871], expires: 2026-01-01}
deny:
  - {id: next, endpoint_id: [705290f3-0d00-41f2-aedc-71f09844e872], reason: over, expires: 2027-02-01}
`)}}, approval.Targets{{Name: "payments", Kind: approval.Service}})
	if err != nil {
		t.Fatal(err)
	}
	day := func(month time.Month) time.Time { return time.Date(2027, month, 2, 0, 0, 0, 0, time.UTC) }
	want := []policy.Expiry{{"a", "next", day(2)}, {"a", "last", day(3)}}
	if diff := cmp.Diff(want, set.Expiries(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := (*policy.Set)(nil).Expiries(time.Time{}); got != nil {
		t.Errorf("no set: %v", got)
	}
}
