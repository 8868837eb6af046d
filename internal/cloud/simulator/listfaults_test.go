package simulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// idsOf returns the ids in a response, in order, and its total.
func idsOf(t *testing.T, r reply, total string) ([]string, int) {
	t.Helper()
	var out []string
	rows, _ := dig(r.body, "connections").([]any)
	for i := range rows {
		out = append(out, fmt.Sprint(dig(rows[i], "id")))
	}
	n, err := json.Number(fmt.Sprint(dig(r.body, total))).Int64()
	if err != nil {
		t.Fatalf("%s: %v in %s", total, err, r.text)
	}
	return out, int(n)
}

// TestListsThatLie: each list fault changes the lists of both APIs, and nothing else.
func TestListsThatLie(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault simulator.Fault
		query string
		ids   string // the numbers of the rows, newest first
		total int
		text  string // in the answer
	}{
		{simulator.Fault{Kind: simulator.MissingRows}, "?limit=10", "", 4, ""},
		{simulator.Fault{Kind: simulator.MissingRows, Rows: 1}, "?limit=10", "3 2 1", 4, ""},
		{simulator.Fault{Kind: simulator.MissingRows, Rows: 9}, "?limit=10", "", 4, ""},
		{simulator.Fault{Kind: simulator.ShiftedRows}, "?limit=2", "3 2", 4, ""},
		{simulator.Fault{Kind: simulator.ShiftedRows}, "?limit=2&offset=2", "0", 4, ""},
		{simulator.Fault{Kind: simulator.SmallPages}, "?limit=10", "3 2", 4, ""},
		{simulator.Fault{Kind: simulator.SmallPages, Rows: 3}, "?limit=10&offset=1", "2 1 0", 4, ""},
		{simulator.Fault{Kind: simulator.LargePages}, "?limit=1", "3 2 1 0", 4, ""},
		{simulator.Fault{Kind: simulator.DuplicateRows}, "?limit=10", "3 2 1 0 3", 5, `"domain_id":"0e9dfd51d1124e8d8498dce894923a0d"`},
		{simulator.Fault{Kind: simulator.DuplicateRows, Field: "marker_id"}, "?limit=10", "3 2 1 0 3", 5, `"marker_id":40`},
		{simulator.Fault{Kind: simulator.DuplicateRows, Field: "status"}, "?limit=10", "3 2 1 0 3", 5, `"status":"accepted"`},
		{simulator.Fault{Kind: simulator.DuplicateRows, Field: "none"}, "?limit=10", "3 2 1 0 3", 5, ""},
		{simulator.Fault{Kind: simulator.DuplicateMember}, "?limit=10", "3 2 1 0", 4, `,"domain_id":"0e9dfd51d1124e8d8498dce894923a0d"}`},
		{simulator.Fault{Kind: simulator.DuplicateMember, Field: "status"}, "?limit=10", "3 2 1 0", 4, `,"status":"accepted"}`},
		{simulator.Fault{Kind: simulator.DelayedRows}, "?limit=10", "2 1 0", 3, ""},
		{simulator.Fault{Kind: simulator.DelayedRows, Delay: time.Second}, "?limit=10", "3 2 1 0", 4, ""},
		{simulator.Fault{Kind: simulator.WrongIdentity}, "?limit=10", "3 2 1 0", 4, `"domain_id":"0e9dfd51d1124e8d8498dce894923a0d"`},
		{simulator.Fault{Kind: simulator.WrongIdentity, Field: "marker_id"}, "?limit=10", "3 2 1 0", 4, `"marker_id":10`},
		{simulator.Fault{Kind: simulator.WrongIdentity, Field: "created_at"}, "?limit=10", "3 2 1 0", 4, `"created_at":"2018-01-30T07:42:01Z"`},
	}
	for _, tt := range tests {
		t.Run(string(tt.fault.Kind)+" "+tt.fault.Field+tt.query, func(t *testing.T) {
			t.Parallel()
			p := start(t, simulator.Config{SmallMarkers: true})
			number := map[string]string{}
			for i := range 4 { // the last one is 10 s old
				c := p.Connect(serviceID, simulator.Connection{DomainID: domain, State: simulator.PendingAcceptance, CreatedAt: p.clock.Now().Add(time.Duration(3-i) * -time.Minute)})
				number[c.ID] = fmt.Sprint(i)
			}
			p.clock.pass(10 * time.Second)
			p.Inject(tt.fault)
			for _, list := range []struct{ path, total string }{{connectionsOf(serviceID), "total_count"}, {gatewayConnections(sharedID), "total"}} {
				got := p.call(t, "GET", list.path+tt.query, "")
				ids, total := idsOf(t, got, list.total)
				for i, id := range ids {
					ids[i] = number[id]
				}
				if strings.Join(ids, " ") != tt.ids || total != tt.total || !strings.Contains(got.text, tt.text) {
					t.Errorf("rows %v of %d, want %s of %d with %s:\n%s", ids, total, tt.ids, tt.total, tt.text, got.text)
				}
			}
			before := p.Counters().Faults[string(tt.fault.Kind)]
			p.call(t, "POST", connectionsOf(serviceID)+"/action", action("receive", endpoint))
			if after := p.Counters().Faults[string(tt.fault.Kind)]; before != 2 || after != before {
				t.Errorf("met %d lists and %d others", before, after-before)
			}
		})
	}
}

// TestListsOfCreationsThatLie: list faults change the lists of endpoints and servers, too.
func TestListsOfCreationsThatLie(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.call(t, "POST", "/v2/"+project+"/fgs/vpc-endpoint", `{"vpc_id":"v","subnet_id":"s"}`).want(t, 200, "")
	hss := "/v5/" + project + "/host-management/vpc-endpointes"
	p.call(t, "POST", hss, `{"host_id_list":["h1","h2"]}`).want(t, 200, "")
	for _, fault := range []struct {
		kind      simulator.FaultKind
		endpoints string
		hosts     string
	}{
		{simulator.MissingRows, `{"endpoints":[],"total_count":1}`, `{"data_list":[]}`},
		{simulator.DelayedRows, `{"endpoints":[],"total_count":0}`, `{"data_list":[]}`},
		{simulator.DuplicateMember, `,"status":"pendingAcceptance"}`, `,"status":"pendingAcceptance"}`},
	} {
		p.ClearFaults()
		p.Inject(simulator.Fault{Kind: fault.kind})
		for path, want := range map[[2]string]string{{"GET", "/v1/" + project + "/vpc-endpoints"}: fault.endpoints, {"POST", hss + "/batch-query"}: fault.hosts} {
			body := ""
			if path[0] == "POST" {
				body = `{"host_id_list":["h1","h2"]}`
			}
			if got := p.call(t, path[0], path[1], body); !strings.Contains(got.text, want) {
				t.Errorf("%s of %s: %s, want %s", fault.kind, path[1], got.text, want)
			}
		}
	}
}

// TestPartialContent: the operation succeeds with the status 206.
func TestPartialContent(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.Connect(serviceID, simulator.Connection{ID: endpoint})
	p.Inject(simulator.Fault{Kind: simulator.Partial206})
	for _, got := range []reply{
		p.call(t, "GET", connectionsOf(serviceID), ""),
		p.call(t, "POST", connectionsOf(serviceID)+"/action", action("receive", endpoint)),
	} {
		if got.status != 206 || !strings.Contains(got.text, endpoint) {
			t.Errorf("%d %s", got.status, got.text)
		}
	}
	if n := p.Counters().Count(simulator.EffectAccept, endpoint); n != 1 {
		t.Errorf("%d accepts", n)
	}
}

// TestOperatorFaults: each API has its own codes for operator faults.
func TestOperatorFaults(t *testing.T) {
	t.Parallel()
	auth := simulator.DefaultAuth()
	calls := map[string][3]string{
		simulator.VPCEP:           {"GET", connectionsOf(serviceID), ""},
		simulator.APIG:            {"GET", gatewayConnections(gatewayID), ""},
		simulator.FunctionGraph:   {"POST", "/v2/" + project + "/fgs/vpc-endpoint", `{"vpc_id":"v","subnet_id":"s"}`},
		simulator.HSS:             {"POST", "/v5/" + project + "/host-management/vpc-endpointes/batch-query", "{}"},
		simulator.DataArtsInsight: {"POST", "/v1/" + project + "/connections/vpc-endpoint", "{}"},
		simulator.IAM:             {"POST", "/v3/auth/tokens", tokenRequest(auth.User, auth.Password, "")},
	}
	for kind, want := range map[simulator.FaultKind]map[string]string{
		simulator.Permission: {
			simulator.VPCEP: "403 EndPoint.0004", simulator.APIG: "403 APIC.7106", simulator.FunctionGraph: "403 FSS.0403",
			simulator.HSS: "400 HSS.0013", simulator.DataArtsInsight: "403 DataArtsInsight.20010003", simulator.IAM: "403 IAM.0003",
		},
		simulator.Quota: {
			simulator.VPCEP: "400 EndPoint.1018", simulator.APIG: "403 APIGW.0501", simulator.FunctionGraph: "400 FSS.1047",
			simulator.HSS: "400 HSS.0014", simulator.DataArtsInsight: "403 APIGW.0501", simulator.IAM: "403 APIGW.0501",
		},
		simulator.UnknownService: {
			simulator.VPCEP: "404 EndPoint.0005", simulator.APIG: "404 APIC.7302", simulator.FunctionGraph: "404 FSS.0404",
			simulator.HSS: "400 HSS.0011", simulator.DataArtsInsight: "400 DataArtsInsight.24150005", simulator.IAM: "404 IAM.0004",
		},
		simulator.WrongProject: {
			simulator.VPCEP: "403 APIGW.0302", simulator.APIG: "403 APIGW.0302", simulator.FunctionGraph: "403 APIGW.0302",
			simulator.HSS: "403 APIGW.0302", simulator.DataArtsInsight: "403 APIGW.0302", simulator.IAM: "403 APIGW.0302",
		},
	} {
		p := startLoose(t, simulator.Config{})
		p.Inject(simulator.Fault{Kind: kind})
		for api, c := range calls {
			got := p.call(t, c[0], c[1], c[2])
			if said := fmt.Sprintf("%d %s", got.status, got.code()); said != want[api] {
				t.Errorf("%s of %s: %s, want %s", kind, api, said, want[api])
			}
		}
		// One of two APIs alone.
		p.ClearFaults()
		p.Inject(simulator.Fault{API: simulator.VPCEP, Kind: kind})
		p.call(t, "GET", gatewayConnections(gatewayID), "").want(t, 200, "")
	}
}

// TestIdentityThatChanges: another endpoint takes over the id at a given time.
func TestIdentityThatChanges(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{SmallMarkers: true})
	if c := p.Connect(serviceID, simulator.Connection{ID: endpoint, DomainID: domain, State: simulator.PendingAcceptance}); c.MarkerID != 1 {
		t.Errorf("marker id %d, want a small one", c.MarkerID)
	}
	later := p.clock.Now().Add(20 * time.Second)
	if !p.Reidentify(endpoint, simulator.Identity{At: later, DomainID: other, MarkerID: 99}) || p.Reidentify("nobody", simulator.Identity{}) {
		t.Error("which connections there are")
	}
	for _, want := range []string{domain + " 1", other + " 99"} {
		rows := p.call(t, "GET", connectionsOf(serviceID)+"?id="+endpoint, "").body
		row := dig(rows, "connections", 0)
		if got := fmt.Sprint(dig(row, "domain_id"), " ", dig(row, "marker_id")); got != want || dig(row, "status") != simulator.PendingAcceptance {
			t.Errorf("%s in state %v, want %s", got, dig(row, "status"), want)
		}
		p.clock.pass(20 * time.Second)
	}
	p.call(t, "GET", connectionsOf(serviceID)+"?marker_id=99", "").want(t, 200, "")
	if c, _ := p.Connection(endpoint); c.DomainID != other || c.MarkerID != 99 {
		t.Errorf("it is %+v", c)
	}
}

// TestApprovalSwitchedOff: later connections need no decision.
func TestApprovalSwitchedOff(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	if !p.SetApproval(serviceID, false) || p.SetApproval("nobody", false) {
		t.Error("which services there are")
	}
	if got := dig(p.call(t, "GET", "/v1/"+project+"/vpc-endpoint-services/"+serviceID, "").body, "approval_enabled"); got != false {
		t.Errorf("approval_enabled %v", got)
	}
	if c := p.Connect(serviceID, simulator.Connection{}); c.State != simulator.Accepted {
		t.Errorf("connected in state %s", c.State)
	}
}

// TestDefaultCloudListsItsProjects: clients find their project in the list.
func TestDefaultCloudListsItsProjects(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Config{Auth: simulator.Auth{None: true}})
	sim.AddService(simulator.Service{ID: serviceID, ProjectID: project})
	sim.AddService(simulator.Service{ID: openID, ProjectID: project})
	sim.AddGateway(simulator.Gateway{ID: gatewayID, ProjectID: other})
	projects := func() string {
		w := httptest.NewRecorder()
		sim.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v3/projects", nil))
		return w.Body.String()
	}
	got := projects()
	if strings.Count(got, `"name":"cn-north-4"`) != 2 || !strings.Contains(got, `"id":"`+project+`"`) || !strings.Contains(got, `"id":"`+other+`"`) {
		t.Errorf("projects %s", got)
	}
	sim.AddProject(simulator.Project{ID: domain, Name: "cn-east-3"})
	if got := projects(); strings.Contains(got, project) || !strings.Contains(got, "cn-east-3") {
		t.Errorf("projects that were added: %s", got)
	}
}

func TestFaultsOfListsAreChecked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"vpcep:missing-rows:rows=2":                              "",
		"*/ListEndpoints:duplicate-rows:field=none":              "",
		"apig:wrong-identity:field=marker_id,after=20s":          "",
		"vpcep:slow:rows=2":                                      "has no key rows",
		"vpcep:missing-rows:rows=-1":                             "must not be negative",
		"vpcep:missing-rows:rows=x":                              "invalid value",
		"vpcep:wrong-identity:field=status":                      "use one of domain_id, marker_id, created_at",
		"vpcep:missing-rows:field=domain_id":                     "it has none",
		"vpcep/AcceptOrRejectEndpoint:missing-rows":              "affects only lists",
		"vpcep/ListServiceDetails:duplicate-member:field=status": "affects only lists",
	} {
		_, err := simulator.ParseFault(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
