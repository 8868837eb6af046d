package service

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// alarms counts what happens in the cloud client and logs what an operator must
// know: a breaker that opens or closes, a credential that is refused or good again,
// a list that stays incomplete, and what only the operator can fix. Each once, and not for every call that meets
// it.
type alarms struct {
	*metrics.Metrics
	log zerolog.Logger

	mu         sync.Mutex
	open       map[string]bool // by API
	refused    bool
	refusal    approval.WorkerFault // why, if refused
	incomplete map[string]int       // incomplete lists in a row, by target
	faults     map[faultKey]*faultLog
}

// faultKey is a fault that is logged by itself.
type faultKey struct{ api, operation, target, code string }

// faultLog is when a fault was logged last.
type faultLog struct {
	fault  approval.OperatorFault
	warned time.Time
	active bool // a warning is not followed by the line that it is over
}

const (
	faultsLoggedEvery = 10 * time.Minute // at most, each
	mostFaultKeys     = 1000             // codes come from outside
)

func newAlarms(m *metrics.Metrics, log zerolog.Logger) *alarms {
	return &alarms{Metrics: m, log: log, open: map[string]bool{}, incomplete: map[string]int{}, faults: map[faultKey]*faultLog{}}
}

// CloudBreaker reports an API that stopped or began to work. A probe in between
// is no news.
func (a *alarms) CloudBreaker(api, state string) {
	a.Metrics.CloudBreaker(api, state)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case state == "open" && !a.open[api]:
		a.open[api] = true
		a.log.Error().Str("api", api).Msg("the API does not work; its requests wait and it is probed every second")
	case state == "closed" && a.open[api]:
		a.open[api] = false
		a.log.Info().Str("api", api).Msg("the API works again")
	}
}

// CredentialState reports a refused credential, and that it is accepted again.
func (a *alarms) CredentialState(state string, expires time.Time, refusal *cloud.Error) {
	a.Metrics.CredentialState(state, expires)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case state == "refused" && !a.refused:
		a.refused, a.refusal = true, approval.WorkerFault{Kind: approval.FaultCredential}
		line := a.log.Error()
		if refusal != nil {
			if fault, ok := refusal.OperatorFault(); ok {
				a.refusal = workerFault(approval.FaultCredential, refusal.Target, fault)
				line = withFault(line, refusal.Target, fault)
			}
		}
		line.Msg("the cloud refuses the credential; all calls have stopped, so that it is not locked, until it is replaced or a probe succeeds; requests wait")
	case state == "ok" && a.refused:
		a.refused = false
		a.log.Info().Msg("the cloud takes the credential again")
	}
}

// incompleteLists is how many incomplete lists in a row an operator hears of. One
// alone may have changed while its pages were read.
const incompleteLists = 3

// CloudList reports a target whose list stays incomplete, and that it is complete again.
func (a *alarms) CloudList(target string, complete bool) {
	a.Metrics.CloudList(target, complete)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !complete {
		if a.incomplete[target]++; a.incomplete[target] == incompleteLists {
			a.log.Warn().Str("target", target).Int("reads", incompleteLists).
				Msg("the cloud's list does not show all that it should; requests to this target wait until it does")
		}
		return
	}
	if a.incomplete[target] >= incompleteLists {
		a.log.Info().Str("target", target).Int("reads", a.incomplete[target]).Msg("the cloud's list is complete again")
	}
	delete(a.incomplete, target)
}

// OperatorFault warns of what only the operator can fix: immediately, and then
// every ten minutes while it lasts.
func (a *alarms) OperatorFault(target string, fault approval.OperatorFault) {
	a.Metrics.OperatorFault(target, fault)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	key := faultKey{fault.API, fault.Operation, target, fault.Code}
	entry := a.faults[key]
	if entry == nil && len(a.faults) >= mostFaultKeys {
		for k, old := range a.faults {
			if now.Sub(old.warned) >= faultsLoggedEvery {
				delete(a.faults, k)
			}
		}
		if len(a.faults) >= mostFaultKeys {
			return // counted all the same
		}
	}
	if entry == nil {
		entry = &faultLog{}
		a.faults[key] = entry
	}
	if !entry.warned.IsZero() && now.Sub(entry.warned) < faultsLoggedEvery {
		return
	}
	entry.warned, entry.active, entry.fault = now, true, fault
	withFault(a.log.Warn(), target, fault).Msg("the cloud refuses what only the operator can fix; its requests wait and are tried again")
}

// OperatorFaultOver tells that an API works for a target again.
func (a *alarms) OperatorFaultOver(api, target string) {
	a.Metrics.OperatorFaultOver(api, target)
	a.mu.Lock()
	defer a.mu.Unlock()
	over := false
	for key, entry := range a.faults {
		if key.api == api && key.target == target {
			over = over || entry.active
			entry.active = false
		}
	}
	if over {
		a.log.Info().Str("api", api).Str("target", target).Msg("the cloud does not refuse the target's calls any more")
	}
}

// maxFaults bounds the faults that a heartbeat tells.
const maxFaults = 20

// current returns what keeps this worker from calling the cloud now.
func (a *alarms) current() []approval.WorkerFault {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []approval.WorkerFault
	if a.refused {
		out = append(out, a.refusal)
	}
	for api, open := range a.open {
		if open {
			out = append(out, approval.WorkerFault{Kind: approval.FaultBreaker, API: api})
		}
	}
	for key, entry := range a.faults {
		if entry.active {
			out = append(out, workerFault(approval.FaultOperator, key.target, entry.fault))
		}
	}
	slices.SortFunc(out, func(a, b approval.WorkerFault) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.API, b.API), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Code, b.Code))
	})
	return out[:min(len(out), maxFaults)]
}

func workerFault(kind approval.FaultKind, target string, fault approval.OperatorFault) approval.WorkerFault {
	text := []rune(fault.Text)
	return approval.WorkerFault{
		Kind: kind, API: fault.API, Operation: fault.Operation, Target: target, Code: fault.Code, Text: string(text[:min(len(text), 200)]),
	}
}

// withFault adds a fault to a line of the log.
func withFault(line *zerolog.Event, target string, fault approval.OperatorFault) *zerolog.Event {
	return line.Str("api", fault.API).Str("operation", fault.Operation).Str("target", target).
		Str("code", fault.Code).Str("request_id", fault.RequestID).Str("cause", fault.Text)
}
