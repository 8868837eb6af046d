package cloud

import (
	"testing"
	"testing/synctest"
	"time"
)

// countFaults counts alarms.
type countFaults struct {
	noopObserver

	over int
}

func (c *countFaults) OperatorFaultOver(string, string) { c.over++ }

// TestAFaultThatWasSentBeforeItWasFixedRaisesNoAlarm: two calls are under way when the
// operator fixes the fault, and the answer to the first comes last.
func TestAFaultThatWasSentBeforeItWasFixedRaisesNoAlarm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen countFaults
		f := newFaults(&seen)
		refused := &Error{API: APIVPCEP, Op: "list", Target: "payments", Class: ClassOperator, Code: "EndPoint.0004"}
		begin := time.Now()
		f.report(refused, begin)
		if len(f.active) != 1 {
			t.Fatal("no alarm")
		}
		f.resolve(APIVPCEP, "list", "payments", begin.Add(2*time.Second))
		f.report(refused, begin.Add(time.Second))
		if len(f.active) != 0 || seen.over != 1 {
			t.Errorf("%d alarms, %d ended", len(f.active), seen.over)
		}
		f.report(refused, begin.Add(3*time.Second))
		if len(f.active) != 1 {
			t.Error("a fault that came back raises no alarm")
		}
		f.resolve(APIVPCEP, "list", "payments", begin.Add(4*time.Second))
	})
}
