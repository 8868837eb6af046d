package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing/fstest"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// ruleSet is the same rules for the worker and for OPA. Of a hundred rules 70 name
// an account, 20 three accounts and a claim, 9 a pattern of accounts, and one any
// account within five minutes of the night.
type ruleSet struct {
	yaml, rego strings.Builder
	accounts   []string // that rules name
}

func makeRules(n int, random *rand.Rand) *ruleSet {
	s := &ruleSet{}
	s.yaml.WriteString("version: 1\npolicy: mixed\nowner: bench\ntargets: [service-0]\nallow:\n")
	s.rego.WriteString("package approver\n\nimport rego.v1\n\n")
	account := func() string {
		id := fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64())
		s.accounts = append(s.accounts, id)
		return id
	}
	// OPA indexes equality with a constant, so each account is a rule of its own.
	allow := func(i int, body string) { fmt.Fprintf(&s.rego, "allow contains \"r%d\" if { %s }\n", i, body) }
	for i := range n {
		switch kind := i % 100; {
		case n < 100 && kind == 9 || kind == 99:
			fmt.Fprintf(&s.yaml, "  - {id: r%d, any_domain: true, hours: {from: \"03:00\", to: \"03:05\", timezone: UTC}}\n", i)
			allow(i, "input.minute >= 180; input.minute < 185")
		case n < 100 && kind == 8 || kind >= 90:
			prefix := account()[:12]
			fmt.Fprintf(&s.yaml, "  - {id: r%d, domain_id: %q}\n", i, prefix+"*")
			allow(i, fmt.Sprintf("glob.match(%q, [], input.domain_id)", prefix+"*"))
		case n < 100 && kind >= 6 || kind >= 70:
			ids := []string{account(), account(), account()}
			fmt.Fprintf(&s.yaml, "  - {id: r%d, domain_id: [%q, %q, %q], claims: {tags.env: prod}}\n", i, ids[0], ids[1], ids[2])
			for _, id := range ids {
				allow(i, fmt.Sprintf("input.domain_id == %q; input.claims.tags.env == \"prod\"", id))
			}
		default:
			id := account()
			fmt.Fprintf(&s.yaml, "  - {id: r%d, domain_id: %q}\n", i, id)
			allow(i, fmt.Sprintf("input.domain_id == %q", id))
		}
	}
	return s
}

// question is one input, for both.
type question struct {
	ours approval.Input
	opa  map[string]any
}

// questions returns random inputs: half of them of an account that a rule names.
func (s *ruleSet) questions(n int, random *rand.Rand) []question {
	target := targets(1)[1]
	out := make([]question, n)
	for i := range out {
		domain := fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64())
		if random.IntN(2) == 0 {
			domain = s.accounts[random.IntN(len(s.accounts))]
		}
		env := []string{"prod", "test"}[random.IntN(2)]
		minute := random.IntN(24 * 60)
		claims := map[string]any{"domain_id": domain, "requester": "alice@example.org", "tags": map[string]any{"env": env}}
		out[i] = question{
			ours: approval.Input{
				Request: approval.Request{ID: strconv.Itoa(i), Target: target, EndpointID: endpointID(i), Claims: claims},
				Facts:   approval.Facts{EndpointID: endpointID(i), DomainID: domain, State: approval.Pending},
				Now:     time.Date(2026, 11, 27, 0, minute, 0, 0, time.UTC),
			},
			opa: map[string]any{"domain_id": domain, "minute": minute, "claims": claims},
		}
	}
	return out
}

// cost is what one decision takes.
type cost struct {
	load   time.Duration
	each   time.Duration
	allocs float64
}

// costOf calls decide for one question after the other for about a second of CPU,
// which other work on the machine does not lengthen.
func costOf(ctx context.Context, n int, decide func(i int) error) (cost, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began, done := cpuTime(), 0
	for cpuTime()-began < time.Second && ctx.Err() == nil {
		for range 50 {
			if err := decide(done % n); err != nil {
				return cost{}, err
			}
			done++
		}
	}
	took := cpuTime() - began
	runtime.ReadMemStats(&after)
	return cost{each: took / time.Duration(done), allocs: float64(after.Mallocs-before.Mallocs) / float64(done)}, ctx.Err()
}

// rulesRow measures a decision by many rules, with the worker's evaluator and with
// OPA, which must agree.
func rulesRow(ctx context.Context, e *env) error {
	lines := [][]string{{"rules", "worker CPU ns", "allocations", "load CPU s", "OPA CPU ns", "allocations", "load CPU s", "OPA / worker"}}
	sizes := []int{10, 1_000, 100_000}
	if e.n > 0 {
		sizes = []int{e.n}
	}
	for _, n := range sizes {
		ours, opa, err := compareRules(ctx, e, n)
		if err != nil {
			return fmt.Errorf("%d rules: %w", n, err)
		}
		ratio := float64(opa.each) / float64(ours.each)
		line := []string{strconv.Itoa(n), number(float64(ours.each)), number(ours.allocs), number(ours.load.Seconds())}
		if opa.each == 0 {
			line = append(line, "-", "-", "more than "+e.limit.String(), "-")
		} else {
			line = append(line, number(float64(opa.each)), number(opa.allocs), number(opa.load.Seconds()), number(ratio))
		}
		lines = append(lines, line)
	}
	e.table(lines)
	return nil
}

func compareRules(ctx context.Context, e *env, n int) (ours, opa cost, err error) {
	random := rand.New(rand.NewPCG(1, uint64(n))) //nolint:gosec // the same in each run
	rules := makeRules(n, random)
	questions := rules.questions(1_000, random)
	began := cpuTime()
	set, err := policy.Load(fstest.MapFS{"mixed.yaml": {Data: []byte(rules.yaml.String())}}, targets(1))
	if err != nil {
		return ours, opa, err
	}
	load := cpuTime() - began
	verdicts := make([]approval.Verdict, len(questions))
	ours, err = costOf(ctx, len(questions), func(i int) error {
		verdicts[i] = set.Evaluate(&questions[i].ours).Verdict
		return nil
	})
	if err != nil {
		return ours, opa, err
	}
	ours.load = load

	limited, cancel := context.WithTimeout(ctx, e.limit)
	defer cancel()
	began = cpuTime()
	query, err := rego.New(rego.Query("data.approver.allow"), rego.Module("mixed.rego", rules.rego.String())).PrepareForEval(limited)
	switch {
	case err != nil && ctx.Err() == nil && limited.Err() != nil:
		return ours, cost{}, nil // OPA needs longer than the row may take
	case err != nil:
		return ours, opa, err
	}
	load = cpuTime() - began
	opa, err = costOf(ctx, len(questions), func(i int) error {
		got, err := query.Eval(ctx, rego.EvalInput(questions[i].opa))
		if err != nil {
			return err
		}
		allowed := len(got) == 1 && len(got[0].Expressions) == 1
		if allowed {
			rules, _ := got[0].Expressions[0].Value.([]any)
			allowed = len(rules) > 0
		}
		if verdicts[i] != "" && allowed != (verdicts[i] == approval.Accept) {
			return errors.New("the worker and OPA do not agree")
		}
		return nil
	})
	opa.load = load
	return ours, opa, err
}
