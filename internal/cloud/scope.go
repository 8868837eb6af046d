package cloud

import "time"

// scope is what a response about a credential applies to.
type scope struct{ api, project string }

type scopeState struct {
	state      authState
	probing    bool // the only call of an unverified scope is in flight
	renewed    bool // the credential was renewed since the last acceptance
	acceptedAt time.Time
	refusedAt  time.Time
	suspendFor time.Duration // until the next probe
	refusal    *Error
}

// suspended returns the refusal of s until a probe is due. The caller holds a.mu.
func (a *auth) suspended(s scope) error {
	at := a.scope(s)
	if at.state != refused {
		return nil
	}
	rest := at.suspendFor
	if a.state == verified {
		rest = scopeProbeInterval
	}
	if left := time.Until(at.refusedAt.Add(rest)); left > 0 {
		return stillRefused(at.refusal, left)
	}
	return nil
}

// allowProbe allows a probe of s, and reports whether s was refused. The caller holds a.mu.
func (a *auth) allowProbe(s scope) bool {
	at := a.scope(s)
	if at.state != refused {
		return false
	}
	at.state, at.probing = unverified, false
	return true
}

// markAccepted records that s accepts the credential. The caller holds a.mu.
func (a *auth) markAccepted(s scope) {
	at := a.scope(s)
	if a.state == refused || at.state == refused {
		return // the call began before the refusal
	}
	a.refusals, at.renewed, at.acceptedAt = 0, false, time.Now()
	if at.state != verified {
		at.state = verified
		a.broadcast()
	}
	if a.state != verified {
		a.set(verified)
	}
}

// suspend stops the calls of s because of e, and all calls if e concerns the key itself
// or if there were too many refusals. The caller holds a.mu.
func (a *auth) suspend(s scope, e *Error) {
	now := time.Now()
	at := a.scope(s)
	since := now.Add(-acceptanceTTL)
	if before := at.refusedAt; !before.IsZero() && before.Before(since) && at.acceptedAt.Before(before) {
		since = before // s refused it before; an acceptance since then shows that only s does
	}
	at.state, at.refusedAt, at.suspendFor, at.refusal = refused, now, scopeProbeInterval, e
	a.refusals++
	a.broadcast()
	bad := e.refusesKey && !a.acceptedSince(since)
	if bad && a.refusals < maxRefusals {
		at.suspendFor = keyLockTime
	}
	if bad || a.refusals >= maxRefusals {
		a.refusedAt, a.checkedAt, a.refusal = now, now, e
		a.set(refused)
	}
}

// acceptedSince reports whether a verified scope has accepted the credential since t.
// The caller holds a.mu.
func (a *auth) acceptedSince(t time.Time) bool {
	for _, at := range a.scopes {
		if at.state == verified && !at.acceptedAt.Before(t) {
			return true
		}
	}
	return false
}

// scope returns the state of s. The caller holds a.mu.
func (a *auth) scope(s scope) *scopeState {
	at := a.scopes[s]
	if at == nil {
		at = &scopeState{state: unverified}
		a.scopes[s] = at
	}
	return at
}

// retryIn is the retry time for callers that meet a refused credential. A retry makes
// no call while the credential stays refused.
const retryIn = 15 * time.Second

// stillRefused returns e as the error of a call that is not made, with at most left to
// wait.
func stillRefused(e *Error, left time.Duration) error {
	out := *e
	out.Class, out.Err = ClassCredentials, ErrCredentials
	out.Wait = min(retryIn, max(time.Second, left))
	return &out
}
