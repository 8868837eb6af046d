package metrics

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestDecisionsByRule: the rules after the first of the set's order share a label,
// whatever their names, and no decision is lost.
func TestDecisionsByRule(t *testing.T) {
	t.Parallel()
	_, m := fresh(t)
	var rules []Rule
	for i := range maxRules + 10 {
		rules = append(rules, Rule{"p", fmt.Sprintf("r%03d", 999-i)}) // the order is not that of the names
	}
	m.Rules(rules)
	count := func(r Rule) float64 {
		return testutil.ToFloat64(m.decided.vec.WithLabelValues(r[0], r[1], "accept"))
	}
	for _, r := range rules {
		m.Decided(&approval.Decision{Verdict: approval.Accept, Policy: r[0], Rule: r[1]})
	}
	if first, last, rest := count(rules[0]), count(rules[maxRules-1]), count(otherRules()); first != 1 || last != 1 || rest != 10 {
		t.Errorf("the first rule has %v decisions, the last with a series %v, the others %v; want 1, 1 and 10", first, last, rest)
	}
	if n := testutil.CollectAndCount(m.decided.vec); n != (maxRules+1)*len(approval.Verdicts()) {
		t.Errorf("%d series, want those of %d rules and of the others", n, maxRules)
	}
	m.Rules(rules[:1])
	if n := testutil.CollectAndCount(m.decided.vec); n != 2*len(approval.Verdicts()) {
		t.Errorf("%d series after a reload, want those of one rule and the others, which count on", n)
	}
}

// TestLimitUsed: the gauge is that of the account that uses the most of it, and is
// absent where nothing was counted.
func TestLimitUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg, m := fresh(t)
		rule := &approval.Decision{Policy: "p", Rule: "r"}
		m.Rules([]Rule{{}, {"p", "r"}})
		expect := func(what string, want ...string) {
			t.Helper()
			text := ""
			if len(want) > 0 {
				text = "# HELP vpcep_approver_policy_limit_used_ratio " + helpOf(t, reg, "policy_limit_used_ratio") + "\n# TYPE vpcep_approver_policy_limit_used_ratio gauge\n" + strings.Join(want, "\n") + "\n"
			}
			if err := testutil.GatherAndCompare(reg, strings.NewReader(text), "vpcep_approver_policy_limit_used_ratio"); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		expect("before a decision")
		m.LimitUsed(rule, "t", "a", 3, 10)
		for i := range 10_000 {
			m.LimitUsed(rule, "t", fmt.Sprintf("account%d", i), 1, 10)
		}
		m.LimitUsed(rule, "t", "b", 9, 10)
		expect("of 10,000 accounts", `vpcep_approver_policy_limit_used_ratio{policy="p",rule="r"} 0.9`)
		if n := len(m.limits.used[Rule{"p", "r"}]); n > maxLimitAccounts {
			t.Errorf("%d accounts are remembered, want at most %d", n, maxLimitAccounts)
		}
		m.LimitUsed(rule, "t", "b", 1, 10)
		expect("the highest account was counted again", `vpcep_approver_policy_limit_used_ratio{policy="p",rule="r"} 0.3`)
		m.LimitUsed(&approval.Decision{Policy: "p", Rule: "unannounced"}, "t", "a", 1, 1)
		m.LimitUsed(&approval.Decision{Policy: "p", Rule: "r"}, "t", "a", 3, 0)
		expect("a rule without a series", `vpcep_approver_policy_limit_used_ratio{policy="other",rule="other"} 1`, `vpcep_approver_policy_limit_used_ratio{policy="p",rule="r"} 0.3`)
		<-time.After(limitMemory)
		expect("nothing was counted for a day")
		m.LimitUsed(rule, "t", "a", 3, 10)
		m.Rules([]Rule{{}})
		expect("the rule is gone")
	})
}

func helpOf(t *testing.T, g prometheus.Gatherer, name string) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == namespace+"_"+name {
			return f.GetHelp()
		}
	}
	return ""
}

// TestWaiting: a request that was given back waits until it is due, and what waits
// with a slot until it ends.
func TestWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg, m := fresh(t)
		count := func(cause string) float64 { return sampleOf(t, reg, "requests_waiting", "cause", cause) }
		m.Waiting(1)
		m.WaitsUntil(WaitConfirmation, time.Now().Add(10*time.Second))
		m.WaitsUntil(WaitSlot, time.Now().Add(20*time.Second))
		m.WaitsUntil(WaitSlot, time.Now().Add(5*time.Second))
		if c, s := count(WaitConfirmation), count(WaitSlot); c != 2 || s != 2 {
			t.Errorf("%v and %v wait, want 2 and 2", c, s)
		}
		<-time.After(10 * time.Second)
		if c, s := count(WaitConfirmation), count(WaitSlot); c != 1 || s != 1 {
			t.Errorf("%v and %v wait after 10 s, want 1 and 1", c, s)
		}
		m.Waiting(-1)
		<-time.After(10 * time.Second)
		for _, cause := range WaitCauses() {
			if n := count(cause); n != 0 {
				t.Errorf("%v wait for %s in the end", n, cause)
			}
		}
	})
}

// TestWhatIsNotKnownIsNotZero: nothing that was not read yet, or not by this worker,
// has a value that could be taken for an answer.
func TestWhatIsNotKnownIsNotZero(t *testing.T) {
	t.Parallel()
	reg, m := fresh(t)
	unknown := []string{
		"pending_connections", "oldest_pending_timestamp_seconds", "held_requests", "oldest_held_timestamp_seconds", "list_incomplete", "approval_enabled",
		"sweep_success_timestamp_seconds", "credential_expiry_timestamp_seconds", "consumer_pending_messages", "consumer_ack_pending_messages",
	}
	for _, name := range unknown {
		if v := sampleOf(t, reg, name, "", ""); !math.IsNaN(v) {
			t.Errorf("%s is %v at the start", name, v)
		}
	}
	m.Backlog(3, 2, 1)
	m.WorkSeen("payments", Work{Pending: 2, Held: 1, OldestHeld: time.Unix(7, 0)})
	for name, want := range map[string]float64{"consumer_pending_messages": 3, "pending_connections": 2, "held_requests": 1, "oldest_held_timestamp_seconds": 7} {
		if v := sampleOf(t, reg, name, "target", "payments"); v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	if v := sampleOf(t, reg, "oldest_pending_timestamp_seconds", "target", "payments"); !math.IsNaN(v) {
		t.Errorf("an age that the cloud does not show is %v", v)
	}
	m.WorkSeen("payments", Work{Pending: 2, Held: 1, HeldUnknown: true})
	if v := sampleOf(t, reg, "held_requests", "target", "payments"); !math.IsNaN(v) {
		t.Errorf("%v are held, of those that could be read", v)
	}
	m.BusConnected(false)
	m.WorkUnknown()
	for _, name := range unknown {
		if v := sampleOf(t, reg, name, "", ""); !math.IsNaN(v) {
			t.Errorf("%s is %v without a broker and without the sweep", name, v)
		}
	}
}

// TestTheOldestOfManyTargets: a target without anything does not hide the others.
func TestTheOldestOfManyTargets(t *testing.T) {
	t.Parallel()
	labels := sample()
	for i := range 1000 {
		labels.Targets = append(labels.Targets, fmt.Sprintf("t%d", i))
	}
	reg := prometheus.NewPedanticRegistry()
	m := New(reg, labels, Build{})
	for i := range 1000 {
		w := Work{}
		if i == 500 {
			w = Work{Held: 1, OldestHeld: time.Unix(500, 0)}
		}
		m.WorkSeen(fmt.Sprintf("t%d", i), w)
	}
	if v := sampleOf(t, reg, "oldest_held_timestamp_seconds", "target", others); v != 500 {
		t.Errorf("the oldest of the others is held since %v, want 500", v)
	}
}

// TestObjective: outages of the cloud do not count, and a connection that is gone
// says nothing.
func TestObjective(t *testing.T) {
	t.Parallel()
	reg, m := fresh(t)
	finish := func(o approval.Outcome, act, outage float64) {
		m.Finished(&approval.Result{Outcome: o, Seconds: map[approval.Stage]float64{approval.StageAct: act, approval.StageOutage: outage}})
	}
	finish(approval.OutcomeAccepted, 300, 3600)
	finish(approval.OutcomeAccepted, 301, 0)
	finish(approval.OutcomeGone, 301, 0)
	in, out := sampleOf(t, reg, "requests_objective_total", "in_time", "true"), sampleOf(t, reg, "requests_objective_total", "in_time", "false")
	if in != 1 || out != 1 {
		t.Errorf("%v in time and %v not, want 1 and 1", in, out)
	}
}

// TestExemplars: a sampled trace is an exemplar of the histograms; anything else
// that an event says is none.
func TestExemplars(t *testing.T) {
	t.Parallel()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for parent, want := range map[string]string{
		"00-" + trace + "-00f067aa0ba902b7-01":                   trace,
		"01-" + trace + "-00f067aa0ba902b7-03":                   trace,
		"00-" + trace + "-00f067aa0ba902b7-00":                   "", // not sampled
		"00-" + strings.ToUpper(trace) + "-00f067aa0ba902b7-01":  "",
		"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01": "",
		"ff-" + trace + "-00f067aa0ba902b7-01":                   "",
		"00-" + trace + "-00f067aa0ba902b7-01-more":              "",
		"00-" + trace + "\n00f067aa0ba902b7-01":                  "",
		strings.Repeat("x", 5000):                                "",
		"":                                                       "",
	} {
		reg, m := fresh(t)
		m.Finished(&approval.Result{
			Request: approval.Request{TraceParent: parent}, Outcome: approval.OutcomeAccepted, Seconds: map[approval.Stage]float64{approval.StageAct: 1},
		})
		got := ""
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, metric := range f.GetMetric() {
				for _, bucket := range metric.GetHistogram().GetBucket() {
					for _, l := range bucket.GetExemplar().GetLabel() {
						got = l.GetValue()
					}
				}
			}
		}
		if got != want {
			t.Errorf("%.60q: the exemplar is %q, want %q", parent, got, want)
		}
	}
}

// sampleOf returns the value of the first series of a metric that has the label, if
// it has labels at all.
func sampleOf(t *testing.T, g prometheus.Gatherer, name, label, value string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != namespace+"_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			fits := label == "" || len(m.GetLabel()) == 0
			for _, l := range m.GetLabel() {
				fits = fits || l.GetName() == label && l.GetValue() == value
			}
			if fits {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("%s has no series with %s=%q", name, label, value)
	return 0
}
