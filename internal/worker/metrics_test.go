package worker

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// measured gives b metrics with series for its targets. The function compares some
// of them, without their help texts.
func measured(t *testing.T, b *bench) func(what string, name string, want ...string) {
	t.Helper()
	reg := prometheus.NewRegistry()
	b.Targets = approval.Targets{service(), functions()}
	b.Metrics = metrics.New(reg, metrics.Labels{Targets: []string{"payments", "functions"}, Creations: map[string]bool{"functions": true}}, metrics.Build{})
	b.Metrics.Rules([]metrics.Rule{{}, {"p", "r"}})
	return func(what, name string, want ...string) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		help, kind := "", ""
		for _, f := range families {
			if f.GetName() == "vpcep_approver_"+name {
				help, kind = f.GetHelp(), strings.ToLower(f.GetType().String())
			}
		}
		text := "# HELP vpcep_approver_" + name + " " + help + "\n# TYPE vpcep_approver_" + name + " " + kind + "\n"
		for _, line := range want {
			text += "vpcep_approver_" + name + line + "\n"
		}
		if err := testutil.GatherAndCompare(reg, strings.NewReader(text), "vpcep_approver_"+name); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestTheWorkListIsMeasured: what is held counts as long as it is pending, with
// since when, and only where the sweep runs.
func TestTheWorkListIsMeasured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), always(approval.Hold))
		expect := measured(t, b)
		facts := b.cloud.facts[endpoint]
		facts.CreatedAt = time.Now().Add(-time.Hour)
		b.cloud.facts[endpoint] = facts
		sweep := b.sweep(&fakeBus{got: map[string]approval.Request{}})
		expect("before a sweep", "held_requests", `{target="functions"} NaN`, `{target="payments"} NaN`)
		b.deliver(t, connection("1"), 9)
		b.deliver(t, creation(functions()), 9)
		look := func() {
			t.Helper()
			if err := sweep.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		look()
		expect("held", "held_requests", `{target="functions"} 1`, `{target="payments"} 1`)
		expect("held", "pending_connections", `{target="functions"} 0`, `{target="payments"} 1`)
		expect("held", "oldest_held_timestamp_seconds", `{target="functions"} 9.466848e+08`, `{target="payments"} 9.466848e+08`)
		expect("held", "oldest_pending_timestamp_seconds", `{target="functions"} NaN`, `{target="payments"} 9.466812e+08`)

		facts.State = approval.Accepted // by a person
		b.cloud.facts[endpoint] = facts
		look()
		expect("settled by a person", "held_requests", `{target="functions"} 1`, `{target="payments"} 0`)
		expect("settled by a person", "oldest_held_timestamp_seconds", `{target="functions"} 9.466848e+08`, `{target="payments"} NaN`)

		sweep.InstanceID = "b" // the lease is another's now
		look()
		expect("another worker sweeps", "held_requests", `{target="functions"} NaN`, `{target="payments"} NaN`)
	})
}

// TestTheUseOfALimitIsMeasured also shows the decisions by rule.
func TestTheUseOfALimitIsMeasured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		cloud.facts["00000000-0000-0000-0000-000000000002"] = approval.Facts{DomainID: acme, State: approval.Accepted}
		named := func(in *approval.Input) approval.Decision {
			d := limited(4)(in)
			if d.Limit > 0 {
				d.Policy, d.Rule = "p", "r"
			}
			return d
		}
		b := newBench(t, cloud, policyFunc(named))
		expect := measured(t, b)
		expect("before a decision", "policy_limit_used_ratio")
		b.deliver(t, connection("1"), 9)
		expect("two of four", "policy_limit_used_ratio", `{policy="p",rule="r"} 0.5`)
		expect("one accept", "decisions_total",
			`{policy="",rule="",verdict="accept"} 0`, `{policy="",rule="",verdict="hold"} 0`, `{policy="",rule="",verdict="ignore"} 0`, `{policy="",rule="",verdict="reject"} 0`,
			`{policy="p",rule="r",verdict="accept"} 1`, `{policy="p",rule="r",verdict="hold"} 0`, `{policy="p",rule="r",verdict="ignore"} 0`, `{policy="p",rule="r",verdict="reject"} 0`)
	})
}

// TestWhatWaitsIsMeasured: a request that is given back counts until it is due.
func TestWhatWaitsIsMeasured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
		expect := measured(t, b)
		b.cloud.fail = func(string, bool) error { return cloudError{retryable: true} }
		later, ok := errors.AsType[*RetryLaterError](b.Handle(t.Context(), new(connection("1"))))
		if !ok {
			t.Fatal("want it given back")
		}
		waiting := func(cloud string) []string {
			return []string{`{cause="cloud"} ` + cloud, `{cause="confirmation"} 0`, `{cause="internal"} 0`, `{cause="listing"} 0`, `{cause="operator"} 0`, `{cause="other"} 0`, `{cause="paused"} 0`, `{cause="slot"} 0`}
		}
		expect("given back", "requests_waiting", waiting("1")...)
		<-time.After(later.After)
		expect("due", "requests_waiting", waiting("0")...)
	})
}

// TestWaitCauses: each wait has the cause that says who has to do something.
func TestWaitCauses(t *testing.T) {
	t.Parallel()
	for want, later := range map[string]*RetryLaterError{
		metrics.WaitOperator:     {Err: cloudError{operator: true}},
		metrics.WaitCloud:        {Err: cloudError{}},
		metrics.WaitInternal:     {Err: errors.New("the ledger is away")},
		metrics.WaitListing:      waits(approval.StageVerify, "not_visible", time.Second),
		metrics.WaitConfirmation: waits(approval.StageConfirm, "not_confirmed_yet", time.Second),
		metrics.WaitOther:        waits(approval.StageAct, "made_by_another", time.Second),
	} {
		if got := waitCause(later); got != want {
			t.Errorf("%v: %s, want %s", later, got, want)
		}
	}
}
