package simulator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// recording is a request as the official SDK sends it.
type recording struct {
	Service  string
	API      string
	Note     string
	Requests []struct {
		Method, Path, Body string
		RawQuery           string `json:"raw_query"`
		Headers            http.Header
	}
}

// TestRecordedSignatures holds the verification of signatures to requests that
// the official SDK signed: each is let in as it is, and not with one byte changed.
func TestRecordedSignatures(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/huawei-requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		SigningExample struct {
			AccessKey string `json:"access_key"`
			SecretKey string `json:"secret_key"`
		} `json:"signing_example"`
		Requests []recording
	}
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	cloud := func() *simulator.Simulator {
		return simulator.New(simulator.Config{
			Auth: simulator.Auth{AccessKey: recorded.SigningExample.AccessKey, SecretKey: recorded.SigningExample.SecretKey},
			Now:  newClock().Now,
		})
	}
	tested := 0
	for _, x := range recorded.Requests {
		for _, r := range x.Requests {
			if x.Service == simulator.IAM { // the call for a token is not signed by need
				continue
			}
			tested++
			t.Run(x.Service+" "+x.API+" "+x.Note, func(t *testing.T) {
				for _, change := range []string{"", "body", "query", "header", "key"} {
					s := cloud()
					path, body, headers := r.Path, r.Body, r.Headers.Clone()
					switch change {
					case "body":
						body += " "
					case "header":
						headers.Set("User-Agent", "another")
					case "key":
						s = simulator.New(simulator.Config{
							Auth: simulator.Auth{AccessKey: recorded.SigningExample.AccessKey, SecretKey: "another"}, Now: newClock().Now,
						})
					}
					if r.RawQuery != "" {
						path += "?" + r.RawQuery
					}
					if change == "query" {
						path += map[bool]string{true: "&x=1", false: "?x=1"}[r.RawQuery != ""]
					}
					request := httptest.NewRequest(r.Method, path, bytes.NewReader([]byte(body)))
					request.Header = headers
					answer := httptest.NewRecorder()
					s.ServeHTTP(answer, request)
					if refused := answer.Code == http.StatusUnauthorized; refused != (change != "") {
						t.Errorf("with %q changed: %d %s", change, answer.Code, answer.Body)
					}
				}
			})
		}
	}
	if tested < 10 {
		t.Errorf("only %d recordings were tested", tested)
	}
}

func TestCredentialsRefused(t *testing.T) {
	t.Parallel()
	list := connectionsOf(serviceID)
	tests := []struct {
		name    string
		edit    func(p *peer)
		headers []string
		code    string
	}{
		{"good", func(*peer) {}, nil, ""},
		{"wrong secret", func(p *peer) { p.key.SecretKey = "x" }, nil, "APIGW.0301"},
		{"unknown key", func(p *peer) { p.key.AccessKey = "x" }, nil, "APIGW.0301"},
		{"removed key", func(p *peer) { p.RemoveKey(p.key.AccessKey) }, nil, "APIGW.0301"},
		{"temporary key without its token", func(p *peer) {
			p.AddKey(simulator.Key{AccessKey: p.key.AccessKey, SecretKey: p.key.SecretKey, SecurityToken: "st"})
		}, nil, "APIGW.0301"},
		{"temporary key", func(p *peer) {
			p.key = simulator.Key{AccessKey: "TEMP", SecretKey: "s", SecurityToken: "st", Expires: p.clock.Now().Add(time.Second)}
			p.AddKey(p.key)
		}, nil, ""},
		{"temporary key that has expired", func(p *peer) {
			p.key = simulator.Key{AccessKey: "TEMP", SecretKey: "s", SecurityToken: "st", Expires: p.clock.Now()}
			p.AddKey(p.key)
		}, nil, "APIGW.0301"},
		{"another project in the header", func(*peer) {}, []string{"X-Project-Id", other}, "APIGW.0307"},
		{"fixed token", func(p *peer) { p.token = simulator.DefaultAuth().Token }, nil, ""},
		{"made-up token", func(p *peer) { p.token = "x" }, nil, "APIGW.0301"},
		{"token", func(p *peer) { p.token = p.NewToken(time.Hour) }, nil, ""},
		{"token that has expired", func(p *peer) { p.token = p.NewToken(time.Hour); p.clock.pass(time.Hour) }, nil, "APIGW.0307"},
		{"token that was revoked", func(p *peer) { p.token = p.NewToken(0); p.RevokeTokens() }, nil, "APIGW.0301"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, simulator.Config{})
			tt.edit(p)
			got := p.call(t, "GET", list, "", tt.headers...)
			status := http.StatusOK
			if tt.code != "" {
				status = http.StatusUnauthorized
				if got.body["request_id"] == nil {
					t.Errorf("answer %s: want a request_id", got.text)
				}
			}
			got.want(t, status, tt.code)
		})
	}
}

func TestSignatureDate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		off  time.Duration
		want int
	}{{15 * time.Minute, 200}, {-15 * time.Minute, 200}, {15*time.Minute + time.Second, 401}, {-15*time.Minute - time.Second, 401}} {
		p := start(t, simulator.Config{Now: func() time.Time { return newClock().Now().Add(tt.off) }})
		if got := p.call(t, "GET", connectionsOf(serviceID), ""); got.status != tt.want {
			t.Errorf("a signature %s off: %d, want %d", tt.off, got.status, tt.want)
		}
	}
}

func TestWithoutCredentials(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg     simulator.Config
		headers map[string]string
		want    int
	}{
		{simulator.Config{}, nil, 401},
		{simulator.Config{}, map[string]string{"Authorization": "Basic x"}, 401},
		{simulator.Config{Auth: simulator.Auth{None: true}}, nil, 200},
	} {
		s := simulator.New(tt.cfg)
		s.AddService(simulator.Service{ID: serviceID, ProjectID: project})
		r := httptest.NewRequest(http.MethodGet, connectionsOf(serviceID), nil)
		for name, value := range tt.headers {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%+v with %v: %d, want %d", tt.cfg.Auth, tt.headers, w.Code, tt.want)
		}
	}
}

func TestKeyLock(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	good := p.key
	bad := simulator.Key{AccessKey: good.AccessKey, SecretKey: "wrong"}
	try := func(key simulator.Key, times, want int) {
		t.Helper()
		p.key = key
		for range times {
			if got := p.call(t, "GET", connectionsOf(serviceID), ""); got.status != want {
				t.Fatalf("answer %d %s, want %d", got.status, got.text, want)
			}
		}
	}
	try(bad, 5, 401)
	try(good, 1, 200) // five are not too many, and forgotten now
	try(bad, 6, 401)
	try(good, 1, 401) // locked, however good
	p.clock.pass(5*time.Minute - time.Second)
	try(good, 1, 401)
	p.clock.pass(time.Second)
	try(good, 1, 200)
	if c := p.Counters(); c.Locks != 1 || c.Refused != 13 {
		t.Errorf("%d locks, %d refused; want 1 and 13", c.Locks, c.Refused)
	}
}

func tokenRequest(user, password, scope string) string {
	return fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"domain":{"name":"simulated-account"},"name":%q,"password":%q}}}%s}}`, user, password, scope)
}

func TestIAMToken(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.AddProject(simulator.Project{ID: project, Name: "cn-north-4"})
	p.AddProject(simulator.Project{ID: other, Name: "cn-north-4_other"})
	auth := simulator.DefaultAuth()
	got := p.call(t, "POST", "/v3/auth/tokens?nocatalog=true", tokenRequest(auth.User, auth.Password, `,"scope":{"project":{"name":"cn-north-4"}}`))
	got.want(t, 201, "")
	if at := dig(got.body, "token", "expires_at"); at != "2026-01-02T00:00:00.000000Z" {
		t.Errorf("expires_at %v, want a day from now, with microseconds", at)
	}
	if dig(got.body, "token", "project", "id") != project || got.header.Get("X-IAM-Trace-Id") == "" {
		t.Errorf("answer %s %v", got.text, got.header)
	}
	first := got.header.Get("X-Subject-Token")
	second := p.call(t, "POST", "/v3/auth/tokens", tokenRequest(auth.User, auth.Password, `,"scope":{"project":{"id":"`+other+`"}}`)).header.Get("X-Subject-Token")
	p.token = first
	p.call(t, "GET", connectionsOf(serviceID), "").want(t, 200, "")
	p.token = second // the first is as good as before, and this is another project's
	p.call(t, "GET", connectionsOf(serviceID), "").want(t, 401, "APIGW.0307")
	p.call(t, "GET", "/v3/auth/projects", "").want(t, 200, "")
	p.token = first
	p.clock.pass(24 * time.Hour)
	p.call(t, "GET", connectionsOf(serviceID), "").want(t, 401, "APIGW.0307")
}

func TestIAMTokenWithoutProjects(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{Auth: simulator.Auth{User: "u", Password: "p", Domain: "simulated-account", TokenLife: time.Minute}})
	p.token = "none yet"
	got := p.call(t, "POST", "/v3/auth/tokens", tokenRequest("u", "p", `,"scope":{"project":{"name":"cn-north-4"}}`))
	got.want(t, 201, "")
	p.token = got.header.Get("X-Subject-Token")
	p.call(t, "GET", connectionsOf(serviceID), "").want(t, 200, "")
	p.clock.pass(time.Minute)
	p.call(t, "GET", connectionsOf(serviceID), "").want(t, 401, "APIGW.0307")
	p.call(t, "POST", "/v3/auth/tokens", tokenRequest("u", "p", `,"scope":{"project":{"name":"elsewhere"}}`)).want(t, 401, "IAM.0001")
}

func TestIAMRefusals(t *testing.T) {
	t.Parallel()
	p := startLoose(t, simulator.Config{})
	auth := simulator.DefaultAuth()
	for _, body := range []string{"", "{}", `{"auth":{"identity":{"methods":["token"]}}}`, tokenRequest("", "x", "")} {
		p.call(t, "POST", "/v3/auth/tokens", body).want(t, 400, "IAM.0011")
	}
	for range 6 {
		got := p.call(t, "POST", "/v3/auth/tokens", tokenRequest(auth.User, "wrong", ""))
		got.want(t, 401, "IAM.0001")
	}
	p.call(t, "POST", "/v3/auth/tokens", tokenRequest(auth.User, auth.Password, "")).want(t, 401, "IAM.0061")
	p.clock.pass(5 * time.Minute)
	p.call(t, "POST", "/v3/auth/tokens", tokenRequest(auth.User, auth.Password, "")).want(t, 201, "")
	p.call(t, "GET", "/v3/projects?page=1", "").want(t, 400, "IAM.0011")
}

func TestIAMProjects(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.AddProject(simulator.Project{ID: project, Name: "cn-north-4"})
	p.AddProject(simulator.Project{ID: other, Name: "cn-north-4_other"})
	for query, want := range map[string]int{"": 2, "?name=cn-north-4": 1, "?name=x": 0, "?page=2&per_page=1": 1, "?enabled=true": 2, "?is_domain=true": 0} {
		got := p.call(t, "GET", "/v3/projects"+query, "")
		rows, _ := got.body["projects"].([]any)
		if got.status != 200 || len(rows) != want {
			t.Errorf("%q: %d projects, want %d: %s", query, len(rows), want, got.text)
		}
	}
}
