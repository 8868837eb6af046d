package cloud

import "github.com/vpcep-approver/vpcep-approver/internal/approval"

// TargetAPIs returns the APIs that are called for t, beside IAM.
func TargetAPIs(t approval.Target) []string {
	switch {
	case t.Kind == approval.FunctionGraph, t.Kind == approval.Gateway && t.ServiceID != "":
		return []string{apiOf(t), APIVPCEP}
	default:
		return []string{apiOf(t)}
	}
}

// Operations returns the operations that are called, by API, under the names of
// the API reference: all values that Observer is told.
func Operations() map[string][]string {
	return map[string][]string{
		APIVPCEP:           {"AcceptOrRejectEndpoint", "ListServiceConnections", "ListServiceDetails", "ListEndpoints"},
		APIAPIG:            {"AcceptOrRejectEndpointConnections", "ListEndpointConnections"},
		APIFunctionGraph:   {"CreateVpcEndpoint"},
		APIHSS:             {"CreateVpcEndpoint", "ShowEndpointStatus"},
		APIDataArtsInsight: {"VerifyAndCreateVpcEp"},
		APIIAM:             {"KeystoneCreateUserTokenByPassword"},
	}
}
