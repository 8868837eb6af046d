package worker

import "testing"

// TestTracingCostsNothingWhenOff: a stage without a tracer allocates nothing.
func TestTracingCostsNothingWhenOff(t *testing.T) {
	w := &Worker{}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if w.stage(ctx, "verify") != ctx {
			t.Error("the context changed")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
