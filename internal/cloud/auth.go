package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The ways to authenticate.
const (
	ModeAKSK     = "aksk"     // requests are signed with an access key
	ModeToken    = "token"    // a given X-Auth-Token
	ModePassword = "password" // a token from IAM for user and password
)

// Auth is how to authenticate, and where from.
type Auth struct {
	Mode string // one of the Mode constants
	// Source returns the credential as it is now. It is called at the start and
	// whenever the one in use may be outdated, so it should read files anew.
	Source func() (Credentials, error)
}

// Credentials are what the mode needs. They never show in texts.
type Credentials struct {
	AccessKey, SecretKey, SecurityToken string // ModeAKSK; the last for temporary keys
	Token                               string // ModeToken
	User, Password, Domain              string // ModePassword
}

// String says that something is here, and nothing of it.
func (Credentials) String() string { return "credentials(masked)" }

// GoString is as String.
func (c Credentials) GoString() string { return c.String() }

// MarshalJSON is as String.
func (c Credentials) MarshalJSON() ([]byte, error) { return []byte(`"` + c.String() + `"`), nil }

// check returns what is missing for mode.
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
				return fmt.Errorf("the %s holds a space, a line break or another character that it cannot have", name)
			}
		}
	}
	return nil
}

const (
	// More than five failures in a row lock a key for five minutes, and every call
	// in that time fails; so is a user.
	keyLockTime        = 5*time.Minute + 30*time.Second // a key that is said to be bad rests at the API that said so
	scopeProbeInterval = 65 * time.Second               // an API rests for a project; longer than a key, so that others probe first
	keyProbeInterval   = time.Minute                    // between probes of a key that is refused everywhere
	maxRefusals        = 3                              // over all APIs without a success, until the key rests
	acceptanceTTL      = time.Minute                    // so long an acceptance elsewhere speaks for a key
	checkInterval      = 5 * time.Second                // between looks for new values
	renewInterval      = 10 * time.Second               // between tries to renew a token that is still good
	renewMargin        = 5 * time.Minute                // before its expiry, or a fifth of its life if that is less
	defaultTokenLife   = time.Hour                      // of a token that does not say
)

type authState string

const (
	unverified authState = "unverified" // no answer yet; calls go one at a time
	verified   authState = "ok"
	refused    authState = "refused" // no calls at all
)

// auth keeps the credential, and keeps calls from being made with a bad one.
//
// A generation is one set of values: a key, a given token, or user and password.
// It begins unverified, which lets one call through at a time, so that many parallel
// calls cannot lock the key. New values are looked for every checkInterval, for
// those in use may soon expire, with many calls on their way.
//
// What an API says of the credential holds for that API and project, its scope: a
// token may be of another project, a product may not be open for a user. A scope
// begins unverified too. When it refuses the credential the values are read again, or
// the project's token is renewed, and the call is repeated once. If that does not
// help the scope is not called until there are other values, or one probe after
// scopeRefusal succeeds.
//
// The key rests as a whole if a refusal speaks of the key itself and no other scope
// accepted it lately, or after maxRefusals without a success between them, for the
// provider counts failures by key. It is then probed once every keyRefusal.
type auth struct {
	mode     string
	source   func() (Credentials, error)
	token    func(ctx context.Context, cred Credentials, project string) (token, error) // asks IAM
	observer Observer

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced when anything below changes
	cred       Credentials
	generation int
	state      authState
	probing    bool // one holds the only call of an unverified generation
	refusals   int  // since the last success
	refusedAt  time.Time
	checkedAt  time.Time
	refusal    *Error
	scopes     map[scope]*scopeState
	tokens     map[string]*projectToken // ModePassword, by project
}

// scope is where an answer about a credential holds.
type scope struct{ api, project string }

type scopeState struct {
	state      authState
	probing    bool // one holds the only call of an unverified scope
	renewed    bool // the credential was renewed for it since it accepted one
	acceptedAt time.Time
	refusedAt  time.Time
	suspendFor time.Duration // until a probe
	refusal    *Error
}

// token is an answer of IAM.
type token struct {
	value   string
	expires time.Time
	renew   time.Time // a new one is wanted from then on
}

type projectToken struct {
	token
	serial    int  // counts the tokens of the project
	renewing  bool // someone asks IAM for one
	renewedAt time.Time
}

// pass is leave to make one call. It has to be given back by answered, refuse
// or dropped.
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

// acquire waits for leave to call s. It returns an error that wraps ErrCredentials
// immediately while the credential is refused there.
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

// permit returns a pass for s if a call may be made now; with a.mu held.
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

// blocked returns the refusal for which s may not be called, or makes the caller
// the probe if it is time for one; with a.mu held.
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
		a.dropToken(s.project) // it may be the token that is refused
	}
	return nil
}

// resting returns the refusal of s until it is time for a probe; with a.mu held.
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

// reopen lets s be probed, and reports whether it was refused; with a.mu held.
func (a *auth) allowProbe(s scope) bool {
	at := a.scope(s)
	if at.state != refused {
		return false
	}
	at.state, at.probing = unverified, false
	return true
}

// wantsToken reports whether the caller has to ask IAM for a token of project, and
// makes it the only one that does; with a.mu held. It returns an error if IAM may
// not be asked and there is no token.
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

// tokenOf returns what is known of the token of project; with a.mu held.
func (a *auth) tokenOf(project string) *projectToken {
	t := a.tokens[project]
	if t == nil {
		t = &projectToken{}
		a.tokens[project] = t
	}
	return t
}

func (t *projectToken) usable() bool { return t.value != "" && time.Now().Before(t.expires) }

// valid reports whether a call may still be made with p: between acquire and the
// sending lies the wait for the rate limit.
func (a *auth) valid(p permit) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.generation == a.generation && (a.state == verified || a.state == unverified && p.probesKey) &&
		(a.scope(p.scope).state == verified || a.scope(p.scope).state == unverified && p.probesScope) && !a.replaced(p)
}

// replaced reports whether there is a newer token than p's; with a.mu held.
func (a *auth) replaced(p permit) bool {
	t := a.tokens[p.scope.project]
	return t != nil && t.serial != p.serial
}

// answered takes note of any answer but a refusal: the credential is good.
func (a *auth) accept(p permit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.generation == a.generation {
		a.markAccepted(p.scope)
	}
	a.endProbe(p)
}

// accepted takes note that s accepts the credential; with a.mu held.
func (a *auth) markAccepted(s scope) {
	at := a.scope(s)
	if a.state == refused || at.state == refused {
		return // an answer to a call from before the refusal
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

// dropped takes note that nothing was learned.
func (a *auth) release(p permit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endProbe(p)
}

// refuse takes note that p's credential was refused with e. It returns nil if
// there are other values now and the call is to be made again with them; a
// second time it is not. Else e becomes the refusal that others get.
func (a *auth) refuse(p permit, e *Error, second bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.endProbe(p)
	e.Err, e.Wait = ErrCredentials, retryIn
	old := p.generation != a.generation || a.replaced(p)
	at := a.scope(p.scope)
	switch {
	case old && !second:
		return nil // it was renewed meanwhile
	case old || a.state == refused || at.state == refused:
		return e
	case !second && !at.renewed && a.tryRenew(p.scope):
		return nil
	}
	a.suspend(p.scope, e)
	return e
}

// renewal begins with what Source says now or with a new token, and reports
// whether there can be a better one for s; with a.mu held.
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

// hold ends the calls of s, because of e, and all calls if e is about the key or
// the last of too many; with a.mu held.
func (a *auth) suspend(s scope, e *Error) {
	now := time.Now()
	at := a.scope(s)
	since := now.Add(-acceptanceTTL)
	if before := at.refusedAt; !before.IsZero() && before.Before(since) && at.acceptedAt.Before(before) {
		since = before // it said so before, and an acceptance since then has shown that it is only here
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

// acceptedSince reports whether a scope that refuses nothing has accepted the
// credential since t; with a.mu held.
func (a *auth) acceptedSince(t time.Time) bool {
	for _, at := range a.scopes {
		if at.state == verified && !at.acceptedAt.Before(t) {
			return true
		}
	}
	return false
}

// renew asks IAM for a token and keeps it, if nothing has changed since.
func (a *auth) renew(ctx context.Context, cred Credentials, generation int, project string, holdsKey bool) error {
	tok, err := a.token(ctx, cred, project)
	a.mu.Lock()
	defer a.mu.Unlock()
	if generation != a.generation {
		return nil // acquire begins again
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
		return nil // the old one will do until the next try
	}
	return err
}

// expires is when the first token ends; with a.mu held.
func (a *auth) firstExpiry() time.Time {
	var first time.Time
	for _, t := range a.tokens {
		if t.value != "" && (first.IsZero() || t.expires.Before(first)) {
			first = t.expires
		}
	}
	return first
}

// dropToken makes the next caller ask for a new token; with a.mu held.
func (a *auth) dropToken(project string) {
	if t := a.tokens[project]; t != nil {
		t.token = token{}
		t.serial++
	}
}

// reread begins a generation with what Source says now, and returns false if that
// is nothing new; with a.mu held.
func (a *auth) reload() bool {
	a.checkedAt = time.Now()
	cred, err := a.source()
	if err != nil || cred.check(a.mode) != nil || cred == a.cred { // what cannot be read is not new
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

// scope returns the state of s; with a.mu held.
func (a *auth) scope(s scope) *scopeState {
	at := a.scopes[s]
	if at == nil {
		at = &scopeState{state: unverified}
		a.scopes[s] = at
	}
	return at
}

// comeAgain is when a caller who met a refused credential may ask again: new
// values are looked for every few seconds, and asking costs no call.
const retryIn = 15 * time.Second

// held is what callers get for left while nothing is called because of e.
func stillRefused(e *Error, left time.Duration) error {
	out := *e
	out.Class, out.Err = ClassCredentials, ErrCredentials
	out.Wait = min(retryIn, max(time.Second, left))
	return &out
}

// set changes the state; with a.mu held.
func (a *auth) set(s authState) {
	a.state = s
	var refusal *Error
	if s == refused {
		refusal = a.refusal
	}
	a.observer.CredentialState(string(s), a.firstExpiry(), refusal)
	a.broadcast()
}

// giveBack ends the only call of what is unverified; with a.mu held.
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

// announce wakes those who wait for a change; with a.mu held.
func (a *auth) broadcast() {
	close(a.changed)
	a.changed = make(chan struct{})
}
