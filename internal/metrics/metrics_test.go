package metrics

import (
	"flag"
	"fmt"
	"math"
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

var update = flag.Bool("update", false, "write the golden files again")

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
	m.Decided(&approval.Decision{Verdict: approval.Hold, Reasons: []approval.Reason{{Code: approval.ReasonClaimMismatch}}})
	m.WaitsUntil(WaitOperator, time.Now().Add(time.Hour))
	m.LedgerWriteFailed()
	m.TraceExportFailed()
	m.Finished(&approval.Result{Request: connection, Outcome: approval.OutcomeHeld, Seconds: map[approval.Stage]float64{approval.StageAct: 1}})
	m.CloudCall("vpcep", "AcceptOrRejectEndpoint", "throttle", time.Second)
	m.CloudRetry("vpcep", "AcceptOrRejectEndpoint", "throttle")
	m.CloudThrottled("iam", time.Second)
	m.CloudInFlight("vpcep", 1)
	m.CloudBreaker("vpcep", "open")
	m.CloudUnknownState("payments")
	m.CloudList("payments", false)
	m.ApprovalEnabled("payments", true)
	m.CredentialState("ok", time.Unix(1, 0))
	m.OperatorFault("payments", approval.OperatorFault{API: "vpcep", Operation: "AcceptOrRejectEndpoint", Code: "EndPoint.0004"})
	m.OperatorFaultOver("vpcep", "payments")
	m.GivenBack("busy")
	m.DeadLettered("unreadable")
	m.ResultPublished("error")
	m.Set(LiveSet).PolicyReloaded(false, "", 0, 0)
	m.Set(LiveSet).PolicyFindings("error", 2)
	m.Swept(true)
	m.SweepFound("payments", "missed")
	m.WorkSeen("payments", Work{Pending: 3, OldestPending: time.Unix(1, 0), Held: 1, OldestHeld: time.Unix(2, 0)})
	m.WorkUnknown()
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

// TestApprovalIsNotKnownBeforeItIsRead: no value stands there that could be taken
// for an answer.
func TestApprovalIsNotKnownBeforeItIsRead(t *testing.T) {
	t.Parallel()
	_, m := fresh(t)
	if got := testutil.ToFloat64(m.approval.vec.WithLabelValues("payments")); !math.IsNaN(got) {
		t.Errorf("%v before anything was read", got)
	}
	for _, enabled := range []bool{false, true} {
		m.ApprovalEnabled("payments", enabled)
		if got := testutil.ToFloat64(m.approval.vec.WithLabelValues("payments")); got != truth(enabled) {
			t.Errorf("%v, want %t", got, enabled)
		}
	}
}

// TestAFailedReloadKeepsTheLastGoodSet: the gauges of the set in force must not
// move when the newest files are bad.
func TestAFailedReloadKeepsTheLastGoodSet(t *testing.T) {
	t.Parallel()
	_, m := fresh(t)
	m.Set(LiveSet).PolicyReloaded(true, "sha256:a", 2, 7)
	m.Set(LiveSet).PolicyReloaded(false, "", 0, 0)
	if got := testutil.ToFloat64(m.rules.WithLabelValues(LiveSet)); got != 7 {
		t.Errorf("rules = %v, want 7", got)
	}
	if got := testutil.ToFloat64(m.reloadSuccess.WithLabelValues(LiveSet)); got != 0 {
		t.Errorf("reload success = %v, want 0", got)
	}
	if got := testutil.CollectAndCount(m.policyInfo); got != 1 {
		t.Errorf("%d digests, want 1", got)
	}
	m.Set(LiveSet).PolicyFindings("warning", 3)
	m.Set(LiveSet).PolicyFindings("error", 2)
	m.Set(LiveSet).PolicyReloaded(true, "sha256:a", 2, 7) // the files are as they were
	for severity, want := range map[string]float64{"warning": 3, "error": 0} {
		if got := testutil.ToFloat64(m.findings.WithLabelValues(LiveSet, severity)); got != want {
			t.Errorf("%v findings are of severity %s, want %v", got, severity, want)
		}
	}
}

// TestDocumentation holds docs/metrics.md to the registry.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	reg, m := fresh(t)
	m.Set(LiveSet).PolicyReloaded(true, "sha256:a", 1, 1)
	m.Decided(&approval.Decision{Verdict: approval.Hold, Shadow: &approval.ShadowDecision{Verdict: approval.Accept, Policy: "payments"}})
	m.LimitUsed(&approval.Decision{Policy: "payments", Rule: "acme"}, "payments", "account", 1, 10)
	m.Expiries([]Expiry{{Rule: Rule{"payments", "acme"}}})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var doc strings.Builder
	doc.WriteString("# Metrics\n\n<!-- Made by `go test ./internal/metrics -update`; edit the help texts there. -->\n\n" +
		"All are served on `/metrics`. The usual `go_*` and `process_*` metrics are served, too.\n" +
		"No label holds an id, a domain, a URL or an error text, so the number of series does not grow with traffic.\n" +
		"It is bounded for policies and targets, too: there are at most 2,000 series. Targets beyond the first 28 of the\n" +
		"configuration and rules beyond the first 50 of a set of policies share the label `other`.\n\n" +
		"A value that is not known is `NaN` or absent, never 0. What a sweep finds is set by the worker that swept last and\n" +
		"is `NaN` on the others: take the `max` over the workers. The backlog is the same on all workers: take the `max`, too.\n\n" +
		"Histograms are classic and native. A Prometheus 2 with `--enable-feature=native-histograms` stores the native form\n" +
		"only; Prometheus 3 stores both with `always_scrape_classic_histograms: true`. The rules and dashboards in `deploy/`\n" +
		"take either form. Requests of a sampled trace are exemplars of the histograms in the OpenMetrics format\n" +
		"(`--enable-feature=exemplar-storage`), with the label `trace_id`.\n\n" +
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

// TestTheNumberOfSeriesIsBounded: neither policies nor targets make it grow, and
// nothing is lost in what they share.
func TestTheNumberOfSeriesIsBounded(t *testing.T) {
	t.Parallel()
	labels := sample()
	labels.Targets = nil
	for i := range 1000 {
		labels.Targets = append(labels.Targets, fmt.Sprintf("t%d", i))
	}
	rules := func(first int) [][2]string {
		out := [][2]string{{}}
		for i := range 10_000 {
			out = append(out, [2]string{"candidate", fmt.Sprintf("r%d", first+i)})
		}
		return out
	}
	reg := prometheus.NewPedanticRegistry()
	m := New(reg, labels, Build{Version: "v1", Revision: "abc", GoVersion: "go1.26"})
	m.Set(ShadowSet).PolicyReloaded(true, "sha256:b", 1, 10_000)
	m.ShadowRules(LiveSet, rules(50_000))
	m.ShadowRules(ShadowSet, rules(0))
	decide := func(rule string) {
		m.Decided(&approval.Decision{Verdict: approval.Hold, Shadow: &approval.ShadowDecision{Verdict: approval.Hold, Policy: "candidate", Rule: rule}})
	}
	for i := range 10_000 {
		decide(fmt.Sprintf("r%d", i))
	}
	for _, name := range labels.Targets {
		m.CloudUnknownState(name)
		m.SweepFound(name, "missed")
		m.CloudList(name, true)
		m.ApprovalEnabled(name, name != "t999")
		m.WorkSeen(name, Work{Pending: 7})
		m.WorkSeen(name, Work{Pending: 1})
	}
	if n := lines(t, reg); n > 2000 {
		t.Errorf("%d series, want at most 2,000", n)
	}
	count := func(rule string) float64 {
		return testutil.ToFloat64(m.shadow.vec.WithLabelValues("candidate", rule, "false"))
	}
	if got := testutil.ToFloat64(m.shadow.vec.WithLabelValues(others, others, "false")); count("r0") != 1 || got != 10_000-maxRules+1 {
		t.Errorf("the first rule has %v decisions, the others %v; want 1 and %d", count("r0"), got, 10_000-maxRules+1)
	}
	if first, rest := testutil.ToFloat64(m.worklist.pending.vec.WithLabelValues("t0")), testutil.ToFloat64(m.worklist.pending.vec.WithLabelValues(others)); first != 1 || rest != 1000-maxTargets {
		t.Errorf("the first target has %v pending, the others %v; want 1 and %d", first, rest, 1000-maxTargets)
	}

	if got := testutil.ToFloat64(m.approval.vec.WithLabelValues(others)); got != 0 {
		t.Errorf("approval of the others is %v, want 0 for the one that has it switched off", got)
	}

	// A set that takes the place of another takes its series with it.
	for i := range 100 {
		m.ShadowRules(ShadowSet, rules(100*i))
		decide(fmt.Sprintf("r%d", 100*i))
	}
	if n := lines(t, reg); n > 2000 {
		t.Errorf("%d series after 100 reloads, want at most 2,000", n)
	}
	if got := count("r9900"); got != 1 {
		t.Errorf("the first rule of the newest set has %v decisions, want 1", got)
	}
}

// lines is how many samples a scrape of g has.
func lines(t *testing.T, g prometheus.Gatherer) int {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			n++
			if h := metric.GetHistogram(); h != nil {
				n += len(h.GetBucket()) + 2
			}
		}
	}
	return n
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
	m.ShadowRules(LiveSet, [][2]string{{"p", "r"}})
	shadow := &approval.ShadowDecision{Verdict: approval.Hold, Policy: "p", Rule: "r", NeedsCount: true}
	for _, v := range []approval.Verdict{approval.Accept, approval.Hold} {
		m.Decided(&approval.Decision{Verdict: v, Shadow: shadow})
	}
	for differs, want := range map[string]float64{"unknown": 2, "true": 0, "false": 0} {
		if got := testutil.ToFloat64(m.shadow.vec.WithLabelValues("p", "r", differs)); got != want {
			t.Errorf("differs=%s: %v, want %v", differs, got, want)
		}
	}
}
