package cloud

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
