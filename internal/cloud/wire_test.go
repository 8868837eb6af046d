package cloud

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestCallsEqualRecordings makes our calls against a real server and compares
// them with what Huawei's own client sends.
func TestCallsEqualRecordings(t *testing.T) {
	t.Parallel()
	list, _, _ := recordings(t)
	hosts := approval.Target{Name: "hosts", Kind: approval.HSS, ProjectID: project}
	functions := approval.Target{Name: "functions", Kind: approval.FunctionGraph, ProjectID: project}
	insight := approval.Target{Name: "insight", Kind: approval.DataArtsInsight, ProjectID: project, WorkspaceID: "workspace-id"}
	pending := filter{id: endpoint, status: approval.Pending}
	tests := []struct {
		api, note, answer string
		call              func(context.Context, *Client) error
		query             func(url.Values) // takes from the recording's query what we do not send
	}{
		{"AcceptOrRejectEndpoint", "action receive", rowsJSON(0), func(ctx context.Context, c *Client) error {
			return c.Act(ctx, new(connect(service())), approval.Accept)
		}, nil},
		{"AcceptOrRejectEndpoint", "action reject", rowsJSON(0), func(ctx context.Context, c *Client) error {
			return c.Act(ctx, new(connect(service())), approval.Reject)
		}, nil},
		{"ListServiceConnections", "no query parameter", rowsJSON(0), func(ctx context.Context, c *Client) error {
			_, _, err := c.serviceConnections(ctx, project, serviceID, filter{})
			return err
		}, nil},
		{"ListServiceConnections", "every query parameter", rowsJSON(0), func(ctx context.Context, c *Client) error {
			f := pending
			f.limit = vpcepPage
			_, _, err := c.serviceConnections(ctx, project, serviceID, f)
			return err
		}, func(q url.Values) {
			for _, name := range []string{"marker_id", "offset", "sort_dir", "sort_key"} {
				q.Del(name)
			}
		}},
		{"ListEndpointConnections", "no query parameter", rowsJSON(0), func(ctx context.Context, c *Client) error {
			_, _, err := c.gatewayConnections(ctx, project, gatewayID, filter{})
			return err
		}, nil},
		{"ListEndpointConnections", "every query parameter", rowsJSON(0), func(ctx context.Context, c *Client) error {
			f := pending
			f.limit = apigPage
			_, _, err := c.gatewayConnections(ctx, project, gatewayID, f)
			return err
		}, func(q url.Values) { q.Del("marker_id"); q.Del("offset") }},
		{"AcceptOrRejectEndpointConnections", "action receive", rowsJSON(0), func(ctx context.Context, c *Client) error {
			return c.Act(ctx, new(connect(gateway())), approval.Accept)
		}, nil},
		{"CreateVpcEndpoint", "every field", `{"endpoints":[],"address":"a.b"}`, func(ctx context.Context, c *Client) error {
			_, err := c.Create(ctx, approval.Request{Target: functions, Creation: approval.Creation{FunctionGraph: &approval.FunctionGraphEndpoint{
				VPCID: "vpc-id", SubnetID: "subnet-id", Flavor: "default", XRole: "role",
			}}})
			return err
		}, nil},
		{"CreateVpcEndpoint", "200, no body", "", func(ctx context.Context, c *Client) error {
			_, err := c.Create(ctx, approval.Request{Target: hosts, Creation: approval.Creation{HSS: &approval.HSSEndpoints{
				HostIDs: []string{"71a15ecc-049f-4cca-bd28-5e90aca1817f"},
				VPCs:    []approval.HSSVPC{{VPCID: "vpc-id", SubnetIDs: []string{"subnet-id"}}},
			}}})
			return err
		}, nil},
		{"ShowEndpointStatus", "", `{"data_list":[]}`, func(ctx context.Context, c *Client) error {
			_, err := c.hostEndpoints(ctx, hosts, hssQuery{[]string{"h"}, []string{"v"}})
			return err
		}, nil},
		{"VerifyAndCreateVpcEp", "", `{"id":"i"}`, func(ctx context.Context, c *Client) error {
			_, err := c.Create(ctx, approval.Request{Target: insight, Creation: approval.Creation{DataArtsInsight: &approval.DataArtsInsightEndpoint{
				DSType: "DWS", ServerID: serviceID,
			}}})
			return err
		}, nil},
		{"KeystoneCreateUserTokenByPassword", "SDK signs", "{}", func(ctx context.Context, c *Client) error {
			_, err := c.iamToken(ctx, Credentials{User: "user", Password: "secret", Domain: "account"}, "")
			return err
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.api+" "+tt.note, func(t *testing.T) {
			t.Parallel()
			var got *http.Request
			var body []byte
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r
				body, _ = io.ReadAll(r.Body)
				w.Header().Set("X-Subject-Token", "t")
				_, _ = io.WriteString(w, tt.answer)
			}))
			t.Cleanup(server.Close)
			c := client(t, http.DefaultTransport, func(cfg *Config) {
				cfg.Endpoints = map[string]string{}
				for _, api := range APIs() {
					cfg.Endpoints[api] = server.URL
				}
			})
			if err := tt.call(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			for _, rec := range list {
				if rec.API != tt.api || !strings.HasPrefix(rec.Note, tt.note) || tt.note == "" && rec.Note != "" {
					continue
				}
				want := rec.Requests[0]
				if got.Method != want.Method || got.URL.EscapedPath() != want.Path {
					t.Errorf("got %s %s, want %s %s", got.Method, got.URL.EscapedPath(), want.Method, want.Path)
				}
				q, _ := url.ParseQuery(want.RawQuery)
				if tt.query != nil {
					tt.query(q)
				}
				if got.URL.RawQuery != q.Encode() {
					t.Errorf("query %q, want %q", got.URL.RawQuery, q.Encode())
				}
				if d := cmp.Diff(want.Body, string(body)); d != "" {
					t.Errorf("body (-want +got):\n%s", d)
				}
				for _, name := range []string{"Content-Type", "X-Project-Id", "X-Workspace-Id"} {
					if got.Header.Get(name) != want.Headers.Get(name) {
						t.Errorf("%s: %q, want %q", name, got.Header.Get(name), want.Headers.Get(name))
					}
				}
				return
			}
			t.Fatal("there is no such recording")
		})
	}
}
