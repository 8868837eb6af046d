package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

func TestLookFunctionGraph(t *testing.T) {
	t.Parallel()
	const list = `{"total_count":6,"endpoints":[
		{"id":"e0","status":"accepted","service_type":"gateway","vpc_id":"vpc"},
		{"id":"e1","status":"accepted","vpc_id":"vpc","subnet_id":"net","created_at":"2026-01-01T00:00:00Z"},
		{"id":"e2","status":"creating","vpc_id":"vpc","subnet_id":"net","created_at":"2026-01-03T00:00:00Z"},
		{"id":"e3","status":"accepted","vpc_id":"vpc","created_at":"2026-01-02T00:00:00Z"},
		{"id":"e4","status":"accepted","vpc_id":"vpc","subnet_id":"other"},
		{"id":"e5","status":"accepted","vpc_id":"other","subnet_id":"net"}]}`
	keys := []string{"e1", "e2", "e3"}
	there := &approval.Created{EndpointID: "e2", State: approval.Creating}
	tests := []struct {
		name, answer string
		before       []string
		want         approval.Look
	}{
		{"nothing there", `{"endpoints":[],"total_count":0}`, nil, approval.Look{}},
		{"nothing new", list, keys, approval.Look{Keys: keys, Existing: there}},
		{"one is new", list, []string{"e2", "e3"}, approval.Look{Keys: keys, Existing: there, Created: &approval.Created{EndpointID: "e1", State: approval.Accepted}}},
		{"the youngest of several", list, nil, approval.Look{Keys: keys, Existing: there, Created: there}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
				if got := r.URL.Host + r.URL.String()[len("https://")+len(r.URL.Host):]; got != "vpcep.cn-north-4.myhuaweicloud.com/v1/"+project+"/vpc-endpoints?limit=1000&vpc_id=vpc" {
					t.Errorf("called %s", got)
				}
				return says(200, tt.answer)
			}))
			got, err := c.Look(t.Context(), creation(approval.FunctionGraph), tt.before)
			if d := cmp.Diff(tt.want, got); d != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
		})
	}
}

// TestFunctionGraphIsThere: a conflict is what was wanted, and is told as such.
func TestFunctionGraphIsThere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, list string
		status     int
		want       approval.Created
	}{
		{"and shown", `{"endpoints":[{"id":"e1","status":"accepted","vpc_id":"vpc","subnet_id":"net"}],"total_count":1}`, 200, approval.Created{Existing: true, EndpointID: "e1", State: approval.Accepted}},
		{"and not shown", `{"endpoints":[],"total_count":0}`, 200, approval.Created{Existing: true}},
		{"and cannot be read", errorJSON("EndPoint.0004"), 403, approval.Created{Existing: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
				if r.Method == http.MethodPost {
					return says(409, errorJSON("FSS.0409"))
				}
				return says(tt.status, tt.list)
			}))
			got, err := c.Create(t.Context(), creation(approval.FunctionGraph))
			if d := cmp.Diff(tt.want, got); d != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
		})
	}
}

func TestLookHSS(t *testing.T) {
	t.Parallel()
	row := func(host, vpc string) string {
		return fmt.Sprintf(`{"host_id":%q,"vpc_id":%q,"status":"anything"}`, host, vpc)
	}
	one := &approval.HSSEndpoints{HostIDs: []string{"h1", "h2"}, VPCs: []approval.HSSVPC{{VPCID: "v1"}}}
	vpcs := &approval.HSSEndpoints{VPCs: []approval.HSSVPC{{VPCID: "v1"}, {VPCID: "v2"}}}
	tests := []struct {
		name    string
		want    *approval.HSSEndpoints
		rows    []string
		before  []string
		keys    []string
		created bool
		partial bool
	}{
		{"nothing", one, nil, nil, nil, false, false},
		{"one of two servers", one, []string{row("h1", "v1")}, nil, []string{"h1/v1"}, false, true},
		{"one of two servers, which was there", one, []string{row("h1", "v1")}, []string{"h1/v1"}, []string{"h1/v1"}, false, false},
		{"both", one, []string{row("h2", "v1"), row("h1", "v1")}, nil, []string{"h1/v1", "h2/v1"}, true, false},
		{"both, one was there", one, []string{row("h1", "v1"), row("H2", "v1")}, []string{"h1/v1"}, []string{"H2/v1", "h1/v1"}, true, false},
		{"both were there", one, []string{row("h1", "v1"), row("h2", "v1")}, []string{"h2/v1", "h1/v1"}, []string{"h1/v1", "h2/v1"}, false, false},
		{"others are left out", one, []string{row("h1", "v1"), row("h2", "v9"), row("h9", "v1")}, nil, []string{"h1/v1"}, false, true},
		{"by VPC", vpcs, []string{row("h1", "v1"), row("h2", "v2")}, nil, []string{"h1/v1", "h2/v2"}, true, false},
		{"by VPC, one is missing", vpcs, []string{row("h1", "v1")}, nil, []string{"h1/v1"}, false, true},
		{"by VPC, a row does not say which", vpcs, []string{row("h1", "v1"), row("h2", "")}, nil, []string{"h1/v1"}, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := client(t, script(func(*http.Request, string) (*http.Response, error) {
				return says(200, `{"data_list":[`+strings.Join(tt.rows, ",")+`]}`)
			}))
			req := creation(approval.HSS)
			req.Creation.HSS = tt.want
			got, err := c.Look(t.Context(), req, tt.before)
			if d := cmp.Diff(tt.keys, got.Keys); d != "" || err != nil || (got.Created != nil) != tt.created || got.Partial != tt.partial {
				t.Errorf("created %v, partial %t, %v, keys (-want +got):\n%s", got.Created, got.Partial, err, d)
			}
		})
	}
}

// TestHSSNamesTheEnterpriseProject: both calls carry it if the target has one, and
// name nothing else.
func TestHSSNamesTheEnterpriseProject(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"": "", "0": "enterprise_project_id=0", "all_granted_eps": "enterprise_project_id=all_granted_eps",
		project: "enterprise_project_id=" + project,
	} {
		calls := 0
		c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
			if calls++; r.URL.RawQuery != want {
				t.Errorf("%s asked %q, want %q", r.URL.Path, r.URL.RawQuery, want)
			}
			if strings.Contains(body, "vpc") || !strings.Contains(body, `"host_id_list":["h1"]`) {
				t.Errorf("sent %s", body)
			}
			if strings.HasSuffix(r.URL.Path, "batch-query") {
				return says(200, `{"data_list":[]}`)
			}
			return says(200, "")
		}))
		req := creation(approval.HSS)
		req.Target.EnterpriseProjectID = id
		_, err1 := c.Create(t.Context(), req)
		_, err2 := c.Look(t.Context(), req, nil)
		if err1 != nil || err2 != nil || calls != 2 {
			t.Errorf("%q: %v, %v, %d calls", id, err1, err2, calls)
		}
	}
	bad := creation(approval.HSS).Target
	bad.EnterpriseProjectID = "all_granted_ep"
	if _, err := New(Config{Region: "cn-north-4", Auth: Auth{Mode: ModeAKSK, Source: aksk}, Targets: approval.Targets{bad}}); err == nil {
		t.Error("a slip of the pen is taken")
	}
}

// TestHSSListIsReadAsStrictly: there is no total to be held to; all else is.
func TestHSSListIsReadAsStrictly(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"a row without a server": `{"data_list":[{"vpc_id":"v1","status":"x"}]}`,
		"a member twice":         `{"data_list":[{"host_id":"h1","vpc_id":"v1","host_id":"h2"}]}`,
		"a member in capitals":   `{"data_list":[{"host_id":"h1","VPC_ID":"v1"}]}`,
		"the list twice":         `{"data_list":[{"host_id":"h1"}],"data_list":[]}`,
		"no list":                `{"data_list":{}}`,
	} {
		w := &watcher{}
		c := client(t, script(func(*http.Request, string) (*http.Response, error) { return says(200, answer) }), func(cfg *Config) { cfg.Observer = w })
		look, err := c.Look(t.Context(), creation(approval.HSS), nil)
		if e, ok := asError(err); !ok || e.Code != CodeListIncomplete || !e.Retryable() || len(w.listed) != 1 {
			t.Errorf("%s: %+v, %v, told %q", name, look, err, w.listed)
		}
	}
}

// TestLookHSSChunks: no list of a query is longer than the API takes.
func TestLookHSSChunks(t *testing.T) {
	t.Parallel()
	hosts := ids(150)
	calls := 0
	c := client(t, script(func(_ *http.Request, body string) (*http.Response, error) {
		calls++
		var in struct {
			Hosts []string `json:"host_id_list"`
		}
		if err := json.Unmarshal([]byte(body), &in); err != nil || len(in.Hosts) == 0 || len(in.Hosts) > hssQueryIDs {
			t.Errorf("query with %d hosts, %v", len(in.Hosts), err)
		}
		var rows []string
		for _, h := range in.Hosts {
			rows = append(rows, fmt.Sprintf(`{"host_id":%q,"vpc_id":"v"}`, h))
		}
		return says(200, `{"data_list":[`+strings.Join(rows, ",")+`]}`)
	}))
	req := creation(approval.HSS)
	req.Creation.HSS = &approval.HSSEndpoints{HostIDs: hosts}
	got, err := c.Look(t.Context(), req, nil)
	if err != nil || len(got.Keys) != 150 || got.Created == nil || calls != 3 {
		t.Errorf("%d keys, created %v, %d calls, %v", len(got.Keys), got.Created, calls, err)
	}
}

func TestDataArtsInsight(t *testing.T) {
	t.Parallel()
	c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
		if r.Header.Get("X-Workspace-Id") != "w" || !strings.Contains(r.Header.Get("Authorization"), "x-workspace-id") {
			t.Errorf("headers %v", r.Header)
		}
		if body != `{"ds_type":"DWS","vpc_ep_server_name":"cn-north-4.a&b.`+serviceID+`"}`+"\n" {
			t.Errorf("body %q", body)
		}
		return says(200, `{"id":"c1","create_date":1660000000000,"update_date":"1660000000000","vpc_ep_client_id":"`+endpoint+`","vpc_ep_client_status":"accepted","scene":"dii"}`)
	}))
	req := creation(approval.DataArtsInsight)
	req.Creation.DataArtsInsight = &approval.DataArtsInsightEndpoint{DSType: "DWS", ServerName: "cn-north-4.a&b." + serviceID}
	got, err := c.Create(t.Context(), req)
	if d := cmp.Diff(approval.Created{ID: "c1", EndpointID: endpoint, State: approval.Accepted}, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	_, err = c.Look(t.Context(), req, nil)
	if e, ok := asError(err); !ok || !errors.Is(err, ErrNoReadBack) || e.Retryable() {
		t.Errorf("look: %v", err)
	}
}

func TestParametersOfAnotherKind(t *testing.T) {
	t.Parallel()
	c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
		t.Errorf("called %s", r.URL)
		return says(200, "")
	}))
	req := creation(approval.HSS)
	req.Target.Kind = approval.FunctionGraph
	for _, r := range []approval.Request{req, connect(service()), {Target: approval.Target{Kind: approval.HSS}}} {
		_, err1 := c.Create(t.Context(), r)
		_, err2 := c.Look(t.Context(), r, nil)
		for _, err := range []error{err1, err2} {
			if e, ok := asError(err); !ok || e.Retryable() || e.OutcomeUnknown() {
				t.Errorf("error %v", err)
			}
		}
	}
	if f, err := c.Facts(t.Context(), creation(approval.HSS)); err != nil || f.ReadAt.IsZero() || f.Found() {
		t.Errorf("facts of a creation: %+v, %v", f, err)
	}
}

// TestIAMToken reads what IAM says, and does without what it does not say.
func TestIAMToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name, value, body string
		life, renew       time.Duration
		fails             bool
	}{
		{"a day", "t", `{"token":{"expires_at":"2026-01-02T00:00:00.000000Z"}}`, 24 * time.Hour, 24*time.Hour - renewMargin, false},
		{"15 seconds", "t", `{"token":{"expires_at":"2026-01-01T00:00:15.000000Z"}}`, 15 * time.Second, 12 * time.Second, false},
		{"no expiry", "t", `{"token":{}}`, defaultTokenLife, defaultTokenLife - renewMargin, false},
		{"expired, so a clock is wrong", "t", `{"token":{"expires_at":"2025-01-01T00:00:00.000000Z"}}`, defaultTokenLife, defaultTokenLife - renewMargin, false},
		{"no token", "", `{"token":{"expires_at":"2026-01-02T00:00:00.000000Z"}}`, 0, 0, true},
		{"HTML", "t", `<html>`, 0, 0, true},
	}
	for _, tt := range tests {
		header := http.Header{"X-Subject-Token": {tt.value}}
		got, err := readToken(header, []byte(tt.body), now)
		if tt.fails {
			if err == nil {
				t.Errorf("%s: no error", tt.name)
			}
			continue
		}
		if err != nil || got.value != "t" || got.expires.Sub(now) != tt.life || got.renew.Sub(now) != tt.renew {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
}

// TestPasswordStaysSecret: IAM's answer quotes the password, and no error does.
func TestPasswordStaysSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, status := range []int{200, 201, 302, 400, 401, 403, 404, 429, 500, 503} {
			v := &vault{cred: Credentials{User: "user", Password: "canary", Domain: "d"}}
			c := client(t, script(func(_ *http.Request, body string) (*http.Response, error) {
				return says(status, `{"error":{"code":"canary","message":`+fmt.Sprintf("%q", body)+`}}`, "X-IAM-Trace-Id", "canary canary", "X-Request-Id", "", "Location", "https://canary")
			}), func(cfg *Config) { cfg.Auth = Auth{ModePassword, v.read} })
			_, err := c.Facts(t.Context(), connect(service()))
			e, ok := asError(err)
			if !ok || strings.Contains(fmt.Sprintf("%v %+v %#v %v", err, err, *e, e.Failure()), "canary") {
				t.Errorf("%d: %v", status, err)
			}
		}
	})
}
