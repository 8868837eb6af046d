package openapitest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const (
	services = "/v1/0123456789abcdef0123456789abcdef/vpc-endpoint-services"
	accept   = services + "/4189d3c2-8882-4871-a3c2-d380272eed88/connections/action"
	list     = services + "/4189d3c2-8882-4871-a3c2-d380272eed88/connections"
	insight  = "/v1/0123456789abcdef0123456789abcdef/connections/vpc-endpoint"
	function = "/v2/0123456789abcdef0123456789abcdef/fgs/vpc-endpoint"
	id       = "705290f3-0d00-41f2-aedc-71f09844e879"
)

func TestCheckRequest(t *testing.T) {
	t.Parallel()
	documents, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, method, path, body string
		headers                  []string
		want                     string // in the error; empty: none
	}{
		{"accept", "POST", accept, `{"action":"receive","endpoints":["` + id + `"]}`, nil, ""},
		{"with a charset", "POST", accept, `{"action":"reject","endpoints":["` + id + `"]}`, []string{"Content-Type", "application/json;charset=UTF-8"}, ""},
		{"accept is no verb", "POST", accept, `{"action":"accept","endpoints":["` + id + `"]}`, nil, "AcceptOrRejectEndpoint"},
		{"two endpoints", "POST", accept, `{"action":"receive","endpoints":["` + id + `","` + id + `"]}`, nil, "maxItems"},
		{"no endpoint", "POST", accept, `{"action":"receive","endpoints":[]}`, nil, "minItems"},
		{"an extra field", "POST", accept, `{"action":"receive","endpoints":["` + id + `"],"reason":"x"}`, nil, "reason"},
		{"a field in another case", "POST", accept, `{"Action":"receive","endpoints":["` + id + `"]}`, nil, "Action"},
		{"no body", "POST", accept, "", nil, "required"},
		{"another content type", "POST", accept, `{"action":"receive","endpoints":["` + id + `"]}`, []string{"Content-Type", "text/plain"}, "Content-Type"},
		{"list", "GET", list + "?status=pendingAcceptance&limit=1000&sort_key=create_at", "", nil, ""},
		{"a limit too high", "GET", list + "?limit=1001", "", nil, "limit"},
		{"a status that is no filter", "GET", list + "?status=deleting", "", nil, "status"},
		{"a parameter that is none", "GET", list + "?pagesize=3", "", nil, `"pagesize"`},
		{"a list with a body", "GET", list, "{}", nil, "ListServiceConnections"},
		{"describe is not an id", "GET", services + "/describe?id=" + id, "", nil, ""},
		{"fifty at a gateway", "POST", strings.Replace(strings.Replace(list, "/v1/", "/v2/", 1), "vpc-endpoint-services", "apigw/instances", 1) + "/x", "", nil, "is in no document"},
		{"insight", "POST", insight, `{"ds_type":"DWS","vpc_ep_server_id":"` + id + `"}`, []string{"X-Workspace-Id", "w"}, ""},
		{"no workspace", "POST", insight, `{"ds_type":"DWS","vpc_ep_server_id":"` + id + `"}`, nil, "X-Workspace-Id"},
		{"neither name nor id", "POST", insight, `{"ds_type":"DWS"}`, []string{"X-Workspace-Id", "w"}, "VerifyAndCreateVpcEp"},
		{"type in another case", "POST", insight, `{"ds_type":"dws","vpc_ep_server_id":"` + id + `"}`, []string{"X-Workspace-Id", "w"}, "VerifyAndCreateVpcEp"},
		{"function without subnet", "POST", function, `{"vpc_id":"v"}`, nil, "subnet_id"},
		{"token of two methods", "POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["password","totp"],"password":{"user":{"name":"n","password":"p","domain":{"name":"d"}}}}}}`, nil, "methods"},
		{"hosts of nothing", "POST", "/v5/p/host-management/vpc-endpointes", `{}`, nil, "CreateVpcEndpoint"},
		{"no such path", "GET", "/v1/p/vpc-endpoint-service", "", nil, "is in no document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			for i := 0; i+1 < len(tt.headers); i += 2 {
				r.Header.Set(tt.headers[i], tt.headers[i+1])
			}
			_, err := documents.CheckRequest(r, []byte(tt.body))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestCheckAnswer(t *testing.T) {
	t.Parallel()
	documents, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	row := func(more string) string {
		return `{"id":"` + id + `","marker_id":422321321312321321,"created_at":"2018-01-30T07:42:01Z","updated_at":"2018-01-30T07:42:01.174","domain_id":"d","status":"accepted"` + more + `}`
	}
	tests := []struct {
		name, method, path string
		status             int
		body               string
		want               string
	}{
		{"list", "GET", list, 200, `{"connections":[` + row("") + `],"total_count":1}`, ""},
		{"a field that is none", "GET", list, 200, `{"connections":[` + row(`,"extra":1`) + `],"total_count":1}`, "extra"},
		{"no total", "GET", list, 200, `{"connections":[]}`, "total_count"},
		{"empty", "GET", list, 200, "", "ListServiceConnections"},
		{"a state that is none", "GET", list, 200, `{"connections":[` + strings.Replace(row(""), "accepted", "odd", 1) + `],"total_count":1}`, "status"},
		{"refused", "GET", list, 400, `{"error_code":"EndPoint.2003","error_msg":"m"}`, ""},
		{"refused in the newer shape", "GET", list, 400, `{"error":{"code":"EndPoint.2003","message":"m"}}`, ""},
		{"refused in no shape", "GET", list, 400, `{"code":"EndPoint.2003"}`, "ListServiceConnections"},
		{"hosts", "POST", "/v5/p/host-management/vpc-endpointes", 200, "", ""},
		{"hosts with a body", "POST", "/v5/p/host-management/vpc-endpointes", 200, "{}", "a body where the document has none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := ""
			if tt.method == http.MethodPost {
				body = `{"host_id_list":["h"]}`
			}
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			x, err := documents.CheckRequest(r, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			err = x.CheckAnswer(tt.status, http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"r"}}, []byte(tt.body))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// told is a test that remembers what it was failed with.
type told struct {
	testing.TB
	errors []string
}

func (t *told) Errorf(format string, args ...any) {
	t.errors = append(t.errors, fmt.Sprintf(format, args...))
}

func TestValidate(t *testing.T) {
	t.Parallel()
	documents, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	answer := func(header, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Request-Id", "r")
			if header != "" {
				w.Header().Set(Header, header)
			}
			_, _ = w.Write([]byte(body))
		})
	}
	tests := []struct {
		name, path, fault, body string
		errors                  int
	}{
		{"good", list, "", `{"connections":[],"total_count":0}`, 0},
		{"bad request", list + "?limit=x", "", `{"connections":[],"total_count":0}`, 1},
		{"bad answer", list, "", `{}`, 1},
		{"bad answer of a fault", list, "html", `<html>`, 0},
		{"bad request and a fault", list + "?limit=x", "html", `<html>`, 1},
		{"admin call", "/_sim/state", "", `anything`, 0},
		{"no such call", "/v9", "", `anything`, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			heard := &told{TB: t}
			w := httptest.NewRecorder()
			documents.Validate(heard, answer(tt.fault, tt.body)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, tt.path, nil))
			if len(heard.errors) != tt.errors || w.Body.String() != tt.body {
				t.Errorf("it failed with %q and passed on %q, want %d errors and %q", heard.errors, w.Body, tt.errors, tt.body)
			}
		})
	}
}
