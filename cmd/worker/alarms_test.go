package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
