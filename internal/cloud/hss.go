package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// hssQueryIDs is how many ids a batch-query takes in one list.
const hssQueryIDs = 64

type hssVPC struct {
	VPCID     string   `json:"vpc_id"`
	SubnetIDs []string `json:"subnet_id_list"`
}

// hssEndpoints is the body of "create VPC endpoints for servers".
type hssEndpoints struct {
	HostIDs []string `json:"host_id_list,omitempty"`
	VPCs    []hssVPC `json:"vpc_list,omitempty"`
}

// createHostEndpoints creates endpoints for servers. The answer is empty, which
// is a success here and nowhere else.
func (c *Client) createHostEndpoints(ctx context.Context, t approval.Target, want *approval.HSSEndpoints) (approval.Created, error) {
	const op = "CreateVpcEndpoint"
	path, err := pathOf(APIHSS, op, "/v5/{}/host-management/vpc-endpointes", t.ProjectID)
	if err != nil {
		return approval.Created{}, err
	}
	body := hssEndpoints{HostIDs: want.HostIDs}
	for _, v := range want.VPCs {
		body.VPCs = append(body.VPCs, hssVPC{v.VPCID, v.SubnetIDs})
	}
	return approval.Created{}, c.do(ctx, &call{
		api: APIHSS, op: op, method: http.MethodPost, path: path, project: t.ProjectID, contentType: plainJSON,
		body: body, effect: once,
		answer: func(_ http.Header, body []byte) error {
			if body = bytes.TrimSpace(body); len(body) > 0 && !json.Valid(body) {
				return errors.New("it is neither empty nor JSON")
			}
			return nil
		},
	}, nil)
}

// hssStatus is a row of the batch-query: the endpoint of one server.
type hssStatus struct {
	HostID string `json:"host_id"`
	VPCID  string `json:"vpc_id"`
	Status string `json:"status"` // its values are not documented
}

type hssQuery struct {
	HostIDs []string `json:"host_id_list,omitempty"`
	VPCIDs  []string `json:"vpc_id_list,omitempty"`
}

// lookHostEndpoints asks for the endpoints of the servers that were named, or of
// the VPCs if no server was. They count as created once everything that was
// named shows a row and one of the rows is new.
func (c *Client) lookHostEndpoints(ctx context.Context, t approval.Target, want *approval.HSSEndpoints, before []string) (approval.Look, error) {
	var vpcs []string
	for _, v := range want.VPCs {
		vpcs = append(vpcs, v.VPCID)
	}
	var rows []hssStatus
	ids := want.HostIDs
	query := func(ids []string) hssQuery { return hssQuery{HostIDs: ids} }
	if len(ids) == 0 {
		ids = vpcs
		query = func(ids []string) hssQuery { return hssQuery{VPCIDs: ids} }
	}
	for chunk := range slices.Chunk(ids, hssQueryIDs) {
		got, err := c.hostEndpoints(ctx, t, query(chunk))
		if err != nil {
			return approval.Look{}, err
		}
		rows = append(rows, got...)
	}

	var look approval.Look
	shown := map[string]bool{}
	fresh := false
	for _, r := range rows {
		if len(want.HostIDs) > 0 && !contains(want.HostIDs, r.HostID) || len(vpcs) > 0 && r.VPCID != "" && !contains(vpcs, r.VPCID) {
			continue
		}
		shown[strings.ToLower(r.HostID)], shown[strings.ToLower(r.VPCID)] = true, true
		key := r.HostID + "/" + r.VPCID
		look.Keys = append(look.Keys, key)
		fresh = fresh || !slices.Contains(before, key)
	}
	slices.Sort(look.Keys)
	look.Keys = slices.Compact(look.Keys)
	all := !slices.ContainsFunc(ids, func(id string) bool { return !shown[strings.ToLower(id)] })
	if fresh && all {
		look.Created = &approval.Created{}
	}
	return look, nil
}

func (c *Client) hostEndpoints(ctx context.Context, t approval.Target, q hssQuery) ([]hssStatus, error) {
	const op = "ShowEndpointStatus"
	path, err := pathOf(APIHSS, op, "/v5/{}/host-management/vpc-endpointes/batch-query", t.ProjectID)
	if err != nil {
		return nil, err
	}
	type answer struct {
		Data *[]hssStatus `json:"data_list"`
	}
	var out answer
	if err := c.do(ctx, &call{
		api: APIHSS, op: op, method: http.MethodPost, path: path, project: t.ProjectID, contentType: plainJSON,
		body:   q,
		answer: decoder(&out, func(a answer) bool { return a.Data != nil }),
	}, nil); err != nil {
		return nil, err
	}
	return *out.Data, nil
}

func contains(ids []string, id string) bool {
	return slices.ContainsFunc(ids, func(x string) bool { return strings.EqualFold(x, id) })
}
