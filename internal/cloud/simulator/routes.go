package simulator

import (
	"net/http"
	"net/url"
	"strings"
)

// route is one call of one API.
type route struct {
	api, operation string // the operation in the spelling of the reference
	method         string
	segments       []string // of the path; {name} matches a segment of 1 to 64 bytes
	open           bool     // without credentials
	serve          func(*Simulator, *call) answer
}

// routes returns all routes. The first match wins.
func routes() []route {
	on := func(api, operation, method, path string, serve func(*Simulator, *call) answer) route {
		return route{api: api, operation: operation, method: method, segments: strings.Split(path, "/"), serve: serve}
	}
	const (
		get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
		services            = "/v1/{project}/vpc-endpoint-services"
		endpoints           = "/v1/{project}/vpc-endpoints"
		gateways            = "/v2/{project}/apigw/instances/{gateway}/vpc-endpoint/connections"
		insight             = "/v1/{project}/connections"
	)
	token := on(IAM, "KeystoneCreateUserTokenByPassword", post, "/v3/auth/tokens", (*Simulator).createToken)
	token.open = true
	return []route{
		on(VPCEP, "AcceptOrRejectEndpoint", post, services+"/{service}/connections/action", (*Simulator).vpcepAction),
		on(VPCEP, "ListServiceConnections", get, services+"/{service}/connections", (*Simulator).vpcepConnections),
		on(VPCEP, "UpdateEndpointConnectionsDesc", put, services+"/{service}/connections/description", (*Simulator).vpcepDescribeConnections),
		on(VPCEP, "ListEndpointService", get, services, (*Simulator).vpcepServices),
		on(VPCEP, "ListServiceDescribeDetails", get, services+"/describe", (*Simulator).vpcepDescribeService),
		on(VPCEP, "ListServiceDetails", get, services+"/{service}", (*Simulator).vpcepService),
		on(VPCEP, "ListEndpoints", get, endpoints, (*Simulator).vpcepEndpoints),
		on(VPCEP, "CreateEndpoint", post, endpoints, (*Simulator).vpcepCreateEndpoint),
		on(VPCEP, "ListEndpointInfoDetails", get, endpoints+"/{endpoint}", (*Simulator).vpcepEndpoint),
		on(VPCEP, "ListQuotaDetails", get, "/v1/{project}/quotas", (*Simulator).vpcepQuotas),

		on(APIG, "AcceptOrRejectEndpointConnections", post, gateways+"/action", (*Simulator).apigAction),
		on(APIG, "ListEndpointConnections", get, gateways, (*Simulator).apigConnections),

		on(FunctionGraph, "CreateVpcEndpoint", post, "/v2/{project}/fgs/vpc-endpoint", (*Simulator).functionGraphCreate),
		on(FunctionGraph, "DeleteVpcEndpoint", del, "/v2/{project}/fgs/vpc-endpoint/{vpc}/{subnet}", (*Simulator).functionGraphDelete),

		on(HSS, "CreateVpcEndpoint", post, "/v5/{project}/host-management/vpc-endpointes", (*Simulator).hssCreate),
		on(HSS, "ShowEndpointStatus", post, "/v5/{project}/host-management/vpc-endpointes/batch-query", (*Simulator).hssQuery),

		on(DataArtsInsight, "VerifyAndCreateVpcEp", post, insight+"/vpc-endpoint", (*Simulator).insightCreate),
		on(DataArtsInsight, "ListDataConnection", get, insight, (*Simulator).insightList),
		on(DataArtsInsight, "ShowDataConnectionByConnectionId", get, insight+"/{connection}", (*Simulator).insightShow),

		token,
		on(IAM, "KeystoneListProjects", get, "/v3/projects", (*Simulator).listProjects),
		on(IAM, "KeystoneListAuthProjects", get, "/v3/auth/projects", (*Simulator).listProjects),
	}
}

// match returns the route of r and the variable segments of its path. It splits the path
// before it unescapes it: an escaped slash belongs to a segment.
func (s *Simulator) match(r *http.Request) (route, map[string]string, bool) {
	got := strings.Split(r.URL.EscapedPath(), "/")
next:
	for _, candidate := range s.routes {
		if r.Method != candidate.method || len(got) != len(candidate.segments) {
			continue
		}
		path := map[string]string{}
		for i, want := range candidate.segments {
			text, err := url.PathUnescape(got[i])
			if err != nil {
				continue next
			}
			name, variable := strings.CutPrefix(want, "{")
			switch {
			case variable && len(text) >= 1 && len(text) <= 64:
				path[strings.TrimSuffix(name, "}")] = text
			case variable || text != want:
				continue next
			}
		}
		return candidate, path, true
	}
	return route{api: "unknown", operation: "unknown"}, nil, false
}
