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
	Project                             string // ModePassword: name of the token's scope; default is the region
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
	// A key is locked for five minutes after more than five failures in a row,
	// and every call in that time fails; so is a user.
	refusedFor    = 5*time.Minute + 30*time.Second
	checkInterval = 5 * time.Second  // between looks for new values
	renewInterval = 10 * time.Second // between tries to renew a token that is still good
	renewMargin   = 5 * time.Minute  // before its expiry, or a fifth of its life if that is less
	defaultLife   = time.Hour        // of a token that does not say
)

type authState string

const (
	unproven authState = "unproven" // no answer yet; calls go one at a time
	proven   authState = "ok"
	refused  authState = "refused" // no calls at all
)

// auth keeps the credential, and keeps calls from being made with a bad one.
//
// A generation is one set of values (or one token). It begins unproven, which
// lets one call through at a time, so that many parallel calls cannot lock the
// key. New values are looked for every checkInterval, for those in use may soon
// expire, with many calls on their way. When a generation is refused, the values
// are read anew and, if they are others, are tried once as the next one. If that
// does not help all traffic stops until there are other values, or until one
// probe after refusedFor succeeds.
type auth struct {
	mode     string
	source   func() (Credentials, error)
	token    func(context.Context, Credentials) (token, error) // asks IAM
	observer Observer

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced when anything below changes
	cred       Credentials
	tok        token // ModePassword
	generation int
	state      authState
	lastChance bool // of this generation: if it is refused too, all stops
	trying     bool // someone holds the one call of an unproven generation
	renewing   bool // someone asks IAM for a token
	renewedAt  time.Time
	refusedAt  time.Time
	checkedAt  time.Time
	refusal    *Error
}

// token is an answer of IAM.
type token struct {
	value   string
	expires time.Time
	renew   time.Time // a new one is wanted from then on
}

// pass is leave to make one call. It has to be given back by answered, refuse
// or dropped.
type pass struct {
	generation int
	cred       Credentials
	token      string
	holds      bool // the one call of an unproven generation
}

func newAuth(a Auth, ask func(context.Context, Credentials) (token, error), obs Observer) (*auth, error) {
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
		changed: make(chan struct{}), cred: cred, state: unproven, checkedAt: time.Now(),
	}
	out.observer.CredentialState(string(unproven), time.Time{})
	return out, nil
}

// acquire waits for leave to call. It returns an error that wraps ErrCredentials
// at once while the credential is refused.
func (a *auth) acquire(ctx context.Context) (pass, error) {
	for {
		a.mu.Lock()
		if a.state == refused && !a.recovers() {
			err := a.refusedError()
			a.mu.Unlock()
			return pass{}, err
		}
		if a.mode != ModePassword && a.state != refused && time.Since(a.checkedAt) >= checkInterval && a.reread(false) {
			a.lastChance = false // nothing was refused yet
		}
		if a.mode == ModePassword && a.wantsToken() && !a.renewing {
			a.renewing, a.renewedAt = true, time.Now()
			cred, generation := a.cred, a.generation
			a.mu.Unlock()
			if err := a.renew(ctx, cred, generation); err != nil {
				return pass{}, err
			}
			continue
		}
		usable := a.mode != ModePassword || a.tok.value != "" && time.Now().Before(a.tok.expires)
		if usable && (a.state == proven || !a.trying) {
			p := pass{generation: a.generation, cred: a.cred, token: a.cred.Token, holds: a.state == unproven}
			if a.mode == ModePassword {
				p.token = a.tok.value
			}
			a.trying = a.trying || p.holds
			a.mu.Unlock()
			return p, nil
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return pass{}, ctx.Err()
		}
	}
}

// valid reports whether a call may still be made with p: between acquire and the
// sending lies the wait for the rate limit.
func (a *auth) valid(p pass) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.generation == a.generation && (a.state == proven || a.state == unproven && p.holds)
}

// answered takes note of any answer but a refusal: the credential is good.
func (a *auth) answered(p pass) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.generation == a.generation && a.state != refused {
		a.lastChance = false
		if a.state != proven {
			a.set(proven)
		}
	}
	a.giveBack(p)
}

// dropped takes note that nothing was learned.
func (a *auth) dropped(p pass) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.giveBack(p)
}

// refuse takes note that p's credential was refused with e. It returns nil if
// there are other values now and the call is to be made again with them; a
// second time it is not.
func (a *auth) refuse(p pass, e *Error, second bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.giveBack(p)
	switch {
	case a.state == refused:
		return a.refusedError()
	case p.generation != a.generation && !second:
		return nil // it was renewed meanwhile
	case p.generation != a.generation:
		return e
	case second || a.lastChance || !a.reread(a.mode == ModePassword):
		a.stop(e)
		return a.refusedError()
	}
	return nil
}

// renew asks IAM for a token and keeps it, if nothing has changed since.
func (a *auth) renew(ctx context.Context, cred Credentials, generation int) error {
	tok, err := a.token(ctx, cred)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.renewing = false
	defer a.announce()
	switch {
	case generation != a.generation:
		return nil // acquire begins anew
	case err == nil:
		hadOne := a.tok.value != ""
		a.tok = tok
		a.generation++
		if !hadOne && a.state == proven {
			a.state = unproven
		}
		a.observer.CredentialState(string(a.state), tok.expires)
		return nil
	case is(err, ClassCredentials):
		e, _ := asError(err)
		if a.lastChance || !a.reread(false) {
			a.stop(e)
			return a.refusedError()
		}
		return nil
	case a.tok.value != "" && time.Now().Before(a.tok.expires):
		return nil // the old one will do until the next try
	}
	return err
}

// wantsToken reports whether it is time for a token; with a.mu held.
func (a *auth) wantsToken() bool {
	now := time.Now()
	if a.tok.value == "" || !now.Before(a.tok.expires) {
		return true
	}
	return !now.Before(a.tok.renew) && now.Sub(a.renewedAt) >= renewInterval
}

// reread begins a generation with what Source says now. It returns false if that
// is nothing new, unless anyway is set; with a.mu held.
func (a *auth) reread(anyway bool) bool {
	a.checkedAt = time.Now()
	cred, err := a.source()
	if err == nil {
		err = cred.check(a.mode)
	}
	if err != nil {
		cred = a.cred // what cannot be read is not new
	}
	if cred == a.cred && !anyway {
		return false
	}
	a.cred, a.tok = cred, token{}
	a.generation++
	a.lastChance, a.trying = true, false
	a.set(unproven)
	return true
}

// recovers reports whether there is a reason to call again although the
// credential was refused; with a.mu held.
func (a *auth) recovers() bool {
	now := time.Now()
	if now.Sub(a.refusedAt) >= refusedFor {
		return a.reread(true)
	}
	return now.Sub(a.checkedAt) >= checkInterval && a.reread(false)
}

// stop ends all traffic; with a.mu held.
func (a *auth) stop(e *Error) {
	a.refusedAt, a.checkedAt, a.refusal = time.Now(), time.Now(), e
	a.set(refused)
}

// comeAgain is when a caller who met a refused credential may ask again: new
// values are looked for every few seconds, and asking costs no call.
const comeAgain = 15 * time.Second

// refusedError is what callers get while all traffic is stopped; with a.mu held.
func (a *auth) refusedError() *Error {
	e := *a.refusal
	e.Class, e.Err = ClassCredentials, ErrCredentials
	e.Wait = min(comeAgain, max(time.Second, time.Until(a.refusedAt.Add(refusedFor))))
	return &e
}

// set changes the state; with a.mu held.
func (a *auth) set(s authState) {
	a.state = s
	a.observer.CredentialState(string(s), a.tok.expires)
	a.announce()
}

// giveBack ends the one call of an unproven generation; with a.mu held.
func (a *auth) giveBack(p pass) {
	if p.holds && p.generation == a.generation {
		a.trying = false
		a.announce()
	}
}

// announce wakes those who wait for a change; with a.mu held.
func (a *auth) announce() {
	close(a.changed)
	a.changed = make(chan struct{})
}
