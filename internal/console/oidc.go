package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// OIDC is a provider of OpenID Connect at which people sign in.
type OIDC struct {
	Issuer   string // to the letter
	ClientID string
	// ClientSecret reads the secret again; empty: the client has none.
	ClientSecret func() (string, error)
}

const (
	loginLife    = 10 * time.Minute // from the link to the return of the provider
	maxLogins    = 1000
	oidcTimeout  = 10 * time.Second // for one call of the provider
	callbackPath = "/sign-in/oidc/callback"
)

// login is a sign-in that has begun in one browser.
type login struct {
	state, nonce, verifier string
	until                  time.Time
}

// logins has the sign-ins that have begun, and what is known of the provider. It is safe
// for concurrent use.
type logins struct {
	cfg    OIDC
	base   string // URL of the console
	now    func() time.Time
	client *http.Client

	mu       sync.Mutex
	open     map[[sha256.Size]byte]login // by the hash of the browser's cookie
	provider *oidc.Provider              // nil: not discovered yet
}

func newLogins(cfg OIDC, base string, now func() time.Time) *logins {
	return &logins{cfg: cfg, base: base, now: now, client: &http.Client{Timeout: oidcTimeout}, open: map[[sha256.Size]byte]login{}}
}

// begin returns a new sign-in and the token that the browser must bring back.
func (l *logins) begin() (token string, begun login) {
	token = rand.Text()
	begun = login{state: rand.Text(), nonce: rand.Text(), verifier: oauth2.GenerateVerifier(), until: l.now().Add(loginLife)}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, old := range l.open {
		if !l.now().Before(old.until) {
			delete(l.open, key)
		}
	}
	if len(l.open) >= maxLogins {
		clear(l.open) // who was about to sign in begins again
	}
	l.open[sha256.Sum256([]byte(token))] = begun
	return token, begun
}

// take returns the sign-in of a token, once.
func (l *logins) take(token string) (login, bool) {
	key := sha256.Sum256([]byte(token))
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := l.open[key]
	delete(l.open, key)
	return found, ok && l.now().Before(found.until)
}

// discover returns the provider, which is asked once it is needed: a console starts
// without it.
func (l *logins) discover(ctx context.Context) (*oidc.Provider, *oauth2.Config, error) {
	l.mu.Lock()
	provider := l.provider
	l.mu.Unlock()
	if provider == nil {
		var err error
		// The provider keeps the context, to read its keys later.
		if provider, err = oidc.NewProvider(context.WithoutCancel(ctx), l.cfg.Issuer); err != nil {
			return nil, nil, fmt.Errorf("ask the provider %s: %w", l.cfg.Issuer, err)
		}
		l.mu.Lock()
		l.provider = provider
		l.mu.Unlock()
	}
	secret, err := l.cfg.ClientSecret()
	if err != nil {
		return nil, nil, err
	}
	return provider, &oauth2.Config{
		ClientID: l.cfg.ClientID, ClientSecret: secret, Endpoint: provider.Endpoint(), RedirectURL: l.base + callbackPath,
		Scopes: []string{oidc.ScopeOpenID, "email"},
	}, nil
}

// identify exchanges the code for who has signed in.
func (l *logins) identify(ctx context.Context, begun login, code string) (review.SignIn, error) {
	provider, cfg, err := l.discover(ctx)
	if err != nil {
		return review.SignIn{}, err
	}
	token, err := cfg.Exchange(ctx, code, oauth2.VerifierOption(begun.verifier))
	if err != nil {
		return review.SignIn{}, fmt.Errorf("exchange the code: %w", err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return review.SignIn{}, errors.New("the provider gave no id_token")
	}
	id, err := provider.VerifierContext(context.WithoutCancel(ctx), &oidc.Config{ClientID: l.cfg.ClientID, Now: l.now}).Verify(ctx, raw)
	if err != nil {
		return review.SignIn{}, fmt.Errorf("verify the id_token: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(begun.nonce)) != 1 {
		return review.SignIn{}, errors.New("the id_token is for another sign-in: its nonce differs")
	}
	in := review.SignIn{Method: "oidc", Issuer: id.Issuer, Subject: id.Subject}
	var claims struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
	}
	if err := id.Claims(&claims); err == nil && claims.Verified {
		in.Email = claims.Email
	}
	if in.Email == "" && claims.Email == "" && provider.UserInfoEndpoint() != "" {
		info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err == nil && info.Subject == id.Subject && info.EmailVerified {
			in.Email = info.Email
		}
	}
	return in, nil
}

// loginCookie is the name of the cookie that binds a sign-in to a browser.
func (c *Console) loginCookie() string { return c.cookieName() + "_login" }

func (c *Console) setLoginCookie(w http.ResponseWriter, token string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: Secure unless it is served to this machine alone
		Name: c.loginCookie(), Value: token, Path: "/", MaxAge: maxAge, Secure: c.cfg.Site.secureCookies(), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// startOIDC sends the browser to the provider.
func (c *Console) startOIDC(w http.ResponseWriter, r *http.Request) {
	if !c.attempts.allow(peer(r).String()) {
		c.fail(w, r, nil, &pageError{http.StatusTooManyRequests, "error.too_many", nil})
		return
	}
	ctx := oidc.ClientContext(r.Context(), c.logins.client)
	_, cfg, err := c.logins.discover(ctx)
	if err != nil {
		c.cfg.Log.Warn().Err(err).Msg("nobody can sign in by OpenID Connect")
		c.fail(w, r, nil, &pageError{http.StatusBadGateway, "error.provider", nil})
		return
	}
	token, begun := c.logins.begin()
	c.setLoginCookie(w, token, int(loginLife.Seconds()))
	http.Redirect(w, r, cfg.AuthCodeURL(begun.state, oidc.Nonce(begun.nonce), oauth2.S256ChallengeOption(begun.verifier)), http.StatusSeeOther)
}

// finishOIDC is where the provider sends the browser back.
func (c *Console) finishOIDC(w http.ResponseWriter, r *http.Request) {
	query, token := r.URL.Query(), ""
	if cookie, err := r.Cookie(c.loginCookie()); err == nil {
		token = cookie.Value
	}
	c.setLoginCookie(w, "", -1)
	begun, ok := c.logins.take(token)
	if !ok || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(begun.state)) != 1 {
		c.fail(w, r, nil, forbidden("error.login"))
		return
	}
	if code := query.Get("error"); code != "" {
		c.fail(w, r, nil, forbidden("error.provider_refused", code))
		return
	}
	in, err := c.logins.identify(oidc.ClientContext(r.Context(), c.logins.client), begun, query.Get("code"))
	if err != nil {
		c.cfg.Log.Warn().Err(err).Msg("a sign-in by OpenID Connect failed")
		c.fail(w, r, nil, forbidden("error.login"))
		return
	}
	person := personOf(c.cfg.Policies.Current().Reviewers(), &in)
	if person == nil || !person.Active(c.cfg.Now()) || !review.SignedInAs(person, &in) {
		c.cfg.Log.Warn().Str("issuer", in.Issuer).Str("subject", in.Subject).Str("email", in.Email).Msg("somebody signed in whom reviewers.yaml does not name")
		c.fail(w, r, nil, forbidden("error.unknown_person", strings.TrimSpace(in.Subject+" "+in.Email)))
		return
	}
	c.begin(w, r, person, in)
}

// personOf returns whom reviewers.yaml means by a sign-in: by subject, else by an email
// address that the provider has verified.
func personOf(people *policy.Reviewers, in *review.SignIn) *policy.Reviewer {
	if person := people.BySubject(in.Issuer, in.Subject); person != nil {
		return person
	}
	person := people.ByEmail(in.Email)
	if person != nil {
		in.Email = person.Email // in the spelling of the file
	}
	return person
}
