package events

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// TestShadowResult: what a shadow policy would have said is a result of its own
// kind, told once, and no outcome of the request.
func TestShadowResult(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), func(*Config) {})
	r := result("1", approval.OutcomeHeld)
	r.Decision.Verdict = approval.Hold
	r.Decision.Shadow = &approval.ShadowDecision{
		Verdict: approval.Accept, Policy: "trial", Rule: "everyone",
		Reasons: []approval.Reason{{Code: approval.ReasonAllowed, Text: "A rule allows this request."}},
	}
	for range 2 {
		if err := b.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	told := func(f ResultFilter) (out []approval.Result) {
		for r, err := range b.Results(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, r)
		}
		return out
	}
	if got := told(ResultFilter{}); len(got) != 1 || got[0].Outcome != r.Outcome || got[0].Decision.Verdict != approval.Hold {
		t.Errorf("outcomes %+v, want the request's own one", got)
	}
	for _, f := range []ResultFilter{{Outcomes: []approval.Outcome{ShadowOutcome}}, {Outcomes: []approval.Outcome{ShadowOutcome}, RequestID: r.Decision.ID}} {
		got := told(f)
		if len(got) != 1 {
			t.Fatalf("%d shadow results, want 1", len(got))
		}
		d := got[0].Decision
		if diff := cmp.Diff([]string{"accept", "trial", "everyone", r.Decision.ID + "-shadow"}, []string{string(d.Verdict), d.Policy, d.Rule, d.ID}); diff != "" {
			t.Errorf("shadow result (-want +got):\n%s", diff)
		}
	}
}
