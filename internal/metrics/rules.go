package metrics

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Rule is a policy and the id of one of its entries. The entry is empty for what the
// policy decides by itself, and both are empty for what no policy decides.
type Rule = [2]string

func otherRules() Rule { return Rule{others, others} }

// ruleCounter counts by rule and one label more. Only announced rules, and of each
// set the first maxRules, have series of their own. It is safe for concurrent use.
type ruleCounter struct {
	vec    *prometheus.CounterVec // labels: policy, rule, and the last one
	values []string               // of the last label

	mu  sync.Mutex
	own map[string][]Rule // by set, sorted
}

func newRuleCounter(vec *prometheus.CounterVec, values []string) *ruleCounter {
	return &ruleCounter{vec: vec, values: values, own: make(map[string][]Rule)}
}

// announce makes the series of the rules of set, in the set's order; they take the
// place of those announced before, whose series are deleted.
func (c *ruleCounter) announce(set string, rules []Rule) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.own[set]
	own := slices.Clone(rules[:min(len(rules), maxRules)])
	slices.SortFunc(own, compareRules)
	c.own[set] = own
	if len(rules) > len(own) {
		own = append(slices.Clip(own), otherRules())
	}
	for _, value := range c.values {
		for _, r := range own {
			c.vec.WithLabelValues(r[0], r[1], value)
		}
		for _, r := range old {
			if !c.has(r) && r != otherRules() {
				c.vec.DeleteLabelValues(r[0], r[1], value)
			}
		}
	}
}

// inc counts one for rule.
func (c *ruleCounter) inc(rule Rule, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	label := c.of(rule)
	c.vec.WithLabelValues(label[0], label[1], value).Inc()
}

// label returns the labels of rule.
func (c *ruleCounter) label(rule Rule) Rule {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of(rule)
}

func (c *ruleCounter) of(rule Rule) Rule {
	if c.has(rule) {
		return rule
	}
	return otherRules()
}

func (c *ruleCounter) has(rule Rule) bool {
	for _, rules := range c.own {
		if _, ok := slices.BinarySearchFunc(rules, rule, compareRules); ok {
			return true
		}
	}
	return false
}

func compareRules(a, b Rule) int { return slices.Compare(a[:], b[:]) }

// Rules announces the rules that decisions of the policies in force may name, in the
// set's order.
func (m *Metrics) Rules(rules []Rule) {
	m.decided.announce(LiveSet, rules)
	m.limits.keep(rules)
}

// ShadowRules announces the rules that decisions of a set of policies on trial may
// name, in the set's order.
func (m *Metrics) ShadowRules(set string, rules []Rule) { m.shadow.announce(set, rules) }
