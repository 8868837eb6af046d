package cloud

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestApprovalSetting: it is what the service itself says; what it does not say is
// not known.
func TestApprovalSetting(t *testing.T) {
	t.Parallel()
	owned := gateway()
	owned.ServiceID = serviceID
	for _, tt := range []struct {
		name, answer string
		status       int
		target       approval.Target
		want, fails  bool
	}{
		{"enabled", `{"id":"` + serviceID + `","approval_enabled":true}`, 200, service(), true, false},
		{"disabled", `{"id":"` + serviceID + `","approval_enabled":false}`, 200, service(), false, false},
		{"of a gateway's service", `{"id":"` + serviceID + `","approval_enabled":false}`, 200, owned, false, false},
		{"not said", `{"id":"` + serviceID + `"}`, 200, service(), false, true},
		{"null", `{"id":"` + serviceID + `","approval_enabled":null}`, 200, service(), false, true},
		{"a text", `{"id":"` + serviceID + `","approval_enabled":"true"}`, 200, service(), false, true},
		{"twice", `{"id":"` + serviceID + `","approval_enabled":false,"approval_enabled":true}`, 200, service(), false, true},
		{"of another service", `{"id":"` + endpoint + `","approval_enabled":true}`, 200, service(), false, true},
		{"forbidden", errorJSON("EndPoint.0004"), 403, service(), false, true},
		{"a gateway without a service of its own", "", 200, gateway(), false, true},
		{"a place to create", "", 200, creation(approval.HSS).Target, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
					if r.Method != http.MethodGet || r.URL.Path != "/v1/"+project+"/vpc-endpoint-services/"+serviceID {
						t.Errorf("called %s %s", r.Method, r.URL.Path)
					}
					return says(tt.status, tt.answer)
				}))
				got, err := c.ApprovalEnabled(t.Context(), tt.target)
				if got != tt.want || (err != nil) != tt.fails {
					t.Errorf("%t, %v", got, err)
				}
			})
		})
	}
}
