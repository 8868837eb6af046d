package simulator_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

func TestAdmin(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{Admin: true, Journal: 10})
	newService := "a189d3c2-8882-4871-a3c2-d380272eed88"
	steps := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/_sim/services", `{"id":"` + newService + `","project_id":"` + project + `"}`, 201, `"approval_enabled":true`},
		{"POST", "/_sim/services", `{"id":"x"}`, 400, "project_id"},
		{"POST", "/_sim/gateways", `{"id":"g","project_id":"` + project + `","service_id":"` + newService + `"}`, 201, newService},
		{"POST", "/_sim/connections", `{"target":"g","id":"` + endpoint + `","domain_id":"` + domain + `"}`, 201, `"state":"pendingAcceptance"`},
		{"POST", "/_sim/connections", `{"target":"nobody"}`, 404, "service or gateway"},
		{"POST", "/_sim/connections", `{"taget":"g"}`, 400, "taget"},
		{"GET", "/_sim/connections/" + endpoint, "", 200, domain},
		{"PUT", "/_sim/connections/" + endpoint, `{"state":"failed"}`, 200, `"state":"failed"`},
		{"PUT", "/_sim/connections/" + endpoint, `{}`, 400, "is required"},
		{"PUT", "/_sim/connections/" + endpoint, `{"domain_id":"` + other + `","marker_id":77,"created_at":"2026-01-02T03:04:05Z"}`, 200, `"domain_id":"` + other + `","state":"failed"`},
		{"GET", connectionsOf(newService), "", 200, `"marker_id":77,"created_at":"2026-01-02T03:04:05Z"`},
		{"PUT", "/_sim/connections/x", `{"domain_id":"` + other + `"}`, 404, "connection not found"},
		{"PUT", "/_sim/services/" + newService, `{"approval_enabled":false}`, 204, ""},
		{"GET", "/v1/" + project + "/vpc-endpoint-services/" + newService, "", 200, `"approval_enabled":false`},
		{"POST", "/_sim/connections", `{"target":"` + newService + `"}`, 201, `"state":"accepted"`},
		{"PUT", "/_sim/services/" + newService, `{}`, 400, "approval_enabled is required"},
		{"PUT", "/_sim/services/x", `{"approval_enabled":true}`, 404, "service not found"},
		{"POST", "/_sim/faults", `{"api":"vpcep","kind":"missing-rows","rows":2,"count":1}`, 201, `"rows":2`},
		{"POST", "/_sim/faults", `{"kind":"duplicate-rows","field":"marker_id"}`, 201, `"field":"marker_id"`},
		{"POST", "/_sim/faults", `{"kind":"duplicate-rows","field":"color"}`, 400, "use one of domain_id"},
		{"DELETE", "/_sim/faults", "", 204, ""},
		{"DELETE", "/_sim/counters", "", 204, ""},
		{"PUT", "/_sim/connections/x", `{"state":"failed"}`, 404, "connection not found"},
		{"GET", "/_sim/state", "", 200, `"id":"g"`},
		{"POST", "/_sim/faults", `{"fault":"vpcep:throttle-400:count=1"}`, 201, `"kind":"throttle-400"`},
		{"POST", "/_sim/faults", `{"api":"vpcep","kind":"slow","delay":"1ms","for":"1m"}`, 201, `"delay":"1ms"`},
		{"POST", "/_sim/faults", `{"fault":"vpcep:slow","count":1}`, 400, "cannot be combined with other members"},
		{"POST", "/_sim/faults", `{"kind":"slow","delay":"1"}`, 400, "delay: invalid duration"},
		{"POST", "/_sim/faults", `{"kind":"slo"}`, 400, "unknown kind"},
		{"GET", connectionsOf(newService), "", 400, "EndPoint.0022"},
		{"GET", connectionsOf(newService), "", 200, endpoint},
		{"GET", "/_sim/faults", "", 200, `[{"api":"vpcep","kind":"slow"`},
		{"GET", "/_sim/counters", "", 200, `"vpcep ListServiceConnections":2`},
		{"GET", "/_sim/counters", "", 200, `"status":400,"fault":"throttle-400"`},
		{"DELETE", "/_sim/counters", "", 204, ""},
		{"GET", "/_sim/counters", "", 200, `"calls":{}`},
		{"DELETE", "/_sim/faults", "", 204, ""},
		{"GET", "/_sim/faults", "", 200, "[]"},
		{"DELETE", "/_sim/connections/" + endpoint, "", 204, ""},
		{"DELETE", "/_sim/connections/" + endpoint, "", 404, "connection not found"},
		{"GET", "/_sim/connections/" + endpoint, "", 404, "connection not found"},
		{"GET", "/_sim/nothing", "", 404, ""},
	}
	for i, step := range steps {
		got := p.call(t, step.method, step.path, step.body)
		if got.status != step.status || !strings.Contains(got.text, step.want) {
			t.Fatalf("step %d, %s %s %s: %d %s, want %d with %q in it", i, step.method, step.path, step.body, got.status, got.text, step.status, step.want)
		}
	}
}

func TestNoAdminUnlessWanted(t *testing.T) {
	t.Parallel()
	p := startLoose(t, simulator.Config{})
	p.call(t, "GET", "/_sim/state", "").want(t, 404, "APIGW.0101")
}

func TestConnectAndDelete(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{Delays: simulator.Delays{Delete: time.Second}})
	if c := p.Connect("nobody", simulator.Connection{}); c.ID != "" {
		t.Errorf("a connection to nobody: %+v", c)
	}
	first := p.Connect(serviceID, simulator.Connection{ID: endpoint, DomainID: domain})
	again := p.Connect(serviceID, simulator.Connection{ID: endpoint, DomainID: other})
	if again.DomainID != first.DomainID {
		t.Errorf("a second endpoint of the same id: %+v", again)
	}
	if open := p.Connect(openID, simulator.Connection{}); open.State != simulator.Accepted {
		t.Errorf("without approval it is %s, want accepted", open.State)
	}
	later := p.Connect(serviceID, simulator.Connection{CreatedAt: p.clock.Now().Add(time.Minute)})
	if _, found := p.Connection(later.ID); found {
		t.Error("an endpoint of the future is there")
	}
	p.clock.pass(time.Minute)
	if c, _ := p.Connection(later.ID); c.State != simulator.PendingAcceptance {
		t.Errorf("it is %q now, want pending", c.State)
	}
	p.Delete(endpoint)
	if c, _ := p.Connection(endpoint); c.State != simulator.Deleting {
		t.Errorf("it is %q, want deleting", c.State)
	}
	p.clock.pass(time.Second)
	if got := p.call(t, "GET", connectionsOf(serviceID)+"?id="+endpoint, ""); fmt.Sprint(got.body["total_count"]) != "0" {
		t.Errorf("the list shows %s, want nothing", got.text)
	}
	if p.Delete(endpoint) || p.SetState("nobody", simulator.Accepted) {
		t.Error("what is not there was changed")
	}
}

func TestAcceptEnds(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.Connect(serviceID, simulator.Connection{ID: endpoint, AcceptEnds: simulator.Failed})
	p.call(t, "POST", connectionsOf(serviceID)+"/action", action("receive", endpoint)).want(t, 200, "")
	if c, _ := p.Connection(endpoint); c.State != simulator.Failed {
		t.Errorf("it is %s, want failed", c.State)
	}
}

// TestConcurrentAccepts: one of many concurrent calls has an effect.
func TestConcurrentAccepts(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{Admin: true, Journal: 5})
	p.Connect(serviceID, simulator.Connection{ID: endpoint})
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			p.Inject(simulator.Fault{Kind: simulator.StaleList, Probability: 0.5})
			if _, err := p.send("POST", connectionsOf(serviceID)+"/action", action("receive", endpoint)); err != nil {
				t.Error(err)
			}
			if _, err := p.send("GET", connectionsOf(serviceID), ""); err != nil {
				t.Error(err)
			}
			if i%8 == 0 {
				p.Counters()
				p.Connections("")
			}
		})
	}
	all.Wait()
	c := p.Counters()
	if c.Count(simulator.EffectAccept, endpoint) != 1 || c.Repeats != 31 || c.Total(simulator.VPCEP) != 64 || c.Total("") != 64 || len(c.Journal) != 5 {
		t.Errorf("accepts %d, repeats %d, calls %d, journal %d; want 1, 31, 64, 5", c.Count(simulator.EffectAccept, ""), c.Repeats, c.Total(simulator.VPCEP), len(c.Journal))
	}
}
