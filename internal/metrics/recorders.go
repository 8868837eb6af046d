package metrics

import (
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Decided counts the decision d.
func (m *Metrics) Decided(d *approval.Decision) {
	m.decided.inc(Rule{d.Policy, d.Rule}, string(d.Verdict))
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
		m.shadow.inc(Rule{s.Policy, s.Rule}, differs)
	}
}

// shadowUnknown says that a shadow decision needs a count that nobody took.
const shadowUnknown = "unknown"

// LimitUsed keeps that used connections of an account on target count for the limit
// of the rule that decided d.
func (m *Metrics) LimitUsed(d *approval.Decision, target, account string, used, limit int) {
	if limit > 0 {
		m.limits.set(Rule{d.Policy, d.Rule}, limitAccount{target, account}, float64(used)/float64(limit))
	}
}

// objective is how long a request may take, outages of the cloud aside. It is a
// bucket of the histograms, too.
const objective = 5 * time.Minute

// Finished counts a request that has its result.
func (m *Metrics) Finished(r *approval.Result) {
	m.finished.WithLabelValues(m.targets.of(r.Request.Target.Name), string(r.Outcome)).Inc()
	total := 0.0
	for stage, s := range r.Seconds {
		observe(m.stage.WithLabelValues(string(stage)), s, r.Request.TraceParent)
		total += s
	}
	observe(m.duration.WithLabelValues(kind(r.Request)), total, r.Request.TraceParent)
	if r.Outcome != approval.OutcomeGone { // it takes its time to be sure
		in := total-r.Seconds[approval.StageOutage] <= objective.Seconds()
		m.inTime.WithLabelValues(strconv.FormatBool(in)).Inc()
	}
}

// Waiting counts requests that begin (1) or end (-1) to wait for the wanted state.
func (m *Metrics) Waiting(delta int) { m.waiting.add(WaitConfirmation, delta) }

// WaitsUntil counts a request that is given back until at for cause, one of
// WaitCauses.
func (m *Metrics) WaitsUntil(cause string, at time.Time) { m.waiting.until(cause, at) }

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

// BusConnected sets whether NATS is connected. If not, the backlog is not known.
func (m *Metrics) BusConnected(up bool) {
	m.busConnected.Set(truth(up))
	if !up {
		for _, g := range []prometheus.Gauge{m.pending, m.ackPending, m.redelivered} {
			g.Set(math.NaN())
		}
	}
}

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

// GivenBack counts a request given back: busy, retry, paused, stopping or panic.
func (m *Metrics) GivenBack(cause string) { m.givenBack.WithLabelValues(cause).Inc() }

// LedgerConflict counts a write that lost against another worker's.
func (m *Metrics) LedgerConflict() { m.conflicts.Inc() }

// LedgerWriteFailed counts a write that failed for another reason.
func (m *Metrics) LedgerWriteFailed() { m.failedWrites.Inc() }

// TraceExportFailed counts a batch of spans that was dropped.
func (m *Metrics) TraceExportFailed() { m.failedTraces.Inc() }

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
	if _, known := m.sets.LoadOrStore(set, true); !known {
		m.reloadTime.WithLabelValues(set).Set(math.NaN())
	}
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

// maxExpiries is how many entries show when they expire.
const maxExpiries = 20

// Expiry is when a rule expires.
type Expiry struct {
	Rule Rule
	At   time.Time
}

// Expiries sets when the rules in force expire, the next first.
func (m *Metrics) Expiries(next []Expiry) {
	m.expiries.Reset()
	for _, e := range next[:min(len(next), maxExpiries)] {
		m.expiries.WithLabelValues(e.Rule[0], e.Rule[1]).Set(seconds(e.At))
	}
}

// Work is what waits on a target, as a sweep saw it.
type Work struct {
	Pending       int       // connections in pendingAcceptance
	OldestPending time.Time // zero: not known
	Held          int       // requests that are held and still pending
	OldestHeld    time.Time
	HeldUnknown   bool // not all that is held could be read
}

// WorkSeen sets what waits on target.
func (m *Metrics) WorkSeen(target string, w Work) {
	m.worklist.pending.set(target, float64(w.Pending))
	m.worklist.oldestPending.set(target, seconds(w.OldestPending))
	held, oldest := float64(w.Held), seconds(w.OldestHeld)
	if w.HeldUnknown {
		held, oldest = math.NaN(), math.NaN()
	}
	m.worklist.held.set(target, held)
	m.worklist.oldestHeld.set(target, oldest)
}

// WorkUnknown says that another worker sweeps.
func (m *Metrics) WorkUnknown() {
	m.worklist.forget()
	m.reviews.forget()
}
