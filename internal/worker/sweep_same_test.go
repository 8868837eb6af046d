package worker

import (
	"testing"
	"testing/synctest"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestTheSweepJudgesTheTargetAsItIsConfigured: what the ledger keeps of a target
// may be out of date, and the worker that decides again does not go by it.
func TestTheSweepJudgesTheTargetAsItIsConfigured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), policyFunc(func(in *approval.Input) approval.Decision {
			if in.Request.Target.Region == "cn-east-3" {
				return approval.Decision{Verdict: approval.Accept, Policy: "p", Rule: "east"}
			}
			return approval.Decision{Verdict: approval.Hold}
		}))
		if res, _ := b.deliver(t, connection("1"), 9); res.Outcome != approval.OutcomeHeld {
			t.Fatalf("it ended %s, want held", res.Outcome)
		}
		moved := service()
		moved.Region = "cn-east-3"
		bus := &fakeBus{got: map[string]approval.Request{}}
		sweep := b.sweep(bus)
		sweep.Targets = approval.Targets{moved}
		if err := sweep.Once(t.Context()); err != nil || len(bus.got) != 1 {
			t.Fatalf("submitted %v (%v), want the connection that is allowed now", bus.got, err)
		}
		for _, r := range bus.got {
			if r.Target != moved {
				t.Errorf("submitted for %+v, want %+v", r.Target, moved)
			}
		}
	})
}
