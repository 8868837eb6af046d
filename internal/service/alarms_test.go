package service

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// TestAlarmsAreHeardOnce: an API that is down for minutes and a key that is
// refused for hours are two lines each, at their beginning and at their end.
func TestAlarmsAreHeardOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := newAlarms(metrics.New(prometheus.NewRegistry(), metrics.Labels{}, metrics.Build{}), zerolog.New(&log))
	a.CloudBreaker("vpcep", "closed")
	a.CredentialState("unverified", time.Time{}, nil)
	for range 100 {
		a.CloudBreaker("vpcep", "open")
		a.CloudBreaker("vpcep", "half-open")
		a.CredentialState("refused", time.Time{}, &cloud.Error{
			API: "vpcep", Op: "ListServiceConnections", Target: "payments", Class: cloud.ClassCredentials, Status: 401, Code: "APIGW.0301", RequestID: "req-1",
		})
	}
	a.CloudBreaker("apig", "closed")
	a.CloudBreaker("vpcep", "closed")
	a.CredentialState("unverified", time.Time{}, nil)
	a.CredentialState("ok", time.Time{}, nil)
	a.CredentialState("ok", time.Time{}, nil)
	for _, want := range []string{"vpcep", "ListServiceConnections", "payments", "APIGW.0301", "req-1"} {
		if !strings.Contains(strings.Split(log.String(), "\n")[1], want) {
			t.Errorf("the alarm does not name %s:\n%s", want, &log)
		}
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines, want 4:\n%s", len(lines), &log)
	}
	for i, want := range []string{"does not work", "refuses the credential", "works again", "takes the credential again"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %s, want it to say %q", i+1, lines[i], want)
		}
	}
}

// TestIncompleteListsAreHeardOnce: a list that changed while it was read is no news;
// one that stays incomplete is one line, and its end another.
func TestIncompleteListsAreHeardOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	a := newAlarms(metrics.New(reg, metrics.Labels{Targets: []string{"payments", "orders"}}, metrics.Build{}), zerolog.New(&log))
	for range 5 { // never three in a row
		a.CloudList("payments", false)
		a.CloudList("payments", false)
		a.CloudList("payments", true)
		a.CloudList("orders", false)
		a.CloudList("orders", true)
	}
	if log.Len() > 0 {
		t.Errorf("reported lists that changed once: %s", &log)
	}
	for range 50 {
		a.CloudList("payments", false)
		a.CloudList("orders", true)
	}
	const gauge = `vpcep_approver_list_incomplete{target="payments"} 1`
	if got := gathered(t, reg); !strings.Contains(got, gauge) {
		t.Errorf("no %s in\n%s", gauge, got)
	}
	a.CloudList("payments", true)
	a.CloudList("payments", true)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"target":"payments"`) || !strings.Contains(lines[0], "does not show all") || !strings.Contains(lines[1], "complete again") {
		t.Errorf("log:\n%s", &log)
	}
	if got := gathered(t, reg); strings.Contains(got, gauge) {
		t.Error("the gauge does not go back")
	}
}

// gathered returns the metrics as they are served.
func gathered(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	return rec.Body.String()
}

// TestOperatorFaultsAreLoggedOnce: a fault that every request meets is one warning
// every ten minutes for each operation, target and code, then one line when it is
// over; and codes that never end do not fill the memory or the log.
func TestOperatorFaultsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		registry := prometheus.NewRegistry()
		a := newAlarms(metrics.New(registry, metrics.Labels{}, metrics.Build{}), zerolog.New(&log))
		denied := approval.OperatorFault{API: "vpcep", Operation: "AcceptOrRejectEndpoint", Code: "EndPoint.0004", Text: "grant it", RequestID: "req-1"}
		for range 30 * 60 {
			a.OperatorFault("payments", denied)
			<-time.After(time.Second)
		}
		other := denied
		other.Code = "EndPoint.1018"
		a.OperatorFault("payments", other)
		a.OperatorFault("orders", denied)
		for range 3 {
			a.OperatorFaultOver("vpcep", "payments")
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 6 {
			t.Fatalf("%d lines, want 3 of half an hour, 2 of others and 1 that it is over:\n%s", len(lines), &log)
		}
		for _, want := range []string{`"level":"warn"`, `"api":"vpcep"`, `"operation":"AcceptOrRejectEndpoint"`, `"target":"payments"`, `"code":"EndPoint.0004"`, `"request_id":"req-1"`} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("%s lacks %s", lines[0], want)
			}
		}
		for i := range 5 * mostFaultKeys {
			other.Code = fmt.Sprintf("EndPoint.%d", i)
			a.OperatorFault("payments", other)
		}
		if n := strings.Count(log.String(), "\n"); len(a.faults) > mostFaultKeys || n > mostFaultKeys+10 {
			t.Errorf("%d keys are kept and %d lines written for codes without end", len(a.faults), n)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if strings.Contains(f.GetName(), "operator_fault") && len(f.GetMetric()) > 2 {
				t.Errorf("%s has %d series", f.GetName(), len(f.GetMetric()))
			}
		}
	})
}

// TestCurrentFaults: a heartbeat tells what lasts, and not what is over.
func TestCurrentFaults(t *testing.T) {
	t.Parallel()
	a := newAlarms(metrics.New(prometheus.NewRegistry(), metrics.Labels{}, metrics.Build{}), zerolog.Nop())
	a.CloudBreaker("vpcep", "open")
	a.CredentialState("refused", time.Time{}, nil)
	a.OperatorFault("payments", approval.OperatorFault{API: "apig", Operation: "List", Code: "APIG.1", Text: strings.Repeat("x", 1000)})
	got := a.current()
	if len(got) != 3 || got[0] != (approval.WorkerFault{Kind: approval.FaultBreaker, API: "vpcep"}) || got[1].Kind != approval.FaultCredential || got[2].Target != "payments" || len(got[2].Text) != 200 {
		t.Errorf("%+v", got)
	}
	a.CloudBreaker("vpcep", "closed")
	a.CredentialState("ok", time.Time{}, nil)
	a.OperatorFaultOver("apig", "payments")
	if got := a.current(); len(got) != 0 {
		t.Errorf("after all is over: %+v", got)
	}
	for n := range 100 {
		a.OperatorFault("payments", approval.OperatorFault{API: "apig", Code: strconv.Itoa(n)})
	}
	if got := a.current(); len(got) != maxFaults {
		t.Errorf("%d faults are told", len(got))
	}
}
