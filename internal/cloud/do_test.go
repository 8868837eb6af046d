package cloud

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// creation is a request of each kind that creates.
func creation(kind approval.TargetKind) approval.Request {
	req := approval.Request{ID: "r", Target: approval.Target{Name: "x", Kind: kind, ProjectID: project, WorkspaceID: "w"}}
	switch kind {
	case approval.FunctionGraph:
		req.Creation.FunctionGraph = &approval.FunctionGraphEndpoint{VPCID: "vpc", SubnetID: "net"}
	case approval.HSS:
		req.Creation.HSS = &approval.HSSEndpoints{HostIDs: []string{"h1"}}
	default:
		req.Creation.DataArtsInsight = &approval.DataArtsInsightEndpoint{DSType: "DWS", ServerID: serviceID}
	}
	return req
}

// TestAnswersThatAreNone: what is no answer of the API is never a success, for
// a read it is tried again and for a creation its outcome is unknown.
func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		header []string
	}{
		{"HTML", 200, "<html>blocked</html>", nil},
		{"an object without the list", 200, "{}", nil},
		{"an error in a success", 200, errorJSON("EndPoint.0001"), nil},
		{"null", 200, "null", nil},
		{"a list", 200, "[]", nil},
		{"cut off", 200, `{"connections":[{"id":`, nil},
		{"too large", 200, `{"connections":[],"x":"` + strings.Repeat("x", maxResponse) + `"}`, nil},
		{"a redirect", 302, "", []string{"Location", "https://example.org/login"}},
		{"a permanent redirect", 308, rowsJSON(0), []string{"Location", "/elsewhere"}},
		{"HTML from a firewall", 403, "<html>", nil},
		{"a gateway's timeout", 504, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reads, writes := 0, 0
				c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
					if r.URL.Host == "example.org" || r.URL.Path == "/elsewhere" {
						t.Error("the redirect was followed")
					}
					if r.Method == http.MethodGet {
						reads++
					} else {
						writes++
					}
					return says(tt.status, tt.body, tt.header...)
				}))
				_, err := c.Facts(t.Context(), connect(service()))
				if e, ok := asError(err); !ok || e.Class != ClassRetry || !e.Retryable() || e.OutcomeUnknown() || reads < 3 {
					t.Errorf("Facts: %v after %d calls", err, reads)
				}
				for _, kind := range []approval.TargetKind{approval.FunctionGraph, approval.HSS, approval.DataArtsInsight} {
					if kind == approval.HSS && strings.HasPrefix(tt.body, "{\"") || kind == approval.HSS && tt.body != "" && tt.status == 200 && tt.body[0] != '<' && tt.name != "cut off" {
						continue // any JSON is a success there
					}
					writes = 0
					made, err := c.Create(t.Context(), creation(kind))
					if e, ok := asError(err); !ok || e.Class != ClassUnknown || !e.OutcomeUnknown() || writes != 1 {
						t.Errorf("Create %s: %+v, %v after %d calls", kind, made, err, writes)
					}
				}
			})
		})
	}
}

func TestEmptyAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, script(func(*http.Request, string) (*http.Response, error) { return says(200, "") }))
		if _, err := c.Create(t.Context(), creation(approval.HSS)); err != nil {
			t.Errorf("HSS answers with nothing: %v", err)
		}
		for _, kind := range []approval.TargetKind{approval.FunctionGraph, approval.DataArtsInsight} {
			if _, err := c.Create(t.Context(), creation(kind)); !is(err, ClassUnknown) {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if _, err := c.Facts(t.Context(), connect(service())); !is(err, ClassRetry) {
			t.Errorf("an empty answer is an empty list: %v", err)
		}
	})
}

// TestCreationIsNeverSentBlindly: a creation is repeated only if the cloud did
// not do it for certain.
func TestCreationIsNeverSentBlindly(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection reset by peer")
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	tests := []struct {
		name    string
		fault   func() (*http.Response, error)
		sends   int // until it succeeds or is given back
		unknown bool
	}{
		{"answer lost", func() (*http.Response, error) { return nil, lost }, 1, true},
		{"not sent", func() (*http.Response, error) { return nil, dial }, 3, false},
		{"throttled", func() (*http.Response, error) { return says(429, errorJSON("APIGW.0308")) }, 3, false},
		{"throttled as 400", func() (*http.Response, error) { return says(400, errorJSON("EndPoint.0022")) }, 3, false},
		{"throttled as 500", func() (*http.Response, error) { return says(500, errorJSON("APIG.9008")) }, 3, false},
		{"gateway timeout", func() (*http.Response, error) { return says(504, errorJSON("APIGW.0203")) }, 1, true},
		{"internal error", func() (*http.Response, error) { return says(500, errorJSON("FSS.0500")) }, 1, true},
		{"an unknown code", func() (*http.Response, error) { return says(500, errorJSON("FSS.7777")) }, 1, true},
		{"gateway's own error", func() (*http.Response, error) { return says(500, errorJSON("APIGW.0601")) }, 1, true},
		{"final", func() (*http.Response, error) { return says(400, errorJSON("FSS.0400")) }, 1, false},
		{"busy", func() (*http.Response, error) { return says(412, errorJSON("FSS.1090")) }, 1, false},
		{"answer broke off", func() (*http.Response, error) {
			res, _ := says(200, "")
			res.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"address":`), errReader{lost}))
			return res, nil
		}, 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sends := 0
				c := client(t, script(func(*http.Request, string) (*http.Response, error) {
					if sends++; sends <= 2 {
						return tt.fault()
					}
					return says(200, `{"endpoints":["10.0.0.1"],"address":"a.example"}`)
				}))
				made, err := c.Create(t.Context(), creation(approval.FunctionGraph))
				if sends != tt.sends {
					t.Fatalf("sent %d times, want %d: %v", sends, tt.sends, err)
				}
				if tt.sends == 3 {
					if err != nil || made.Domain != "a.example" || len(made.Addresses) != 1 {
						t.Errorf("%+v, %v", made, err)
					}
					return
				}
				if e, ok := asError(err); !ok || e.OutcomeUnknown() != tt.unknown || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("error %v, outcome unknown %v", err, e.OutcomeUnknown())
				}
			})
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestCanceledBeforeSending: a creation that never began has no unknown outcome.
func TestCanceledBeforeSending(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := client(t, script(func(*http.Request, string) (*http.Response, error) {
		t.Error("it was sent")
		return says(200, "")
	}))
	_, err := c.Create(ctx, creation(approval.HSS))
	e, ok := asError(err)
	if !ok || !errors.Is(err, context.Canceled) || e.OutcomeUnknown() || !e.Retryable() {
		t.Errorf("error %v", err)
	}
}

// TestCanceledMeanwhile: one whose answer was not waited for has.
func TestCanceledMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &watcher{}
		c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
			cancel()
			<-r.Context().Done()
			return nil, r.Context().Err()
		}), func(cfg *Config) { cfg.Observer = w })
		_, err := c.Create(ctx, creation(approval.HSS))
		e, ok := asError(err)
		if !ok || !errors.Is(err, context.Canceled) || !e.OutcomeUnknown() {
			t.Errorf("error %v", err)
		}
		if w.open != 0 {
			t.Errorf("%d calls are left in flight", w.open)
		}
	})
}

// TestSlowAPI: a try takes 30 s at most, and the error says what happened.
func TestSlowAPI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}))
		start := time.Now()
		_, err := c.Create(t.Context(), creation(approval.DataArtsInsight))
		if e, ok := asError(err); !ok || !e.OutcomeUnknown() || time.Since(start) != CallTimeout {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// TestLastRealErrorIsKept: neither the end of the context nor an open breaker
// hides what the cloud said.
func TestLastRealErrorIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			return says(500, errorJSON("EndPoint.0001"))
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.vpcEndpoints(ctx, project, "v")
		if e, ok := asError(err); !ok || e.Code != "EndPoint.0001" || e.RequestID != "req-1" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		start := time.Now()
		_, err = c.vpcEndpoints(t.Context(), project, "v")
		if e, ok := asError(err); !ok || e.Code != "EndPoint.0001" || !e.Retryable() {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took > retryBudget {
			t.Errorf("it took %v", took)
		}
	})
}

// TestPutOffIsNoNews: that the host is paused or its breaker open when a repeat
// is due does not replace the answer that there was.
func TestPutOffIsNoNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, newWorld())
		for _, off := range []*Error{{Class: ClassOpen, notSent: true, Wait: time.Second}, {Class: ClassThrottle, notSent: true, Wait: time.Hour}} {
			tries, asked := 0, 0
			lost := &Error{Class: ClassUnknown, Code: "EndPoint.0013", Status: 504, changes: true}
			err := c.repeat(t.Context(), &call{effect: idempotent}, func(context.Context) (bool, error) { asked++; return false, nil }, func(context.Context) error {
				if tries++; tries == 2 {
					return off
				}
				return lost
			})
			if e, ok := asError(err); !ok || e.Code != lost.Code || tries != 2 || asked != 1 {
				t.Errorf("%v after %d tries", err, tries)
			}
		}
	})
}

// TestDoubtStays: once a try may have taken effect, the state is read before each
// further one, whatever became of those between.
func TestDoubtStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, newWorld())
		answers := []error{
			&Error{Class: ClassUnknown, Status: 504, changes: true},
			&Error{Class: ClassThrottle, Status: 429, changes: true},
			nil,
		}
		tries, asked := 0, 0
		err := c.repeat(t.Context(), &call{effect: idempotent}, func(context.Context) (bool, error) { asked++; return false, nil }, func(context.Context) error {
			tries++
			return answers[tries-1]
		})
		if err != nil || tries != 3 || asked != 2 {
			t.Errorf("%v after %d tries, asked %d times", err, tries, asked)
		}
	})
}

// TestRetryPasses: passing faults of a read are not seen by the caller.
func TestRetryPasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		w := &watcher{}
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			if n++; n < 4 {
				return says(500, errorJSON("EndPoint.0001"))
			}
			return says(200, rowsJSON(1, rowJSON(endpoint, approval.Pending)))
		}), func(cfg *Config) { cfg.Observer = w })
		f, err := c.Facts(t.Context(), connect(service()))
		if err != nil || f.State != approval.Pending || w.retries != 3 {
			t.Errorf("%+v, %v, %d retries", f, err, w.retries)
		}
	})
}

func TestNeverSent(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := httptest.NewServer(http.NotFoundHandler())
	dead := server.URL
	server.Close()
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for name, target := range map[string]string{
		"refused":            dead,
		"untrusted":          tls.URL,
		"not TLS":            strings.Replace(plain.URL, "http:", "https:", 1),
		"no such host (DNS)": "https://nowhere.invalid",
	} {
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader("{}"))
		res, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			_ = res.Body.Close()
			t.Errorf("%s: status %s", name, res.Status)
		} else if !wasNotSent(err) {
			t.Errorf("%s: %v (%T) may have been sent", name, err, err)
		}
	}
	for _, err := range []error{io.ErrUnexpectedEOF, &net.OpError{Op: "read", Err: errors.New("reset")}, context.DeadlineExceeded} {
		if wasNotSent(err) {
			t.Errorf("%v was never sent", err)
		}
	}
}

// TestIDsInPaths: ids that are none never reach a URL.
func TestIDsInPaths(t *testing.T) {
	t.Parallel()
	c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
		t.Errorf("called %s", r.URL)
		return says(200, rowsJSON(0))
	}))
	ctx := t.Context()
	for _, bad := range []string{"", "a/../../b", "..", "%2e%2e", "x?y", endpoint + "\n", strings.Repeat("a", 33), "你"} {
		edits := map[string]func(*approval.Request){
			"endpoint": func(r *approval.Request) { r.EndpointID = bad },
			"target":   func(r *approval.Request) { r.Target.ID = bad },
			"project":  func(r *approval.Request) { r.Target.ProjectID = bad },
		}
		for name, edit := range edits {
			req := connect(service())
			edit(&req)
			_, err1 := c.Facts(ctx, req)
			err2 := c.Act(ctx, &req, approval.Accept)
			_, err3 := c.Await(ctx, req, approval.Accepted, time.Time{})
			for i, err := range []error{err1, err2, err3} {
				if e, ok := asError(err); !ok || e.Retryable() || e.Code != "invalid_id" || e.OutcomeUnknown() {
					t.Errorf("%s %q, call %d: %v", name, bad, i, err)
				}
			}
		}
		for _, kind := range []approval.TargetKind{approval.FunctionGraph, approval.HSS, approval.DataArtsInsight} {
			req := creation(kind)
			req.Target.ProjectID = bad
			if _, err := c.Create(ctx, req); err == nil {
				t.Errorf("%s in project %q", kind, bad)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := Config{Region: "cn-north-4", Auth: Auth{ModeAKSK, aksk}, Targets: approval.Targets{service(), gateway()}}
	tests := []struct {
		name string
		edit func(*Config)
		want string // part of the error; empty: none
	}{
		{"as it is", func(*Config) {}, ""},
		{"no region", func(c *Config) { c.Region = "" }, "region"},
		{"a region that is a host", func(c *Config) { c.Region = "evil.example/" }, "region"},
		{"all endpoints given, no region", func(c *Config) {
			c.Region, c.Endpoints = "", map[string]string{}
			for _, api := range APIs() {
				c.Endpoints[api] = "https://x.example"
			}
		}, ""},
		{"an endpoint of no API", func(c *Config) { c.Endpoints = map[string]string{"vpc": "https://x"} }, "vpcep"},
		{"http on this machine", func(c *Config) { c.Endpoints = map[string]string{"vpcep": "http://127.0.0.1:1"} }, ""},
		{"http on localhost", func(c *Config) { c.Endpoints = map[string]string{"vpcep": "http://localhost:1/p"} }, ""},
		{"http elsewhere", func(c *Config) { c.Endpoints = map[string]string{"vpcep": "http://10.0.0.1"} }, "https"},
		{"http elsewhere, allowed", func(c *Config) {
			c.Endpoints, c.AllowHTTP = map[string]string{"vpcep": "http://10.0.0.1"}, true
		}, ""},
		{"another scheme", func(c *Config) { c.Endpoints = map[string]string{"vpcep": "ftp://x"} }, "https"},
		{"no host", func(c *Config) { c.Endpoints = map[string]string{"vpcep": "https:///x"} }, "host"},
		{"a password in the URL", func(c *Config) { c.Endpoints = map[string]string{"vpcep": "https://u:hunter2@x"} }, "host"},
		{"no URL", func(c *Config) { c.Endpoints = map[string]string{"vpcep": "https://x:hunter2"} }, "URL"},
		{"a negative rate", func(c *Config) { c.RatePerSecond = -1 }, "rate"},
		{"negative concurrency", func(c *Config) { c.Concurrency = -1 }, "limit"},
		{"a target without project", func(c *Config) { c.Targets[0].ProjectID = "" }, "payments"},
		{"a gateway with a bad service", func(c *Config) { c.Targets[1].ServiceID = "x" }, "orders"},
		{"a target elsewhere", func(c *Config) { c.Targets[0].Region = "cn-east-3" }, "region"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			cfg.Targets = append(approval.Targets{}, good.Targets...)
			tt.edit(&cfg)
			_, err := New(cfg)
			if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for region, want := range map[string]string{"cn-north-4": "https://vpcep.cn-north-4.myhuaweicloud.com", "eu-west-101": "https://vpcep.eu-west-101.myhuaweicloud.eu"} {
		u, err := baseURL(Config{Region: region}, APIVPCEP)
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v", region, u, err)
		}
	}
}
