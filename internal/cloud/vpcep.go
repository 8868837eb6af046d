package cloud

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// vpcepPage is the maximum page size of VPCEP's lists.
const vpcepPage = 1000

// connection is a row of a connection list, the same in VPCEP and APIG.
type connection struct {
	ID        string
	MarkerID  wireInt
	CreatedAt wireTime
	UpdatedAt wireTime
	DomainID  string
	Status    string
	ErrorCode string
	ErrorText string
	// contradicted says that there are different rows of this id, so that its account
	// is not known.
	contradicted bool
}

func readConnection(dec *jsontext.Decoder) (connection, error) {
	var r connection
	err := object(dec, []string{"id", "marker_id", "created_at", "updated_at", "domain_id", "status", "error"}, func(name string) error {
		switch name {
		case "id":
			return text(dec, &r.ID)
		case "domain_id":
			return text(dec, &r.DomainID)
		case "status":
			return text(dec, &r.Status)
		}
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		switch name {
		case "marker_id":
			return r.MarkerID.UnmarshalJSON(value)
		case "created_at":
			return r.CreatedAt.UnmarshalJSON(value)
		case "updated_at":
			return r.UpdatedAt.UnmarshalJSON(value)
		}
		r.ErrorCode, r.ErrorText = reason(value)
		return nil
	})
	r.ID, r.DomainID = canonicalID(r.ID), approval.CanonicalID(r.DomainID)
	return r, firstError(err, required("id", r.ID), required("status", r.Status))
}

// canonicalID returns id in canonical form. What is not an id stays as it is.
func canonicalID(id string) string {
	if !approval.IsID(id) {
		return id
	}
	return approval.UUID(id)
}

// required returns an error if value is empty.
func required(name, value string) error {
	if value == "" {
		return incomplete("a row has no %s", name)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r connection) key() string { return r.ID }

// contradictory is the state of a connection whose rows have different states.
const contradictory approval.State = "unclear"

// merge combines two rows of one id. Different values become unknown. A connection that
// may be pending stays pending, so that it is held.
func (r connection) merge(other connection) connection {
	if r.DomainID == other.DomainID && r.MarkerID == other.MarkerID && r.Status == other.Status && r.CreatedAt.Equal(other.CreatedAt.Time) {
		return r
	}
	if r.Status != other.Status {
		if r.Status == string(approval.Pending) || other.Status == string(approval.Pending) {
			r.Status = string(approval.Pending)
		} else {
			r.Status = string(contradictory)
		}
	}
	if r.MarkerID != other.MarkerID {
		r.MarkerID = 0
	}
	if !r.CreatedAt.Equal(other.CreatedAt.Time) {
		r.CreatedAt = wireTime{}
	}
	r.contradicted = true
	return r
}

func (r connection) facts() approval.Facts {
	f := approval.Facts{
		EndpointID: r.ID, MarkerID: int64(r.MarkerID), DomainID: r.DomainID, State: approval.State(r.Status),
		CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time, ErrorCode: r.ErrorCode, ErrorText: r.ErrorText,
	}
	if r.contradicted {
		f.DomainID = "" // a missing fact holds the request, even if the rows agree on the account
	}
	return f
}

// page is one page of a list. total is -1 if the response has none.
type page[T any] struct {
	rows  []T
	total int
}

// filter filters a list of connections. The zero value selects all.
type filter struct {
	id     string
	status approval.State
	limit  int // 0: the API's default
	offset int
	again  bool // most of its rows were probably read a moment ago; not sent
}

// rows returns the maximum number of rows of a page; most is the limit of the API.
func (f filter) rows(most int) int {
	if f.limit > 0 {
		return f.limit
	}
	return most
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

// names returns where the ids of a filtered list come from.
func (f filter) names() nameSource {
	if f.id != "" {
		return byFilter
	}
	return byConfig
}

// verb returns the word of VPCEP and APIG for a verdict.
func verb(v approval.Verdict) string {
	if v == approval.Accept {
		return "receive"
	}
	return "reject"
}

// connectionAction is the request body of accept and reject in VPCEP and APIG.
type connectionAction struct {
	Action    string   `json:"action"`
	Endpoints []string `json:"endpoints"` // exactly one; VPCEP refuses more
}

// actionAnswer is the response. Its rows may be outdated, so that only the list shows
// the result.
type actionAnswer struct {
	Connections *[]jsontext.Value `json:"connections"`
}

// actService accepts or rejects a connection of an endpoint service.
func (c *Client) actService(ctx context.Context, project, service, endpoint string, v approval.Verdict, done func(context.Context) (bool, error)) error {
	const op = "AcceptOrRejectEndpoint"
	var out actionAnswer
	return c.do(ctx, &call{
		api: APIVPCEP, op: op, method: http.MethodPost,
		path: "/v1/{}/vpc-endpoint-services/{}/connections/action", ids: []string{project, service},
		project: project, contentType: utf8JSON,
		body: connectionAction{verb(v), []string{endpoint}}, effect: idempotent,
		decode: decodeJSON(&out, func(a actionAnswer) bool { return a.Connections != nil }),
	}, done)
}

// rowReader returns the function that reads a row of a page.
func (c *Client) rowReader(f filter) func(*jsontext.Decoder) (connection, error) {
	if f.again {
		return c.rows.read
	}
	return readConnection
}

// serviceConnections reads one page of the connections of an endpoint service, and returns when
// the call was sent.
func (c *Client) serviceConnections(ctx context.Context, project, service string, f filter) (page[connection], time.Time, error) {
	const op = "ListServiceConnections"
	var out page[connection]
	read := &call{
		api: APIVPCEP, op: op, method: http.MethodGet,
		path: "/v1/{}/vpc-endpoint-services/{}/connections", ids: []string{project, service},
		query: f.query(), project: project, contentType: plainJSON, names: f.names(),
		decode: decodeList(&out, "connections", "total_count", f.rows(vpcepPage), c.rowReader(f)),
	}
	err := c.do(ctx, read, nil)
	return out, read.sent, err
}

// vpcEndpoint is a row of the endpoint list.
type vpcEndpoint struct {
	ID          string
	ServiceType string
	ServiceName string
	Status      string
	VPCID       string
	SubnetID    string
	CreatedAt   wireTime
	ErrorCode   string
	ErrorText   string
	differs     bool // there is a different row of this id
}

func readEndpoint(dec *jsontext.Decoder) (vpcEndpoint, error) {
	var r vpcEndpoint
	err := object(dec, []string{"id", "service_type", "endpoint_service_name", "status", "vpc_id", "subnet_id", "created_at", "error"}, func(name string) error {
		switch name {
		case "id":
			return text(dec, &r.ID)
		case "service_type":
			return text(dec, &r.ServiceType)
		case "endpoint_service_name":
			return text(dec, &r.ServiceName)
		case "status":
			return text(dec, &r.Status)
		case "vpc_id":
			return text(dec, &r.VPCID)
		case "subnet_id":
			return text(dec, &r.SubnetID)
		}
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if name == "created_at" {
			return r.CreatedAt.UnmarshalJSON(value)
		}
		r.ErrorCode, r.ErrorText = reason(value)
		return nil
	})
	r.ID, r.VPCID, r.SubnetID = canonicalID(r.ID), canonicalID(r.VPCID), canonicalID(r.SubnetID)
	return r, firstError(err, required("id", r.ID), required("status", r.Status))
}

func (r vpcEndpoint) key() string { return r.ID }

func (r vpcEndpoint) merge(other vpcEndpoint) vpcEndpoint {
	r.differs = r.differs || r != other
	return r
}

// vpcEndpoints reads all endpoints of the project in a VPC. It does not see the endpoints
// of consumers.
func (c *Client) vpcEndpoints(ctx context.Context, project, vpc string) ([]vpcEndpoint, error) {
	const op = "ListEndpoints"
	list, err := collect(ctx, vpcepPage, func(ctx context.Context, offset int) (page[vpcEndpoint], error) {
		var out page[vpcEndpoint]
		q := filter{limit: vpcepPage, offset: offset}.query()
		q.Set("vpc_id", vpc)
		err := c.do(ctx, &call{
			api: APIVPCEP, op: op, method: http.MethodGet,
			path: "/v1/{}/vpc-endpoints", ids: []string{project},
			query: q, project: project, contentType: plainJSON,
			decode: decodeList(&out, "endpoints", "total_count", vpcepPage, readEndpoint),
		}, nil)
		return out, err
	})
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(list.rows, func(r vpcEndpoint) bool { return r.differs }) {
		return nil, incomplete("two rows of one endpoint contradict each other")
	}
	return list.rows, nil
}

// ApprovalReadable reports whether ApprovalEnabled works for t. The endpoint service of a
// gateway is not readable if it belongs to APIG.
func ApprovalReadable(t approval.Target) bool {
	return t.Kind == approval.Service || t.Kind == approval.Gateway && t.ServiceID != ""
}

// ApprovalEnabled reports whether connections to the endpoint service of t need a
// decision. If not, the cloud accepts them automatically.
func (c *Client) ApprovalEnabled(ctx context.Context, t approval.Target) (bool, error) {
	const op = "ListServiceDetails"
	ctx = forTarget(ctx, t.Name)
	id := t.ID
	if t.Kind == approval.Gateway {
		id = t.ServiceID
	}
	if !ApprovalReadable(t) {
		return false, refuse(apiOf(t), op, "invalid_request", fmt.Errorf("target %s has no readable endpoint service", t.Name))
	}
	type answer struct {
		ID      string `json:"id"`
		Enabled *bool  `json:"approval_enabled"`
	}
	var out answer
	err := c.do(ctx, &call{
		api: APIVPCEP, op: op, method: http.MethodGet,
		path: "/v1/{}/vpc-endpoint-services/{}", ids: []string{t.ProjectID, id},
		project: t.ProjectID, contentType: plainJSON, names: byConfig, optional: true,
		decode: decodeJSON(&out, func(a answer) bool { return a.Enabled != nil && approval.SameID(a.ID, id) }),
	}, nil)
	return err == nil && *out.Enabled, err
}
