package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// hssQueryIDs is the maximum number of ids in a batch query.
const hssQueryIDs = 64

type hssVPC struct {
	VPCID     string   `json:"vpc_id"`
	SubnetIDs []string `json:"subnet_id_list"`
}

// hssEndpoints is the request body of "create VPC endpoints for servers".
type hssEndpoints struct {
	HostIDs []string `json:"host_id_list,omitempty"`
	VPCs    []hssVPC `json:"vpc_list,omitempty"`
}

// createHostEndpoints creates endpoints for servers. Only this call succeeds with an
// empty response.
func (c *Client) createHostEndpoints(ctx context.Context, t approval.Target, want *approval.HSSEndpoints) (approval.Created, error) {
	const op = "CreateVpcEndpoint"
	body := hssEndpoints{HostIDs: want.HostIDs}
	for _, v := range want.VPCs {
		body.VPCs = append(body.VPCs, hssVPC{v.VPCID, v.SubnetIDs})
	}
	return approval.Created{}, c.do(ctx, &call{
		api: APIHSS, op: op, method: http.MethodPost,
		path: "/v5/{}/host-management/vpc-endpointes", ids: []string{t.ProjectID},
		query: enterpriseProject(t), project: t.ProjectID, contentType: plainJSON,
		body: body, effect: nonIdempotent,
		decode: func(_ http.Header, body []byte) error {
			if body = bytes.TrimSpace(body); len(body) > 0 && !json.Valid(body) {
				return errors.New("the response is neither empty nor JSON")
			}
			return nil
		},
	}, nil)
}

// enterpriseProject is the query of HSS calls on t.
func enterpriseProject(t approval.Target) url.Values {
	if t.EnterpriseProjectID == "" {
		return nil
	}
	return url.Values{"enterprise_project_id": {t.EnterpriseProjectID}}
}

// hssStatus is a row of the batch query: the endpoint of one server. Its status is not
// read, because the values are not documented.
type hssStatus struct {
	HostID string
	VPCID  string
}

func readHost(dec *jsontext.Decoder) (hssStatus, error) {
	var r hssStatus
	err := object(dec, []string{"host_id", "vpc_id"}, func(name string) error {
		if name == "host_id" {
			return text(dec, &r.HostID)
		}
		return text(dec, &r.VPCID)
	})
	r.HostID, r.VPCID = canonicalID(r.HostID), canonicalID(r.VPCID)
	return r, firstError(err, required("host_id", r.HostID))
}

type hssQuery struct {
	HostIDs []string `json:"host_id_list,omitempty"`
	VPCIDs  []string `json:"vpc_id_list,omitempty"`
}

// lookHostEndpoints reads the endpoints of the requested servers, or of the VPCs if no
// servers are named. They count as created when each server or VPC has a row and at
// least one row is new. The list has no total; a server or VPC without a row has no
// endpoint, as far as is documented, and with a new row the result is partial.
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
		switch byHost := len(want.HostIDs) > 0; {
		case byHost && !contains(want.HostIDs, r.HostID):
			continue
		case len(vpcs) > 0 && !contains(vpcs, r.VPCID) && (r.VPCID != "" || !byHost):
			continue // another or an unknown VPC
		}
		shown[approval.UUID(r.HostID)], shown[approval.UUID(r.VPCID)] = true, true
		key := r.HostID + "/" + r.VPCID
		look.Keys = append(look.Keys, key)
		fresh = fresh || !slices.Contains(before, key)
	}
	slices.Sort(look.Keys)
	look.Keys = slices.Compact(look.Keys)
	missing := slices.ContainsFunc(ids, func(id string) bool { return !shown[approval.UUID(id)] })
	if !missing && len(look.Keys) > 0 {
		look.Existing = &approval.Created{}
	}
	switch {
	case fresh && missing:
		look.Partial = true
	case fresh:
		look.Created = &approval.Created{}
	}
	return look, nil
}

func (c *Client) hostEndpoints(ctx context.Context, t approval.Target, q hssQuery) ([]hssStatus, error) {
	const op = "ShowEndpointStatus"
	var out page[hssStatus]
	err := retryIncomplete(func() error {
		return c.do(ctx, &call{
			api: APIHSS, op: op, method: http.MethodPost,
			path: "/v5/{}/host-management/vpc-endpointes/batch-query", ids: []string{t.ProjectID},
			query: enterpriseProject(t), project: t.ProjectID, contentType: plainJSON,
			body:   q,
			decode: decodeList(&out, "data_list", "", maxRows, readHost),
		}, nil)
	})
	return out.rows, c.reportList(t, APIHSS, op, err)
}

func contains(ids []string, id string) bool {
	return slices.ContainsFunc(ids, func(x string) bool { return approval.SameID(x, id) })
}
