package cloud

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// vpcepPage is the largest page of VPCEP's lists, in rows.
const vpcepPage = 1000

// connection is a row of a connection list, the same in VPCEP and APIG.
type connection struct {
	ID        string   `json:"id"`
	MarkerID  wireInt  `json:"marker_id"`
	CreatedAt wireTime `json:"created_at"`
	UpdatedAt wireTime `json:"updated_at"`
	DomainID  string   `json:"domain_id"`
	Status    string   `json:"status"`
}

func (r connection) facts() approval.Facts {
	return approval.Facts{
		EndpointID: r.ID, MarkerID: int64(r.MarkerID), DomainID: r.DomainID, State: approval.State(r.Status),
		CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time,
	}
}

// page is one page of a list. total is -1 if the answer did not say.
type page[T any] struct {
	rows  []T
	total int
}

// filter narrows a list of connections; the zero value does not.
type filter struct {
	id     string
	status approval.State
	limit  int // 0: the API's default
	offset int
}

func (f filter) query() url.Values {
	q := url.Values{}
	set := func(name, value string, given bool) {
		if given {
			q.Set(name, value)
		}
	}
	set("id", f.id, f.id != "")
	set("status", string(f.status), f.status != "")
	set("limit", strconv.Itoa(f.limit), f.limit > 0)
	set("offset", strconv.Itoa(f.offset), f.offset > 0)
	return q
}

// verb is how VPCEP and APIG spell a verdict.
func verb(v approval.Verdict) string {
	if v == approval.Accept {
		return "receive"
	}
	return "reject"
}

// connectionAction is the body of accept and reject, in VPCEP and in APIG.
type connectionAction struct {
	Action    string   `json:"action"`
	Endpoints []string `json:"endpoints"` // one; VPCEP takes no more
}

// actionAnswer is what they answer; the rows may be of another moment, so only
// the list tells what came of it.
type actionAnswer struct {
	Connections *[]connection `json:"connections"`
}

// actService accepts or rejects a connection of an endpoint service.
func (c *Client) actService(ctx context.Context, project, service, endpoint string, v approval.Verdict, done func(context.Context) (bool, error)) error {
	const op = "AcceptOrRejectEndpoint"
	path, err := pathOf(APIVPCEP, op, "/v1/{}/vpc-endpoint-services/{}/connections/action", project, service)
	if err != nil {
		return err
	}
	var out actionAnswer
	return c.do(ctx, &call{
		api: APIVPCEP, op: op, method: http.MethodPost, path: path, project: project, contentType: utf8JSON,
		body: connectionAction{verb(v), []string{endpoint}}, effect: convergent,
		answer: decoder(&out, func(a actionAnswer) bool { return a.Connections != nil }),
	}, done)
}

type serviceAnswer struct {
	Connections *[]connection `json:"connections"`
	Total       *int          `json:"total_count"`
}

// serviceConnections reads one page of the connections of an endpoint service.
func (c *Client) serviceConnections(ctx context.Context, project, service string, f filter) (page[connection], error) {
	const op = "ListServiceConnections"
	path, err := pathOf(APIVPCEP, op, "/v1/{}/vpc-endpoint-services/{}/connections", project, service)
	if err != nil {
		return page[connection]{}, err
	}
	var out serviceAnswer
	err = c.do(ctx, &call{
		api: APIVPCEP, op: op, method: http.MethodGet, path: path, query: f.query(), project: project, contentType: plainJSON,
		answer: decoder(&out, func(a serviceAnswer) bool { return listed(a.Connections, a.Total) }),
	}, nil)
	return pageOf(out.Connections, out.Total), err
}

// vpcEndpoint is a row of the endpoint list.
type vpcEndpoint struct {
	ID        string   `json:"id"`
	Status    string   `json:"status"`
	VPCID     string   `json:"vpc_id"`
	SubnetID  string   `json:"subnet_id"`
	CreatedAt wireTime `json:"created_at"`
}

type endpointsAnswer struct {
	Endpoints *[]vpcEndpoint `json:"endpoints"`
	Total     *int           `json:"total_count"`
}

// vpcEndpoints reads all endpoints of the project in a VPC. It sees only the
// endpoints of the project itself, never those of consumers.
func (c *Client) vpcEndpoints(ctx context.Context, project, vpc string) ([]vpcEndpoint, error) {
	const op = "ListEndpoints"
	path, err := pathOf(APIVPCEP, op, "/v1/{}/vpc-endpoints", project)
	if err != nil {
		return nil, err
	}
	return collect(vpcepPage, func(r vpcEndpoint) string { return r.ID }, func(offset int) (page[vpcEndpoint], error) {
		var out endpointsAnswer
		q := filter{limit: vpcepPage, offset: offset}.query()
		q.Set("vpc_id", vpc)
		err := c.do(ctx, &call{
			api: APIVPCEP, op: op, method: http.MethodGet, path: path, query: q, project: project, contentType: plainJSON,
			answer: decoder(&out, func(a endpointsAnswer) bool { return listed(a.Endpoints, a.Total) }),
		}, nil)
		return pageOf(out.Endpoints, out.Total), err
	})
}

// pathOf fills ids into the places "{}" of a path. Only ids of the cloud's own
// form get in; an event could hold anything.
func pathOf(api, op, pattern string, ids ...string) (string, error) {
	for _, id := range ids {
		if err := approval.ValidID(id); err != nil {
			return "", refuse(api, op, "invalid_id", err)
		}
		pattern = strings.Replace(pattern, "{}", id, 1)
	}
	return pattern, nil
}
