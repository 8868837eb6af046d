package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The authentication modes.
const (
	ModeAKSK     = "aksk"     // requests are signed with an access key
	ModeToken    = "token"    // a given X-Auth-Token
	ModePassword = "password" // a token from IAM for user and password
)

// Auth configures the authentication.
type Auth struct {
	Mode string // one of the Mode constants
	// Source returns the current credentials. It is called at the start and whenever
	// they may have changed, so it must read files again each time.
	Source func() (Credentials, error)
}

// Credentials holds the values that the mode needs. They are masked when printed.
type Credentials struct {
	AccessKey, SecretKey, SecurityToken string // ModeAKSK; the last for temporary keys
	Token                               string // ModeToken
	User, Password, Domain              string // ModePassword
}

// String masks the credentials.
func (Credentials) String() string { return "credentials(masked)" }

// GoString masks the credentials.
func (c Credentials) GoString() string { return c.String() }

// MarshalJSON masks the credentials.
func (c Credentials) MarshalJSON() ([]byte, error) { return []byte(`"` + c.String() + `"`), nil }

// check returns an error if a value for mode is missing or invalid.
func (c Credentials) check(mode string) error {
	need := map[string]string{}
	switch mode {
	case ModeAKSK:
		need["access key"], need["secret key"] = c.AccessKey, c.SecretKey
	case ModeToken:
		need["token"] = c.Token
	case ModePassword:
		need["user"], need["password"], need["domain"] = c.User, c.Password, c.Domain
	default:
		return fmt.Errorf("mode %q is not one of %s, %s, %s", mode, ModeAKSK, ModeToken, ModePassword)
	}
	for _, name := range []string{"access key", "secret key", "token", "user", "password", "domain"} {
		if v, needed := need[name]; needed && v == "" {
			return fmt.Errorf("mode %s needs the %s", mode, name)
		}
	}
	for name, v := range map[string]string{"access key": c.AccessKey, "security token": c.SecurityToken, "token": c.Token} {
		for i := range len(v) {
			if v[i] <= ' ' || v[i] > '~' {
				return fmt.Errorf("the %s contains a space, a line break or another invalid character", name)
			}
		}
	}
	return nil
}

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

// token is a token from IAM.
type token struct {
	value   string
	expires time.Time
	renew   time.Time // when to renew it
}

type projectToken struct {
	token
	serial    int  // number of the token within the project
	renewing  bool // a call to IAM is in flight
	renewedAt time.Time
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
func (a *auth) acquire(ctx context.Context, s scope) (permit, error) {
	for {
		a.mu.Lock()
		if time.Since(a.checkedAt) >= checkInterval {
			a.reload()
		}
		if err := a.blocked(s); err != nil {
			a.mu.Unlock()
			return permit{}, err
		}
		if a.mode == ModePassword {
			ask, err := a.needsToken(s.project)
			if err != nil {
				a.mu.Unlock()
				return permit{}, err
			}
			if ask {
				cred, generation, holdsKey := a.cred, a.generation, a.state != verified
				a.probing = a.probing || holdsKey
				a.mu.Unlock()
				if err := a.renew(ctx, cred, generation, s.project, holdsKey); err != nil {
					return permit{}, err
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
			return permit{}, ctx.Err()
		}
	}
}

// tryAcquire returns a permit for s if a call may be made now. The caller holds a.mu.
func (a *auth) tryAcquire(s scope) (permit, bool) {
	at := a.scope(s)
	p := permit{
		scope: s, generation: a.generation, cred: a.cred, token: a.cred.Token,
		probesKey: a.state != verified, probesScope: at.state != verified,
	}
	if p.probesKey && a.probing || p.probesScope && at.probing {
		return permit{}, false
	}
	if a.mode == ModePassword {
		t := a.tokenOf(s.project)
		if !t.usable() {
			return permit{}, false
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

// needsToken reports whether the caller must get a token of project from IAM; only one
// caller at a time does. It returns an error if IAM must not be called and there is no
// token. The caller holds a.mu.
func (a *auth) needsToken(project string) (bool, error) {
	t, iam, now := a.tokenOf(project), scope{APIIAM, project}, time.Now()
	if t.renewing || t.usable() && (now.Before(t.renew) || now.Sub(t.renewedAt) < renewInterval) || a.state != verified && a.probing {
		return false, nil
	}
	if err := a.suspended(iam); err != nil {
		if t.usable() {
			return false, nil
		}
		return false, err
	}
	a.allowProbe(iam)
	t.renewing, t.renewedAt = true, now
	return true, nil
}

// tokenOf returns the state of the token of project. The caller holds a.mu.
func (a *auth) tokenOf(project string) *projectToken {
	t := a.tokens[project]
	if t == nil {
		t = &projectToken{}
		a.tokens[project] = t
	}
	return t
}

func (t *projectToken) usable() bool { return t.value != "" && time.Now().Before(t.expires) }

// valid reports whether a call may still be made with p after the wait for the rate
// limit.
func (a *auth) valid(p permit) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.generation == a.generation && (a.state == verified || a.state == unverified && p.probesKey) &&
		(a.scope(p.scope).state == verified || a.scope(p.scope).state == unverified && p.probesScope) && !a.replaced(p)
}

// replaced reports whether there is a newer token than p's. The caller holds a.mu.
func (a *auth) replaced(p permit) bool {
	t := a.tokens[p.scope.project]
	return t != nil && t.serial != p.serial
}

// accept ends p after a response that proves the credential.
func (a *auth) accept(p permit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.generation == a.generation {
		a.markAccepted(p.scope)
	}
	a.endProbe(p)
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

// release ends p without a result.
func (a *auth) release(p permit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endProbe(p)
}

// refuse ends p after the refusal e. It returns nil if there are new values with which
// the call must be repeated, which happens only once for a call. Otherwise other
// callers get e, too.
func (a *auth) refuse(p permit, e *Error, second bool) error {
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

// renew gets a token from IAM and stores it, unless the generation has changed.
func (a *auth) renew(ctx context.Context, cred Credentials, generation int, project string, holdsKey bool) error {
	tok, err := a.token(ctx, cred, project)
	a.mu.Lock()
	defer a.mu.Unlock()
	if generation != a.generation {
		return nil // acquire starts again
	}
	t, iam := a.tokenOf(project), scope{APIIAM, project}
	t.renewing = false
	if holdsKey {
		a.probing = false
	}
	defer a.broadcast()
	e, _ := asError(err)
	switch {
	case err == nil:
		t.token = tok
		t.serial++
		a.markAccepted(iam)
		a.observer.CredentialState(string(a.state), a.firstExpiry(), nil)
		return nil
	case e != nil && e.Class == ClassCredentials && !e.notSent:
		if at := a.scope(iam); !at.renewed && a.tryRenew(iam) {
			return nil
		}
		e.Err, e.Wait = ErrCredentials, retryIn
		a.suspend(iam, e)
	}
	if t.usable() && a.state != refused {
		return nil // use the old token until the next attempt
	}
	return err
}

// firstExpiry returns the earliest expiry of the tokens. The caller holds a.mu.
func (a *auth) firstExpiry() time.Time {
	var first time.Time
	for _, t := range a.tokens {
		if t.value != "" && (first.IsZero() || t.expires.Before(first)) {
			first = t.expires
		}
	}
	return first
}

// dropToken makes the next caller get a new token. The caller holds a.mu.
func (a *auth) dropToken(project string) {
	if t := a.tokens[project]; t != nil {
		t.token = token{}
		t.serial++
	}
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
func (a *auth) endProbe(p permit) {
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
