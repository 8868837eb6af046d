package metrics

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reviews is what people decide.
type reviews struct {
	counted *prometheus.CounterVec
	refused prometheus.Counter
	time    *prometheus.HistogramVec
	waiting targetGauge
	oldest  targetGauge
}

func (m *Metrics) registerReviews(f factory) {
	m.reviews = reviews{
		counted: f.counters("reviews_total", "Reviews that were counted, by what the person said.", "verdict"),
		refused: f.counter("reviews_refused_total", "Reviews that do not count: forged, late, of facts that changed, of somebody who may not review."),
		time:    f.histograms("review_duration_seconds", "Time from when a request was held to the review that decided it, by what that review said.", waits(), "verdict"),
		waiting: newTargetGauge(f.gaugeVec("reviews_waiting", "Held requests that people may decide. Set as pending_connections.", "target"), m.targets, sum),
		oldest:  newTargetGauge(f.gaugeVec("oldest_review_timestamp_seconds", "Time since when the oldest request that waits for a review is held; NaN: there is none. Set as pending_connections.", "target"), m.targets, earliest),
	}
	for _, verdict := range []string{"approve", "reject"} {
		m.reviews.counted.WithLabelValues(verdict)
		m.reviews.time.WithLabelValues(verdict)
	}
	m.reviews.forget()
}

// waits are the buckets of how long people take: 10 s to about 12 days.
func waits() []float64 { return prometheus.ExponentialBuckets(10, 4, 9) }

func (r reviews) forget() {
	r.waiting.forget()
	r.oldest.forget()
}

// Reviewed counts a review by its verdict, approve or reject.
func (m *Metrics) Reviewed(verdict string) { m.reviews.counted.WithLabelValues(verdict).Inc() }

// ReviewDecided counts a request that a review decided, by the verdict of that review
// and by how long the request was held.
func (m *Metrics) ReviewDecided(verdict string, held time.Duration) {
	m.reviews.time.WithLabelValues(verdict).Observe(held.Seconds())
}

// ReviewRefused counts a review that does not count.
func (m *Metrics) ReviewRefused() { m.reviews.refused.Inc() }

// ReviewsWaiting sets how many requests of target wait for a review, and since when
// the oldest does; a number below 0 is not known.
func (m *Metrics) ReviewsWaiting(target string, n int, oldest time.Time) {
	if n < 0 {
		m.reviews.waiting.set(target, math.NaN())
		m.reviews.oldest.set(target, math.NaN())
		return
	}
	m.reviews.waiting.set(target, float64(n))
	m.reviews.oldest.set(target, seconds(oldest))
}
