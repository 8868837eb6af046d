package service

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// TestFindingsAreLoggedOnceAndCounted: the warnings about a set are in the log once
// when it comes into force, and in a metric as long as it is.
func TestFindingsAreLoggedOnceAndCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(conditions ...string) {
		t.Helper()
		text := "version: 1\npolicy: p\ntargets: [payments]\nallow:\n"
		for i, c := range conditions {
			text += fmt.Sprintf("  - {id: x%d, %s}\n", i, c)
		}
		if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	s := Service{Log: zerolog.New(&log), Config: config.Config{
		Targets:  approval.Targets{{Name: "payments", Kind: approval.Service, Region: "cn-north-4"}},
		Policies: config.Policies{Dir: dir},
	}}
	reg := prometheus.NewRegistry()
	counters := metrics.New(reg, metrics.Labels{}, metrics.Build{})
	expect := func(when string, lines, warnings, errors int) {
		t.Helper()
		if got := strings.Count(log.String(), "something in the policies looks wrong"); got != lines {
			t.Errorf("%s: %d findings are logged, want %d:\n%s", when, got, lines, log.String())
		}
		w := httptest.NewRecorder()
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		for severity, n := range map[string]int{"warning": warnings, "error": errors} {
			if want := fmt.Sprintf("vpcep_approver_policy_findings{set=\"live\",severity=%q} %d\n", severity, n); !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: the metrics lack %s", when, want)
			}
		}
		log.Reset()
	}

	write("any_domain: true", `domain_id: "6e*"`, "domain_id: 11112222333344445555666677778888, expires: 2020-01-01")
	policies, err := s.loadPolicies(t.Context(), counters, make(chan struct{}, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"code":"any-domain"`, `"code":"broad-pattern"`, `"code":"expired"`, `"line":5`, "p.yaml"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
	expect("at the start", 3, 3, 0)
	if err := policies.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("loaded again", 0, 3, 0)
	write("domain_id: x", "domain_id: y")
	if err := policies.Load(t.Context()); err == nil {
		t.Fatal("no error")
	}
	expect("with errors", 0, 3, 2)
	write("any_domain: true", `domain_id: "6e*"`, "domain_id: 11112222333344445555666677778888, expires: 2020-01-01")
	if err := policies.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("as it was", 0, 3, 0)
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf(`domain_id: "%x*"`, i))
	}
	write(many...)
	if err := policies.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `"findings":10`) {
		t.Errorf("the log does not count the rest:\n%s", log.String())
	}
	expect("with many", maxLogged, 30, 0)
}
