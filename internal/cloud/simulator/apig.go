package simulator

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
)

// apigConnection is a row of a gateway's connection list.
type apigConnection struct {
	ID        string `json:"id"`
	MarkerID  int64  `json:"marker_id"`
	CreatedAt string `json:"created_at"`
	UpdatedAt string `json:"updated_at"`
	DomainID  string `json:"domain_id"`
	Status    string `json:"status"`
}

type apigConnections struct {
	Size        int   `json:"size"`
	Total       int64 `json:"total"`
	Connections []any `json:"connections"`
}

func (c *call) apigRow(e *endpoint, now step) apigConnection {
	as := c.row(e, now, timeWithZone)
	return apigConnection{ID: as.ID, MarkerID: as.MarkerID, CreatedAt: as.CreatedAt, UpdatedAt: as.UpdatedAt, DomainID: as.DomainID, Status: as.Status}
}

// gatewayOf returns the gateway of the call, or nil if the project does not have it.
func (s *Simulator) gatewayOf(c *call) *gatewayOf {
	if g := s.cloud.gateways[c.path["gateway"]]; g != nil && g.ProjectID == c.path["project"] {
		return g
	}
	return nil
}

func apigUnknownGateway() answer {
	return refuse(http.StatusNotFound, "APIC.7302", "The gateway does not exist")
}

func apigParameter(name string) answer {
	return refuse(http.StatusBadRequest, "APIC.7211", "Invalid parameter value: "+name)
}

func (s *Simulator) apigConnections(c *call) answer {
	g := s.gatewayOf(c)
	if g == nil {
		return apigUnknownGateway()
	}
	offset, good := c.number("offset", 0, math.MinInt64, math.MaxInt64)
	if !good {
		return apigParameter("offset")
	}
	limit, good := c.number("limit", 20, math.MinInt32, math.MaxInt32)
	if !good {
		return apigParameter("limit")
	}
	// Values out of range are corrected silently.
	offset = max(offset, 0)
	if limit <= 0 {
		limit = 20
	}
	limit = min(limit, 500)
	marker, good := c.number("marker_id", 0, 0, math.MaxInt64)
	if !good {
		return apigParameter("marker_id")
	}
	q := c.query()
	if status := q.Get("status"); status != "" && !slices.Contains([]string{PendingAcceptance, Accepted, Rejected, Failed}, status) {
		return apigParameter("status")
	}
	from := g.service.endpoints
	if q.Get("id") != "" {
		from = nil
		if e := s.cloud.endpoints[q.Get("id")]; e != nil && e.service == g.service {
			from = []*endpoint{e}
		}
	}
	rows := slices.DeleteFunc(c.sorted(from, false, false), func(x listed) bool {
		return q.Get("status") != "" && x.now.state != q.Get("status") || marker != 0 && x.identityAt(c.listAt).MarkerID != marker
	})
	var shown []apigConnection
	offset, limit = c.window(offset, limit)
	for _, x := range page(rows, offset, limit) {
		shown = append(shown, c.apigRow(x.endpoint, x.now))
	}
	falsified, total := applyListFaults(c, shown, len(rows))
	return ok(apigConnections{Size: len(falsified), Total: int64(total), Connections: falsified})
}

// apigAction decides up to 50 connections. It is not documented whether a batch is
// atomic; here it is: nothing changes if one of them cannot be decided.
func (s *Simulator) apigAction(c *call) answer {
	var body struct {
		Action    string   `json:"action"`
		Endpoints []string `json:"endpoints"`
	}
	if json.Unmarshal(c.body, &body) != nil {
		return apigParameter("body")
	}
	if body.Action != receive && body.Action != reject {
		return apigParameter("action")
	}
	if n := len(body.Endpoints); n < 1 || n > 50 {
		return apigParameter("endpoints, of which 1 to 50 are allowed and " + strconv.Itoa(n) + " are given")
	}
	g := s.gatewayOf(c)
	if g == nil {
		return apigUnknownGateway()
	}
	var all []*endpoint
	for _, id := range body.Endpoints {
		e, denied := s.decidable(g.service, id, c)
		switch {
		case denied == nil:
			all = append(all, e)
		case denied.code == "EndPoint.2019": // temporary
			return refuse(http.StatusConflict, "APIC.7701", "The instance is busy, try again later")
		default:
			return apigParameter("endpoints: " + denied.message)
		}
	}
	out := apigConnections{Size: len(all), Total: int64(len(all)), Connections: []any{}}
	for _, e := range all {
		s.decide(e, body.Action, c)
		out.Connections = append(out.Connections, c.apigRow(e, e.stateAt(c.now)))
	}
	return ok(out)
}
