package metrics

import (
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// The number of series is bounded, whatever policies and targets there are: each
// series costs memory here and in Prometheus. What is beyond the first of a list
// shares a label. The lists are those of the configuration and of the policies, so
// every replica shows the same.
const (
	maxTargets = 28
	maxRules   = 50 // of each set of policies

	others = "other"
)

// The sets of policies.
const (
	LiveSet   = "live"   // those in force
	ShadowSet = "shadow" // candidates, see policies.shadow_dir
)

// targetLabels are the targets that have series of their own. Every metric by
// target takes its label from here.
type targetLabels struct {
	own  map[string]bool
	more bool // there are others
}

func newTargetLabels(targets []string) targetLabels {
	l := targetLabels{own: make(map[string]bool), more: len(targets) > maxTargets}
	for _, name := range targets[:min(len(targets), maxTargets)] {
		l.own[name] = true
	}
	return l
}

// of returns the label of a target.
func (l targetLabels) of(target string) string {
	if l.own[target] || target == "" {
		return target
	}
	return others
}

// all returns every label.
func (l targetLabels) all() []string {
	var out []string
	for name := range l.own {
		out = append(out, name)
	}
	if l.more && !l.own[others] {
		out = append(out, others)
	}
	slices.Sort(out)
	return out
}

// targetGauge is a gauge by target. Targets that share a label show what merge
// makes of their values.
type targetGauge struct {
	vec    *prometheus.GaugeVec
	labels targetLabels
	merge  func(iter.Seq[float64]) float64

	mu     *sync.Mutex
	shared map[string]map[string]float64 // the last value of each target with the shared label, by the other labels
}

func newTargetGauge(vec *prometheus.GaugeVec, labels targetLabels, merge func(iter.Seq[float64]) float64) targetGauge {
	return targetGauge{vec: vec, labels: labels, merge: merge, mu: new(sync.Mutex), shared: make(map[string]map[string]float64)}
}

// set sets the value of target; before are the labels before that of the target.
func (g targetGauge) set(target string, value float64, before ...string) {
	label := g.labels.of(target)
	if label == others {
		g.mu.Lock()
		defer g.mu.Unlock()
		key := strings.Join(before, " ")
		if g.shared[key] == nil {
			g.shared[key] = make(map[string]float64)
		}
		g.shared[key][target] = value
		value = g.merge(maps.Values(g.shared[key]))
	}
	g.vec.WithLabelValues(append(slices.Clone(before), label)...).Set(value)
}

func sum(values iter.Seq[float64]) (total float64) {
	for v := range values {
		total += v
	}
	return total
}

func highest(values iter.Seq[float64]) float64 { return slices.Max(slices.Collect(values)) }
func lowest(values iter.Seq[float64]) float64  { return slices.Min(slices.Collect(values)) }

// earliest is the lowest of the values that are known; NaN if none is.
func earliest(values iter.Seq[float64]) float64 {
	out := math.NaN()
	for v := range values {
		if math.IsNaN(out) || v < out {
			out = v
		}
	}
	return out
}

// forget makes all values unknown.
func (g targetGauge) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.shared)
	for _, label := range g.labels.all() {
		g.vec.WithLabelValues(label).Set(math.NaN())
	}
}
