package simulator

import (
	"encoding/json"
	"net/http"
	"strings"
)

// endpointQuota is the maximum number of endpoints of a project.
const endpointQuota = 50_000

// vpcepEndpoint is an endpoint in the view of its owner.
type vpcepEndpoint struct {
	ID            string        `json:"id"`
	ServiceType   string        `json:"service_type"`
	Status        string        `json:"status"`
	ActiveStatus  []string      `json:"active_status"`
	EnableStatus  string        `json:"enable_status"`
	ServiceName   string        `json:"endpoint_service_name"`
	ServiceID     string        `json:"endpoint_service_id"`
	MarkerID      int64         `json:"marker_id"`
	EnableDNS     bool          `json:"enable_dns"`
	DNSNames      []string      `json:"dns_names"`
	IP            string        `json:"ip"`
	VpcID         string        `json:"vpc_id"`
	SubnetID      string        `json:"subnet_id"`
	ProjectID     string        `json:"project_id"`
	Description   string        `json:"description"`
	CreatedAt     string        `json:"created_at"`
	UpdatedAt     string        `json:"updated_at"`
	Error         []vpcepFailed `json:"error,omitempty"`
	EnableWhiteID bool          `json:"enable_whitelist"`
}

type vpcepEndpoints struct {
	Endpoints  []any `json:"endpoints"`
	TotalCount int   `json:"total_count"`
}

func (c *call) endpointRow(e *endpoint, now step) vpcepEndpoint {
	as := c.row(e, now, timeWithZone)
	return vpcepEndpoint{
		ID: e.ID, ServiceType: "interface", Status: as.Status, ActiveStatus: []string{"active"}, EnableStatus: "enable",
		ServiceName: e.serviceName, ServiceID: e.ServiceID, MarkerID: as.MarkerID, DNSNames: []string{}, IP: e.ip,
		VpcID: e.VpcID, SubnetID: e.SubnetID, ProjectID: e.ProjectID, Description: e.Description,
		CreatedAt: as.CreatedAt, UpdatedAt: as.UpdatedAt, Error: as.Error,
	}
}

// inProject returns the endpoints in the project of c.
func (s *Simulator) inProject(c *call) []*endpoint {
	var out []*endpoint
	for _, e := range s.cloud.local {
		if e.ProjectID == c.path["project"] {
			out = append(out, e)
		}
	}
	return out
}

// endpointCount counts the endpoints in the project of c.
func (s *Simulator) endpointCount(c *call) int {
	n := 0
	for _, e := range s.inProject(c) {
		if e.stateAt(c.now).state != gone {
			n++
		}
	}
	return n
}

func (s *Simulator) vpcepEndpoints(c *call) answer {
	limit, offset, refused := s.vpcepPage(c)
	if refused != nil {
		return *refused
	}
	byUpdate, ascending, refused := s.vpcepSort(c)
	if refused != nil {
		return *refused
	}
	q := c.query()
	if vpc := q.Get("vpc_id"); vpc != "" && !networkID(vpc) {
		return s.vpcepInvalidVPC()
	}
	rows := []vpcepEndpoint{}
	for _, x := range c.sorted(s.inProject(c), byUpdate, ascending) {
		if q.Get("id") != "" && q.Get("id") != x.ID ||
			q.Get("vpc_id") != "" && q.Get("vpc_id") != x.VpcID ||
			!strings.Contains(x.serviceName, q.Get("endpoint_service_name")) {
			continue
		}
		rows = append(rows, c.endpointRow(x.endpoint, x.now))
	}
	offset, limit = c.window(offset, limit)
	shown, total := applyListFaults(c, page(rows, offset, limit), len(rows))
	return ok(vpcepEndpoints{Endpoints: shown, TotalCount: total})
}

// networkID reports whether id can be the id of a VPC.
func networkID(id string) bool {
	return len(id) <= 64 && strings.Trim(strings.ToLower(id), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (s *Simulator) vpcepInvalidVPC() answer {
	return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0020", "The VPC ID is invalid.")
}

func (s *Simulator) vpcepEndpoint(c *call) answer {
	e := s.cloud.endpoints[c.path["endpoint"]]
	if e == nil || e.ProjectID != c.path["project"] || e.shown(c.listAt).state == gone {
		return s.vpcepRefuse(http.StatusNotFound, "EndPoint.0005", "The endpoint does not exist.")
	}
	return ok(c.endpointRow(e, e.shown(c.listAt)))
}

func (s *Simulator) vpcepCreateEndpoint(c *call) answer {
	if len(c.body) == 0 {
		return s.vpcepRefuse(http.StatusGatewayTimeout, "EndPoint.0011", "The request body is null.")
	}
	var body struct {
		ServiceID   string `json:"endpoint_service_id"`
		VpcID       string `json:"vpc_id"`
		SubnetID    string `json:"subnet_id"`
		Description string `json:"description"`
	}
	if json.Unmarshal(c.body, &body) != nil {
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0002", "The request body is invalid.")
	}
	to := s.cloud.services[body.ServiceID]
	switch {
	case body.VpcID == "" || body.ServiceID == "":
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0002", "The parameters vpc_id and endpoint_service_id are required.")
	case !networkID(body.VpcID):
		return s.vpcepInvalidVPC()
	case to == nil:
		return s.vpcepUnknownService()
	case s.endpointCount(c) >= endpointQuota:
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.1018", "The quota of endpoints is exhausted.")
	}
	e := s.connect(to, Connection{
		CreatedAt: c.now, DomainID: s.cfg.DomainID, ProjectID: c.path["project"],
		VpcID: body.VpcID, SubnetID: body.SubnetID, Description: body.Description,
	})
	s.effect(c, EffectCreate, c.path["project"]+"/"+body.VpcID+"/"+body.SubnetID+"/"+to.ID, e.ID)
	return ok(c.endpointRow(e, e.stateAt(c.now)))
}
