package main

import (
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// alarms counts what happens in the cloud client and logs what an operator must
// hear of: a breaker that opens or closes, a credential that is refused or good
// again, a list that stays incomplete. Each once, and not for every call that meets
// it.
type alarms struct {
	*metrics.Metrics
	log zerolog.Logger

	mu         sync.Mutex
	open       map[string]bool // by API
	refused    bool
	incomplete map[string]int // incomplete lists in a row, by target
}

func newAlarms(m *metrics.Metrics, log zerolog.Logger) *alarms {
	return &alarms{Metrics: m, log: log, open: map[string]bool{}, incomplete: map[string]int{}}
}

// CloudBreaker tells of an API that stopped or began to work. A probe in between
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

// CredentialState tells of a credential that was refused, and of its end.
func (a *alarms) CredentialState(state string, expires time.Time) {
	a.Metrics.CredentialState(state, expires)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case state == "refused" && !a.refused:
		a.refused = true
		a.log.Error().Msg("the cloud refuses the credential; all calls have stopped, so that it is not locked, until it is replaced; requests wait")
	case state == "ok" && a.refused:
		a.refused = false
		a.log.Info().Msg("the cloud takes the credential again")
	}
}

// incompleteLists is how many incomplete lists in a row an operator hears of. One
// alone may have changed while its pages were read.
const incompleteLists = 3

// CloudList tells of a target whose list stays incomplete, and of its end.
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
