// Package metrics defines the names, labels and units of all metrics. Callers report
// events, one method for each; no label ever holds an id, a URL, a time or an error
// text.
package metrics

import (
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const namespace = "vpcep_approver"

// Labels lists the values that labels can take, so that every series exists
// from the start: the rate of what has not happened yet is 0 and not missing.
type Labels struct {
	Targets           []string
	Creations         map[string]bool     // targets whose requests create endpoints
	TargetAPIs        map[string][]string // target to the APIs that are called for it
	Operations        map[string][]string // API name to the operations called there
	Classes           []string            // of answers of the cloud
	DeadLetterReasons []string
}

// Build says which program this is.
type Build struct {
	Version, Revision, GoVersion string
}

// Metrics is everything that is counted. It is safe for concurrent use.
type Metrics struct {
	received   *prometheus.CounterVec
	decided    *ruleCounter
	limits     *limits
	finished   *prometheus.CounterVec
	inTime     *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	stage      *prometheus.HistogramVec
	inFlight   prometheus.Gauge
	waiting    *waiting
	givenBack  *prometheus.CounterVec
	mismatches prometheus.Counter

	calls         *prometheus.CounterVec
	callDuration  *prometheus.HistogramVec
	callsInFlight *prometheus.GaugeVec
	retries       *prometheus.CounterVec
	throttles     *prometheus.CounterVec
	throttleWait  *prometheus.CounterVec
	breaker       *prometheus.GaugeVec
	unknownStates *prometheus.CounterVec
	incomplete    targetGauge
	approval      targetGauge
	credential    *prometheus.GaugeVec
	credentialEnd prometheus.Gauge
	faults        *prometheus.CounterVec
	faultActive   targetGauge

	busConnected  prometheus.Gauge
	busReconnects prometheus.Counter
	bound         prometheus.Gauge
	pending       prometheus.Gauge
	ackPending    prometheus.Gauge
	redelivered   prometheus.Gauge
	published     *prometheus.CounterVec
	deadLetters   *prometheus.CounterVec
	conflicts     prometheus.Counter
	failedWrites  prometheus.Counter
	failedTraces  prometheus.Counter

	policies      *prometheus.GaugeVec
	rules         *prometheus.GaugeVec
	policyInfo    *prometheus.GaugeVec
	findings      *prometheus.GaugeVec
	reloads       *prometheus.CounterVec
	reloadSuccess *prometheus.GaugeVec
	reloadTime    *prometheus.GaugeVec
	expiries      *prometheus.GaugeVec

	sweeps     *prometheus.CounterVec
	sweepTime  prometheus.Gauge
	sweepFound *prometheus.CounterVec
	worklist   worklist
	shadow     *ruleCounter
	reviews    reviews
	paused     targetGauge

	targets targetLabels
	sets    sync.Map // sets of policies that have series
}

// New registers the metrics with reg; it panics if one is there already.
func New(reg prometheus.Registerer, labels Labels, build Build) *Metrics {
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := factory{promauto.With(reg), reg}
	m := &Metrics{targets: newTargetLabels(labels.Targets)}
	labels.Targets = m.targets.all()
	m.registerRequests(f, labels)
	m.registerRules(f)
	m.Rules([]Rule{{}})
	m.registerCloud(f, labels)
	m.registerBus(f, labels)
	m.registerPolicy(f)
	m.Set(LiveSet)
	m.registerSweep(f, labels)
	m.registerReviews(f)
	m.registerPauses(f)
	m.worklist.forget()
	f.gaugeVec("build_info", "Always 1; the labels say which build this is.", "version", "revision", "goversion").
		WithLabelValues(build.Version, build.Revision, build.GoVersion).Set(1)
	return m
}

func (m *Metrics) registerRequests(f factory, labels Labels) {
	m.received = f.counters("requests_received_total", "Requests delivered to a worker, redeliveries included, by kind.", "kind")
	m.finished = f.counters("requests_finished_total", "Requests with a result, by target and outcome.", "target", "outcome")
	m.inTime = f.counters("requests_objective_total", "Requests with a result, but for those whose connection is gone, by whether they ended within 5 minutes, outages of the cloud aside.", "in_time")
	m.duration = f.histograms("request_duration_seconds", "Time from when the event was stored to its result, by kind.", slow(), "kind")
	m.stage = f.histograms("request_stage_duration_seconds", "Time that a request spent in a stage, over all its deliveries.", slow(), "stage")
	m.inFlight = f.gauge("requests_in_flight", "Requests that a worker is handling.")
	m.waiting = newWaiting("requests_waiting", "Requests that wait, by cause: for the wanted state of the cloud, or given back by this worker and not due yet.")
	f.register(m.waiting)
	m.givenBack = f.counters("requests_given_back_total", "Requests given back for a later delivery, by cause.", "cause")
	m.mismatches = f.counter("claim_mismatches_total", "Requests held because a claim contradicts a fact of the cloud.")
	for _, kind := range kinds() {
		m.received.WithLabelValues(kind)
		m.duration.WithLabelValues(kind)
	}
	for _, in := range []bool{true, false} {
		m.inTime.WithLabelValues(strconv.FormatBool(in))
	}
	for _, t := range labels.Targets {
		for _, o := range outcomes(labels.Creations[t], t == others) {
			m.finished.WithLabelValues(t, string(o))
		}
	}
	for _, s := range approval.Stages() {
		m.stage.WithLabelValues(string(s))
	}
	for _, cause := range []string{"busy", "retry", "paused", "stopping", "panic"} {
		m.givenBack.WithLabelValues(cause)
	}
}

func (m *Metrics) registerCloud(f factory, labels Labels) {
	m.calls = f.counters("cloud_calls_total", "Calls of cloud APIs by class of the response; each retry counts as a call.", "api", "operation", "class")
	m.callDuration = f.histograms("cloud_call_duration_seconds", "Duration of calls of cloud APIs.", fast(), "api", "operation")
	m.callsInFlight = f.gaugeVec("cloud_calls_in_flight", "Calls of cloud APIs in progress.", "api")
	m.retries = f.counters("cloud_retries_total", "Retries of calls of cloud APIs.", "api", "operation")
	m.throttles = f.counters("cloud_throttled_total", "Responses of cloud APIs that asked for fewer calls.", "api")
	m.throttleWait = f.counters("cloud_throttle_wait_seconds_total", "Time that cloud APIs asked the worker to wait.", "api")
	m.breaker = f.gaugeVec("cloud_breaker_state", "1 for the state that the circuit breaker of a cloud API is in.", "api", "state")
	m.unknownStates = f.counters("cloud_unknown_states_total", "Connection states in responses of the cloud that are not documented.", "target")
	m.incomplete = newTargetGauge(f.gaugeVec("list_incomplete", "1 while the last list that was read for a target was incomplete; no decision is made from such a list.", "target"), m.targets, highest)
	m.approval = newTargetGauge(f.gaugeVec("approval_enabled", "Whether connections to the target's endpoint service wait for a decision; 0: the cloud accepts them all itself, NaN: not known.", "target"), m.targets, lowest)
	m.credential = f.gaugeVec("credential_state", "1 for the state that the cloud credential is in.", "state")
	m.credentialEnd = f.gauge("credential_expiry_timestamp_seconds", "Expiry time of the cloud credential; NaN if it does not say.")
	m.faults = f.counters("operator_faults_total", "Errors of cloud APIs that only the operator can fix: permission, quota, credential, wrong id, project or region.", "api", "operation")
	m.faultActive = newTargetGauge(f.gaugeVec("operator_fault_active", "Whether the last operation of a cloud API for a target met an error that only the operator can fix; 0 after 15 minutes without one.", "api", "target"), m.targets, highest)
	for api, operations := range labels.Operations {
		m.callsInFlight.WithLabelValues(api)
		m.throttles.WithLabelValues(api)
		m.throttleWait.WithLabelValues(api)
		m.CloudBreaker(api, "closed")
		for _, op := range operations {
			m.callDuration.WithLabelValues(api, op)
			m.retries.WithLabelValues(api, op)
			m.faults.WithLabelValues(api, op)
			for _, class := range labels.Classes {
				m.calls.WithLabelValues(api, op, class)
			}
		}
	}
	for _, t := range labels.Targets {
		m.unknownStates.WithLabelValues(t)
		m.incomplete.vec.WithLabelValues(t).Set(math.NaN())
		m.approval.vec.WithLabelValues(t).Set(math.NaN())
		for _, api := range labels.TargetAPIs[t] {
			m.faultActive.vec.WithLabelValues(api, t)
		}
	}
	m.CredentialState("unverified", time.Time{})
}

func (m *Metrics) registerBus(f factory, labels Labels) {
	m.busConnected = f.gauge("bus_connected", "Whether NATS is connected.")
	m.busReconnects = f.counter("bus_reconnects_total", "Reconnections to NATS.")
	m.bound = f.gauge("consumer_bound", "Whether the worker can pull from the durable consumer.")
	m.pending = f.gauge("consumer_pending_messages", "Requests in the stream that were not delivered yet.")
	m.ackPending = f.gauge("consumer_ack_pending_messages", "Requests delivered and not acknowledged: being handled, or given back for later.")
	m.redelivered = f.gauge("consumer_redelivered_messages", "Requests not acknowledged that were delivered more than once.")
	m.published = f.counters("results_published_total", "Results published, by outcome of the publication; conflict: the subject holds another result, which no worker wrote.", "result")
	m.deadLetters = f.counters("dead_letters_total", "Events that became dead letters, by reason.", "reason")
	m.failedWrites = f.counter("ledger_write_failures_total", "Writes to the ledger that failed, conflicts aside; what they belong to is tried again.")
	m.failedTraces = f.counter("trace_export_failures_total", "Batches of spans that could not be sent to the OTLP endpoint, and were dropped.")
	m.conflicts = f.counter("ledger_conflicts_total", "Writes to the ledger refused because another worker had written first.")
	m.BusConnected(false)
	for _, r := range PublishResults() {
		m.published.WithLabelValues(r)
	}
	for _, r := range labels.DeadLetterReasons {
		m.deadLetters.WithLabelValues(r)
	}
}

// PublishResults returns what becomes of a result that is offered to the bus.
func PublishResults() []string { return []string{"ok", "error", "conflict"} }

func (m *Metrics) registerPolicy(f factory) {
	m.policies = f.gaugeVec("policies", "Policies loaded, by set: live decides, shadow is evaluated only for comparison.", "set")
	m.rules = f.gaugeVec("policy_rules", "Entries of the policies loaded, by set.", "set")
	m.findings = f.gaugeVec("policy_findings", "Findings of worker policy check, by set and severity: warnings about the policies loaded, errors in the newest files if they could not be loaded.", "set", "severity")
	m.policyInfo = f.gaugeVec("policy_info", "Always 1; the label is the digest of the policies loaded, by set.", "set", "digest")
	m.reloads = f.counters("policy_reloads_total", "Loads of the policies, by set and result.", "set", "result")
	m.reloadSuccess = f.gaugeVec("policy_reload_success", "Whether the newest policy files were loaded, by set; if not, the last valid ones stay in use.", "set")
	m.reloadTime = f.gaugeVec("policy_reload_success_timestamp_seconds", "Time of the last load of the policies without an error, by set; NaN: there was none.", "set")
	m.expiries = f.gaugeVec("policy_rule_expiry_timestamp_seconds", "Expiry times of the entries in force that expire next, at most 20.", "policy", "rule")
}

// registerRules registers what is counted by rule.
func (m *Metrics) registerRules(f factory) {
	var verdicts []string
	for _, v := range approval.Verdicts() {
		verdicts = append(verdicts, string(v))
	}
	m.decided = newRuleCounter(f.counters("decisions_total", "Decisions by policy, rule and verdict. No rule: the policy itself decided; no policy: none did. Rules beyond the first 50 share the label other.", "policy", "rule", "verdict"), verdicts)
	m.shadow = newRuleCounter(f.counters("policy_shadow_decisions_total", "Decisions of shadow policies, which are never carried out, by rule and whether they differ from the decision (unknown: a limit applies, and nothing was counted). Rules beyond the first 50 of a set share the label other.", "policy", "rule", "differs"),
		[]string{"false", "true", shadowUnknown})
	m.limits = newLimits("policy_limit_used_ratio", "Accepted connections of an account as a part of the limit of the rule, when it was last decided within 24 hours; of several accounts the highest.", m.decided.label)
	f.register(m.limits)
}

func (m *Metrics) registerSweep(f factory, labels Labels) {
	m.sweeps = f.counters("sweeps_total", "Sweeps of all targets for pending connections without an event, by result.", "result")
	m.sweepTime = f.gauge("sweep_success_timestamp_seconds", "Time of the last successful sweep by this worker; NaN: there was none.")
	m.sweepTime.Set(math.NaN())
	m.sweepFound = f.counters("sweep_found_total", "Requests that the sweep submitted, by target and cause.", "target", "cause")
	m.worklist = worklist{
		pending:       newTargetGauge(f.gaugeVec("pending_connections", "Connections in pendingAcceptance. Set by the worker that swept last, NaN on the others.", "target"), m.targets, sum),
		oldestPending: newTargetGauge(f.gaugeVec("oldest_pending_timestamp_seconds", "Creation time of the oldest connection in pendingAcceptance; NaN: there is none, or the cloud does not show it. Set as pending_connections.", "target"), m.targets, earliest),
		held:          newTargetGauge(f.gaugeVec("held_requests", "Requests that are held and whose connection is still pending, and held creations. Set as pending_connections.", "target"), m.targets, sum),
		oldestHeld:    newTargetGauge(f.gaugeVec("oldest_held_timestamp_seconds", "Time since when the oldest of the held requests is held; NaN: there is none. Set as pending_connections.", "target"), m.targets, earliest),
	}
	for _, r := range []string{"ok", "error"} {
		m.sweeps.WithLabelValues(r)
	}
	for _, t := range labels.Targets {
		for _, c := range SweepCauses() {
			m.sweepFound.WithLabelValues(t, c)
		}
	}
}

// SweepCauses returns why the sweep may submit a request.
func SweepCauses() []string {
	return []string{"missed", "redecide", "stalled", "failed", "settled", "reviewed"}
}

// worklist is what waits for a decision or for a person, by target.
type worklist struct {
	pending, oldestPending, held, oldestHeld targetGauge
}

// forget makes everything unknown.
func (w worklist) forget() {
	for _, g := range []targetGauge{w.pending, w.oldestPending, w.held, w.oldestHeld} {
		g.forget()
	}
}

// outcomes returns the outcomes that requests to a target can have.
func outcomes(creation, all bool) []approval.Outcome {
	return slices.DeleteFunc(approval.Outcomes(), func(o approval.Outcome) bool {
		switch o {
		case approval.OutcomeCreated, approval.OutcomeRefused:
			return !creation && !all
		case approval.OutcomeAccepted, approval.OutcomeRejected, approval.OutcomeGone, approval.OutcomeSuperseded:
			return creation && !all
		case approval.OutcomeHeld, approval.OutcomeIgnored, approval.OutcomeUnknown, approval.OutcomeFailed:
		}
		return false
	})
}

func kinds() []string { return []string{"connection", "endpoint"} }

func kind(r approval.Request) string {
	if r.Creates() {
		return "endpoint"
	}
	return "connection"
}

// slow suits requests, which wait for people's networks; fast suits API calls.
func slow() []float64 { return []float64{.05, .25, 1, 2.5, 5, 15, 30, 60, 120, 300, 900, 3600} }
func fast() []float64 { return []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30} }

// factory makes metrics in our namespace, all of one style.
type factory struct {
	promauto.Factory
	reg prometheus.Registerer
}

func (f factory) register(c prometheus.Collector) { f.reg.MustRegister(c) }

func (f factory) counter(name, help string) prometheus.Counter {
	return f.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return f.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	return f.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
}

func (f factory) gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	return f.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// histograms are both classic and native: dashboards of either kind work.
func (f factory) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return f.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}, labels)
}

// set makes the series of v whose last label is value 1 and its others 0.
func set(v *prometheus.GaugeVec, value string, all []string, before ...string) {
	for _, x := range all {
		on := 0.0
		if x == value {
			on = 1
		}
		v.WithLabelValues(append(append([]string{}, before...), x)...).Set(on)
	}
}

// seconds is t as a sample; a time that is not known is NaN.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return math.NaN()
	}
	return float64(t.UnixMilli()) / 1000
}

func truth(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

func result(ok bool) string {
	if ok {
		return "ok"
	}
	return "error"
}
