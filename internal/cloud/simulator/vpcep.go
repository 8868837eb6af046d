package simulator

import (
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The time formats of VPCEP: lists have a zone; the response to an action has
// milliseconds and no zone, as its documented example.
const (
	timeWithZone = "2006-01-02T15:04:05Z"
	timeWithout  = "2006-01-02T15:04:05.000"
)

// vpcepConnection is a row of a service's connection list.
type vpcepConnection struct {
	ID          string        `json:"id"`
	MarkerID    int64         `json:"marker_id"`
	CreatedAt   string        `json:"created_at"`
	UpdatedAt   string        `json:"updated_at"`
	DomainID    string        `json:"domain_id"`
	Error       []vpcepFailed `json:"error,omitempty"`
	Status      string        `json:"status"`
	Description string        `json:"description"`
}

// vpcepFailed is the failure of a connection. Only it has an error_message.
type vpcepFailed struct {
	Code    string `json:"error_code"`
	Message string `json:"error_message"`
}

type vpcepConnections struct {
	Connections []any `json:"connections"`
	TotalCount  *int  `json:"total_count,omitempty"`
}

// row returns e in the state now as a row of its service.
func (c *call) row(e *endpoint, now step, layout string) vpcepConnection {
	as := e.identityAt(c.listAt)
	out := vpcepConnection{
		ID: e.ID, MarkerID: as.MarkerID, DomainID: as.DomainID, Status: c.status(now), Description: e.Description,
		CreatedAt: as.CreatedAt.UTC().Format(layout), UpdatedAt: now.at.UTC().Format(layout),
	}
	if now.state == Failed {
		out.Error = []vpcepFailed{{Code: "EndPoint.2023", Message: "The network of the endpoint could not be made."}}
	}
	return out
}

// status returns the state in a response to c.
func (c *call) status(now step) string {
	if c.unknownState {
		return undocumentedState
	}
	return now.state
}

func (s *Simulator) vpcepAction(c *call) answer {
	if len(c.body) == 0 {
		return s.vpcepRefuse(http.StatusGatewayTimeout, "EndPoint.0011", "The request body is null.")
	}
	var body struct {
		Action    string   `json:"action"`
		Endpoints []string `json:"endpoints"`
	}
	if json.Unmarshal(c.body, &body) != nil {
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0002", "The request body is invalid.")
	}
	switch {
	case body.Action != receive && body.Action != reject:
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0007", "The action is invalid.")
	case len(body.Endpoints) == 0:
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0002", "The parameter endpoints is invalid.")
	case len(body.Endpoints) > 1:
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.2031", "Only one endpoint is allowed.")
	}
	v := s.ownedService(c.path["project"], c.path["service"])
	if v == nil {
		return s.vpcepUnknownService()
	}
	e, denied := s.decidable(v, body.Endpoints[0], c)
	if denied != nil {
		return s.vpcepRefuse(denied.status, denied.code, denied.message)
	}
	if !s.decide(e, body.Action, c) && body.Action == receive && !s.cfg.RepeatOK {
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.2014", "The endpoint has been connected. There is no need to connect it again.")
	}
	return ok(vpcepConnections{Connections: []any{c.row(e, e.stateAt(c.now), timeWithout)}})
}

func (s *Simulator) vpcepUnknownService() answer {
	return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.2003", "The endpoint service does not exist.")
}

// vpcepPage reads limit and offset.
func (s *Simulator) vpcepPage(c *call) (limit, offset int64, refused *answer) {
	limit, good := c.number("limit", 10, 0, 1000)
	if !good {
		a := s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0006", "The parameter limit is invalid.")
		return 0, 0, &a
	}
	offset, good = c.number("offset", 0, 0, math.MaxInt32)
	if !good {
		a := s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0010", "The parameter offset is invalid.")
		return 0, 0, &a
	}
	return limit, offset, nil
}

// vpcepSort reads sort_key and sort_dir. It accepts both spellings of the key, because
// documents and regions differ.
func (s *Simulator) vpcepSort(c *call) (byUpdate, ascending bool, refused *answer) {
	key := c.query().Get("sort_key")
	switch key {
	case "", "create_at", "created_at":
	case "update_at", "updated_at":
		byUpdate = true
	default:
		a := s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0017", "The parameter sort_key is invalid.")
		return false, false, &a
	}
	switch c.query().Get("sort_dir") {
	case "", "desc":
	case "asc":
		ascending = true
	default:
		a := s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0018", "The parameter sort_dir is invalid.")
		return false, false, &a
	}
	return byUpdate, ascending, nil
}

// listed is an endpoint with the state that a list shows.
type listed struct {
	*endpoint
	now step
}

// sorted returns the listed endpoints at c.listAt, in order.
func (c *call) sorted(from []*endpoint, byUpdate, ascending bool) []listed {
	out := make([]listed, 0, len(from))
	for _, e := range slices.Backward(from) {
		if now := e.shown(c.listAt); now.state != gone && !c.tooYoung(e) {
			out = append(out, listed{e, now})
		}
	}
	when := func(x listed) time.Time {
		if byUpdate {
			return x.now.at
		}
		return x.CreatedAt
	}
	order := func(a, b listed) int {
		return cmp.Or(when(b).Compare(when(a)), cmp.Compare(b.MarkerID, a.MarkerID))
	}
	if !slices.IsSortedFunc(out, order) { // usually sorted, and long lists are read often
		slices.SortStableFunc(out, order)
	}
	if ascending {
		slices.Reverse(out)
	}
	return out
}

func (s *Simulator) vpcepConnections(c *call) answer {
	v := s.ownedService(c.path["project"], c.path["service"])
	if v == nil {
		return s.vpcepUnknownService()
	}
	limit, offset, refused := s.vpcepPage(c)
	if refused != nil {
		return *refused
	}
	byUpdate, ascending, refused := s.vpcepSort(c)
	if refused != nil {
		return *refused
	}
	q := c.query()
	if status := q.Get("status"); status != "" && !slices.Contains([]string{PendingAcceptance, Accepted, Rejected, Failed, Creating}, status) {
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0019", "The parameter status is invalid.")
	}
	marker, good := c.number("marker_id", 0, 1, math.MaxInt64)
	if !good {
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0021", "The parameter marker_id is invalid.")
	}
	from := v.endpoints
	if q.Get("id") != "" {
		from = nil
		if e := s.cloud.endpoints[q.Get("id")]; e != nil && e.service == v {
			from = []*endpoint{e}
		}
	}
	rows := slices.DeleteFunc(c.sorted(from, byUpdate, ascending), func(x listed) bool {
		return q.Get("status") != "" && x.now.state != q.Get("status") ||
			marker != 0 && x.identityAt(c.listAt).MarkerID != marker
	})
	shown := []vpcepConnection{}
	offset, limit = c.window(offset, limit)
	for _, x := range page(rows, offset, limit) {
		shown = append(shown, c.row(x.endpoint, x.now, timeWithZone))
	}
	falsified, total := applyListFaults(c, shown, len(rows))
	return ok(vpcepConnections{Connections: falsified, TotalCount: &total})
}

func (s *Simulator) vpcepDescribeConnections(c *call) answer {
	var body struct {
		Connections []struct {
			ID          string `json:"id"`
			Description string `json:"description"`
		} `json:"connections"`
	}
	v := s.ownedService(c.path["project"], c.path["service"])
	switch {
	case len(c.body) == 0:
		return s.vpcepRefuse(http.StatusGatewayTimeout, "EndPoint.0011", "The request body is null.")
	case json.Unmarshal(c.body, &body) != nil || len(body.Connections) == 0:
		return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0002", "The request body is invalid.")
	case v == nil:
		return s.vpcepUnknownService()
	}
	for _, x := range body.Connections {
		e := s.cloud.endpoints[x.ID]
		switch {
		case e == nil || e.stateAt(c.now).state == gone:
			return s.vpcepRefuse(http.StatusNotFound, "EndPoint.2006", "The endpoint does not exist.")
		case e.service != v:
			return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.2013", "The endpoint does not belong to the endpoint service.")
		case strings.ContainsAny(x.Description, "<>"):
			return s.vpcepRefuse(http.StatusBadRequest, "EndPoint.0002", "The parameter description is invalid.")
		}
	}
	out := vpcepConnections{Connections: []any{}}
	for _, x := range body.Connections {
		e := s.cloud.endpoints[x.ID]
		e.Description = x.Description
		out.Connections = append(out.Connections, c.row(e, e.stateAt(c.now), timeWithZone))
	}
	return ok(out)
}
