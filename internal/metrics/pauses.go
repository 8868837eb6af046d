package metrics

import "math"

func (m *Metrics) registerPauses(f factory) {
	m.paused = newTargetGauge(f.gaugeVec("paused", "1 while an operator has paused the target, as this worker has read it last; NaN: not read yet.", "target"), m.targets, highest)
	for _, target := range m.targets.all() {
		m.paused.vec.WithLabelValues(target).Set(math.NaN())
	}
}

// Paused sets whether a target is paused.
func (m *Metrics) Paused(target string, paused bool) {
	value := 0.0
	if paused {
		value = 1
	}
	m.paused.set(target, value)
}
