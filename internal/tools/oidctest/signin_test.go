package oidctest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/console"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

const callback = "/sign-in/oidc/callback"

// people are the reviewers of the tests, by issuer, the console's key, and further people.
const people = `version: 1
reviewers:
  - {name: ann, email: ann@example.org, groups: [network], oidc: {issuer: %[1]q, subject: id1}}
%[3]sconsoles:
  - {name: ops, key: %[2]s}
`

// site is a console at which people sign in by the provider. It needs no bus and no
// ledger for that.
type site struct {
	t      *testing.T
	url    string
	issuer string
	public string // key of the console
	secret atomic.Value
	set    atomic.Pointer[policy.Set]
	past   atomic.Int64 // minutes by which its clock goes ahead
}

func (s *site) Current() *policy.Set { return s.set.Load() }

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t}
	s.secret.Store(secret)
	server := httptest.NewUnstartedServer(nil)
	s.url = "http://" + server.Listener.Addr().String()
	s.issuer = startProvider(t, s.url+callback)
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if s.public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	s.load("")
	c, err := console.New(console.Config{
		Policies: s, Targets: targets(), Seed: seed, Log: zerolog.New(zerolog.NewTestWriter(t)),
		Now:  func() time.Time { return time.Now().Add(time.Duration(s.past.Load()) * time.Minute) },
		Site: console.Site{Listen: server.Listener.Addr().String()},
		SignIn: console.SignIn{OIDC: &console.OIDC{Issuer: s.issuer, ClientID: client, ClientSecret: func() (string, error) {
			return s.secret.Load().(string), nil
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = c
	server.Start()
	t.Cleanup(server.Close)
	return s
}

func targets() approval.Targets {
	return approval.Targets{{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88", Region: "cn-north-4"}}
}

// load puts reviewers into force: ann, and more lines of reviewers.yaml.
func (s *site) load(more string) {
	s.t.Helper()
	set, err := policy.Load(fstest.MapFS{
		"p.yaml":         {Data: []byte("version: 1\npolicy: p\ntargets: [payments]\nallow: [{id: partner, domain_id: [b70fde8e849b4e76a61dd8aa0ec05c81]}]\nreview: {by: [network]}\n")},
		"reviewers.yaml": {Data: fmt.Appendf(nil, people, s.issuer, s.public, more)},
	}, targets())
	if err != nil {
		s.t.Fatal(err)
	}
	s.set.Store(set)
}

// browser returns a new one. The console counts the tries of an address by the minute.
func (s *site) browser() *browser {
	s.t.Helper()
	s.past.Add(1)
	return newBrowser(s.t)
}

// signedIn returns who the console says is signed in; empty: nobody.
func (s *site) signedIn(b *browser) string {
	s.t.Helper()
	got := b.send(http.MethodGet, s.url+"/reviews", nil)
	if got.to != nil && got.to.Path == "/sign-in" {
		return ""
	}
	_, name, ok := strings.Cut(got.text, `<span class="name">`)
	if !ok || got.status != http.StatusOK {
		s.t.Fatalf("the list of reviews: %d: %s", got.status, got.text)
	}
	name, _, _ = strings.Cut(name, "<")
	return name
}

// refused checks that an address of the provider signs nobody in.
func (s *site) refused(what string, b *browser, back *url.URL) (text string) {
	s.t.Helper()
	got := b.send(http.MethodGet, back.String(), nil)
	if name := s.signedIn(b); got.status != http.StatusForbidden || name != "" {
		s.t.Errorf("%s: status %d, %q is signed in: %s", what, got.status, name, got.text)
	}
	return got.text
}

// TestSignIn signs in and out.
func TestSignIn(t *testing.T) {
	s := newSite(t)
	ann := s.browser()
	if name := s.signedIn(ann); name != "" {
		t.Fatalf("%q is signed in at the beginning", name)
	}
	back := ann.authorize(s.url, first, nil)
	if got := ann.follow(back); got.status != http.StatusOK {
		t.Fatalf("status %d: %s", got.status, got.text)
	}
	if name := s.signedIn(ann); name != "ann" {
		t.Fatalf("%q is signed in, want ann", name)
	}
	address, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	kept := ann.Jar.Cookies(address)
	if got := ann.send(http.MethodPost, s.url+"/sign-out", nil); got.to == nil || got.to.Path != "/sign-in" {
		t.Errorf("sign-out leads to %v", got.to)
	}
	if name := s.signedIn(ann); name != "" {
		t.Errorf("%q is signed in after sign-out", name)
	}
	ann.Jar.SetCookies(address, kept) // somebody has copied them
	if name := s.signedIn(ann); name != "" {
		t.Errorf("%q is signed in by the cookie after sign-out", name)
	}
	s.refused("the same answer of the provider again", ann, back)

	if got := ann.follow(ann.authorize(s.url, first, nil)); got.status != http.StatusOK || s.signedIn(ann) != "ann" {
		t.Errorf("a second sign-in: status %d: %s", got.status, got.text)
	}
	s.load("  - {name: bob, email: bob@example.org}\n")
	if name := s.signedIn(ann); name != "ann" {
		t.Errorf("after a change of the reviewers %q is signed in", name)
	}
}

// TestStrangers: the provider knows them, reviewers.yaml does not.
func TestStrangers(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	if text := s.refused("another subject", b, b.authorize(s.url, second, nil)); !strings.Contains(text, second.subject) {
		t.Errorf("the page does not say who is unknown: %s", text)
	}
	// The email address is only in the provider's userinfo.
	s.load("  - {name: bob, email: " + second.email + ", groups: [network]}\n")
	b = s.browser()
	if got := b.follow(b.authorize(s.url, second, nil)); s.signedIn(b) != "bob" {
		t.Errorf("by email: status %d: %s", got.status, got.text)
	}
	s.load("  - {name: bob, email: " + second.email + ", groups: [network], oidc: {issuer: '" + s.issuer + "', subject: id7}}\n")
	if name := s.signedIn(b); name != "" {
		t.Errorf("%q is signed in, whose subject is another now", name)
	}
	b = s.browser()
	s.refused("the email address of another subject", b, b.authorize(s.url, second, nil))
}

// TestBentSignIns: what the provider is asked, or what the browser brings back, is not
// what the console has begun.
func TestBentSignIns(t *testing.T) {
	s := newSite(t)
	for name, ask := range map[string]func(url.Values){
		"another nonce":     func(v url.Values) { v.Set("nonce", "another") },
		"no nonce":          func(v url.Values) { v.Del("nonce") },
		"another state":     func(v url.Values) { v.Set("state", "another") },
		"another challenge": func(v url.Values) { v.Set("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM") },
	} {
		b := s.browser()
		s.refused(name, b, b.authorize(s.url, first, ask))
	}

	b := s.browser()
	back := b.authorize(s.url, first, nil)
	query := back.Query()
	query.Set("state", "another")
	s.refused("state changed on the way back", b, &url.URL{Scheme: back.Scheme, Host: back.Host, Path: back.Path, RawQuery: query.Encode()})
	s.refused("the right state after the wrong one", b, back)

	victim, thief := s.browser(), s.browser()
	code := victim.authorize(s.url, first, nil)
	s.refused("the answer to another browser", newBrowser(t), code)
	own := thief.authorize(s.url, second, nil)
	query = own.Query()
	query.Set("code", code.Query().Get("code"))
	own.RawQuery = query.Encode()
	s.refused("the code of another browser", thief, own)

	s.secret.Store("another")
	b = s.browser()
	s.refused("a wrong secret of the console", b, b.authorize(s.url, first, nil))
}
