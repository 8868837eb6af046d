package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// The cloud locks a key or user for five minutes after more than five consecutive
	// failures. All calls fail in that time.
	keyLockTime        = 5*time.Minute + 30*time.Second // pause of a scope that refused the key itself
	scopeProbeInterval = 65 * time.Second               // pause of a scope; longer than keyProbeInterval, so that other scopes probe first
	keyProbeInterval   = time.Minute                    // between probes of a suspended credential
	maxRefusals        = 3                              // consecutive, over all scopes, until the credential is suspended
	acceptanceTTL      = time.Minute                    // how long an acceptance in another scope protects a key
	checkInterval      = 5 * time.Second                // between reads of Source
	renewInterval      = 10 * time.Second               // between attempts to renew a valid token
	renewMargin        = 5 * time.Minute                // before expiry, or a fifth of the lifetime if that is less
	defaultTokenLife   = time.Hour                      // of a token without an expiry
)

type authState string

const (
	unverified authState = "unverified" // no response yet; one call at a time
	verified   authState = "ok"
	refused    authState = "refused" // no calls
)

// auth holds the credential and stops calls that would be refused. It is safe for
// concurrent use.
//
// A generation is one set of values: a key, a given token, or user and password. It
// starts unverified, with one call at a time, so that parallel calls cannot lock the
// key. auth looks for new values every checkInterval, because the current ones may
// soon expire.
//
// A response about the credential applies to its scope, the API and the project: a
// token may be of another project, a product may not be enabled for a user. Each scope
// starts unverified too. When a scope refuses the credential, auth reads the values
// again or renews the project's token, and the call is repeated once. If that fails,
// the scope is not called until there are new values, or until a probe after
// scopeProbeInterval succeeds.
//
// The credential is suspended as a whole when a refusal concerns the key itself and no
// other scope accepted it recently, or after maxRefusals consecutive refusals, because
// the cloud counts failures by key. It is then probed once every keyProbeInterval.
type auth struct {
	mode     string
	source   func() (Credentials, error)
	token    func(ctx context.Context, cred Credentials, project string) (token, error) // from IAM
	observer Observer

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at each change of the fields below
	cred       Credentials
	generation int
	state      authState
	probing    bool // the only call of an unverified generation is in flight
	refusals   int  // since the last success
	refusedAt  time.Time
	checkedAt  time.Time
	refusal    *Error
	scopes     map[scope]*scopeState
	tokens     map[string]*projectToken // ModePassword, by project
}

// permit allows one call. The caller must end it with accept, refuse or release.
type permit struct {
	scope       scope
	generation  int
	serial      int // of the token
	cred        Credentials
	token       string
	probesKey   bool // the only call of an unverified generation
	probesScope bool // the only call of an unverified scope
}

func newAuth(a Auth, ask func(context.Context, Credentials, string) (token, error), obs Observer) (*auth, error) {
	if a.Source == nil {
		return nil, errors.New("no source of credentials")
	}
	cred, err := a.Source()
	if err != nil {
		return nil, fmt.Errorf("read the credentials: %w", err)
	}
	if err := cred.check(a.Mode); err != nil {
		return nil, err
	}
	out := &auth{
		mode: a.Mode, source: a.Source, token: ask, observer: obs,
		changed: make(chan struct{}), cred: cred, state: unverified, checkedAt: time.Now(),
		scopes: map[scope]*scopeState{}, tokens: map[string]*projectToken{},
	}
	out.observer.CredentialState(string(unverified), time.Time{}, nil)
	return out, nil
}

// acquire waits for a permit to call s. While s refuses the credential it immediately
// returns an error that wraps ErrCredentials.
func (a *auth) acquire(ctx context.Context, s scope) (*permit, error) {
	for {
		a.mu.Lock()
		if time.Since(a.checkedAt) >= checkInterval {
			a.reload()
		}
		if err := a.blocked(s); err != nil {
			a.mu.Unlock()
			return nil, err
		}
		if a.mode == ModePassword {
			ask, err := a.needsToken(s.project)
			if err != nil {
				a.mu.Unlock()
				return nil, err
			}
			if ask {
				cred, generation, holdsKey := a.cred, a.generation, a.state != verified
				a.probing = a.probing || holdsKey
				a.mu.Unlock()
				if err := a.renew(ctx, cred, generation, s.project, holdsKey); err != nil {
					return nil, err
				}
				continue
			}
		}
		if p, ok := a.tryAcquire(s); ok {
			a.mu.Unlock()
			return p, nil
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryAcquire returns a permit for s if a call may be made now. The caller holds a.mu.
func (a *auth) tryAcquire(s scope) (*permit, bool) {
	at := a.scope(s)
	p := &permit{
		scope: s, generation: a.generation, cred: a.cred, token: a.cred.Token,
		probesKey: a.state != verified, probesScope: at.state != verified,
	}
	if p.probesKey && a.probing || p.probesScope && at.probing {
		return nil, false
	}
	if a.mode == ModePassword {
		t := a.tokenOf(s.project)
		if !t.usable() {
			return nil, false
		}
		p.token, p.serial = t.value, t.serial
	}
	a.probing, at.probing = a.probing || p.probesKey, at.probing || p.probesScope
	return p, true
}

// blocked returns the refusal that stops calls to s. If a probe is due it returns nil
// and makes this call the probe. The caller holds a.mu.
func (a *auth) blocked(s scope) error {
	if err := a.suspended(s); err != nil {
		return err
	}
	if a.mode == ModePassword && !a.tokenOf(s.project).usable() {
		if err := a.suspended(scope{APIIAM, s.project}); err != nil {
			return err
		}
	}
	if a.state == refused {
		if left := time.Until(a.refusedAt.Add(keyProbeInterval)); left > 0 {
			return stillRefused(a.refusal, left)
		}
		a.probing = false
		a.set(unverified)
	}
	if a.allowProbe(s) {
		a.dropToken(s.project) // the token may be the cause
	}
	return nil
}

// valid reports whether a call may still be made with p after the wait for the rate
// limit.
func (a *auth) valid(p *permit) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.generation == a.generation && (a.state == verified || a.state == unverified && p.probesKey) &&
		(a.scope(p.scope).state == verified || a.scope(p.scope).state == unverified && p.probesScope) && !a.replaced(p)
}

// accept ends p after a response that proves the credential.
func (a *auth) accept(p *permit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.generation == a.generation {
		a.markAccepted(p.scope)
	}
	a.endProbe(p)
}

// release ends p without a result.
func (a *auth) release(p *permit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endProbe(p)
}

// refuse ends p after the refusal e. It returns nil if there are new values with which
// the call must be repeated, which happens only once for a call. Otherwise other
// callers get e, too.
func (a *auth) refuse(p *permit, e *Error, second bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.endProbe(p)
	e.Err, e.Wait = ErrCredentials, retryIn
	old := p.generation != a.generation || a.replaced(p)
	at := a.scope(p.scope)
	switch {
	case old && !second:
		return nil // renewed in the meantime
	case old || a.state == refused || at.state == refused:
		return e
	case !second && !at.renewed && a.tryRenew(p.scope):
		return nil
	}
	a.suspend(p.scope, e)
	return e
}

// tryRenew reads Source again or drops the token, and reports whether that can give a
// better credential for s. The caller holds a.mu.
func (a *auth) tryRenew(s scope) bool {
	renewed := a.reload()
	if !renewed && a.mode == ModePassword && s.api != APIIAM {
		a.dropToken(s.project)
		renewed = true
	}
	if renewed {
		a.scope(s).renewed = true
	}
	return renewed
}

// reload starts a generation with the values of Source, and returns false if they are
// not new. The caller holds a.mu.
func (a *auth) reload() bool {
	a.checkedAt = time.Now()
	cred, err := a.source()
	if err != nil || cred.check(a.mode) != nil || cred == a.cred { // keep the current values on error
		return false
	}
	a.cred = cred
	a.generation++
	a.probing, a.refusals = false, 0
	clear(a.scopes)
	clear(a.tokens)
	a.set(unverified)
	return true
}

// set changes the state. The caller holds a.mu.
func (a *auth) set(s authState) {
	a.state = s
	var refusal *Error
	if s == refused {
		refusal = a.refusal
	}
	a.observer.CredentialState(string(s), a.firstExpiry(), refusal)
	a.broadcast()
}

// endProbe allows the next probe. The caller holds a.mu.
func (a *auth) endProbe(p *permit) {
	if p.generation != a.generation || !p.probesKey && !p.probesScope {
		return
	}
	if p.probesKey {
		a.probing = false
	}
	if p.probesScope {
		a.scope(p.scope).probing = false
	}
	a.broadcast()
}

// broadcast wakes the waiters in acquire. The caller holds a.mu.
func (a *auth) broadcast() {
	close(a.changed)
	a.changed = make(chan struct{})
}
