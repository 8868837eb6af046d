package cloud

import "github.com/vpcep-approver/vpcep-approver/internal/approval"

// TargetAPIs returns the APIs that are called for t, except IAM.
func TargetAPIs(t approval.Target) []string {
	switch {
	case t.Kind == approval.FunctionGraph, t.Kind == approval.Gateway && t.ServiceID != "":
		return []string{apiOf(t), APIVPCEP}
	default:
		return []string{apiOf(t)}
	}
}

// Operations returns the called operations by API, with the names of the API reference.
// They are the values that Observer receives.
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
