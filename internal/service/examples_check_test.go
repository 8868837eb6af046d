package service_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
	"github.com/vpcep-approver/vpcep-approver/policies"
)

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
		report, err := workbench.Check(dir, targets, time.Now(), service.ExampleFindings)
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
