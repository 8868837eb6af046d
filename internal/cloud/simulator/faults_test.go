package simulator_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// TestFaultAnswers injects each fault into an accept, and checks the response and whether
// the accept had an effect.
func TestFaultAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		fault      simulator.Fault
		status     int // 0: no answer
		code, text string
		done       bool
	}{
		{"429", simulator.Fault{Kind: simulator.Throttle429}, 429, "APIGW.0308", "ratelimit,limit:60", false},
		{"400", simulator.Fault{Kind: simulator.Throttle400}, 400, "EndPoint.0022", "", false},
		{"500", simulator.Fault{Kind: simulator.ServerError}, 500, "EndPoint.0001", "", false},
		{"502", simulator.Fault{Kind: simulator.ServerError, Status: 502}, 502, "APIGW.0202", "request_id", false},
		{"503", simulator.Fault{Kind: simulator.ServerError, Status: 503}, 503, "APIGW.0613", "", false},
		{"504", simulator.Fault{Kind: simulator.ServerError, Status: 504}, 504, "EndPoint.0013", "", false},
		{"504 and done", simulator.Fault{Kind: simulator.ServerError, Status: 504, Done: true}, 504, "EndPoint.0013", "", true},
		{"html", simulator.Fault{Kind: simulator.HTML}, 200, "", "<!DOCTYPE html>", false},
		{"html with a status", simulator.Fault{Kind: simulator.HTML, Status: 403}, 403, "", "<!DOCTYPE html>", false},
		{"redirect", simulator.Fault{Kind: simulator.Redirect302}, 302, "", "", false},
		{"expired token", simulator.Fault{Kind: simulator.ExpiredToken}, 401, "APIGW.0307", "", false},
		{"refusal", simulator.Fault{Kind: simulator.Refuse, Status: 403, Code: "EndPoint.0004"}, 403, "EndPoint.0004", "", false},
		{"cut before", simulator.Fault{Kind: simulator.CutBefore}, 0, "", "", false},
		{"down", simulator.Fault{Kind: simulator.Down}, 0, "", "", false},
		{"cut after", simulator.Fault{Kind: simulator.CutAfter}, 0, "", "", true},
		{"empty", simulator.Fault{Kind: simulator.Empty200}, 200, "", "", true},
		{"garbage", simulator.Fault{Kind: simulator.TruncatedJSON}, 200, "", `{"connections":[{`, true},
		{"a kind that is none", simulator.Fault{Kind: "frogs"}, 501, "Simulator.0001", "frogs", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, simulator.Config{})
			p.Connect(serviceID, simulator.Connection{ID: endpoint})
			tt.fault.Count = 1
			p.Inject(tt.fault)
			got, err := p.send("POST", connectionsOf(serviceID)+"/action", action("receive", endpoint))
			if (err != nil) != (tt.status == 0) {
				t.Fatalf("error %v, want a status of %d", err, tt.status)
			}
			if got.status != tt.status || got.code() != tt.code || !strings.Contains(got.text, tt.text) {
				t.Errorf("answer %d %q %s, want %d %q with %q in it", got.status, got.code(), got.text, tt.status, tt.code, tt.text)
			}
			if err == nil && got.header.Get("X-Sim-Fault") != string(tt.fault.Kind) {
				t.Errorf("header X-Sim-Fault %q, want %q", got.header.Get("X-Sim-Fault"), tt.fault.Kind)
			}
			if done := p.Counters().Count(simulator.EffectAccept, endpoint) == 1; done != tt.done {
				t.Errorf("done: %t, want %t", done, tt.done)
			}
			again := p.call(t, "GET", connectionsOf(serviceID), "")
			again.want(t, 200, "") // the one call is used up
			if n := p.Counters().Faults[string(tt.fault.Kind)]; n != 1 {
				t.Errorf("%d faults counted, want 1", n)
			}
		})
	}
}

func TestFaultCodesOfOtherAPIs(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	auth := simulator.DefaultAuth()
	iam, function := "/v3/auth/tokens", "/v2/"+project+"/fgs/vpc-endpoint"
	hss := "/v5/" + project + "/host-management/vpc-endpointes/batch-query"
	for _, tt := range []struct {
		fault              simulator.Fault
		method, path, body string
		status             int
		code               string
	}{
		{simulator.Fault{Kind: simulator.Throttle500}, "GET", gatewayConnections(gatewayID), "", 500, "APIG.9008"},
		{simulator.Fault{Kind: simulator.ServerError}, "GET", gatewayConnections(gatewayID), "", 500, "APIC.9000"},
		{simulator.Fault{Kind: simulator.ServerError, Status: 504}, "GET", gatewayConnections(gatewayID), "", 504, "APIGW.0203"},
		{simulator.Fault{Kind: simulator.Throttle429}, "POST", function, `{"vpc_id":"v","subnet_id":"s"}`, 429, "FSS.0429"},
		{simulator.Fault{Kind: simulator.ServerError}, "POST", function, `{"vpc_id":"v","subnet_id":"s"}`, 500, "FSS.0500"},
		{simulator.Fault{Kind: simulator.Throttle429}, "POST", iam, tokenRequest(auth.User, auth.Password, ""), 429, "IAM.0012"},
		{simulator.Fault{Kind: simulator.ServerError}, "POST", hss, "{}", 500, "APIGW.0605"},
		{simulator.Fault{Kind: simulator.ServerError, Status: 599}, "POST", hss, "{}", 599, "APIGW.0201"},
	} {
		tt.fault.Count = 1
		p.Inject(tt.fault)
		if got := p.call(t, tt.method, tt.path, tt.body); got.status != tt.status || got.code() != tt.code {
			t.Errorf("%s of %s: %d %q, want %d %q", tt.fault.Kind, tt.path, got.status, got.code(), tt.status, tt.code)
		}
	}
}

func TestExpiredTokenIsGoodNoMore(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.token = p.NewToken(time.Hour)
	p.Inject(simulator.Fault{Kind: simulator.ExpiredToken, Count: 1})
	for range 2 {
		if got := p.call(t, "GET", connectionsOf(serviceID), ""); got.status != 401 {
			t.Errorf("answer %d, want 401 once and for all", got.status)
		}
	}
}

func TestFaultRetryAfter(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.Inject(simulator.Fault{Kind: simulator.Throttle429, RetryAfter: 1500 * time.Millisecond})
	if got := p.call(t, "GET", connectionsOf(serviceID), "").header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After %q, want 2", got)
	}
}

func TestFaultWhenAndWhere(t *testing.T) {
	t.Parallel()
	type call struct {
		pass   time.Duration
		path   string
		status int
	}
	vpcep, apig := connectionsOf(serviceID), gatewayConnections(gatewayID)
	services := "/v1/" + project + "/vpc-endpoint-services"
	tests := []struct {
		name  string
		fault simulator.Fault
		calls []call
	}{
		{"count", simulator.Fault{Count: 2}, []call{{0, vpcep, 429}, {0, vpcep, 429}, {0, vpcep, 200}}},
		{"API", simulator.Fault{API: simulator.APIG}, []call{{0, vpcep, 200}, {0, apig, 429}}},
		{"operation", simulator.Fault{Operation: "listserviceconnections"}, []call{{0, services, 200}, {0, vpcep, 429}}},
		{
			"after and for",
			simulator.Fault{After: time.Second, For: time.Second},
			[]call{{0, vpcep, 200}, {time.Second, vpcep, 429}, {time.Second - 1, vpcep, 429}, {1, vpcep, 200}},
		},
		{"VPCEP's throttling is its own", simulator.Fault{Kind: simulator.Throttle400}, []call{{0, apig, 200}, {0, vpcep, 400}}},
		{"APIG's throttling is its own", simulator.Fault{Kind: simulator.Throttle500}, []call{{0, vpcep, 200}, {0, apig, 500}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, simulator.Config{})
			if tt.fault.Kind == "" {
				tt.fault.Kind = simulator.Throttle429
			}
			p.Inject(tt.fault)
			for i, c := range tt.calls {
				p.clock.pass(c.pass)
				if got := p.call(t, "GET", c.path, ""); got.status != c.status {
					t.Errorf("call %d: %d, want %d", i, got.status, c.status)
				}
			}
			p.ClearFaults()
			p.call(t, "GET", vpcep, "").want(t, 200, "")
		})
	}
}

func TestFaultDiceRepeat(t *testing.T) {
	t.Parallel()
	roll := func(seed uint64) (out []int) {
		p := start(t, simulator.Config{Seed: seed, Faults: []simulator.Fault{{Kind: simulator.Throttle429, Probability: 0.5}}})
		for range 40 {
			out = append(out, p.call(t, "GET", connectionsOf(serviceID), "").status)
		}
		return out
	}
	first := roll(7)
	if !slices.Equal(first, roll(7)) {
		t.Error("the same seed made other faults")
	}
	if slices.Equal(first, roll(8)) || !slices.Contains(first, 200) || !slices.Contains(first, 429) {
		t.Errorf("statuses %v: want some of each, and others for another seed", first)
	}
}

func TestFaultStaleAndOddLists(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Config{})
	p.Connect(gatewayID, simulator.Connection{ID: endpoint})
	p.clock.pass(time.Minute)
	p.call(t, "POST", gatewayConnections(gatewayID)+"/action", action("receive", endpoint)).want(t, 200, "")
	p.Inject(simulator.Fault{Kind: simulator.StaleList, Delay: 30 * time.Second})
	shown := func() any {
		return dig(p.call(t, "GET", gatewayConnections(gatewayID), "").body, "connections", 0, "status")
	}
	if got := shown(); got != simulator.PendingAcceptance {
		t.Errorf("the list shows %v, want what was 30 s ago", got)
	}
	p.clock.pass(30 * time.Second)
	if got := shown(); got != simulator.Accepted {
		t.Errorf("the list shows %v, want it accepted at last", got)
	}
	p.ClearFaults()
	q := startLoose(t, simulator.Config{Faults: []simulator.Fault{{Kind: simulator.UnknownState}}})
	q.Connect(gatewayID, simulator.Connection{ID: endpoint})
	r := httptest.NewRequest(http.MethodGet, gatewayConnections(gatewayID), nil)
	r.Header.Set("X-Auth-Token", simulator.DefaultAuth().Token)
	w := httptest.NewRecorder()
	q.ServeHTTP(w, r)
	if !strings.Contains(w.Body.String(), `"status":"switchingPool"`) || w.Header().Get("X-Sim-Fault") == "" {
		t.Errorf("the list shows %s, want a state that nobody knows, marked as a fault", w.Body)
	}
}

// TestFaultSlow waits on simulated time, and so without real HTTP.
func TestFaultSlow(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := simulator.New(simulator.Config{Auth: simulator.Auth{None: true}, Latency: time.Second, Delays: simulator.Delays{Create: time.Second}})
			s.AddService(simulator.Service{ID: serviceID, ProjectID: project, ApprovalEnabled: true})
			s.Connect(serviceID, simulator.Connection{ID: endpoint})
			s.Inject(simulator.Fault{Kind: simulator.Slow, Delay: 20 * time.Second, Done: done})
			began := time.Now()
			answered := make(chan int)
			go func() {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, connectionsOf(serviceID)+"/action", strings.NewReader(action("receive", endpoint))))
				answered <- w.Code
			}()
			<-time.After(10 * time.Second)
			if got := s.Counters().Count(simulator.EffectAccept, endpoint) == 1; got != done {
				t.Errorf("done after 10 s: %t, want %t", got, done)
			}
			if status := <-answered; status != 200 || time.Since(began) != 21*time.Second {
				t.Errorf("answer %d after %s, want 200 after 21s", status, time.Since(began))
			}
		})
	}
}

// TestCutWithoutConnection: as in HTTP/2, the connection cannot be hijacked.
func TestCutWithoutConnection(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{Faults: []simulator.Fault{{Kind: simulator.Down}}})
	server := httptest.NewUnstartedServer(s)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	resp, err := server.Client().Get(server.URL + connectionsOf(serviceID))
	if err == nil {
		err = errors.Join(errors.New("an answer"), resp.Body.Close())
		t.Errorf("%v of status %d, want none", err, resp.StatusCode)
	}
}

func TestParseFault(t *testing.T) {
	t.Parallel()
	good := map[string]simulator.Fault{
		"vpcep:throttle-400:count=3":                {API: simulator.VPCEP, Kind: simulator.Throttle400, Count: 3},
		"*:down:after=1s,for=2m":                    {Kind: simulator.Down, After: time.Second, For: 2 * time.Minute},
		"*/ListEndpoints:slow:delay=5s":             {Operation: "ListEndpoints", Kind: simulator.Slow, Delay: 5 * time.Second},
		"apig:server-error:status=504,done":         {API: simulator.APIG, Kind: simulator.ServerError, Status: 504, Done: true},
		"hss:refuse:status=400,code=HSS.0013":       {API: simulator.HSS, Kind: simulator.Refuse, Status: 400, Code: "HSS.0013"},
		"iam:throttle-429:retry-after=3s":           {API: simulator.IAM, Kind: simulator.Throttle429, RetryAfter: 3 * time.Second},
		"vpcep/ListEndpoints:html:probability=0.25": {API: simulator.VPCEP, Operation: "ListEndpoints", Kind: simulator.HTML, Probability: 0.25},
	}
	for text, want := range good {
		if got, err := simulator.ParseFault(text); err != nil || got != want {
			t.Errorf("ParseFault(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	bad := map[string]string{
		"":                                   "has no kind",
		"vpcep":                              "has no kind",
		"ecs:slow":                           `unknown API "ecs"`,
		"apig/ListEndpoints:slow":            `unknown operation "ListEndpoints"`,
		"vpcep:throttle":                     `unknown kind "throttle"`,
		"apig:throttle-400":                  "only for vpcep",
		"vpcep:throttle-500":                 "only for apig",
		"vpcep:slow:dalay=1s":                `unknown key "dalay"`,
		"vpcep:slow:delay=1":                 "delay: invalid value",
		"vpcep:slow:count=x":                 "count: invalid value",
		"vpcep:slow:count=-1":                "must not be negative",
		"vpcep:slow:probability=2":           "at most 1",
		"vpcep:html:status=99":               "got 99",
		"vpcep:refuse:status=409":            "needs a code",
		"vpcep:throttle-429:retry-after=-1s": "must not be negative",
	}
	for text, want := range bad {
		if _, err := simulator.ParseFault(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFault(%q): %v, want %q in it", text, err, want)
		}
	}
}

func TestFaultPresets(t *testing.T) {
	t.Parallel()
	for _, name := range simulator.FaultProfiles() {
		set, err := simulator.FaultProfile(name)
		if err != nil || (len(set) == 0) != (name == "none") {
			t.Errorf("%s: %d faults, %v", name, len(set), err)
		}
		for _, f := range set {
			if err := f.Check(); err != nil || f.Probability <= 0 {
				t.Errorf("%s: %+v: %v", name, f, err)
			}
		}
	}
	if _, err := simulator.FaultProfile("breeze"); err == nil || !strings.Contains(err.Error(), "none, mild, storm") {
		t.Errorf("breeze: %v", err)
	}
}

func TestLargeBodyIsRefused(t *testing.T) {
	t.Parallel()
	s := simulator.New(simulator.Config{})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, connectionsOf(serviceID)+"/action", io.LimitReader(zeros{}, 12<<20+1)))
	if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "APIGW.0201") {
		t.Errorf("answer %d %s, want 413 APIGW.0201", w.Code, w.Body)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
