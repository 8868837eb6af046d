package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// observe adds a value to a histogram, with the trace of traceParent as exemplar if
// it is sampled.
func observe(o prometheus.Observer, value float64, traceParent string) {
	trace := sampledTrace(traceParent)
	if with, ok := o.(prometheus.ExemplarObserver); ok && trace != "" {
		with.ObserveWithExemplar(value, prometheus.Labels{"trace_id": trace})
		return
	}
	o.Observe(value)
}

// sampledTrace returns the trace id of a W3C traceparent whose sampled flag is set,
// else "". The value comes from outside.
func sampledTrace(traceParent string) string {
	const form = "00-00000000000000000000000000000000-0000000000000000-00"
	if len(traceParent) != len(form) {
		return ""
	}
	for i := range len(form) {
		c := traceParent[i]
		if form[i] == '-' && c != '-' || form[i] == '0' && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return ""
		}
	}
	trace, flags := traceParent[3:35], traceParent[len(traceParent)-1]
	if traceParent[:2] == "ff" || strings.Trim(trace, "0") == "" || strings.IndexByte("13579bdf", flags) < 0 {
		return ""
	}
	return trace
}
