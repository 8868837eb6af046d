package cloud

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestOperatorFaultsMayPass: what the operator must fix ends no request, on any API
// and for any code, and works as soon as it is fixed.
func TestOperatorFaultsMayPass(t *testing.T) {
	t.Parallel()
	act := func(c *Client, t *testing.T) error {
		return c.Act(t.Context(), new(connect(service())), approval.Accept)
	}
	actGateway := func(c *Client, t *testing.T) error {
		return c.Act(t.Context(), new(connect(gateway())), approval.Accept)
	}
	create := func(kind approval.TargetKind) func(*Client, *testing.T) error {
		return func(c *Client, t *testing.T) error { _, err := c.Create(t.Context(), creation(kind)); return err }
	}
	tests := []struct {
		name   string
		call   func(*Client, *testing.T) error
		status int
		body   string
		fault  string // "api operation code"
	}{
		{"no permission to accept", act, 403, errorJSON("EndPoint.0004"), "vpcep AcceptOrRejectEndpoint EndPoint.0004"},
		{"the gateway in front does not permit it", act, 403, errorJSON("APIGW.0302"), "vpcep AcceptOrRejectEndpoint APIGW.0302"},
		{"a quota", act, 400, errorJSON("EndPoint.1018"), "vpcep AcceptOrRejectEndpoint EndPoint.1018"},
		{"an unknown service", act, 400, errorJSON("EndPoint.2003"), "vpcep AcceptOrRejectEndpoint EndPoint.2003"},
		{"an unknown 403", act, 403, errorJSON("EndPoint.7777"), "vpcep AcceptOrRejectEndpoint EndPoint.7777"},
		{"an unknown 404", act, 404, errorJSON("EndPoint.7777"), "vpcep AcceptOrRejectEndpoint EndPoint.7777"},
		{"a 403 without a code", act, 403, `{"error_code":"","error_msg":"m"}`, "vpcep AcceptOrRejectEndpoint http_403"},
		{"an identity policy", act, 403, `{"error_code":"PAP5.0001","error_msg":"m","encoded_authorization_message":"x","details":[]}`, "vpcep AcceptOrRejectEndpoint PAP5.0001"},
		{"no such gateway", actGateway, 404, errorJSON("APIC.7302"), "apig AcceptOrRejectEndpointConnections APIC.7302"},
		{"a gateway of others", actGateway, 403, errorJSON("APIC.7300"), "apig AcceptOrRejectEndpointConnections APIC.7300"},
		{"FunctionGraph does not permit it", create(approval.FunctionGraph), 403, errorJSON("FSS.0403"), "functiongraph CreateVpcEndpoint FSS.0403"},
		{"too many VPCs", create(approval.FunctionGraph), 403, errorJSON("FSS.1047"), "functiongraph CreateVpcEndpoint FSS.1047"},
		{"HSS does not permit it", create(approval.HSS), 400, errorJSON("HSS.0013"), "hss CreateVpcEndpoint HSS.0013"},
		{"a quota of HSS", create(approval.HSS), 400, errorJSON("HSS.0014"), "hss CreateVpcEndpoint HSS.0014"},
		{"DataArts Insight does not permit it", create(approval.DataArtsInsight), 403, errorJSON("DataArtsInsight.20010003"), "dataartsinsight VerifyAndCreateVpcEp DataArtsInsight.20010003"},
		{"no such workspace", create(approval.DataArtsInsight), 400, errorJSON("DataArtsInsight.24150005"), "dataartsinsight VerifyAndCreateVpcEp DataArtsInsight.24150005"},
		{"no such API here", create(approval.HSS), 404, errorJSON("APIGW.0101"), "hss CreateVpcEndpoint APIGW.0101"},
		{"no such host", create(approval.HSS), 404, "<html>nginx</html>", "hss CreateVpcEndpoint http_404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fixed, seen := false, &watcher{}
				w := newWorld(endpoint)
				c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
					switch {
					case r.Method == http.MethodPost && !fixed:
						return says(tt.status, tt.body)
					case strings.Contains(r.URL.Path, "connections"):
						return w.answer(r, body)
					}
					return says(200, `{"endpoints":[],"id":"i"}`)
				}), func(cfg *Config) { cfg.Observer = seen })
				err := tt.call(c, t)
				e, ok := asError(err)
				if !ok || e.Class != ClassOperator || !e.Retryable() || e.Gone() || e.OutcomeUnknown() || e.RetryAfter() > 10*time.Second || e.Target == "" {
					t.Fatalf("error %v", err)
				}
				want := e.Target + " " + tt.fault + " req-1"
				if got := strings.Join(seen.told(), "; "); got != want {
					t.Errorf("told %q, want %q", got, want)
				}
				if f, ok := e.OperatorFault(); !ok || f.Text == "" || strings.Contains(f.Text, "hunter2") {
					t.Errorf("fault %+v, %v", f, ok)
				}
				fixed = true
				if strings.Contains(tt.name, "DataArts") || strings.Contains(tt.name, "workspace") {
					return // its path has "connections" too
				}
				if err := tt.call(c, t); err != nil {
					t.Fatalf("after it is fixed: %v", err)
				}
				if got := strings.Join(seen.told(), "; "); got != want+"; "+e.Target+" "+e.API+" over" {
					t.Errorf("told %q", got)
				}
			})
		})
	}
}

// TestRequestsEndByTheirOwnContentOnly: codes that speak of what the request asked
// for end it, and are no alarm.
func TestRequestsEndByTheirOwnContentOnly(t *testing.T) {
	t.Parallel()
	for code, status := range map[string]int{"HSS.0001": 400, "HSS.0011": 400, "FSS.1036": 400, "FSS.1037": 400, "FSS.0404": 404, "X.1": 400} {
		synctest.Test(t, func(t *testing.T) {
			seen := &watcher{}
			c := client(t, script(func(*http.Request, string) (*http.Response, error) { return says(status, errorJSON(code)) }),
				func(cfg *Config) { cfg.Observer = seen })
			_, err := c.Create(t.Context(), creation(approval.HSS))
			if e, ok := asError(err); !ok || e.Class != ClassFinal || e.Retryable() || len(seen.told()) > 0 {
				t.Errorf("%s: %v, told %q", code, err, seen.told())
			}
		})
	}
}

// TestAFaultThatIsNotMetAgainEnds: the request that met it may have gone elsewhere.
func TestAFaultThatIsNotMetAgainEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, seen := newWorld(endpoint), &watcher{}
		w.onAct = func(int, *http.Request) (*http.Response, error, bool) {
			res, err := says(403, errorJSON("EndPoint.0004"))
			return res, err, true
		}
		c := client(t, w, func(cfg *Config) { cfg.Observer = seen })
		for range 3 {
			_ = c.Act(t.Context(), new(connect(service())), approval.Accept)
			if _, err := c.Facts(t.Context(), connect(service())); err != nil { // another operation of the same API works
				t.Fatal(err)
			}
			_ = sleep(t.Context(), 10*time.Minute)
		}
		if n := len(seen.told()); n != 3 {
			t.Errorf("told %q", seen.told())
		}
		_ = sleep(t.Context(), faultTTL)
		synctest.Wait()
		if got := seen.told()[len(seen.told())-1]; got != "payments vpcep over" {
			t.Errorf("told %q", seen.told())
		}
	})
}

// TestAFaultLastsAsLongAsItsCause: a service that is not known is refused by the
// filter first, and that is no sign that the API works.
func TestAFaultLastsAsLongAsItsCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fixed, seen := false, &watcher{}
		w := newWorld(endpoint)
		c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
			if !fixed {
				return says(404, errorJSON("EndPoint.0005"))
			}
			return w.answer(r, body)
		}), func(cfg *Config) { cfg.Observer = seen })
		for range 3 {
			if _, err := c.Facts(t.Context(), connect(service())); err == nil {
				t.Fatal("the service is not known")
			}
			_ = sleep(t.Context(), time.Minute)
		}
		if told := strings.Join(seen.told(), "; "); strings.Contains(told, "over") || !strings.Contains(told, "EndPoint.0005") {
			t.Errorf("told %q", told)
		}
		fixed = true
		if _, err := c.Facts(t.Context(), connect(service())); err != nil {
			t.Fatal(err)
		}
		if told := seen.told(); told[len(told)-1] != "payments vpcep over" {
			t.Errorf("told %q", told)
		}
	})
}

// TestAFaultLastsWhileItsCallsAreNotSent: while a credential is refused, one call is sent
// now and then, and it may be that of another target each time.
func TestAFaultLastsWhileItsCallsAreNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen, sent, fixed := &watcher{}, map[string]int{}, false
		w := newWorld(endpoint)
		c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
			if fixed {
				return w.answer(r, body)
			}
			sent[r.URL.Path]++
			return says(401, errorJSON("APIGW.0307"))
		}), func(cfg *Config) { cfg.Observer = seen })
		other := service()
		other.Name, other.ID = "ledger", "11111111-2222-4333-8444-555555555555"
		_, _ = c.Facts(t.Context(), connect(service()))
		for range int(3 * faultTTL / time.Minute) {
			_ = sleep(t.Context(), time.Minute)
			_, _ = c.Facts(t.Context(), connect(other))
			_, _ = c.Facts(t.Context(), connect(service()))
		}
		synctest.Wait()
		if told := seen.told(); slices.Contains(told, "payments vpcep over") {
			t.Errorf("told %q", told)
		}
		if len(sent) != 2 {
			t.Errorf("sent are %v, want calls about both", sent)
		}
		fixed = true
		_ = sleep(t.Context(), 2*time.Minute)
		if _, err := c.Facts(t.Context(), connect(service())); err != nil {
			t.Fatal(err)
		}
		if told := seen.told(); !slices.Contains(told, "payments vpcep over") {
			t.Errorf("told %q", told)
		}
	})
}

// TestAFaultOfIAMEndsForAllTargetsOfTheProject: one of them asks for the token that
// all use.
func TestAFaultOfIAMEndsForAllTargetsOfTheProject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fixed, seen := false, &watcher{}
		w := newWorld(endpoint)
		first := service()
		second, other := first, first
		second.Name, other.Name, other.ProjectID = "second", "other", strings.Repeat("9", 32)
		c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
			switch {
			case r.URL.Path != "/v3/auth/tokens":
				return w.answer(r, body)
			case !fixed || strings.Contains(body, other.ProjectID):
				return says(403, `{"error":{"code":403,"message":"m","title":"Forbidden"}}`)
			}
			res, err := says(201, `{"token":{"expires_at":"2099-01-01T00:00:00.000000Z"}}`)
			res.Header.Set("X-Subject-Token", "t")
			return res, err
		}), func(cfg *Config) {
			cfg.Observer, cfg.Targets = seen, approval.Targets{first, second, other}
			cfg.Auth = Auth{Mode: ModePassword, Source: func() (Credentials, error) {
				return Credentials{User: "user", Password: "secret", Domain: "account"}, nil
			}}
		})
		ask := func(target approval.Target) error { _, err := c.Facts(t.Context(), connect(target)); return err }
		for _, target := range []approval.Target{first, second, other} {
			if ask(target) == nil {
				t.Fatal("IAM does not permit it")
			}
			_ = sleep(t.Context(), 10*time.Minute)
		}
		fixed = true
		if err := ask(first); err != nil {
			t.Fatal(err)
		}
		told := strings.Join(seen.told(), "; ")
		for name, over := range map[string]bool{first.Name: true, second.Name: true, other.Name: false} {
			if strings.Contains(told, name+" iam over") != over {
				t.Errorf("over for %s: want %t, told %q", name, over, told)
			}
		}
	})
}
