package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Decided counts the decision d on r.
func (m *Metrics) Decided(r approval.Request, d approval.Decision) {
	m.decided.WithLabelValues(kind(r), string(d.Verdict)).Inc()
	for _, reason := range d.Reasons {
		if reason.Code == approval.ReasonClaimMismatch {
			m.mismatches.Inc()
		}
	}
	if s := d.Shadow; s != nil {
		differs := strconv.FormatBool(s.Verdict != d.Verdict)
		if s.NeedsCount {
			differs = shadowUnknown
		}
		rule := m.names.of([2]string{s.Policy, s.Rule})
		m.shadow.WithLabelValues(rule[0], rule[1], differs).Inc()
	}
}

// shadowUnknown says that a shadow decision needs a count that nobody took.
const shadowUnknown = "unknown"

// Finished counts a request that has its result.
func (m *Metrics) Finished(r approval.Result) {
	k := kind(r.Request)
	m.finished.WithLabelValues(k, string(r.Outcome)).Inc()
	total := 0.0
	for stage, s := range r.Seconds {
		m.stage.WithLabelValues(string(stage)).Observe(s)
		total += s
	}
	m.duration.WithLabelValues(k).Observe(total)
}

// Waiting counts requests that begin (1) or end (-1) to wait for the cloud.
func (m *Metrics) Waiting(delta int) { m.waiting.Add(float64(delta)) }

// CloudCall counts one call of a cloud API.
func (m *Metrics) CloudCall(api, operation, class string, took time.Duration) {
	m.calls.WithLabelValues(api, operation, class).Inc()
	m.callDuration.WithLabelValues(api, operation).Observe(took.Seconds())
}

// CloudRetry counts a call that is made again.
func (m *Metrics) CloudRetry(api, operation, _ string) {
	m.retries.WithLabelValues(api, operation).Inc()
}

// CloudThrottled counts an answer that asked to wait.
func (m *Metrics) CloudThrottled(api string, wait time.Duration) {
	m.throttles.WithLabelValues(api).Inc()
	m.throttleWait.WithLabelValues(api).Add(wait.Seconds())
}

// CloudInFlight counts calls that begin (1) or end (-1).
func (m *Metrics) CloudInFlight(api string, delta int) {
	m.callsInFlight.WithLabelValues(api).Add(float64(delta))
}

// CloudBreaker sets the state of the breaker of api: closed, open or half-open.
func (m *Metrics) CloudBreaker(api, state string) {
	set(m.breaker, state, []string{"closed", "open", "half-open"}, api)
}

// CloudUnknownState counts a state that is not documented.
func (m *Metrics) CloudUnknownState(target string) {
	m.unknownStates.WithLabelValues(m.targets.of(target)).Inc()
}

// CloudList sets whether the last list that was read for target was complete.
func (m *Metrics) CloudList(target string, complete bool) {
	m.incomplete.set(target, truth(!complete))
}

// ApprovalEnabled sets whether connections to target wait for a decision.
func (m *Metrics) ApprovalEnabled(target string, enabled bool) {
	m.approval.set(target, truth(enabled))
}

// CredentialState sets the state of the credential: unverified, ok or refused.
func (m *Metrics) CredentialState(state string, expires time.Time) {
	set(m.credential, state, []string{"unverified", "ok", "refused"})
	m.credentialEnd.Set(seconds(expires))
}

// OperatorFault counts an answer that only the operator can fix.
func (m *Metrics) OperatorFault(target string, fault approval.OperatorFault) {
	m.faults.WithLabelValues(fault.API, fault.Operation).Inc()
	m.faultActive.set(target, 1, fault.API)
}

// OperatorFaultOver clears the fault of an API for a target.
func (m *Metrics) OperatorFaultOver(api, target string) {
	m.faultActive.set(target, 0, api)
}

// Delivered counts a request taken from the bus, by kind.
func (m *Metrics) Delivered(kind string) { m.received.WithLabelValues(kind).Inc() }

// DeadLettered counts a dead letter.
func (m *Metrics) DeadLettered(reason string) { m.deadLetters.WithLabelValues(reason).Inc() }

// BusConnected sets whether NATS is connected.
func (m *Metrics) BusConnected(up bool) { m.busConnected.Set(truth(up)) }

// BusReconnected counts a new connection after a lost one.
func (m *Metrics) BusReconnected() { m.busReconnects.Inc() }

// ConsumerBound sets whether the consumer can be pulled from.
func (m *Metrics) ConsumerBound(up bool) { m.bound.Set(truth(up)) }

// Backlog sets the number of messages that the consumer has to deliver and to acknowledge.
func (m *Metrics) Backlog(pending, ackPending, redelivered int) {
	m.pending.Set(float64(pending))
	m.ackPending.Set(float64(ackPending))
	m.redelivered.Set(float64(redelivered))
}

// ResultPublished counts a published result: one of
// PublishResults.
func (m *Metrics) ResultPublished(what string) { m.published.WithLabelValues(what).Inc() }

// SlotsInUse counts requests whose handling begins (1) or ends (-1).
func (m *Metrics) SlotsInUse(delta int) { m.inFlight.Add(float64(delta)) }

// GivenBack counts a request given back: busy, retry, stopping or panic.
func (m *Metrics) GivenBack(cause string) { m.givenBack.WithLabelValues(cause).Inc() }

// LedgerConflict counts a write that lost against another worker's.
func (m *Metrics) LedgerConflict() { m.conflicts.Inc() }

// Reloads counts what comes of loading one set of policies.
type Reloads struct {
	m   *Metrics
	set string
}

// Set returns what counts for the set, LiveSet or ShadowSet, and makes its series.
func (m *Metrics) Set(set string) Reloads {
	m.policies.WithLabelValues(set)
	m.rules.WithLabelValues(set)
	m.reloadSuccess.WithLabelValues(set)
	m.reloadTime.WithLabelValues(set)
	for _, severity := range []string{"error", "warning"} {
		m.findings.WithLabelValues(set, severity)
	}
	for _, ok := range []bool{true, false} {
		m.reloads.WithLabelValues(set, result(ok))
	}
	return Reloads{m, set}
}

// PolicyReloaded counts a load of the policies.
func (r Reloads) PolicyReloaded(ok bool, digest string, policies, rules int) {
	r.m.reloads.WithLabelValues(r.set, result(ok)).Inc()
	r.m.reloadSuccess.WithLabelValues(r.set).Set(truth(ok))
	if !ok {
		return
	}
	r.m.findings.WithLabelValues(r.set, "error").Set(0)
	r.m.reloadTime.WithLabelValues(r.set).SetToCurrentTime()
	r.m.policies.WithLabelValues(r.set).Set(float64(policies))
	r.m.rules.WithLabelValues(r.set).Set(float64(rules))
	r.m.policyInfo.DeletePartialMatch(prometheus.Labels{"set": r.set})
	r.m.policyInfo.WithLabelValues(r.set, digest).Set(1)
}

// PolicyFindings sets how many findings of a severity there are.
func (r Reloads) PolicyFindings(severity string, n int) {
	r.m.findings.WithLabelValues(r.set, severity).Set(float64(n))
}

// Swept counts a sweep of all targets.
func (m *Metrics) Swept(ok bool) {
	m.sweeps.WithLabelValues(result(ok)).Inc()
	if ok {
		m.sweepTime.SetToCurrentTime()
	}
}

// SweepFound counts a connection that the sweep submitted, see SweepCauses.
func (m *Metrics) SweepFound(target, cause string) {
	m.sweepFound.WithLabelValues(m.targets.of(target), cause).Inc()
}

// PendingConnections sets how many connections of target wait for a decision.
func (m *Metrics) PendingConnections(target string, n int) {
	m.pendingSeen.set(target, float64(n))
}
