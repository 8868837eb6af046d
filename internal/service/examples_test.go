package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// Accounts in the example policies.
const (
	acmeDomain   = "6e9dfd51d1124e8d8498dce894923a0d"
	formerDomain = "b70fde8e849b4e76a61dd8aa0ec05c81"
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
		{"an id of the examples", head + "domain_id: " + acmeDomain + "\n", "", true},
		{"in upper case", head + "domain_id: " + strings.ToUpper(acmeDomain) + "\n", "", true},
		{"among others", head + "domain_id: [11112222333344445555666677778888, " + acmeDomain + "]\n", "", true},
		{"in a deny", own + "deny:\n  - {id: d, domain_id: " + formerDomain + ", reason: Gone.}\n", "", true},
		{"another endpoint of the provider", head + "domain_id: " + acmeDomain + "\n", "https://vpcep.cn-north-1.myhuaweicloud.com", true},
		{"a simulated cloud", head + "domain_id: " + acmeDomain + "\n", "http://127.0.0.1:8440", false},
		{"ids of one's own", own, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "payments.yaml")
			if err := os.WriteFile(file, []byte(tt.policy), 0o600); err != nil {
				t.Fatal(err)
			}
			s := Service{Config: paymentsConfig(dir, tt.endpoint), Log: zerolog.Nop()}
			counters := metrics.New(prometheus.NewRegistry(), LabelsOf(s.Config.Targets), MetricsBuild())
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
