package cloud

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// functionEndpoint is the request body of "create a VPC endpoint", in the field order of
// the cloud's SDK.
type functionEndpoint struct {
	Flavor   string `json:"flavor,omitempty"`
	XRole    string `json:"xrole,omitempty"`
	VPCID    string `json:"vpc_id"`
	SubnetID string `json:"subnet_id"`
}

// createFunctionEndpoint creates an endpoint for functions. Created.Existing says that
// it already existed.
func (c *Client) createFunctionEndpoint(ctx context.Context, t approval.Target, want *approval.FunctionGraphEndpoint) (approval.Created, error) {
	const op = "CreateVpcEndpoint"
	type answer struct {
		Endpoints *[]string `json:"endpoints"` // IP addresses
		Address   *string   `json:"address"`   // domain name
	}
	var out answer
	err := c.do(ctx, &call{
		api: APIFunctionGraph, op: op, method: http.MethodPost,
		path: "/v2/{}/fgs/vpc-endpoint", ids: []string{t.ProjectID},
		project: t.ProjectID, contentType: plainJSON,
		body:   functionEndpoint{want.Flavor, want.XRole, want.VPCID, want.SubnetID},
		effect: nonIdempotent,
		decode: decodeJSON(&out, func(a answer) bool { return a.Endpoints != nil || a.Address != nil }),
	}, nil)
	if is(err, ClassAlreadyDone) {
		made := approval.Created{Existing: true}
		if look, err := c.lookFunctionEndpoint(ctx, t, want, nil); err == nil && len(look.Keys) == 1 {
			made.EndpointID, made.State = look.Created.EndpointID, look.Created.State
		}
		return made, nil // the endpoint exists; its id is known only if there is just one
	}
	if err != nil {
		return approval.Created{}, err
	}
	var made approval.Created
	if out.Endpoints != nil {
		made.Addresses = *out.Endpoints
	}
	if out.Address != nil {
		made.Domain = *out.Address
	}
	return made, nil
}

// lookFunctionEndpoint finds endpoints in the subnet through VPCEP, because FunctionGraph
// has no call for it. It takes the newest if several are new. Endpoints of the type
// gateway belong to route tables and not to a subnet, so they are ignored.
func (c *Client) lookFunctionEndpoint(ctx context.Context, t approval.Target, want *approval.FunctionGraphEndpoint, before []string) (approval.Look, error) {
	rows, err := c.vpcEndpoints(ctx, t.ProjectID, want.VPCID)
	if err = c.reportList(t, APIVPCEP, "ListEndpoints", err); err != nil {
		return approval.Look{}, err
	}
	rows = slices.DeleteFunc(rows, func(r vpcEndpoint) bool {
		return r.ServiceType == "gateway" || differs(r.VPCID, want.VPCID) || differs(r.SubnetID, want.SubnetID)
	})
	slices.SortStableFunc(rows, func(a, b vpcEndpoint) int { return b.CreatedAt.Compare(a.CreatedAt.Time) })
	var look approval.Look
	for _, r := range rows {
		look.Keys = append(look.Keys, r.ID)
		if look.Existing == nil && r.ofFunctionGraph() {
			look.Existing = &approval.Created{EndpointID: r.ID, State: approval.State(r.Status)}
		}
		if look.Created == nil && !slices.Contains(before, r.ID) {
			look.Created = &approval.Created{EndpointID: r.ID, State: approval.State(r.Status)}
			if r.ErrorCode != "" || r.ErrorText != "" {
				look.Failure = &approval.Failure{Code: r.ErrorCode, Text: r.ErrorText}
			}
		}
	}
	slices.Sort(look.Keys)
	return look, nil
}

// ofFunctionGraph reports whether e connects to FunctionGraph, as far as the list shows
// the service.
func (e vpcEndpoint) ofFunctionGraph() bool {
	return e.ServiceName == "" || strings.Contains(strings.ToLower(e.ServiceName), "functiongraph")
}

// differs reports whether got is an id other than want. Some versions of the list omit
// fields.
func differs(got, want string) bool { return got != "" && !approval.SameID(got, want) }
