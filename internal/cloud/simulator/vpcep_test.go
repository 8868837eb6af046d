package simulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

func action(verb string, ids ...string) string {
	body, err := json.Marshal(map[string]any{"action": verb, "endpoints": ids})
	if err != nil {
		return ""
	}
	return string(body)
}

func TestVPCEPAcceptWalks(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{Delays: simulator.Delays{Visible: time.Second, Create: 3 * time.Second, Accept: 5 * time.Second, ListLag: 2 * time.Second}})
	p.Connect(serviceID, simulator.Connection{ID: endpoint, DomainID: domain})
	list := connectionsOf(serviceID) + "?id=" + endpoint
	steps := []struct {
		pass time.Duration
		act  string
		want any // status in the list; nil: not there
		real string
	}{
		{0, "", nil, simulator.Creating},
		{2 * time.Second, "", nil, simulator.Creating},
		{time.Second, "", simulator.Creating, simulator.PendingAcceptance},
		{2 * time.Second, "", simulator.PendingAcceptance, simulator.PendingAcceptance},
		{0, "receive", simulator.PendingAcceptance, simulator.Creating},
		{2 * time.Second, "", simulator.Creating, simulator.Creating},
		{3 * time.Second, "", simulator.Creating, simulator.Accepted},
		{2 * time.Second, "", simulator.Accepted, simulator.Accepted},
		{0, "reject", simulator.Accepted, simulator.Rejected},
		{2 * time.Second, "", simulator.Rejected, simulator.Rejected},
	}
	for i, step := range steps {
		p.clock.pass(step.pass)
		if step.act != "" {
			p.call(t, "POST", connectionsOf(serviceID)+"/action", action(step.act, endpoint)).want(t, 200, "")
		}
		got := dig(p.call(t, "GET", list, "").body, "connections", 0, "status")
		actual, _ := p.Connection(endpoint)
		if got != step.want || actual.State != step.real {
			t.Fatalf("step %d: the list shows %v, want %v; it is %s, want %s", i, got, step.want, actual.State, step.real)
		}
	}
	counted := p.Counters()
	if counted.Count(simulator.EffectAccept, endpoint) != 1 || counted.Count(simulator.EffectReject, endpoint) != 1 || counted.Reversals != 1 {
		t.Errorf("effects %+v, reversals %d; want one accept, one reject, one reversal", counted.Effects, counted.Reversals)
	}
}

func TestVPCEPConnectionFields(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.Connect(serviceID, simulator.Connection{ID: endpoint, DomainID: domain})
	p.SetState(endpoint, simulator.Failed)
	row := dig(p.call(t, "GET", connectionsOf(serviceID), "").body, "connections", 0)
	if marker := fmt.Sprint(dig(row, "marker_id")); marker != "422321321312321321" {
		t.Errorf("marker_id %s: want one that needs an int64", marker)
	}
	if dig(row, "domain_id") != domain || dig(row, "created_at") != "2026-01-01T00:00:00Z" || dig(row, "error", 0, "error_message") == nil {
		t.Errorf("row %v: want the domain, a time with Z, and why it failed", row)
	}
	p.SetState(endpoint, simulator.PendingAcceptance)
	row = dig(p.call(t, "POST", connectionsOf(serviceID)+"/action", action("receive", endpoint)).body, "connections", 0)
	if dig(row, "created_at") != "2026-01-01T00:00:00.000" {
		t.Errorf("created_at of the action's answer is %v, want milliseconds and no zone", dig(row, "created_at"))
	}
}

func TestVPCEPDecideFromEachState(t *testing.T) {
	t.Parallel()
	tests := []struct {
		state, verb string
		status      int
		code, ends  string
	}{
		{simulator.PendingAcceptance, "receive", 200, "", simulator.Accepted},
		{simulator.PendingAcceptance, "reject", 200, "", simulator.Rejected},
		{simulator.Accepted, "receive", 400, "EndPoint.2014", simulator.Accepted},
		{simulator.Accepted, "reject", 200, "", simulator.Rejected},
		{simulator.Rejected, "receive", 200, "", simulator.Accepted},
		{simulator.Rejected, "reject", 200, "", simulator.Rejected},
		{simulator.Creating, "receive", 400, "EndPoint.2019", simulator.Creating},
		{simulator.Failed, "receive", 400, "EndPoint.2047", simulator.Failed},
		{simulator.Deleting, "reject", 400, "EndPoint.2018", simulator.Deleting},
	}
	for _, tt := range tests {
		t.Run(tt.state+" "+tt.verb, func(t *testing.T) {
			t.Parallel()
			p := start(t, simulator.Config{})
			p.Connect(serviceID, simulator.Connection{ID: endpoint, State: tt.state})
			p.call(t, "POST", connectionsOf(serviceID)+"/action", action(tt.verb, endpoint)).want(t, tt.status, tt.code)
			if c, _ := p.Connection(endpoint); c.State != tt.ends {
				t.Errorf("it is %s, want %s", c.State, tt.ends)
			}
		})
	}
}

func TestVPCEPRepeatOK(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{RepeatOK: true})
	p.Connect(serviceID, simulator.Connection{ID: endpoint, State: simulator.Accepted})
	got := p.call(t, "POST", connectionsOf(serviceID)+"/action", action("receive", endpoint))
	got.want(t, 200, "")
	if c := p.Counters(); len(c.Effects) != 0 || c.Repeats != 1 {
		t.Errorf("effects %v, repeats %d; want none and 1", c.Effects, c.Repeats)
	}
}

func TestVPCEPRefusals(t *testing.T) {
	t.Parallel()
	p := startLoose(t, simulator.Config{})
	p.token = simulator.DefaultAuth().Token
	p.Connect(serviceID, simulator.Connection{ID: endpoint})
	p.Connect(openID, simulator.Connection{ID: "b05290f3-0d00-41f2-aedc-71f09844e879"})
	p.Connect(serviceID, simulator.Connection{ID: "c05290f3-0d00-41f2-aedc-71f09844e879"})
	p.Delete("c05290f3-0d00-41f2-aedc-71f09844e879")
	act := connectionsOf(serviceID) + "/action"
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"accept is no verb", "POST", act, action("accept", endpoint), 400, "EndPoint.0007"},
		{"two endpoints", "POST", act, action("receive", endpoint, endpoint), 400, "EndPoint.2031"},
		{"no endpoint", "POST", act, action("receive"), 400, "EndPoint.0002"},
		{"null body", "POST", act, "", 504, "EndPoint.0011"},
		{"broken body", "POST", act, "{", 400, "EndPoint.0002"},
		{"endpoint that never was", "POST", act, action("receive", serviceID), 404, "EndPoint.2006"},
		{"endpoint that is gone", "POST", act, action("receive", "c05290f3-0d00-41f2-aedc-71f09844e879"), 404, "EndPoint.2006"},
		{"another service's endpoint", "POST", act, action("receive", "b05290f3-0d00-41f2-aedc-71f09844e879"), 400, "EndPoint.2013"},
		{"unknown service", "POST", connectionsOf(endpoint) + "/action", action("receive", endpoint), 400, "EndPoint.2003"},
		{"unknown service's list", "GET", connectionsOf(endpoint), "", 400, "EndPoint.2003"},
		{"another project's service", "GET", strings.Replace(connectionsOf(serviceID), project, other, 1), "", 400, "EndPoint.2003"},
		{"sort_key", "GET", connectionsOf(serviceID) + "?sort_key=id", "", 400, "EndPoint.0017"},
		{"limit", "GET", connectionsOf(serviceID) + "?limit=1001", "", 400, "EndPoint.0006"},
		{"offset", "GET", connectionsOf(serviceID) + "?offset=-1", "", 400, "EndPoint.0010"},
		{"sort_dir", "GET", connectionsOf(serviceID) + "?sort_dir=up", "", 400, "EndPoint.0018"},
		{"status", "GET", connectionsOf(serviceID) + "?status=odd", "", 400, "EndPoint.0019"},
		{"marker_id", "GET", connectionsOf(serviceID) + "?marker_id=x", "", 400, "EndPoint.0021"},
		{"marker_id below 1", "GET", connectionsOf(serviceID) + "?marker_id=0", "", 400, "EndPoint.0021"},
		{"VPC id", "GET", "/v1/" + project + "/vpc-endpoints?vpc_id=a/b", "", 400, "EndPoint.0020"},
		{"VPC id of a new endpoint", "POST", "/v1/" + project + "/vpc-endpoints", `{"endpoint_service_id":"` + serviceID + `","vpc_id":"a b"}`, 400, "EndPoint.0020"},
		{"status of a service", "GET", "/v1/" + project + "/vpc-endpoint-services?status=odd", "", 400, "EndPoint.0019"},
		{"endpoint of nobody", "GET", "/v1/" + project + "/vpc-endpoints/" + endpoint, "", 404, "EndPoint.0005"},
		{"endpoint on no service", "POST", "/v1/" + project + "/vpc-endpoints", `{"vpc_id":"v","endpoint_service_id":"` + endpoint + `"}`, 400, "EndPoint.2003"},
		{"endpoint without vpc", "POST", "/v1/" + project + "/vpc-endpoints", `{}`, 400, "EndPoint.0002"},
		{"describe by nothing", "GET", "/v1/" + project + "/vpc-endpoint-services/describe", "", 400, "EndPoint.0002"},
		{"note with a tag", "PUT", connectionsOf(serviceID) + "/description", `{"connections":[{"id":"` + endpoint + `","description":"<b>"}]}`, 400, "EndPoint.0002"},
		{"quota of nothing", "GET", "/v1/" + project + "/quotas?type=x", "", 400, "EndPoint.0002"},
		{"no such path", "GET", "/v1/" + project + "/vpc-endpoint-service", "", 404, "APIGW.0101"},
		{"no such method", "DELETE", connectionsOf(serviceID), "", 404, "APIGW.0101"},
		{"slash too many", "GET", connectionsOf(serviceID) + "/", "", 404, "APIGW.0101"},
		{"path that climbs", "GET", "/v1/" + project + "/vpc-endpoint-services/a%2F..%2Fb/connections", "", 400, "EndPoint.2003"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p.call(t, tt.method, tt.path, tt.body).want(t, tt.status, tt.code)
		})
	}
}

func TestVPCEPNestedErrors(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{NestedErrors: true})
	got := p.call(t, "GET", connectionsOf(endpoint), "")
	if dig(got.body, "error", "code") != "EndPoint.2003" {
		t.Errorf("answer %s, want EndPoint.2003 in the newer shape", got.text)
	}
}

func TestVPCEPListFiltersAndPages(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	var made []string
	for i := range 25 {
		c := simulator.Connection{DomainID: domain}
		if i%5 == 0 {
			c.State = simulator.Accepted
		}
		made = append(made, p.Connect(serviceID, c).ID)
		p.clock.pass(time.Second)
	}
	newest := slices.Clone(made)
	slices.Reverse(newest)
	p.SetState(made[3], simulator.Rejected)
	tests := []struct {
		query string
		want  []string
		total string
	}{
		{"", newest[:10], "25"},
		{"?limit=1000", newest, "25"},
		{"?limit=4&offset=3", newest[3:7], "25"},
		{"?limit=4&offset=30", nil, "25"},
		{"?limit=0", nil, "25"},
		{"?sort_dir=asc&limit=2", made[:2], "25"},
		{"?sort_key=created_at&sort_dir=asc&limit=2", made[:2], "25"},
		{"?sort_key=update_at&limit=1", made[3:4], "25"},
		{"?status=accepted&sort_dir=asc", []string{made[0], made[5], made[10], made[15], made[20]}, "5"},
		{"?status=rejected", made[3:4], "1"},
		{"?id=" + made[7], made[7:8], "1"},
		{"?marker_id=422321321312321329", made[8:9], "1"},
		{"?id=" + made[7] + "&status=accepted", nil, "0"},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			got := p.call(t, "GET", connectionsOf(serviceID)+tt.query, "")
			got.want(t, 200, "")
			var ids []string
			rows, _ := got.body["connections"].([]any)
			for _, row := range rows {
				ids = append(ids, fmt.Sprint(dig(row, "id")))
			}
			if !slices.Equal(ids, tt.want) || fmt.Sprint(got.body["total_count"]) != tt.total {
				t.Errorf("ids %v of %v, want %v of %s", ids, got.body["total_count"], tt.want, tt.total)
			}
		})
	}
}

func TestVPCEPServices(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.Connect(serviceID, simulator.Connection{State: simulator.Accepted})
	p.Connect(serviceID, simulator.Connection{State: simulator.Rejected})
	services := "/v1/" + project + "/vpc-endpoint-services"
	got := p.call(t, "GET", services+"?endpoint_service_name=payments", "")
	if fmt.Sprint(got.body["total_count"]) != "1" || fmt.Sprint(dig(got.body, "endpoint_services", 0, "connection_count")) != "1" {
		t.Errorf("services %s: want one, with one connection", got.text)
	}
	if name := dig(got.body, "endpoint_services", 0, "service_name"); name != "cn-north-4.payments."+serviceID {
		t.Errorf("service_name %v", name)
	}
	if got := p.call(t, "GET", services, ""); fmt.Sprint(got.body["total_count"]) != "2" {
		t.Errorf("services %s: the gateway's own must not be shown", got.text)
	}
	if got := p.call(t, "GET", services+"/"+openID, ""); dig(got.body, "approval_enabled") != false {
		t.Errorf("service %s: want no approval", got.text)
	}
	if got := p.call(t, "GET", services+"/describe?endpoint_service_name=cn-north-4."+openID, ""); dig(got.body, "id") != openID {
		t.Errorf("described %s", got.text)
	}
	p.call(t, "GET", services+"/describe?id="+endpoint, "").want(t, 400, "EndPoint.2003")
}

func TestVPCEPOwnEndpoints(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	endpoints := "/v1/" + other + "/vpc-endpoints"
	made := p.call(t, "POST", endpoints, `{"vpc_id":"vpc-1","subnet_id":"subnet-1","endpoint_service_id":"`+serviceID+`"}`)
	made.want(t, 200, "")
	id := fmt.Sprint(made.body["id"])
	if c, found := p.Connection(id); !found || c.State != simulator.PendingAcceptance || c.ServiceID != serviceID {
		t.Fatalf("connection %+v, want one that waits for the owner", c)
	}
	if got := p.call(t, "GET", endpoints+"?vpc_id=vpc-1&endpoint_service_name=payments", ""); dig(got.body, "endpoints", 0, "subnet_id") != "subnet-1" {
		t.Errorf("endpoints %s", got.text)
	}
	if got := p.call(t, "GET", endpoints+"?vpc_id=vpc-2", ""); fmt.Sprint(got.body["total_count"]) != "0" {
		t.Errorf("endpoints of another VPC %s", got.text)
	}
	if got := p.call(t, "GET", endpoints+"/"+id, ""); got.body["endpoint_service_id"] != serviceID {
		t.Errorf("endpoint %s", got.text)
	}
	if got := p.call(t, "GET", "/v1/"+project+"/vpc-endpoints", ""); fmt.Sprint(got.body["total_count"]) != "0" {
		t.Errorf("another project sees %s", got.text)
	}
	if got := p.call(t, "GET", "/v1/"+other+"/quotas?type=endpoint", ""); fmt.Sprint(dig(got.body, "quotas", "resources", 0, "used")) != "1" {
		t.Errorf("quota %s", got.text)
	}
	p.call(t, "POST", endpoints, `{"vpc_id":"vpc-1","subnet_id":"subnet-1","endpoint_service_id":"`+serviceID+`"}`).want(t, 200, "")
	if n := p.Counters().Count(simulator.EffectCreate, other+"/vpc-1/subnet-1/"+serviceID); n != 2 {
		t.Errorf("%d creations, want 2: there is no client token", n)
	}
}

func TestVPCEPNotes(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.Connect(serviceID, simulator.Connection{ID: endpoint})
	p.call(t, "PUT", connectionsOf(serviceID)+"/description", `{"connections":[{"id":"`+endpoint+`","description":"ticket 7"}]}`).want(t, http.StatusOK, "")
	if got := p.call(t, "GET", connectionsOf(serviceID), ""); dig(got.body, "connections", 0, "description") != "ticket 7" {
		t.Errorf("connections %s", got.text)
	}
}
