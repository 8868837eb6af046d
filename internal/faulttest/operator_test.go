package faulttest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// all asks for n requests, of every kind in turn.
func (r *rig) all(n int, prefix string) {
	for i := range n {
		id := fmt.Sprintf("%s-%d", prefix, i)
		switch i % 5 {
		case 0:
			r.submit(r.event(r.connect("payments", partner), id, approval.OutcomeAccepted))
		case 1:
			r.submit(r.event(r.connect("orders", banned), id, approval.OutcomeRejected))
		case 2:
			r.submit(r.event(r.creation("functions"), id, approval.OutcomeCreated))
		case 3:
			r.submit(r.event(r.creation("hosts"), id, approval.OutcomeCreated))
		case 4:
			r.submit(r.event(r.creation("insight"), id, approval.OutcomeCreated))
		}
	}
}

// alarmWatch counts how often an alarm about what only the operator can fix begins
// and ends, by API and target.
type alarmWatch struct {
	*metrics.Metrics
	mu           sync.Mutex
	active       map[string]bool
	begun, ended map[string]int
	open         map[string]bool // APIs that were told not to work
}

func newAlarmWatch() *alarmWatch {
	return &alarmWatch{
		Metrics: metrics.New(prometheus.NewRegistry(), metrics.Labels{}, metrics.Build{}),
		active:  map[string]bool{}, begun: map[string]int{}, ended: map[string]int{}, open: map[string]bool{},
	}
}

// OperatorFault begins an alarm unless it is on.
func (a *alarmWatch) OperatorFault(target string, fault approval.OperatorFault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := fault.API + " " + target
	if !a.active[key] {
		a.begun[key]++
	}
	a.active[key] = true
}

// OperatorFaultOver ends an alarm.
func (a *alarmWatch) OperatorFaultOver(api, target string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := api + " " + target
	a.ended[key]++
	a.active[key] = false
}

// CloudBreaker reports an API that does not work, which is an alarm, too.
func (a *alarmWatch) CloudBreaker(api, state string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[api] = a.open[api] || state == "open"
}

// CredentialState is of no interest here.
func (a *alarmWatch) CredentialState(string, time.Time, *cloud.Error) {}

// check wants one alarm of the API for each of its targets, which has ended, and
// none of any other API.
func (a *alarmWatch) check(api string, f *findings) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.begun) == 0 && !a.open[api] {
		f.wrong("no alarm was raised")
	}
	for key, n := range a.begun {
		switch {
		case !strings.HasPrefix(key, api+" "):
			f.wrong("an alarm was raised about %s, and %s refused", key, api)
		case n != 1 || a.ended[key] != 1:
			f.wrong("the alarm about %s was raised %d times and ended %d times", key, n, a.ended[key])
		}
	}
}

// TestOperatorFaults is F27: for half an hour an API refuses what only the operator
// can fix.
func TestOperatorFaults(t *testing.T) {
	together(t)
	requests := times(20, 100, 1000)
	const outage = 30 * time.Minute
	refusal := func(status int, code string) netFault {
		return netFault{Status: status, Body: fmt.Sprintf(`{"error_code":%q,"error_msg":"m"}`, code)}
	}
	writes := func(req *http.Request) bool { return req.Method == http.MethodPost }
	always := func(*http.Request) bool { return true }
	tests := []struct {
		name, api string
		of        func(*http.Request) bool
		fault     netFault
	}{
		{"no permission to accept", cloud.APIVPCEP, writes, refusal(403, "EndPoint.0004")},
		{"no permission to list", cloud.APIVPCEP, always, refusal(403, "EndPoint.0004")},
		{"a quota", cloud.APIVPCEP, writes, refusal(400, "EndPoint.1018")},
		{"a service that is not known", cloud.APIVPCEP, always, refusal(404, "EndPoint.0005")},
		{"a refusal that is not known", cloud.APIVPCEP, always, refusal(403, "EndPoint.9999")},
		{"the token is of another project", cloud.APIVPCEP, always, refusal(401, "APIGW.0307")},
		{"a gateway that is not known", cloud.APIAPIG, always, refusal(404, "APIC.7302")},
		{"a gateway of another account", cloud.APIAPIG, writes, refusal(403, "APIC.7300")},
		{"no permission", cloud.APIFunctionGraph, always, refusal(403, "FSS.0403")},
		{"a quota", cloud.APIFunctionGraph, always, refusal(403, "FSS.1047")},
		{"no permission", cloud.APIHSS, always, refusal(400, "HSS.0013")},
		{"the credential, by this product only", cloud.APIHSS, always, refusal(401, "APIGW.0301")},
		{"a login page", cloud.APIHSS, always, netFault{Status: 401, Body: "<html>login</html>", Header: map[string]string{"Content-Type": "text/html"}}},
		{"no such workspace", cloud.APIDataArtsInsight, always, refusal(400, "DataArtsInsight.24150005")},
		{"no such address", cloud.APIDataArtsInsight, always, refusal(404, "APIGW.0101")},
	}
	for _, tt := range tests {
		name := tt.api + ", " + tt.name
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simulated(t, func(t *testing.T) {
				r := newRig(t, 1, 50, simulator.Config{Delays: walk()}, loadPolicies(t, policies()))
				alarms := newAlarmWatch()
				r.use(t, 50, func(cfg *cloud.Config) { cfg.Observer = alarms })
				begin := time.Now()
				var mu sync.Mutex
				refused := 0
				r.fault = func(req *http.Request) netFault {
					if api(req) != tt.api || time.Since(begin) >= outage || !tt.of(req) {
						return netFault{}
					}
					mu.Lock()
					defer mu.Unlock()
					refused++
					return tt.fault
				}
				r.all(requests, "operator")
				f := r.judge()
				if after := time.Since(begin) - outage; after > 2*time.Minute {
					f.wrong("what waited was done %s after the fault was fixed, not within two minutes", after)
				}
				if refused == 0 {
					f.wrong("nothing was refused")
				}
				alarms.check(tt.api, &f)
				table.add(t, row{Name: "F27 operator faults, " + name, Tries: requests, findings: f, Took: time.Since(begin), Note: "simulated time"})
			})
		})
	}
}

// TestOperatorFaultsOfEachAPI is the rest of F27: each API, IAM among them, says in
// its own words for half an hour that a right is missing, that a quota is used up,
// that it knows no such thing, or that the project is another's.
func TestOperatorFaultsOfEachAPI(t *testing.T) {
	together(t)
	requests := times(5, 20, 500)
	const outage = 30 * time.Minute
	kinds := []simulator.FaultKind{simulator.Permission, simulator.Quota, simulator.UnknownService, simulator.WrongProject}
	apis := []string{cloud.APIVPCEP, cloud.APIAPIG, cloud.APIFunctionGraph, cloud.APIHSS, cloud.APIDataArtsInsight, cloud.APIIAM}
	for _, name := range apis {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f findings
			begin, tries := time.Now(), 0
			for _, kind := range kinds {
				if kind == simulator.UnknownService && (name == cloud.APIFunctionGraph || name == cloud.APIHSS) {
					continue // there the request itself names what is not known
				}
				tries += requests
				simulated(t, func(t *testing.T) { f.join(refusedBy(t, name, kind, requests, outage)) })
			}
			table.add(t, row{Name: "F27 operator faults in the words of " + name, Tries: tries, findings: f, Took: time.Since(begin)})
		})
	}
}

func refusedBy(t *testing.T, name string, kind simulator.FaultKind, requests int, outage time.Duration) findings {
	t.Helper()
	r := newRig(t, 1, 50, simulator.Config{Delays: walk()}, loadPolicies(t, policies()))
	alarms := newAlarmWatch()
	r.use(t, 50, func(cfg *cloud.Config) {
		cfg.Observer = alarms
		if name == cloud.APIIAM {
			cfg.Auth = cloud.Auth{Mode: cloud.ModePassword, Source: func() (cloud.Credentials, error) {
				auth := simulator.DefaultAuth()
				return cloud.Credentials{User: auth.User, Password: auth.Password, Domain: auth.Domain}, nil
			}}
		}
	})
	begin := time.Now()
	r.sim.Inject(simulator.Fault{API: name, Kind: kind, For: outage})
	r.all(requests, "each")
	f := r.judge()
	if after := time.Since(begin) - outage; after > 2*time.Minute {
		f.wrong("%s: what waited was done %s after the fault was fixed, not within two minutes", kind, after)
	}
	if n := r.sim.Counters().Faults[string(kind)]; n == 0 {
		f.wrong("%s: nothing was refused", kind)
	}
	alarms.check(name, &f)
	return f
}

// TestSlowProduct: a product that admits 5 calls a minute gets its endpoints made,
// later, and nobody else waits for it.
func TestSlowProduct(t *testing.T) {
	t.Parallel()
	simulated(t, func(t *testing.T) {
		r := newRig(t, 1, 50, simulator.Config{Delays: walk()}, loadPolicies(t, policies()))
		r.use(t, 50, func(cfg *cloud.Config) { cfg.Rates = map[string]float64{cloud.APIHSS: 5.0 / 60} })
		begin := time.Now()
		var mu sync.Mutex
		var calls []time.Time
		r.fault = func(req *http.Request) netFault {
			if api(req) == cloud.APIHSS {
				mu.Lock()
				defer mu.Unlock()
				calls = append(calls, time.Now())
			}
			return netFault{}
		}
		const creations = 20
		for i := range creations {
			r.submit(r.event(r.creation("hosts"), fmt.Sprintf("slow-%d", i), approval.OutcomeCreated))
		}
		f := r.judge()
		if most := mostIn(calls, time.Minute); most > 5 {
			f.wrong("%d calls within a minute", most)
		}
		if n := r.sim.Counters().Count(simulator.EffectCreate, ""); n != creations {
			f.doubled("%d creations were asked for and %d were made", creations, n)
		}
		// A look, a creation and a look each, at 12 s, are 12 minutes.
		if took := time.Since(begin); took > 30*time.Minute {
			f.wrong("%d creations took %s and %d calls", creations, took, len(calls))
		}
		t.Logf("%d creations took %s and %d calls", creations, time.Since(begin), len(calls))
		table.add(t, row{Name: "a product that admits 5 calls a minute", Tries: creations, findings: f, Took: time.Since(begin), Note: "simulated time"})
	})
}
