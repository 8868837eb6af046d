package simulator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

func TestAPIGDecides(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{Delays: simulator.Delays{Create: time.Second, Accept: time.Second}})
	a := p.Connect(gatewayID, simulator.Connection{DomainID: domain})
	b := p.Connect(gatewayID, simulator.Connection{DomainID: domain})
	act := gatewayConnections(gatewayID) + "/action"
	p.call(t, "POST", act, action("receive", a.ID)).want(t, 409, "APIC.7701") // still creating
	p.clock.pass(time.Second)
	got := p.call(t, "POST", act, action("receive", a.ID, b.ID))
	if fmt.Sprint(got.body["size"]) != "2" || dig(got.body, "connections", 0, "status") != simulator.Creating {
		t.Fatalf("answer %s: want two that are creating", got.text)
	}
	p.clock.pass(time.Second)
	p.call(t, "POST", act, action("receive", a.ID)).want(t, 200, "") // a repeat
	p.call(t, "POST", act, action("reject", b.ID)).want(t, 200, "")
	for id, want := range map[string]string{a.ID: simulator.Accepted, b.ID: simulator.Rejected} {
		got := p.call(t, "GET", gatewayConnections(gatewayID)+"?id="+id, "")
		if dig(got.body, "connections", 0, "status") != want || fmt.Sprint(got.body["total"]) != "1" {
			t.Errorf("connection %s: want %s", got.text, want)
		}
	}
	if c := p.Counters(); c.Count(simulator.EffectAccept, "") != 2 || c.Repeats != 1 || c.Calls["apig AcceptOrRejectEndpointConnections"] != 4 {
		t.Errorf("counters %+v", c)
	}
}

func TestAPIGSharesTheService(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	c := p.Connect(sharedID, simulator.Connection{DomainID: domain})
	p.call(t, "POST", connectionsOf(serviceID)+"/action", action("receive", c.ID)).want(t, 200, "")
	if got := p.call(t, "GET", gatewayConnections(sharedID)+"?status=accepted", ""); dig(got.body, "connections", 0, "id") != c.ID {
		t.Errorf("the gateway shows %s, want what VPCEP accepted", got.text)
	}
	if n := len(p.Connections(sharedID)); n != 1 {
		t.Errorf("%d connections of the gateway, want 1", n)
	}
}

func TestAPIGClampsPages(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	for range 520 {
		p.Connect(gatewayID, simulator.Connection{DomainID: domain})
	}
	for query, want := range map[string]string{
		"": "20", "?limit=0": "20", "?limit=-3": "20", "?limit=501": "500", "?limit=500&offset=500": "20", "?offset=-5&limit=7": "7",
		"?status=rejected": "0", "?marker_id=422321321312321321": "1",
	} {
		got := p.call(t, "GET", gatewayConnections(gatewayID)+query, "")
		rows, _ := got.body["connections"].([]any)
		if got.status != 200 || fmt.Sprint(got.body["size"]) != want || fmt.Sprint(len(rows)) != want {
			t.Errorf("%q: %d, size %v, want %s", query, got.status, got.body["size"], want)
		}
	}
}

func TestAPIGRefusals(t *testing.T) {
	t.Parallel()
	p := startLoose(t, simulator.Config{})
	c := p.Connect(gatewayID, simulator.Connection{State: simulator.Failed})
	act := gatewayConnections(gatewayID) + "/action"
	many := strings.Split(strings.TrimSuffix(strings.Repeat(c.ID+",", 51), ","), ",")
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"accept is no verb", "POST", act, action("accept", c.ID), 400, "APIC.7211"},
		{"nobody", "POST", act, action("receive"), 400, "APIC.7211"},
		{"51", "POST", act, action("receive", many...), 400, "APIC.7211"},
		{"no body", "POST", act, "", 400, "APIC.7211"},
		{"failed", "POST", act, action("receive", c.ID), 400, "APIC.7211"},
		{"unknown endpoint", "POST", act, action("receive", endpoint), 400, "APIC.7211"},
		{"unknown gateway", "GET", gatewayConnections(serviceID), "", 404, "APIC.7302"},
		{"unknown gateway's action", "POST", gatewayConnections(serviceID) + "/action", action("receive", c.ID), 404, "APIC.7302"},
		{"limit", "GET", gatewayConnections(gatewayID) + "?limit=x", "", 400, "APIC.7211"},
		{"status", "GET", gatewayConnections(gatewayID) + "?status=deleting", "", 400, "APIC.7211"},
		{"its service at VPCEP", "GET", connectionsOf(c.ServiceID), "", 400, "EndPoint.2003"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.call(t, tt.method, tt.path, tt.body).want(t, tt.status, tt.code)
		})
	}
	if n := len(p.Counters().Effects); n != 0 {
		t.Errorf("%d effects, want none", n)
	}
}

func TestFunctionGraph(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{Delays: simulator.Delays{Create: time.Minute}})
	create := "/v2/" + project + "/fgs/vpc-endpoint"
	got := p.call(t, "POST", create, `{"vpc_id":"vpc-1","subnet_id":"subnet-1","flavor":"default","xrole":"role"}`)
	got.want(t, 200, "")
	if dig(got.body, "endpoints", 0) == nil || !strings.HasPrefix(fmt.Sprint(got.body["address"]), "https://") {
		t.Errorf("answer %s: want an address", got.text)
	}
	p.call(t, "POST", create, `{"vpc_id":"vpc-1","subnet_id":"subnet-1"}`).want(t, 409, "FSS.0409")
	list := "/v1/" + project + "/vpc-endpoints?vpc_id=vpc-1"
	if got := p.call(t, "GET", list, ""); dig(got.body, "endpoints", 0, "subnet_id") != "subnet-1" || dig(got.body, "endpoints", 0, "status") != simulator.Creating {
		t.Errorf("VPCEP shows %s, want the endpoint, creating", got.text)
	}
	p.clock.pass(time.Minute)
	if got := p.call(t, "GET", list, ""); dig(got.body, "endpoints", 0, "status") != simulator.Accepted {
		t.Errorf("VPCEP shows %s, want it accepted", got.text)
	}
	for range 2 { // what is not there is deleted as well
		p.call(t, "DELETE", create+"/vpc-1/subnet-1", "").want(t, 204, "")
	}
	if got := p.call(t, "GET", list, ""); fmt.Sprint(got.body["total_count"]) != "0" {
		t.Errorf("VPCEP shows %s, want nothing", got.text)
	}
	p.call(t, "POST", create, `{"vpc_id":"vpc-1","subnet_id":"subnet-1"}`).want(t, 200, "")
	c := p.Counters()
	if key := project + "/vpc-1/subnet-1"; c.Count(simulator.EffectCreate, key) != 2 || c.Count(simulator.EffectDelete, key) != 1 {
		t.Errorf("effects %+v, want two creations and one deletion", c.Effects)
	}
}

func TestHSS(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{Delays: simulator.Delays{Create: time.Minute}})
	create := "/v5/" + project + "/host-management/vpc-endpointes"
	got := p.call(t, "POST", create, `{"host_id_list":["h2","h1"],"vpc_list":[{"vpc_id":"vpc-1","subnet_id_list":["subnet-1"]}]}`)
	if got.status != 200 || got.text != "" {
		t.Fatalf("answer %d %q, want 200 and nothing", got.status, got.text)
	}
	status := func(body string) (rows []any) {
		t.Helper()
		got := p.call(t, "POST", create+"/batch-query", body)
		got.want(t, 200, "")
		rows, _ = got.body["data_list"].([]any)
		return rows
	}
	if rows := status(`{"vpc_id_list":["vpc-1"]}`); len(rows) != 2 || dig(rows[0], "status") != simulator.Creating {
		t.Errorf("rows %v, want two that are creating", rows)
	}
	p.clock.pass(time.Minute)
	if rows := status(`{"host_id_list":["h1"],"vpc_id_list":["vpc-1"]}`); len(rows) != 1 || dig(rows[0], "status") != simulator.Accepted {
		t.Errorf("rows %v, want one that is accepted", rows)
	}
	if rows := status(`{"vpc_id_list":["vpc-2"]}`); len(rows) != 0 {
		t.Errorf("rows %v of another VPC", rows)
	}
	p.call(t, "POST", create, `{"host_id_list":["h1","h2"],"vpc_list":[{"vpc_id":"vpc-1","subnet_id_list":["subnet-1"]}]}`).want(t, 200, "")
	if n := p.Counters().Count(simulator.EffectCreate, project+"/vpc-1/h1,h2"); n != 2 {
		t.Errorf("%d creations, want 2: a repeat is one more", n)
	}
}

func insightHeaders() []string { return []string{"X-Workspace-Id", "workspace-1"} }

func TestDataArtsInsight(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{DataSources: true, DataArtsDomainID: domain, Delays: simulator.Delays{Create: time.Second}})
	create := "/v1/" + project + "/connections/vpc-endpoint"
	got := p.call(t, "POST", create, `{"ds_type":"DWS","vpc_ep_server_name":"cn-north-4.payments.`+serviceID+`"}`, insightHeaders()...)
	got.want(t, 200, "")
	client := fmt.Sprint(got.body["vpc_ep_client_id"])
	if got.body["vpc_ep_client_status"] != simulator.Creating || got.body["vpc_ep_server_id"] != serviceID || fmt.Sprint(got.body["create_date"]) != "1767225600000" {
		t.Errorf("answer %s", got.text)
	}
	p.clock.pass(time.Second)
	row := p.call(t, "GET", connectionsOf(serviceID)+"?id="+client, "")
	if dig(row.body, "connections", 0, "status") != simulator.PendingAcceptance || dig(row.body, "connections", 0, "domain_id") != domain {
		t.Errorf("the owner sees %s, want it pending and of DataArts Insight's account", row.text)
	}
	p.call(t, "POST", connectionsOf(serviceID)+"/action", action("receive", client)).want(t, 200, "")
	list := p.call(t, "GET", "/v1/"+project+"/connections?limit=10&type=DWS", "", insightHeaders()...)
	source := dig(list.body, "page_data", 0)
	if dig(source, "vpc_connection", "vpc_ep_client_status") != simulator.Accepted || fmt.Sprint(list.body["count"]) != "1" {
		t.Errorf("data sources %s, want one that is accepted", list.text)
	}
	p.call(t, "GET", "/v1/"+project+"/connections/"+fmt.Sprint(dig(source, "id")), "", insightHeaders()...).want(t, 200, "")
	p.call(t, "GET", "/v1/"+project+"/connections/x", "", insightHeaders()...).want(t, 404, "DataArtsInsight.24010003")
	if got := p.call(t, "GET", "/v1/"+project+"/connections", "", "X-Workspace-Id", "another"); fmt.Sprint(got.body["count"]) != "0" {
		t.Errorf("another workspace sees %s", got.text)
	}
}

func TestDataArtsInsightElsewhere(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	create := "/v1/" + project + "/connections/vpc-endpoint"
	body := `{"ds_type":"MySQL","vpc_ep_server_id":"` + endpoint + `"}`
	for range 2 { // each makes one
		got := p.call(t, "POST", create, body, insightHeaders()...)
		got.want(t, 200, "")
		if got.body["vpc_ep_client_status"] != simulator.Accepted {
			t.Errorf("answer %s: someone else accepts it", got.text)
		}
	}
	if n := p.Counters().Count(simulator.EffectCreate, project+"/workspace-1/MySQL/"+endpoint); n != 2 {
		t.Errorf("%d creations, want 2", n)
	}
	if got := p.call(t, "GET", "/v1/"+project+"/connections", "", insightHeaders()...); fmt.Sprint(got.body["count"]) != "0" {
		t.Errorf("data sources %s: an endpoint that none uses is in no list", got.text)
	}
}

func TestCreationRefusals(t *testing.T) {
	t.Parallel()
	p := startLoose(t, simulator.Config{})
	function, host, insight := "/v2/"+project+"/fgs/vpc-endpoint", "/v5/"+project+"/host-management/vpc-endpointes", "/v1/"+project+"/connections/vpc-endpoint"
	ids, err := json.Marshal(map[string]any{"host_id_list": strings.Split(strings.Repeat("h,", 256)+"h", ",")})
	if err != nil {
		t.Fatal(err)
	}
	workspace := insightHeaders()
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     string
	}{
		{"function without content type", "POST", function, `{"vpc_id":"v","subnet_id":"s"}`, []string{"Content-Type", "text/plain"}, 400, "FSS.0400"},
		{"function without subnet", "POST", function, `{"vpc_id":"v"}`, nil, 400, "FSS.0400"},
		{"function without sense", "POST", function, `[`, nil, 400, "FSS.0400"},
		{"deletion without content type", "DELETE", function + "/v/s", "", []string{"Content-Type", ""}, 400, "FSS.0400"},
		{"no host, no VPC", "POST", host, `{}`, nil, 400, "HSS.0001"},
		{"257 hosts", "POST", host, string(ids), nil, 400, "HSS.0001"},
		{"VPC without subnets", "POST", host, `{"vpc_list":[{"vpc_id":"v"}]}`, nil, 400, "HSS.0001"},
		{"hosts without sense", "POST", host, `{`, nil, 400, "HSS.0002"},
		{"query of too many", "POST", host + "/batch-query", string(ids), nil, 400, "HSS.0001"},
		{"query without sense", "POST", host + "/batch-query", `{`, nil, 400, "HSS.0002"},
		{"query by GET", "GET", host + "/batch-query", "", nil, 404, "APIGW.0101"},
		{"no workspace", "POST", insight, `{"ds_type":"DWS","vpc_ep_server_id":"` + serviceID + `"}`, nil, 400, "DataArtsInsight.24150005"},
		{"list without workspace", "GET", "/v1/" + project + "/connections", "", nil, 400, "DataArtsInsight.24150005"},
		{"no type", "POST", insight, `{"vpc_ep_server_id":"` + serviceID + `"}`, workspace, 400, "DataArtsInsight.24010001"},
		{"type in another case", "POST", insight, `{"ds_type":"mysql","vpc_ep_server_id":"` + serviceID + `"}`, workspace, 400, "DataArtsInsight.24010001"},
		{"no service", "POST", insight, `{"ds_type":"DWS"}`, workspace, 400, "DataArtsInsight.24010001"},
		{"name that is none", "POST", insight, `{"ds_type":"DWS","vpc_ep_server_name":"payments"}`, workspace, 404, "DataArtsInsight.24010003"},
		{"name and id that differ", "POST", insight, `{"ds_type":"DWS","vpc_ep_server_name":"r.n.` + openID + `","vpc_ep_server_id":"` + serviceID + `"}`, workspace, 404, "DataArtsInsight.24010003"},
		{"offset too far", "GET", "/v1/" + project + "/connections?offset=1001", "", workspace, 400, "DataArtsInsight.24010001"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.call(t, tt.method, tt.path, tt.body, tt.headers...).want(t, tt.status, tt.code)
		})
	}
	if n := len(p.Counters().Effects); n != 0 {
		t.Errorf("%d effects, want none", n)
	}
}
