package console_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/console"
)

// provider is a small provider of OpenID Connect. It keeps to the code flow with PKCE,
// and its tokens can be bent.
type provider struct {
	*httptest.Server
	t    *testing.T
	key  *rsa.PrivateKey
	mu   sync.Mutex
	asks url.Values             // of the last authorization request
	bend func(claims, h object) // nil: tokens are as they should be
	info object                 // what userinfo says
}

type object = map[string]any

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, key: key}
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, object{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"userinfo_endpoint": p.URL + "/userinfo", "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, object{"keys": []object{{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1",
			"n": encode(key.N.Bytes()), "e": encode(big.NewInt(int64(key.E)).Bytes()),
		}}})
	})
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		reply(w, p.info)
	})
	mux.HandleFunc("/token", p.token)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token gives a token if the code, the secret and the verifier are right.
func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	_, secret, _ := r.BasicAuth()
	if r.PostFormValue("code") != "good" || secret != "secret" || encode(challenge[:]) != p.asks.Get("code_challenge") || p.asks.Get("code_challenge_method") != "S256" {
		http.Error(w, `{"error": "invalid_grant"}`, http.StatusBadRequest)
		return
	}
	header := object{"alg": "RS256", "kid": "1"}
	claims := object{
		"iss": p.URL, "sub": "7", "aud": p.asks.Get("client_id"), "nonce": p.asks.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	if p.bend != nil {
		p.bend(claims, header)
	}
	part := func(v object) string {
		text, err := json.Marshal(v)
		if err != nil {
			p.t.Error(err)
		}
		return encode(text)
	}
	signed := part(header) + "." + part(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	if err != nil {
		p.t.Error(err)
	}
	if claims["forged"] != nil {
		signature[0]++
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(object{"access_token": "a", "token_type": "Bearer", "id_token": signed + "." + encode(signature)}); err != nil {
		p.t.Error(err)
	}
}

// signIn goes through the provider and returns where the browser ends.
func (p *provider) signIn(b *browser, edit func(back url.Values)) page {
	p.t.Helper()
	begin := b.get("/sign-in/oidc")
	to, err := url.Parse(begin.goTo)
	if err != nil || !strings.HasPrefix(begin.goTo, p.URL+"/authorize?") {
		p.t.Fatalf("the browser is sent to %q (%d): %s", begin.goTo, begin.status, begin.text)
	}
	p.mu.Lock()
	p.asks = to.Query()
	p.mu.Unlock()
	if got := to.Query().Get("redirect_uri"); got != b.o.server.URL+"/sign-in/oidc/callback" {
		p.t.Errorf("back to %q", got)
	}
	back := url.Values{"state": {to.Query().Get("state")}, "code": {"good"}}
	if edit != nil {
		edit(back)
	}
	return b.get("/sign-in/oidc/callback?" + back.Encode())
}

func TestOpenIDConnect(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	o := newOffice(t, one, func(cfg *console.Config) {
		cfg.SignIn = console.SignIn{OIDC: &console.OIDC{Issuer: p.URL, ClientID: "console", ClientSecret: func() (string, error) { return "secret", nil }}}
	})
	reviewers := strings.Replace(strings.Replace(people, "%s", o.public, 1), "name: ann,", "name: ann, oidc: {issuer: '"+p.URL+"', subject: '7'},", 1)
	o.load(one, reviewers)
	held := o.hold("1")

	minutes := 1
	for name, tt := range map[string]struct {
		bend func(claims, header object)
		info object
		back func(url.Values)
		want string // who is signed in; empty: nobody
	}{
		"by subject":               {want: "ann"},
		"another subject":          {bend: func(c, _ object) { c["sub"] = "8" }, info: object{"sub": "8"}},
		"by verified email":        {bend: func(c, _ object) { c["sub"], c["email"], c["email_verified"] = "8", "BOB@example.org", true }, want: "bob"},
		"by email of userinfo":     {bend: func(c, _ object) { c["sub"] = "8" }, info: object{"sub": "8", "email": "bob@example.org", "email_verified": true}, want: "bob"},
		"userinfo of another":      {bend: func(c, _ object) { c["sub"] = "8" }, info: object{"sub": "9", "email": "bob@example.org", "email_verified": true}},
		"email is not verified":    {bend: func(c, _ object) { c["sub"], c["email"] = "8", "bob@example.org" }},
		"userinfo is not verified": {bend: func(c, _ object) { c["sub"] = "8" }, info: object{"sub": "8", "email": "bob@example.org"}},
		"email of whom a subject names": {bend: func(c, _ object) {
			c["sub"], c["email"], c["email_verified"] = "8", "ann@example.org", true
		}},
		"another nonce":      {bend: func(c, _ object) { c["nonce"] = "x" }},
		"no nonce":           {bend: func(c, _ object) { delete(c, "nonce") }},
		"for another client": {bend: func(c, _ object) { c["aud"] = "other" }},
		"another issuer":     {bend: func(c, _ object) { c["iss"] = "https://evil.example" }},
		"expired":            {bend: func(c, _ object) { c["exp"] = time.Now().Add(-time.Minute).Unix() }},
		"forged":             {bend: func(c, _ object) { c["forged"] = true }},
		"unsigned":           {bend: func(_, h object) { h["alg"] = "none" }},
		"another state":      {back: func(v url.Values) { v.Set("state", "x") }},
		"no state":           {back: func(v url.Values) { v.Del("state") }},
		"another code":       {back: func(v url.Values) { v.Set("code", "x") }},
		"refused":            {back: func(v url.Values) { v.Set("error", "access_denied") }},
	} {
		p.mu.Lock()
		p.bend, p.info = tt.bend, tt.info
		p.mu.Unlock()
		minutes++
		o.later(time.Minute) // the tries of an address are counted by the minute
		b := o.browser()
		got := p.signIn(b, tt.back)
		shown := b.get("/reviews")
		if in := strings.Contains(shown.text, `<span class="name">`+tt.want+`</span>`); tt.want != "" && !in || tt.want == "" && (shown.goTo != "/sign-in" || got.status != http.StatusForbidden) {
			t.Errorf("%s: status %d, then %d to %q: %s", name, got.status, shown.status, shown.goTo, got.text)
		}
	}
	p.mu.Lock()
	p.bend = nil
	p.mu.Unlock()
	o.later(time.Minute)
	ann, thief := o.browser(), o.browser()
	var stolen url.Values
	if got := p.signIn(ann, func(back url.Values) { stolen = back }); got.status != http.StatusSeeOther {
		t.Fatalf("status %d: %s", got.status, got.text)
	}
	for name, b := range map[string]*browser{"again": ann, "in another browser": thief} {
		if got := b.get("/sign-in/oidc/callback?" + stolen.Encode()); got.status != http.StatusForbidden {
			t.Errorf("%s: status %d", name, got.status)
		}
	}
	o.later(-time.Duration(minutes) * time.Minute) // a review is signed by the right time
	wants(t, "a review", ann.follow(ann.post("/requests/"+held.Request.ID+"/review", form(held, "approve", "fine"))), "Your review decided the request")
}

// TestProviderIsAway: the console starts without it, and says so.
func TestProviderIsAway(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one, func(cfg *console.Config) {
		cfg.SignIn = console.SignIn{OIDC: &console.OIDC{Issuer: "http://127.0.0.1:1", ClientID: "console", ClientSecret: func() (string, error) { return "", nil }}}
	})
	b := o.browser()
	wants(t, "the page", b.get("/sign-in"), `href="/sign-in/oidc"`)
	if got := b.get("/sign-in/oidc"); got.status != http.StatusBadGateway || !strings.Contains(got.text, "cannot be reached") {
		t.Errorf("status %d: %s", got.status, got.text)
	}
}
