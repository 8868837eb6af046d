package cloud

import (
	"context"
	"time"
)

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

// replaced reports whether there is a newer token than p's. The caller holds a.mu.
func (a *auth) replaced(p *permit) bool {
	t := a.tokens[p.scope.project]
	return t != nil && t.serial != p.serial
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
