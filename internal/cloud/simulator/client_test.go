package simulator_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/openapi/openapitest"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// The resources of the tests' cloud.
const (
	project   = "0123456789abcdef0123456789abcdef"
	other     = "fedcba9876543210fedcba9876543210"
	serviceID = "4189d3c2-8882-4871-a3c2-d380272eed88"
	openID    = "5189d3c2-8882-4871-a3c2-d380272eed88" // needs no approval
	gatewayID = "eddc4d25480b4cd6b512f270a1b8b341"     // with a service of its own
	sharedID  = "feedfeed480b4cd6b512f270a1b8b341"     // with the service serviceID
	domain    = "6e9dfd51d1124e8d8498dce894923a0d"
	endpoint  = "705290f3-0d00-41f2-aedc-71f09844e879"
)

func connectionsOf(id string) string {
	return "/v1/" + project + "/vpc-endpoint-services/" + id + "/connections"
}

func gatewayConnections(id string) string {
	return "/v2/" + project + "/apigw/instances/" + id + "/vpc-endpoint/connections"
}

// clock is a manual clock.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// peer is a simulated cloud behind real HTTP, with a client that signs.
type peer struct {
	*simulator.Simulator
	clock *clock
	url   string
	key   simulator.Key
	token string // used instead of the key, if it is set
	http  *http.Client
}

// start starts a cloud. Requests and responses are checked against the OpenAPI
// documents.
func start(t *testing.T, cfg simulator.Config) *peer {
	t.Helper()
	return startWith(t, cfg, func(h http.Handler) http.Handler { return load(t).Validate(t, h) })
}

// documents are loaded once for all tests.
var documents = sync.OnceValues(openapitest.Load)

func load(t *testing.T) *openapitest.Documents {
	t.Helper()
	d, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// startLoose starts a cloud for invalid requests.
func startLoose(t *testing.T, cfg simulator.Config) *peer {
	t.Helper()
	return startWith(t, cfg, func(h http.Handler) http.Handler { return answersOnly(t, h) })
}

func startWith(t *testing.T, cfg simulator.Config, around func(http.Handler) http.Handler) *peer {
	t.Helper()
	p := &peer{clock: newClock()}
	if cfg.Now == nil {
		cfg.Now = p.clock.Now
	}
	p.Simulator = simulator.New(cfg)
	p.AddService(simulator.Service{ID: serviceID, Name: "payments", ProjectID: project, DomainID: other, ApprovalEnabled: true})
	p.AddService(simulator.Service{ID: openID, ProjectID: project, DomainID: other})
	p.AddGateway(simulator.Gateway{ID: gatewayID, ProjectID: project, DomainID: other})
	p.AddGateway(simulator.Gateway{ID: sharedID, ProjectID: project, DomainID: other, ServiceID: serviceID})
	server := httptest.NewServer(around(p.Simulator))
	t.Cleanup(server.Close)
	p.url, p.http = server.URL, server.Client()
	p.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	auth := simulator.DefaultAuth()
	p.key = simulator.Key{AccessKey: auth.AccessKey, SecretKey: auth.SecretKey}
	return p
}

// answersOnly checks only the responses against the documents.
func answersOnly(t *testing.T, h http.Handler) http.Handler {
	documents := load(t)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading the request: %v", err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if x, _ := documents.CheckRequest(r, body); x != nil && rec.Header().Get(openapitest.Header) == "" {
			if err := x.CheckAnswer(rec.Code, rec.Header(), rec.Body.Bytes()); err != nil {
				t.Errorf("%s %s: %v\n%s", r.Method, r.URL, err, rec.Body)
			}
		}
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

// reply is a response.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any // numbers as json.Number
}

// code returns the error code, in any form of body.
func (r reply) code() string {
	for _, at := range []any{r.body["error_code"], r.body["code"], dig(r.body, "error", "code")} {
		if text, ok := at.(string); ok {
			return text
		}
	}
	return ""
}

// dig follows names of members and indexes of arrays.
func dig(v any, path ...any) any {
	for _, step := range path {
		switch at := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[at]
		case int:
			list, _ := v.([]any)
			if at >= len(list) {
				return nil
			}
			v = list[at]
		}
	}
	return v
}

// send makes a call and returns the response or an error.
func (p *peer) send(method, path, body string, headers ...string) (reply, error) {
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if p.token != "" {
		r.Header.Set("X-Auth-Token", p.token)
	} else {
		signRequest(r, p.key, body, p.clock.Now())
	}
	resp, err := p.http.Do(r)
	if err != nil {
		return reply{}, err
	}
	text, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	out := reply{status: resp.StatusCode, header: resp.Header, text: string(text)}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	_ = d.Decode(&out.body) // what is not JSON is looked at as text
	return out, err
}

// call makes a call that must get a response.
func (p *peer) call(t *testing.T, method, path, body string, headers ...string) reply {
	t.Helper()
	out, err := p.send(method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return out
}

// want fails the test unless r has this status and error code.
func (r reply) want(t *testing.T, status int, code string) {
	t.Helper()
	if r.status != status || r.code() != code {
		t.Fatalf("answer %d %q, want %d %q\n%s", r.status, r.code(), status, code, r.text)
	}
}

// signRequest signs r as the reference says, written a second time on purpose.
func signRequest(r *http.Request, key simulator.Key, body string, now time.Time) {
	r.Header.Set("X-Sdk-Date", now.UTC().Format("20060102T150405Z"))
	names := []string{"x-sdk-date"}
	if key.SecurityToken != "" {
		r.Header.Set("X-Security-Token", key.SecurityToken)
		names = append(names, "x-security-token")
	}
	lines := ""
	for _, name := range names {
		lines += name + ":" + r.Header.Get(name) + "\n"
	}
	query := strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20")
	uri := (&url.URL{Path: r.URL.Path}).EscapedPath() + "/"
	hash := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	signed := strings.Join(names, ";")
	canonical := strings.Join([]string{r.Method, uri, query, lines, signed, hash(body)}, "\n")
	mac := hmac.New(sha256.New, []byte(key.SecretKey))
	mac.Write([]byte("SDK-HMAC-SHA256\n" + r.Header.Get("X-Sdk-Date") + "\n" + hash(canonical)))
	r.Header.Set("Authorization", "SDK-HMAC-SHA256 Access="+key.AccessKey+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(mac.Sum(nil)))
}
