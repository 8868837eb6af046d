package simulator

import (
	"net/http"
	"slices"
	"strings"
)

// vpcepService is an endpoint service in the responses of the list and show calls.
type vpcepService struct {
	ID              string `json:"id"`
	ServiceName     string `json:"service_name"`
	ServiceType     string `json:"service_type"`
	ServerType      string `json:"server_type"`
	ApprovalEnabled bool   `json:"approval_enabled"`
	Status          string `json:"status"`
	DomainID        string `json:"domain_id"`
	ProjectID       string `json:"project_id"`
	CreatedAt       string `json:"created_at"`
	UpdatedAt       string `json:"updated_at"`
	ConnectionCount *int   `json:"connection_count,omitempty"`
}

type vpcepServices struct {
	Services   []vpcepService `json:"endpoint_services"`
	TotalCount int            `json:"total_count"`
}

func (s *Simulator) serviceRow(v *service) vpcepService {
	created := v.createdAt.UTC().Format(timeWithZone)
	return vpcepService{
		ID: v.ID, ServiceName: v.fullName(s.cfg.Region), ServiceType: "interface", ServerType: "LB",
		ApprovalEnabled: v.ApprovalEnabled, Status: "available",
		DomainID: v.DomainID, ProjectID: v.ProjectID, CreatedAt: created, UpdatedAt: created,
	}
}

func (s *Simulator) vpcepServices(c *call) answer {
	limit, offset, refused := s.vpcepPage(c)
	if refused != nil {
		return *refused
	}
	_, ascending, refused := s.vpcepSort(c)
	if refused != nil {
		return *refused
	}
	q := c.query()
	if status := q.Get("status"); status != "" && !slices.Contains([]string{"creating", "available", "failed", "deleting"}, status) {
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0019", "The parameter status is invalid.")
	}
	rows := []vpcepService{}
	for _, v := range s.cloud.order {
		row := s.serviceRow(v)
		if v.ProjectID != c.path["project"] ||
			q.Get("id") != "" && q.Get("id") != v.ID ||
			q.Get("status") != "" && q.Get("status") != row.Status ||
			!strings.Contains(row.ServiceName, q.Get("endpoint_service_name")) {
			continue
		}
		count := 0
		for _, e := range v.endpoints {
			if state := e.shown(c.listAt).state; state == Creating || state == Accepted {
				count++
			}
		}
		row.ConnectionCount = &count
		rows = append(rows, row)
	}
	if !ascending {
		slices.Reverse(rows)
	}
	return ok(vpcepServices{Services: page(rows, offset, limit), TotalCount: len(rows)})
}

func (s *Simulator) vpcepService(c *call) answer {
	v := s.ownedService(c.path["project"], c.path["service"])
	if v == nil {
		return s.vpcepUnknownService()
	}
	return ok(s.serviceRow(v))
}

// vpcepDescribed is a service in the view of a consumer.
type vpcepDescribed struct {
	ID          string `json:"id"`
	ServiceName string `json:"service_name"`
	ServiceType string `json:"service_type"`
	CreatedAt   string `json:"created_at"`
	IsCharge    bool   `json:"is_charge"`
}

func (s *Simulator) vpcepDescribeService(c *call) answer {
	id, name := c.query().Get("id"), c.query().Get("endpoint_service_name")
	if (id == "") == (name == "") {
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0002", "Exactly one of id and endpoint_service_name is required.")
	}
	v := s.serviceByName(id, name)
	if v == nil {
		return s.vpcepUnknownService()
	}
	row := s.serviceRow(v)
	return ok(vpcepDescribed{ID: row.ID, ServiceName: row.ServiceName, ServiceType: row.ServiceType, CreatedAt: row.CreatedAt, IsCharge: true})
}

// vpcepQuota is a quota and its usage.
type vpcepQuota struct {
	Type  string `json:"type"`
	Used  int    `json:"used"`
	Quota int    `json:"quota"`
}

type vpcepQuotas struct {
	Quotas struct {
		Resources []vpcepQuota `json:"resources"`
	} `json:"quotas"`
}

func (s *Simulator) vpcepQuotas(c *call) answer {
	kind := c.query().Get("type")
	if kind != "" && kind != "endpoint_service" && kind != "endpoint" {
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0002", "The parameter type is invalid.")
	}
	services := vpcepQuota{Type: "endpoint_service", Quota: 20}
	for _, v := range s.cloud.order {
		if v.ProjectID == c.path["project"] {
			services.Used++
		}
	}
	endpoints := vpcepQuota{Type: "endpoint", Quota: endpointQuota, Used: s.endpointCount(c)}
	var out vpcepQuotas
	out.Quotas.Resources = slices.DeleteFunc([]vpcepQuota{services, endpoints}, func(x vpcepQuota) bool { return kind != "" && kind != x.Type })
	return ok(out)
}
