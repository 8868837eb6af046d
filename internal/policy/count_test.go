package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestShadowWithoutACount: a shadow policy with a limit says that it needs a count
// where the decision in force needed none; it is no accept.
func TestShadowWithoutACount(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]string{
		"accept": head("a") + "allow: [{id: ok, domain_id: " + acme + "}]",
		"hold":   head("a"),
		"reject": head("a") + "otherwise: reject",
	} {
		shadow := strings.Replace(allowing("limit: 3"), "policy: p", "policy: q", 1) + "mode: shadow\n"
		if name == "accept" {
			shadow = strings.Replace(shadow, "allow:", "deny: [{id: no, domain_id: "+leftUs+"}]\nallow:", 1)
		}
		set := load(t, live, shadow)
		in := connection("payments", acme)
		d := set.Evaluate(&in)
		if string(d.Verdict) != name || d.NeedsCount {
			t.Errorf("in force: %s, needs count %v, want %s", d.Verdict, d.NeedsCount, name)
		}
		if name == "accept" {
			continue // an allow without a limit accepts in the shadow too
		}
		if s := d.Shadow; s.Verdict != approval.Hold || !s.NeedsCount || s.Reasons[0].Code != approval.ReasonCountUnknown {
			t.Errorf("%s: the shadow says %+v, want that it needs a count", name, s)
		}
		candidate := load(t, allowing("limit: 3"))
		if s := candidate.Would(&in); s.Verdict != approval.Hold || !s.NeedsCount {
			t.Errorf("%s: the candidate says %+v, want that it needs a count", name, s)
		}
		in.Facts.Accepted = approval.Counted(2)
		if s := set.Evaluate(&in).Shadow; s.Verdict != approval.Accept || s.NeedsCount {
			t.Errorf("%s: with a count the shadow says %+v, want accept", name, s)
		}
	}
}

// TestExplainWithoutACount: explain names the limit and that nothing was counted.
func TestExplainWithoutACount(t *testing.T) {
	t.Parallel()
	in := connection("payments", acme)
	x := load(t, allowing("limit: 3")).Explain(&in)
	want := EntryAnswer{List: "allow", ID: "acme", Line: 4, Answer: NotEvaluated, Decides: true, Failed: &FailedCondition{
		Name: "limit", Code: approval.ReasonCountUnknown, Seen: "not counted", Wanted: "fewer than 3 accepted connections",
	}, Near: true}
	if diff := cmp.Diff(want, x.Policies[0].Entries[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
