package main

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// TestAlarmsAreHeardOnce: an API that is down for minutes and a key that is
// refused for hours are two lines each, at their beginning and at their end.
func TestAlarmsAreHeardOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := newAlarms(metrics.New(prometheus.NewRegistry(), metrics.Labels{}, metrics.Build{}), zerolog.New(&log))
	a.CloudBreaker("vpcep", "closed")
	a.CredentialState("unproven", time.Time{})
	for range 100 {
		a.CloudBreaker("vpcep", "open")
		a.CloudBreaker("vpcep", "half-open")
		a.CredentialState("refused", time.Time{})
	}
	a.CloudBreaker("apig", "closed")
	a.CloudBreaker("vpcep", "closed")
	a.CredentialState("unproven", time.Time{})
	a.CredentialState("ok", time.Time{})
	a.CredentialState("ok", time.Time{})
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
		t.Errorf("told of lists that changed once: %s", &log)
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
