package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/policies"
)

// paymentsConfig is a configuration with one service; endpoint replaces the one
// of VPCEP, unless it is empty.
func paymentsConfig(dir, endpoint string) config.Config {
	cfg := config.Config{
		Targets:  approval.Targets{{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88", ProjectID: "0123456789abcdef0123456789abcdef"}},
		Policies: config.Policies{Dir: dir},
		Cloud:    config.Cloud{Region: "cn-north-4", Endpoints: map[string]string{}},
	}
	if endpoint != "" {
		cfg.Cloud.Endpoints["vpcep"] = endpoint
	}
	return cfg
}

// TestExamplesAreInForceInASimulatedCloudOnly: `run` refuses a set with an id of
// the example policies, however it is spelled, at the start and at a reload.
func TestExamplesAreInForceInASimulatedCloudOnly(t *testing.T) {
	t.Parallel()
	const head = "version: 1\npolicy: payments\nowner: team\ntargets: [payments]\nallow:\n  - id: a\n    "
	const own = head + "domain_id: 11112222333344445555666677778888\n"
	for _, tt := range []struct {
		name, policy, endpoint string
		refused                bool
	}{
		{"an id of the examples", head + "domain_id: " + demoAcme + "\n", "", true},
		{"in upper case", head + "domain_id: " + strings.ToUpper(demoAcme) + "\n", "", true},
		{"among others", head + "domain_id: [11112222333344445555666677778888, " + demoAcme + "]\n", "", true},
		{"in a deny", own + "deny:\n  - {id: d, domain_id: " + demoLeft + ", reason: Gone.}\n", "", true},
		{"another endpoint of the provider", head + "domain_id: " + demoAcme + "\n", "https://vpcep.cn-north-1.myhuaweicloud.com", true},
		{"a simulated cloud", head + "domain_id: " + demoAcme + "\n", "http://127.0.0.1:8440", false},
		{"ids of one's own", own, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "payments.yaml")
			if err := os.WriteFile(file, []byte(tt.policy), 0o600); err != nil {
				t.Fatal(err)
			}
			s := service{cfg: paymentsConfig(dir, tt.endpoint), log: zerolog.Nop()}
			counters := metrics.New(prometheus.NewRegistry(), labelsOf(s.cfg.Targets), metricsBuild())
			_, err := s.loadPolicies(t.Context(), counters, make(chan struct{}, 1))
			if (err != nil) != tt.refused {
				t.Fatalf("load: %v, want it refused: %v", err, tt.refused)
			}
			if tt.refused && (!strings.Contains(err.Error(), "payments.yaml:") || !strings.Contains(err.Error(), "worker init")) {
				t.Errorf("%v, want the place and the next step", err)
			}
		})
	}
}

// TestCheckFindsExampleIDs: an entry with an id of the gallery is a finding; the
// gallery as it is has none.
func TestCheckFindsExampleIDs(t *testing.T) {
	t.Parallel()
	targets, err := policy.TestTargets("../../policies", nil)
	if err != nil {
		t.Fatal(err)
	}
	codes := func(dir string) (out []string) {
		t.Helper()
		report, err := checkPolicies(dir, targets)
		if err != nil || !report.OK {
			t.Fatal(err, report.Findings)
		}
		for _, f := range report.Findings {
			out = append(out, f.Code+" "+filepath.Base(f.File)+" "+f.Path)
		}
		return out
	}
	if got := codes("../../policies"); len(got) > 0 {
		t.Errorf("the gallery has findings: %q", got)
	}
	dir := t.TempDir()
	entries, err := policies.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := policies.Files.ReadFile(e.Name())
		if err == nil && e.Name() != "staging.yaml" && e.Name() != "staging_test.yaml" {
			err = os.WriteFile(filepath.Join(dir, e.Name()), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got := codes(dir)
	for _, want := range []string{
		"example-id payments.yaml allow[0].domain_id", "example-id payments.yaml deny[0].domain_id", "example-id gateway.yaml allow[0].endpoint_id",
		"example-id functions.yaml allow[0].vpc_id", "example-id partners.yaml allow[0].domain_id",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no finding %q in %q", want, got)
		}
	}
}
