package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// mixedRules is a policy of n entries as large sets have them: of a hundred, 70 allow an
// account, 20 an account with certain claims, 9 accounts by a pattern, and one any
// account at some hours. One of ten is a deny of an account or a pattern.
func mixedRules(r *rand.Rand, n int) string {
	var allow, deny strings.Builder
	for i := range n {
		at := i % 100
		if n < 100 {
			at = []int{0, 1, 2, 3, 4, 5, 6, 70, 71, 90}[i%10]
		}
		list, id := &allow, domain(i)
		if i%10 == 3 && at < 70 || at == 98 {
			list = &deny
		}
		fmt.Fprintf(list, "  - id: e%d\n", i)
		switch {
		case at < 70:
			fmt.Fprintf(list, "    domain_id: [%s]\n", id)
		case at < 90:
			fmt.Fprintf(list, "    domain_id: [%s]\n    claims: {tags.env: [prod, test], requester: \"*@example.org\"}\n", id)
		case at < 99:
			fmt.Fprintf(list, "    domain_id: [%q]\n", id[:8+i%5]+"*")
		default:
			fmt.Fprintf(list, "    any_domain: true\n    hours: {days: [%s], from: \"%02d:%02d\", to: \"%02d:%02d\", timezone: Asia/Shanghai}\n",
				dayNames()[r.IntN(7)], r.IntN(12), r.IntN(60), 12+r.IntN(12), r.IntN(60))
		}
	}
	return head("mixed") + "allow:\n" + allow.String() + "deny:\n" + deny.String()
}

// domain is the i-th account of the mixed rules: their first digits differ.
func domain(i int) string { return fmt.Sprintf("%08x%024x", uint32(i)*2654435761, i) }

// mixedInput is a random request to a set of n mixed rules: most are of accounts
// that a rule names.
func mixedInput(r *rand.Rand, n int) approval.Input {
	id := domain(r.IntN(n))
	if r.IntN(4) == 0 {
		id = fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
	}
	in := connection("payments", id)
	in.Now = noon().Add(time.Duration(r.IntN(7*24*60)) * time.Minute)
	in.Request.Claims = approval.Claims{
		"domain_id": id, "requester": []string{"alice@example.org", "bob@example.com"}[r.IntN(2)],
		"tags": map[string]any{"env": []string{"prod", "dev"}[r.IntN(2)]},
	}
	return in
}

// BenchmarkDecide is the cost of a decision by mixed rules, for random inputs.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			set := load(b, mixedRules(r, n))
			inputs := make([]approval.Input, 4096)
			for i := range inputs {
				inputs[i] = mixedInput(r, n)
			}
			for i := range inputs { // the lists of reasons
				set.Evaluate(&inputs[i])
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				set.Evaluate(&inputs[i%len(inputs)])
				i++
			}
		})
	}
}

// TestDecideAllocatesNothing holds the benchmark's figure, whatever the verdict.
func TestDecideAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 1000
	set := load(t, mixedRules(r, n))
	verdicts := map[approval.Verdict]int{}
	for range 500 {
		in := mixedInput(r, n)
		verdicts[set.Evaluate(&in).Verdict]++
		if allocs := testing.AllocsPerRun(10, func() { set.Evaluate(&in) }); allocs != 0 {
			t.Fatalf("%+v allocates %v times, want 0", in, allocs)
		}
	}
	for _, v := range []approval.Verdict{approval.Accept, approval.Reject, approval.Hold} {
		if verdicts[v] < 10 {
			t.Errorf("%d of 500 inputs end in %s; the test needs more", verdicts[v], v)
		}
	}
}

// linear decides in by asking every entry in turn: it shares the test of one entry with
// Evaluate, and no index.
func linear(s *Set, in *approval.Input) approval.Decision {
	q := newQuery(in)
	d := approval.Decision{Verdict: approval.Hold, Facts: in.Facts, At: in.Now, Digest: s.digest}
	sc := s.scopes[in.Request.Target.Name]
	var entries []*entry
	for _, p := range s.policies {
		if slices.Contains(p.targets, in.Request.Target.Name) && p.mode != approval.Shadow {
			entries = slices.Concat(entries, p.allow, p.deny)
		}
	}
	slices.SortFunc(entries, func(a, b *entry) int { return a.order - b.order })
	if r := unfit(in, &s.fixed); r != nil {
		d.Reasons = r
		return d
	}
	mismatched := contradicted(q.in)
	q.mismatch = mismatched != 0
	deny, _, denyDoubt := strongest(entries, true, &q)
	allow, needs, allowDoubt := strongest(entries, false, &q)
	switch {
	case deny != nil && deny.rejects():
		decided(&d, approval.Reject, deny)
	case mismatched != 0:
		d.Reasons = s.fixed.mismatches(mismatched)
	case denyDoubt != nil:
		d.Policy, d.Rule, d.Reasons = denyDoubt.policy.name, denyDoubt.id, s.fixed.notEvaluated
	case deny != nil:
		decided(&d, approval.Hold, deny)
		if !deny.onClaims {
			d.Reasons = slices.Concat(deny.matched, s.fixed.switchedOff)
		}
	case allow != nil:
		decided(&d, approval.Accept, allow)
		d.Limit = allow.limit
	case needs != nil:
		d.Policy, d.Rule, d.Reasons = needs.policy.name, needs.id, s.fixed.countUnknown
		d.Limit, d.NeedsCount = needs.limit, true
	default:
		d.Verdict, d.Policy, d.Reasons = sc.live.verdict, sc.live.otherwise, sc.live.reasons
		if allowDoubt != nil {
			d.Verdict, d.Policy, d.Rule, d.Reasons = approval.Hold, allowDoubt.policy.name, allowDoubt.id, s.fixed.notEvaluated
		}
		d.Reasons = slices.Clone(d.Reasons)
		near := 0
		for _, e := range entries {
			if e.deny || e.never || near == maxNear || !e.nearlyMatches(q.in) {
				continue
			}
			near++
			for _, c := range e.failed(&q) {
				if r := c.reason(); !slices.Contains(d.Reasons, r) {
					d.Reasons = append(d.Reasons, r)
				}
			}
		}
	}
	return d
}

// strongest returns the entry of a list that decides, one that would if connections
// were counted, and one that could not be evaluated.
func strongest(entries []*entry, deny bool, q *query) (stands, needs, doubt *entry) {
	for _, e := range entries {
		if e.deny != deny || e.never {
			continue
		}
		before := e.allowBefore
		if deny {
			before = e.denyBefore
		}
		switch t, _ := e.judge(q, false); {
		case t == yes && (stands == nil || before(stands)):
			stands = e
		case t == uncounted && (needs == nil || before(needs)):
			needs = e
		case t == unknown && doubt == nil:
			doubt = e
		}
	}
	return stands, needs, doubt
}

// nearlyMatches reports whether an allow is worth explaining to the requester: it is for
// any account, or one of its two most selective fields matches.
func (e *entry) nearlyMatches(in input) bool {
	keys := 0
	for f := range numFields {
		c := e.field(f)
		if c == nil || len(c.values.globs) > 0 || f == fieldRegion {
			continue
		}
		found := false
		each(in.Input, f, false, func(v string) bool {
			found = c.values.hasExact(f.canonical(v))
			return false
		})
		if found {
			return true
		}
		if keys++; keys == 2 {
			return false
		}
	}
	return keys == 0 && (e.anyDomain || e.conds[0].test(in, false) == yes)
}

// TestIndexDecidesAsEveryEntryInTurn: whatever the index leaves out, the decision is the
// same, with its rule, limit and reasons.
func TestIndexDecidesAsEveryEntryInTurn(t *testing.T) {
	t.Parallel()
	for seed := range uint64(Tries(40)) {
		r := rand.New(rand.NewPCG(seed, 7))
		var b strings.Builder
		pick := func(words ...string) string { return words[r.IntN(len(words))] }
		ids := make([]string, 6)
		for i := range ids {
			ids[i] = domain(r.IntN(1000))
		}
		id := func() string { return ids[r.IntN(len(ids))] }
		for _, list := range []string{"allow", "deny"} {
			b.WriteString(list + ":\n")
			for i := range 50 {
				fmt.Fprintf(&b, "  - {id: %s-%d", list, i)
				switch r.IntN(12) {
				case 0:
					b.WriteString(", domain_id: " + id())
				case 1:
					fmt.Fprintf(&b, ", domain_id: [%s, %q]", id(), id()[:8+r.IntN(4)]+pick("*", "*-*", "????*"))
				case 2:
					fmt.Fprintf(&b, ", domain_id: %q", pick("*", "?*", "*a*")+id()[20+r.IntN(4):])
				case 3:
					fmt.Fprintf(&b, ", endpoint_id: %q, domain_id: [%s, %s]", pick("705290f3-0d00*", "*71f09844e879", endpointA, "9d4c*"), ids[0], ids[1])
				case 4:
					fmt.Fprintf(&b, ", endpoint_id: %q", pick("705290f3*", "705290f30d00*", endpointB))
				default:
					b.WriteString(", any_domain: true")
				}
				if r.IntN(2) == 0 || list == "allow" && strings.HasSuffix(b.String(), "any_domain: true") {
					from, to := r.IntN(24), r.IntN(24)
					if from == to {
						to = 24
					}
					fmt.Fprintf(&b, ", hours: {days: [%s], from: \"%02d:00\", to: \"%02d:00\", timezone: %s}", pick("mon, tue", "wed", "sat, sun", "fri"), from, to, pick("UTC", "Asia/Shanghai"))
				}
				if list == "allow" && r.IntN(3) == 0 {
					fmt.Fprintf(&b, ", limit: %d", 1+r.IntN(4))
				}
				if strings.Contains(b.String()[strings.LastIndex(b.String(), "{id:"):], "any_domain") && list == "deny" {
					b.WriteString(", claims: {team: x}")
				} else if r.IntN(5) == 0 && !strings.Contains(b.String()[strings.LastIndex(b.String(), "{id:"):], "any_domain") {
					b.WriteString(", claims: {team: " + pick("a", "b") + "}")
				}
				b.WriteString("}\n")
			}
		}
		set := load(t, head("p")+"mode: "+pick("enforce", "accept-only")+"\n"+b.String())
		for range 200 {
			in := connection("payments", id())
			if r.IntN(4) == 0 {
				in.Facts.DomainID = domain(5000 + r.IntN(1000))
			}
			in.Request.EndpointID = pick(endpointA, endpointB)
			in.Facts.EndpointID = in.Request.EndpointID
			in.Now = noon().Add(time.Duration(r.IntN(7*24*60)) * time.Minute)
			if r.IntN(20) == 0 {
				in.Now = time.Time{}
			}
			if r.IntN(2) == 0 {
				in.Facts.Accepted = approval.Counted(r.IntN(5))
			}
			in.Request.Claims = approval.Claims{"team": pick("a", "b", "x")}
			for range 2 { // the second time lists of reasons are known
				if diff := cmp.Diff(linear(set, &in), set.Evaluate(&in)); diff != "" {
					t.Fatalf("seed %d, %+v (-every entry +index):\n%s\n%s", seed, in, diff, b.String())
				}
			}
		}
	}
}
