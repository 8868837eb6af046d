package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// FuzzLoad: whatever the text, Load does not panic, errors have a place inside
// the text, and what loads decides.
func FuzzLoad(f *testing.F) {
	f.Add(head("a") + "allow: [{id: x, domain_id: " + acme + "}]\ndeny: [{id: y, any_domain: true, claims: {a.b: [\"c*\", d]}}]\notherwise: reject")
	f.Add("version: 1\npolicy: [a\n\t- é")
	f.Add("a: &x [*x]\n---\n")
	f.Add("\ufeffversion: 1\r\npolicy: é\u0085# \u2028- x\u2029\x00\r")
	f.Fuzz(func(t *testing.T, text string) {
		snap := snapshotOf(map[string][]byte{"a.yaml": []byte(text)})
		set, err := snap.load("", demoTargets())
		if err != nil {
			refused, ok := errors.AsType[*strictyaml.Error](err)
			if !ok {
				t.Fatalf("%q: %v, want a LoadError", text, err)
			}
			for _, fd := range refused.Findings {
				if err := placed(text, fd); err != nil {
					t.Errorf("%q: the finding %q %v", text, fd, err)
				}
			}
			return
		}
		in := connection("payments", acme)
		in.Request.Claims = approval.Claims{"a": map[string]any{"b": "c"}, "when": "x"}
		set.Evaluate(&in)
	})
}

// FuzzSideFile: whatever the text of a value file, errors and warnings have
// a place inside it, and what loads decides.
func FuzzSideFile(f *testing.F) {
	f.Add(acme + " # one\n\n\u3000" + leftUs + "\r\n" + leftUs)
	f.Add("\ufeff" + acme + "\n6e9*\tx, y\n\ufeff")
	f.Fuzz(func(t *testing.T, text string) {
		snap := snapshotOf(map[string][]byte{"a.yaml": []byte(head("a") + "allow: [{id: x, domain_id: {file: v.txt}}]"), "v.txt": []byte(text)})
		set, err := snap.load("", demoTargets())
		findings := set.Findings()
		if refused, ok := errors.AsType[*strictyaml.Error](err); ok {
			findings = refused.Findings
		} else if err != nil {
			t.Fatalf("%q: %v, want a LoadError", text, err)
		}
		for _, fd := range findings {
			if fd.File != "v.txt" {
				continue
			}
			if fd.Excerpt != "" {
				t.Errorf("%q: the finding %q shows a line of a file that may hold a secret", text, fd)
			}
			if fd.Line > 0 {
				fd.Excerpt = fmt.Sprintf("%6d | ", fd.Line)
			}
			if err := placed(text, fd); err != nil {
				t.Errorf("%q: the finding %q %v", text, fd, err)
			}
		}
		in := connection("payments", acme)
		set.Evaluate(&in)
	})
}

// placed reports how the place of fd is not one of text as an editor shows it:
// by newlines and characters, without the byte order mark.
func placed(text string, fd strictyaml.Finding) error {
	if fd.Text == "" {
		return errors.New("says nothing")
	}
	if fd.Line == 0 && fd.Excerpt == "" {
		return nil // about the file as a whole
	}
	lines := strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n")
	if fd.Line < 1 || fd.Line > len(lines) {
		return fmt.Errorf("is on none of the %d lines", len(lines))
	}
	line := []rune(strings.TrimSuffix(lines[fd.Line-1], "\r"))
	if fd.Column < 1 || fd.Column > len(line)+1 {
		return fmt.Errorf("is not within the %d characters of the line", len(line))
	}
	if !strings.HasPrefix(fd.Excerpt, fmt.Sprintf("%6d | ", fd.Line)) {
		return fmt.Errorf("shows another line: %q", fd.Excerpt)
	}
	return nil
}

// FuzzEvaluate: policies and a request made of the fuzzer's numbers are decided
// as the reference decides them, in any order of files and entries.
func FuzzEvaluate(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, seed*7919)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) { checkSome(t, rand.New(rand.NewPCG(a, b)), 1) })
}

func TestEvaluateAgainstReference(t *testing.T) {
	t.Parallel()
	counts := make(map[approval.Verdict]int)
	for seed := range uint64(Tries(1_000)) {
		for _, v := range checkSome(t, rand.New(rand.NewPCG(seed, 42)), 10) {
			counts[v]++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for _, v := range approval.Verdicts() {
		if counts[v] < Tries(100) {
			t.Errorf("only %d of the inputs end in %s; the generator is too narrow", counts[v], v)
		}
	}
}

// checkSome makes policies and n requests, checks the decisions and returns the
// verdicts.
func checkSome(t *testing.T, r *rand.Rand, n int) []approval.Verdict {
	t.Helper()
	texts := randomPolicies(r)
	set := load(t, texts...)
	shuffled := slices.Clone(texts)
	r.Shuffle(len(texts), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for i := range shuffled {
		shuffled[i] = shuffleEntries(r, shuffled[i])
	}
	other := load(t, shuffled...)
	plain := readNaive(t, texts)
	var out []approval.Verdict
	for range n {
		in := randomInput(r)
		d := set.Evaluate(&in)
		show := func() string { return fmt.Sprintf("%s\nfor %+v", strings.Join(texts, "---\n"), in) }
		if want := reference(plain, &in); d.Verdict != want {
			t.Errorf("got %s by %s/%s %q, the reference says %s, of\n%s", d.Verdict, d.Policy, d.Rule, d.Reasons, want, show())
		}
		if len(d.Reasons) == 0 || d.Verdict == approval.Accept && (d.Rule == "" || d.Policy == "") {
			t.Errorf("%s by %q %q: %q does not say why, of\n%s", d.Verdict, d.Policy, d.Rule, d.Reasons, show())
		}
		o := other.Evaluate(&in)
		o.Digest = d.Digest
		if diff := cmp.Diff(d, o); diff != "" {
			t.Errorf("another order of files and entries decides otherwise:\n%s\nof\n%s", diff, show())
		}
		out = append(out, d.Verdict)
	}
	return out
}

// shuffleEntries changes the order of the entries, which stand on a line each.
func shuffleEntries(r *rand.Rand, text string) string {
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		j := i
		for j < len(lines) && strings.HasPrefix(lines[j], "  - ") {
			j++
		}
		r.Shuffle(j-i, func(a, b int) { lines[i+a], lines[i+b] = lines[i+b], lines[i+a] })
		i = j
	}
	return strings.Join(lines, "\n")
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

var (
	randomDomains   = []string{acme, leftUs, staging, insight}
	randomEndpoints = []string{endpointA, endpointB, "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b"}
)

// randomPolicies makes policies that collide a lot: few values, many entries.
func randomPolicies(r *rand.Rand) []string {
	var out []string
	for i := range r.IntN(4) {
		var b strings.Builder
		creates := r.IntN(4) == 0
		targets := pick(r, "payments", "orders-gateway", "payments, orders-gateway")
		if creates {
			targets = "hosts"
		}
		fmt.Fprintf(&b, "version: 1\npolicy: p%d\ntargets: [%s]\nmode: %s\notherwise: %s\n", i, targets,
			pick(r, "enforce", "enforce", "enforce", "accept-only", "shadow"), pick(r, "hold", "hold", "ignore", "reject"))
		for _, listed := range []string{"allow", "deny"} {
			n := r.IntN(5)
			if listed == "deny" {
				n = r.IntN(3)
			}
			if n == 0 {
				continue
			}
			b.WriteString(listed + ":\n")
			for j := range n {
				fmt.Fprintf(&b, "  - {id: %s-%d%s}\n", listed, j, randomConditions(r, listed, creates))
			}
		}
		out = append(out, b.String())
	}
	return out
}

func randomConditions(r *rand.Rand, listed string, creates bool) string {
	var b strings.Builder
	values := func(name string, from []string, globs ...string) {
		all := slices.Concat(from, globs)
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		quoted := make([]string, 0, 2)
		for _, v := range all[:1+r.IntN(2)] {
			if r.IntN(4) == 0 {
				v = strings.ToUpper(v)
			}
			quoted = append(quoted, fmt.Sprintf("%q", v))
		}
		fmt.Fprintf(&b, ", %s: [%s]", name, strings.Join(quoted, ", "))
	}
	if creates {
		values("vpc_id", randomEndpoints, "70529*")
		if r.IntN(2) == 0 {
			values("subnet_id", randomEndpoints, "*5*")
		}
	} else {
		switch r.IntN(4) {
		case 0:
			b.WriteString(", any_domain: true")
		case 1:
			values("endpoint_id", randomEndpoints, "9d4c*-*")
		case 2:
			values("domain_id", randomDomains, "6e9d*", "?70f*")
			values("endpoint_id", randomEndpoints, "70529???-*")
		default:
			values("domain_id", randomDomains, "6e9d*")
		}
	}
	if r.IntN(3) == 0 && (listed == "deny" || !strings.Contains(b.String(), "any_domain")) {
		fmt.Fprintf(&b, ", claims: {tags.env: [%s]}", pick(r, "prod", "staging", `"st*"`, "prod, test"))
	}
	if r.IntN(6) == 0 {
		fmt.Fprintf(&b, ", region: %s", pick(r, "cn-north-4", `"cn-*"`, "cn-east-3"))
	}
	return b.String()
}

func randomInput(r *rand.Rand) approval.Input {
	var in approval.Input
	if r.IntN(5) == 0 {
		h := &approval.HSSEndpoints{HostIDs: []string{endpointA}}
		for range r.IntN(3) {
			v := approval.HSSVPC{VPCID: pick(r, randomEndpoints...)}
			for range r.IntN(3) {
				v.SubnetIDs = append(v.SubnetIDs, pick(r, randomEndpoints...))
			}
			h.VPCs = append(h.VPCs, v)
		}
		in = creation("hosts", approval.Creation{HSS: h})
	} else {
		in = connection(pick(r, "payments", "orders-gateway"), pick(r, randomDomains...))
		in.Facts.EndpointID = pick(r, randomEndpoints...)
		in.Request.EndpointID = in.Facts.EndpointID
	}
	in.Request.Claims = approval.Claims{}
	if r.IntN(2) == 0 {
		in.Request.Claims["tags"] = map[string]any{"env": pick[any](r, "prod", "staging", []any{"prod", "test"}, true)}
	}
	if r.IntN(4) == 0 {
		in.Request.Claims["domain_id"] = pick(r, randomDomains...)
	}
	if r.IntN(8) == 0 {
		in.Request.Claims["vpc_id"] = pick(r, randomEndpoints...)
	}
	if r.IntN(16) == 0 {
		in.Facts.DomainID = ""
	}
	return in
}
