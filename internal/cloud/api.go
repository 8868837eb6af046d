package cloud

import "github.com/vpcep-approver/vpcep-approver/internal/approval"

// The names of the APIs, which are also the names of their hosts.
const (
	APIVPCEP           = "vpcep"
	APIAPIG            = "apig"
	APIFunctionGraph   = "functiongraph"
	APIHSS             = "hss"
	APIDataArtsInsight = "dataartsinsight"
	APIIAM             = "iam"
)

// APIs returns the names of all APIs.
func APIs() []string {
	return []string{APIVPCEP, APIAPIG, APIFunctionGraph, APIHSS, APIDataArtsInsight, APIIAM}
}

// apiOf returns the API of t.
func apiOf(t approval.Target) string {
	switch t.Kind {
	case approval.Gateway:
		return APIAPIG
	case approval.FunctionGraph:
		return APIFunctionGraph
	case approval.HSS:
		return APIHSS
	case approval.DataArtsInsight:
		return APIDataArtsInsight
	case approval.Service:
	}
	return APIVPCEP
}

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
