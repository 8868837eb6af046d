package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// insightEndpoint is an endpoint that DataArts Insight created.
type insightEndpoint struct {
	instance, dsType, project, workspace, scene string
	createdAt                                   time.Time
	*endpoint
}

// insightConnection describes an endpoint. Dates are Unix milliseconds.
type insightConnection struct {
	ID             string `json:"id"`
	DomainID       string `json:"domain_id"`
	ProjectID      string `json:"project_id"`
	DsType         string `json:"ds_type"`
	ServerID       string `json:"vpc_ep_server_id"`
	ServerName     string `json:"vpc_ep_server_name"`
	ClientID       string `json:"vpc_ep_client_id"`
	ClientStatus   string `json:"vpc_ep_client_status"`
	Scene          string `json:"scene"`
	CreateUser     string `json:"create_user"`
	CreateUserName string `json:"create_user_name"`
	UpdateUser     string `json:"update_user"`
	UpdateUserName string `json:"update_user_name"`
	CreateDate     int64  `json:"create_date"`
	UpdateDate     int64  `json:"update_date"`
}

// insightSource is a data source, which may use an endpoint.
type insightSource struct {
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	Type          string            `json:"type"`
	ProjectID     string            `json:"project_id"`
	DomainID      string            `json:"domain_id"`
	RegionID      string            `json:"region_id"`
	WorkSpaceID   string            `json:"work_space_id"`
	ConnectionID  string            `json:"vpc_connection_id"`
	VpcConnection insightConnection `json:"vpc_connection"`
}

type insightSources struct {
	PageData []insightSource `json:"page_data"`
	Count    int64           `json:"count"`
}

// insightTypes are the types of data sources that support endpoints.
func insightTypes() []string {
	return []string{"MySQL", "DWS", "PostgreSQL", "OpenGauss", "Doris", "HIVE", "ClickHouse", "API"}
}

// insightWorkspace returns the workspace of c, or a refusal if c has none.
func insightWorkspace(c *call) (string, *answer) {
	id := c.request.Header.Get("X-Workspace-Id")
	if id == "" {
		a := refuse(http.StatusBadRequest, "DataArtsInsight.24150005", "The workspace does not exist.")
		return "", &a
	}
	return id, nil
}

// insightParameter refuses a parameter. The reference has no code for that.
func insightParameter(name string) answer {
	return refuse(http.StatusBadRequest, "DataArtsInsight.24010001", "The parameter "+name+" is invalid.")
}

func insightNotFound() answer {
	return refuse(http.StatusNotFound, "DataArtsInsight.24010003", "The resource is not found.")
}

func (s *Simulator) insightRow(c *call, x insightEndpoint, now step) insightConnection {
	return insightConnection{
		ID: x.instance, DomainID: s.cfg.DomainID, ProjectID: x.project, DsType: x.dsType,
		ServerID: x.ServiceID, ServerName: x.serviceName, ClientID: x.ID, ClientStatus: c.status(now), Scene: x.scene,
		CreateUser: "simulated-user-id", CreateUserName: "simulated-user", UpdateUser: "simulated-user-id", UpdateUserName: "simulated-user",
		CreateDate: x.createdAt.UnixMilli(), UpdateDate: now.at.UnixMilli(),
	}
}

// insightCreate connects to an endpoint service from the account of DataArts Insight;
// the owner of the service sees the connection. An unknown service is treated as one of
// another customer who accepts. The effect of a repeat is not documented; here it
// creates a second endpoint.
func (s *Simulator) insightCreate(c *call) answer {
	workspace, refused := insightWorkspace(c)
	if refused != nil {
		return *refused
	}
	var body struct {
		DsType     string `json:"ds_type"`
		ServerName string `json:"vpc_ep_server_name"`
		ServerID   string `json:"vpc_ep_server_id"`
	}
	switch {
	case json.Unmarshal(c.body, &body) != nil:
		return insightParameter("body")
	case !slices.Contains(insightTypes(), body.DsType):
		return insightParameter("ds_type")
	case body.ServerName == "" && body.ServerID == "":
		return insightParameter("vpc_ep_server_id")
	}
	to := s.serviceByName(body.ServerID, body.ServerName)
	if to == nil && body.ServerID != "" && s.cloud.services[body.ServerID] != nil || !serviceName(body.ServerID, body.ServerName) {
		return insightNotFound()
	}
	e := s.connect(to, Connection{DomainID: s.cfg.DataArtsDomainID, CreatedAt: c.now})
	if to == nil {
		e.serviceName = body.ServerName
		e.ServiceID = body.ServerID
		if e.ServiceID == "" {
			e.ServiceID = body.ServerName[strings.LastIndex(body.ServerName, ".")+1:]
		}
	}
	x := insightEndpoint{
		instance: s.newHex(), dsType: body.DsType, project: c.path["project"], workspace: workspace,
		scene: "dii-app_to_data-source", createdAt: c.now, endpoint: e,
	}
	s.cloud.insight = append(s.cloud.insight, x)
	s.effect(c, EffectCreate, x.project+"/"+workspace+"/"+body.DsType+"/"+e.ServiceID, e.ID)
	return ok(s.insightRow(c, x, e.stateAt(c.now)))
}

// serviceName reports whether id and name can belong to a service.
func serviceName(id, name string) bool {
	if name != "" {
		parts := strings.Split(name, ".")
		last := parts[len(parts)-1]
		if len(parts) < 2 || id != "" && id != last {
			return false
		}
		id = last
	}
	return len(id) >= 32 && len(id) <= 36 && strings.Trim(strings.ToLower(id), "0123456789abcdef-") == ""
}

// sources returns the data sources in the project and workspace of c.
func (s *Simulator) sources(c *call, workspace string) []insightSource {
	out := []insightSource{}
	if !s.cfg.DataSources {
		return out
	}
	for _, x := range s.cloud.insight {
		now := x.shown(c.listAt)
		if x.project != c.path["project"] || x.workspace != workspace || now.state == gone {
			continue
		}
		out = append(out, insightSource{
			ID: "source-" + x.instance, Name: "source-" + x.instance[:8], Type: x.dsType, ProjectID: x.project, DomainID: s.cfg.DomainID,
			RegionID: s.cfg.Region, WorkSpaceID: workspace, ConnectionID: x.instance, VpcConnection: s.insightRow(c, x, now),
		})
	}
	return out
}

func (s *Simulator) insightList(c *call) answer {
	workspace, refused := insightWorkspace(c)
	if refused != nil {
		return *refused
	}
	limit, good := c.number("limit", 10, 1, 1000)
	if !good {
		return insightParameter("limit")
	}
	offset, good := c.number("offset", 0, 0, 1000)
	if !good {
		return insightParameter("offset")
	}
	q := c.query()
	rows := slices.DeleteFunc(s.sources(c, workspace), func(x insightSource) bool {
		return !strings.Contains(x.Name, q.Get("name")) || q.Get("type") != "" && q.Get("type") != x.Type
	})
	if strings.EqualFold(q.Get("sort_dir"), "desc") {
		slices.Reverse(rows)
	}
	return ok(insightSources{PageData: page(rows, offset, limit), Count: int64(len(rows))})
}

func (s *Simulator) insightShow(c *call) answer {
	workspace, refused := insightWorkspace(c)
	if refused != nil {
		return *refused
	}
	for _, x := range s.sources(c, workspace) {
		if x.ID == c.path["connection"] {
			return ok(x)
		}
	}
	return insightNotFound()
}
