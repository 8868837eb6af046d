package metrics

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample() Labels {
	return Labels{
		Targets:           []string{"payments", "orders-gateway"},
		TargetAPIs:        map[string][]string{"payments": {"vpcep"}, "orders-gateway": {"apig"}},
		Operations:        map[string][]string{"vpcep": {"AcceptOrRejectEndpoint"}, "iam": {"KeystoneCreateUserTokenByPassword"}},
		Classes:           []string{"ok", "throttle", "final"},
		DeadLetterReasons: []string{"unreadable"},
	}
}

func fresh(t *testing.T) (*prometheus.Registry, *Metrics) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	return reg, New(reg, sample(), Build{Version: "v1", Revision: "abc", GoVersion: "go1.26"})
}

func TestNamesPassTheLinter(t *testing.T) {
	t.Parallel()
	reg, _ := fresh(t)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, namespace) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestEverySeriesExistsFromTheStart: what happened to a fresh and to a used
// registry must be the same set of series.
func TestEverySeriesExistsFromTheStart(t *testing.T) {
	t.Parallel()
	reg, m := fresh(t)
	before := series(t, reg)
	connection := approval.Request{Target: approval.Target{Name: "payments", Kind: approval.Service}}
	m.Delivered("connection")
	m.Decided(connection, approval.Decision{Verdict: approval.Hold, Reasons: []approval.Reason{{Code: approval.ReasonClaimMismatch}}})
	m.Finished(approval.Result{Request: connection, Outcome: approval.OutcomeHeld, Seconds: map[approval.Stage]float64{approval.StageAct: 1}})
	m.CloudCall("vpcep", "AcceptOrRejectEndpoint", "throttle", time.Second)
	m.CloudRetry("vpcep", "AcceptOrRejectEndpoint", "throttle")
	m.CloudThrottled("iam", time.Second)
	m.CloudInFlight("vpcep", 1)
	m.CloudBreaker("vpcep", "open")
	m.CloudUnknownState("payments")
	m.CloudList("payments", false)
	m.CredentialState("ok", time.Unix(1, 0))
	m.OperatorFault("payments", approval.OperatorFault{API: "vpcep", Operation: "AcceptOrRejectEndpoint", Code: "EndPoint.0004"})
	m.OperatorFaultOver("vpcep", "payments")
	m.GivenBack("busy")
	m.DeadLettered("unreadable")
	m.ResultPublished("error")
	m.PolicyReloaded(false, "", 0, 0)
	m.Swept(true)
	m.SweepFound("payments", "untold")
	m.PendingConnections("payments", 3)
	if diff := cmp.Diff(before, series(t, reg)); diff != "" {
		t.Errorf("series that appear only when something happens (-start +used):\n%s", diff)
	}
	if got := testutil.ToFloat64(m.mismatches); got != 1 {
		t.Errorf("claim mismatches = %v, want 1", got)
	}
	if got := testutil.ToFloat64(m.breaker.WithLabelValues("vpcep", "closed")); got != 0 {
		t.Errorf("an open breaker is closed too: %v", got)
	}
}

// TestApprovalIsNotKnownBeforeItIsRead: there is no series that could be taken for
// an answer.
func TestApprovalIsNotKnownBeforeItIsRead(t *testing.T) {
	t.Parallel()
	_, m := fresh(t)
	if got := testutil.CollectAndCount(m.approval); got != 0 {
		t.Errorf("%d series before anything was read", got)
	}
	m.ApprovalEnabled("payments", false)
	m.ApprovalEnabled("orders", true)
	for target, want := range map[string]float64{"payments": 0, "orders": 1} {
		if got := testutil.ToFloat64(m.approval.WithLabelValues(target)); got != want {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
	}
}

// TestAFailedReloadKeepsTheLastGoodSet: the gauges of the set in force must not
// move when the newest files are bad.
func TestAFailedReloadKeepsTheLastGoodSet(t *testing.T) {
	t.Parallel()
	_, m := fresh(t)
	m.PolicyReloaded(true, "sha256:a", 2, 7)
	m.PolicyReloaded(false, "", 0, 0)
	if got := testutil.ToFloat64(m.rules); got != 7 {
		t.Errorf("rules = %v, want 7", got)
	}
	if got := testutil.ToFloat64(m.reloadSuccess); got != 0 {
		t.Errorf("reload success = %v, want 0", got)
	}
	if got := testutil.CollectAndCount(m.policyInfo); got != 1 {
		t.Errorf("%d digests, want 1", got)
	}
}

// TestDocumentation holds docs/metrics.md to the registry.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	reg, m := fresh(t)
	m.PolicyReloaded(true, "sha256:a", 1, 1)
	m.ApprovalEnabled("payments", true)
	m.Decided(approval.Request{}, approval.Decision{Verdict: approval.Hold, Shadow: &approval.ShadowDecision{Verdict: approval.Accept, Policy: "payments"}})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var doc strings.Builder
	doc.WriteString("# Metrics\n\n<!-- Made by `go test ./internal/metrics -update`; edit the help texts there. -->\n\n" +
		"All are served on `/metrics`. Beside these there are the usual `go_*` and `process_*`.\n" +
		"No label holds an id, a domain, a URL or an error text, so the number of series does not grow with traffic.\n\n" +
		"| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), namespace) {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&doc, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, " "), f.GetHelp())
	}
	path := filepath.Join("..", "..", "docs", "metrics.md")
	if *update {
		if err := os.WriteFile(path, []byte(doc.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(doc.String(), string(got)); diff != "" {
		t.Errorf("docs/metrics.md differs from the registry; run go test ./internal/metrics -update (-want +got):\n%s", diff)
	}
}

func series(t *testing.T, g prometheus.Gatherer) []string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), namespace) {
			continue
		}
		for _, metric := range f.GetMetric() {
			s := f.GetName()
			for _, l := range metric.GetLabel() {
				s += "," + l.GetName() + "=" + l.GetValue()
			}
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// TestShadowDecisionsThatCannotBeTold: a shadow decision that needs a count which
// nobody took neither agrees with what was decided nor differs from it.
func TestShadowDecisionsThatCannotBeTold(t *testing.T) {
	t.Parallel()
	_, m := fresh(t)
	m.ShadowRule("p", "r")
	shadow := &approval.ShadowDecision{Verdict: approval.Hold, Policy: "p", Rule: "r", NeedsCount: true}
	for _, v := range []approval.Verdict{approval.Accept, approval.Hold} {
		m.Decided(approval.Request{}, approval.Decision{Verdict: v, Shadow: shadow})
	}
	for differs, want := range map[string]float64{"unknown": 2, "true": 0, "false": 0} {
		if got := testutil.ToFloat64(m.shadow.WithLabelValues("p", "r", differs)); got != want {
			t.Errorf("differs=%s: %v, want %v", differs, got, want)
		}
	}
}
