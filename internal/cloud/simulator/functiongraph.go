package simulator

import (
	"encoding/json"
	"net/http"
	"strings"
)

// functionEndpoint is the response to a creation: addresses, but no id.
type functionEndpoint struct {
	Endpoints []string `json:"endpoints"`
	Address   string   `json:"address"`
}

// isJSON reports whether the Content-Type of c is JSON.
func (c *call) isJSON() bool {
	kind, _, _ := strings.Cut(c.request.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}

func functionKey(c *call, vpc, subnet string) string {
	return c.path["project"] + "/" + vpc + "/" + subnet
}

// functionGraphCreate creates an endpoint in the caller's project, which VPCEP's endpoint
// list shows. It refuses a repeat with FSS.0409, the code of the reference for existing
// resources; the real behavior is not documented.
func (s *Simulator) functionGraphCreate(c *call) answer {
	var body struct {
		VpcID    string `json:"vpc_id"`
		SubnetID string `json:"subnet_id"`
		Flavor   string `json:"flavor"`
		XRole    string `json:"xrole"`
	}
	switch {
	case !c.isJSON():
		return refuse(http.StatusBadRequest, "FSS.0400", "The header Content-Type must be application/json")
	case json.Unmarshal(c.body, &body) != nil:
		return refuse(http.StatusBadRequest, "FSS.0400", "The request body is invalid")
	case body.VpcID == "" || body.SubnetID == "":
		return refuse(http.StatusBadRequest, "FSS.0400", "vpc_id and subnet_id are required")
	}
	key := functionKey(c, body.VpcID, body.SubnetID)
	if old := s.cloud.functions[key]; old != nil && old.stateAt(c.now).state != gone {
		s.tally.repeats++
		return refuse(http.StatusConflict, "FSS.0409", "The endpoint already exists")
	}
	e := s.connect(nil, Connection{CreatedAt: c.now, DomainID: s.cfg.DomainID, ProjectID: c.path["project"], VpcID: body.VpcID, SubnetID: body.SubnetID})
	e.ServiceID = s.newUUID()
	e.serviceName = s.cfg.Region + ".functiongraph." + e.ServiceID
	s.cloud.functions[key] = e
	s.effect(c, EffectCreate, key, e.ID)
	return ok(functionEndpoint{Endpoints: []string{e.ip}, Address: "https://" + e.ID + ".functiongraph." + s.cfg.Region + ".example.com"})
}

// functionGraphDelete deletes an endpoint. It is no error if the endpoint does not exist.
func (s *Simulator) functionGraphDelete(c *call) answer {
	if !c.isJSON() {
		return refuse(http.StatusBadRequest, "FSS.0400", "The header Content-Type must be application/json")
	}
	key := functionKey(c, c.path["vpc"], c.path["subnet"])
	if e := s.cloud.functions[key]; e != nil && e.stateAt(c.now).state != gone {
		s.remove(e)
		delete(s.cloud.functions, key)
		s.effect(c, EffectDelete, key, e.ID)
	}
	return answer{status: http.StatusNoContent}
}
