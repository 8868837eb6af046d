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
	}{
		{"nothing", one, nil, nil, nil, false},
		{"one of two servers", one, []string{row("h1", "v1")}, nil, []string{"h1/v1"}, false},
		{"both", one, []string{row("h2", "v1"), row("h1", "v1")}, nil, []string{"h1/v1", "h2/v1"}, true},
		{"both, one was there", one, []string{row("h1", "v1"), row("H2", "v1")}, []string{"h1/v1"}, []string{"H2/v1", "h1/v1"}, true},
		{"both were there", one, []string{row("h1", "v1"), row("h2", "v1")}, []string{"h2/v1", "h1/v1"}, []string{"h1/v1", "h2/v1"}, false},
		{"others are left out", one, []string{row("h1", "v1"), row("h2", "v9"), row("h9", "v1")}, nil, []string{"h1/v1"}, false},
		{"by VPC", vpcs, []string{row("h1", "v1"), row("h2", "v2")}, nil, []string{"h1/v1", "h2/v2"}, true},
		{"by VPC, one is missing", vpcs, []string{row("h1", "v1")}, nil, []string{"h1/v1"}, false},
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
			if d := cmp.Diff(tt.keys, got.Keys); d != "" || err != nil || (got.Created != nil) != tt.created {
				t.Errorf("created %v, %v, keys (-want +got):\n%s", got.Created, err, d)
			}
		})
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
		{"no expiry", "t", `{"token":{}}`, defaultLife, defaultLife - renewMargin, false},
		{"expired, so a clock is wrong", "t", `{"token":{"expires_at":"2025-01-01T00:00:00.000000Z"}}`, defaultLife, defaultLife - renewMargin, false},
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
