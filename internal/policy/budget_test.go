package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// costly is an expression of about 15,000 units that is false, or true.
func costly(result bool) string {
	return fmt.Sprintf("claims.many.all(a, a.contains(\"b\")) && %t", result)
}

// costlyInput has the claims that make it so.
func costlyInput() approval.Input {
	in := connection("payments", acme)
	in.Request.Claims = approval.Claims{"many": slices.Repeat([]any{strings.Repeat("a", 1000) + "b"}, 140)}
	return in
}

// costlyEntries is a list of n entries for acme with a costly expression each.
func costlyEntries(list, id string, n int, result bool) string {
	var b strings.Builder
	b.WriteString(list + ":\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {id: %s-%d, domain_id: %s, when: '%s'}\n", id, i, acme, costly(result))
	}
	return b.String()
}

func TestCostOfOneExpression(t *testing.T) {
	t.Parallel()
	set := load(t, head("a")+costlyEntries("allow", "x", 1, true))
	in := costlyInput()
	q := newQuery(&in)
	if d := set.decide(&q); d.Verdict != approval.Accept || maxEvaluation-q.left < 5_000 || maxEvaluation-q.left > maxCost {
		t.Fatalf("%s at a cost of %d; the tests need one that is costly and below the limit of an expression", d.Verdict, maxEvaluation-q.left)
	}
}

// TestEvaluationBudget: when expressions cost too much, nothing follows from the
// entries that were evaluated, whichever they are.
func TestEvaluationBudget(t *testing.T) {
	t.Parallel()
	const many = 150
	allowed := "allow: [{id: ok, domain_id: " + acme + "}]\n"
	budget := []approval.ReasonCode{approval.ReasonBudget}
	for _, tt := range []struct {
		name  string
		texts []string
		want  approval.Verdict
		codes []approval.ReasonCode
	}{
		{"few allows", []string{head("a") + costlyEntries("allow", "x", 3, true)}, approval.Accept, []approval.ReasonCode{"allowed"}},
		{"many allows that match", []string{head("a") + costlyEntries("allow", "x", many, true)}, approval.Hold, budget},
		{"many allows that do not, and reject", []string{head("a") + "otherwise: reject\n" + costlyEntries("allow", "x", many, false)}, approval.Hold, budget},
		{"next to an allow without one", []string{head("a") + costlyEntries("allow", "x", many, false), head("b") + allowed}, approval.Hold, budget},
		{"many denies that do not match", []string{head("a") + costlyEntries("deny", "x", many, false) + allowed}, approval.Hold, budget},
		{"next to a deny without one", []string{head("a") + costlyEntries("deny", "x", many, false), head("b") + "deny: [{id: no, domain_id: " + acme + "}]"}, approval.Hold, budget},
		{"a deny stands before allows are asked", []string{head("a") + costlyEntries("allow", "x", many, true), head("b") + "deny: [{id: no, domain_id: " + acme + "}]"}, approval.Reject, []approval.ReasonCode{"denied"}},
		{"on another target", []string{head("a") + allowed, strings.Replace(head("b"), "payments", "orders-gateway", 1) + costlyEntries("allow", "x", many, true)}, approval.Accept, []approval.ReasonCode{"allowed"}},
		{"of another account", []string{head("a") + allowed + strings.ReplaceAll(costlyEntries("deny", "x", many, true), acme, leftUs)}, approval.Accept, []approval.ReasonCode{"allowed"}},
		{"only the shadow costs too much", []string{head("a") + allowed, head("b") + "mode: shadow\n" + costlyEntries("deny", "x", many, false)}, approval.Accept, []approval.ReasonCode{"allowed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := costlyInput()
			first := load(t, tt.texts...).Evaluate(&in)
			if first.Verdict != tt.want || !slices.Equal(codes(first.Reasons), tt.codes) {
				t.Errorf("%s by %q %q, want %s %q", first.Verdict, first.Rule, first.Reasons, tt.want, tt.codes)
			}
			if s := first.Shadow; s != nil && (s.Verdict != approval.Hold || !slices.Equal(codes(s.Reasons), budget)) {
				t.Errorf("the shadow decides %s %q, want hold %q", s.Verdict, s.Reasons, budget)
			}
			r := rand.New(rand.NewPCG(4, 6))
			for range 3 {
				other := slices.Clone(tt.texts)
				r.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
				for i := range other {
					other[i] = shuffleEntries(r, other[i])
				}
				d := load(t, other...).Evaluate(&in)
				d.Digest = first.Digest
				if diff := cmp.Diff(first, d); diff != "" {
					t.Errorf("another order decides otherwise:\n%s", diff)
				}
			}
		})
	}
}

// TestEvaluationBudgetIsASum: what counts is the sum, to the unit, and an entry is
// paid for once, however often the index finds it.
func TestEvaluationBudgetIsASum(t *testing.T) {
	t.Parallel()
	in := costlyInput()
	q := newQuery(&in)
	load(t, head("a")+costlyEntries("allow", "x", 1, true)).decide(&q)
	one := maxEvaluation - q.left
	most := maxEvaluation / one
	for n, want := range map[int]approval.Verdict{most: approval.Accept, most + 1: approval.Hold} {
		if d := load(t, head("a")+costlyEntries("allow", "x", n, true)).Evaluate(&in); d.Verdict != want {
			t.Errorf("%d entries of %d units: %s %q, want %s", n, one, d.Verdict, d.Reasons, want)
		}
	}

	hosts := &approval.HSSEndpoints{}
	for i := range 200 {
		hosts.HostIDs = append(hosts.HostIDs, fmt.Sprintf("%032x", i))
	}
	hosts.VPCs = []approval.HSSVPC{{VPCID: endpointA}}
	set := load(t, "version: 1\npolicy: h\ntargets: [hosts]\nallow: [{id: ok, vpc_id: "+endpointA+"}]\ndeny: [{id: no, host_id: ["+strings.Join(hosts.HostIDs, ", ")+"], when: '"+costly(false)+"'}]\n")
	made := creation("hosts", approval.Creation{HSS: hosts})
	made.Request.Claims = in.Request.Claims
	if d := set.Evaluate(&made); d.Verdict != approval.Accept {
		t.Errorf("200 hosts that one deny names: %s %q, want accept", d.Verdict, d.Reasons)
	}
}

func BenchmarkCostlyExpressions(b *testing.B) {
	set := load(b, head("a")+costlyEntries("allow", "x", 3000, false))
	in := costlyInput()
	for b.Loop() {
		set.Evaluate(&in)
	}
}
