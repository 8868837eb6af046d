package console_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/console"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// TestForeignSites: the name under which the console is reached, and the site that sent
// a form, by what browsers say.
func TestForeignSites(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	held := o.hold("1")
	path := "/requests/" + held.Request.ID + "/review"
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set(name, value)
		}
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	ann := o.signIn("ann")
	for name, tt := range map[string]struct {
		edit func(*http.Request)
		want int
	}{
		"same origin":         {header("Sec-Fetch-Site", "same-origin"), http.StatusUnprocessableEntity},
		"no browser":          {func(r *http.Request) { r.Header.Del("Sec-Fetch-Site") }, http.StatusUnprocessableEntity},
		"cross site":          {header("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		"neighbor":            {header("Sec-Fetch-Site", "same-site"), http.StatusForbidden},
		"another origin":      {header("Origin", "https://evil.example"), http.StatusForbidden},
		"no origin":           {header("Origin", "null"), http.StatusForbidden},
		"foreign host":        {host("evil.example"), http.StatusMisdirectedRequest},
		"host with a dot":     {host("localhost."), http.StatusMisdirectedRequest},
		"another port":        {host("127.0.0.1:1"), http.StatusMisdirectedRequest},
		"rebinding":           {func(r *http.Request) { r.Host = "evil.example"; r.Header.Set("Origin", "http://evil.example") }, http.StatusMisdirectedRequest},
		"the name of machine": {host("LOCALHOST:" + port(o)), http.StatusUnauthorized},
	} {
		if got := ann.post(path, form(held, "approve", ""), tt.edit); got.status != tt.want {
			t.Errorf("%s: status %d, want %d", name, got.status, tt.want)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if got := o.browser().get("/livez", host("10.0.0.7:8090"), func(r *http.Request) { r.Method = method }); got.status != http.StatusOK {
			t.Errorf("a probe gets %d for %s", got.status, method)
		}
	}
}

func port(o *office) string {
	u, err := url.Parse(o.server.URL)
	if err != nil {
		o.t.Fatal(err)
	}
	return u.Port()
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	for _, path := range []string{"/sign-in", "/reviews", "/requests/x", "/nothing"} {
		got := o.browser().get(path)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Frame-Options": "DENY",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, got.header.Get(name))
			}
		}
		if strings.Contains(got.text, "style=") || strings.Contains(got.text, "<script>") || strings.Contains(got.text, " on") && strings.Contains(got.text, "onclick") {
			t.Errorf("%s has inline script or style", path)
		}
	}
	sheet := o.browser().get("/assets/console.css")
	if sheet.status != http.StatusOK || !strings.HasPrefix(sheet.header.Get("Content-Type"), "text/css") {
		t.Errorf("the style sheet: %d %q", sheet.status, sheet.header.Get("Content-Type"))
	}
	if got := o.browser().get("/assets/..%2fconsole.go"); got.status == http.StatusOK {
		t.Errorf("a file beyond the assets: %d", got.status)
	}
}

func TestSignedOut(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	held := o.hold("1")
	nobody := o.browser()
	for _, path := range []string{"/", "/reviews", "/requests/" + held.Request.ID, "/nothing"} {
		got := nobody.get(path)
		for got.status == http.StatusSeeOther && got.goTo != "/sign-in" {
			got = nobody.get(got.goTo)
		}
		if got.goTo != "/sign-in" {
			t.Errorf("%s: %d to %q", path, got.status, got.goTo)
		}
	}
	if got := nobody.get("/reviews/stream"); got.status != http.StatusUnauthorized {
		t.Errorf("the stream: %d", got.status)
	}
	if got := nobody.post("/requests/"+held.Request.ID+"/review", form(held, "approve", "x")); got.status != http.StatusUnauthorized {
		t.Errorf("a review: %d", got.status)
	}
}

// TestStreamsEndWithTheSession: an open stream ends when its person signs out or is not
// in reviewers.yaml any more, and those of others go on.
func TestStreamsEndWithTheSession(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*office, *browser){
		"sign-out": func(_ *office, b *browser) { b.post("/sign-out", nil) },
		"another name": func(o *office, _ *browser) {
			o.load(one, strings.Replace(strings.Replace(people, "%s", o.public, 1), "name: ann", "name: anna", 1))
			o.console.PoliciesChanged()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, one)
			o.console.SetBeat(time.Hour) // what ends a stream is not the beat
			ann, bob := o.signIn("ann"), o.signIn("bob")
			for _, path := range []string{"/reviews/stream", "/live/stream?after=0"} {
				gone, stays := ann.stream(path), bob.stream(path)
				end(o, ann)
				select {
				case <-gone:
				case <-time.After(time.Minute):
					t.Errorf("%s goes on after the session", path)
				}
				select {
				case <-stays:
					t.Errorf("%s of somebody else ended", path)
				default:
				}
				o.load(one, strings.Replace(people, "%s", o.public, 1))
				ann = o.signIn("ann")
			}
		})
	}
}

// stream opens a stream, and returns a channel that is closed when it has ended.
func (b *browser) stream(path string) <-chan struct{} {
	b.o.t.Helper()
	ctx, cancel := context.WithCancel(b.o.t.Context())
	b.o.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.o.server.URL+path, nil)
	if err != nil {
		b.o.t.Fatal(err)
	}
	resp, err := b.Do(req) //nolint:bodyclose // the goroutine closes it
	if err != nil || resp.StatusCode != http.StatusOK {
		b.o.t.Fatalf("%s: %+v, %v", path, resp, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer resp.Body.Close()               //nolint:errcheck // only read
		_, _ = io.Copy(io.Discard, resp.Body) // it is cut
	}()
	return ended
}

// TestSessionsEnd: after sign-out, without use, at their age, and with the person's entry.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	reviewers := func(o *office) string { return strings.Replace(people, "%s", o.public, 1) }
	for name, tt := range map[string]struct {
		end   func(*office, *browser)
		stays bool
	}{
		"in use":       {func(*office, *browser) {}, true},
		"29 minutes":   {func(o *office, _ *browser) { o.later(29 * time.Minute) }, true},
		"30 minutes":   {func(o *office, _ *browser) { o.later(30 * time.Minute) }, false},
		"sign-out":     {func(_ *office, b *browser) { b.post("/sign-out", nil) }, false},
		"another name": {func(o *office, _ *browser) { o.load(one, strings.Replace(reviewers(o), "name: ann", "name: anna", 1)) }, false},
		"expired": {func(o *office, _ *browser) {
			o.load(one, strings.Replace(reviewers(o), "name: ann,", "name: ann, expires: 2020-01-01,", 1))
		}, false},
		"8 hours": {func(o *office, b *browser) {
			for range 17 {
				o.later(29 * time.Minute)
				b.get("/reviews")
			}
		}, false},
		"a page that loads itself": {func(o *office, b *browser) {
			for range 2 {
				o.later(20 * time.Minute)
				b.get("/reviews", func(r *http.Request) { r.Header.Set("Vpcep-Refresh", "1") })
			}
		}, false},
		"a stream only": {func(o *office, b *browser) {
			for range 2 {
				o.later(20 * time.Minute)
				resp, err := b.Get(o.server.URL + "/reviews/stream")
				if err == nil {
					_ = resp.Body.Close()
				}
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, one)
			ann := o.signIn("ann")
			u, err := url.Parse(o.server.URL)
			if err != nil {
				t.Fatal(err)
			}
			kept := ann.Jar.Cookies(u)
			tt.end(o, ann)
			ann.Jar.SetCookies(u, kept) // somebody has copied it
			got := ann.get("/reviews")
			if in := got.status == http.StatusOK; in != tt.stays {
				t.Errorf("status %d", got.status)
			}
		})
	}
}

func TestLinksWorkOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	token := o.link("ann")
	if got := o.browser().get("/sign-in/link?token=" + token); got.status != http.StatusOK || got.header.Get("Set-Cookie") != "" {
		t.Errorf("to look at it: %d, %q", got.status, got.header.Get("Set-Cookie"))
	}
	first := o.browser().post("/sign-in/link", url.Values{"token": {token}})
	cookie := first.header.Get("Set-Cookie")
	if first.status != http.StatusSeeOther || !strings.HasPrefix(cookie, "vpcep_console=") || !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Lax") {
		t.Errorf("the first: %d, %q", first.status, cookie)
	}
	if got := o.browser().post("/sign-in/link", url.Values{"token": {token}}); got.status != http.StatusForbidden {
		t.Errorf("the second: %d", got.status)
	}
	o.until("new link", func() bool { return o.link("ann") != token })
	late := o.link("bob")
	o.later(time.Hour)
	if got := o.browser().post("/sign-in/link", url.Values{"token": {late}}); got.status != http.StatusForbidden {
		t.Errorf("an hour later: %d", got.status)
	}
	limited := false
	for range 12 {
		limited = limited || o.browser().post("/sign-in/link", url.Values{"token": {"guess"}}).status == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("nothing limits how often one may guess")
	}
}

// TestProxy: only the listed addresses say who signed in.
func TestProxy(t *testing.T) {
	t.Parallel()
	behind := func(network string) func(*console.Config) {
		return func(cfg *console.Config) {
			cfg.SignIn = console.SignIn{ProxyHeader: "X-Forwarded-Email", ProxyAddresses: []netip.Prefix{netip.MustParsePrefix(network)}}
		}
	}
	as := func(names ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["X-Forwarded-Email"] = names }
	}
	o := newOffice(t, one, behind("127.0.0.0/8"))
	held := o.hold("1")
	b := o.browser()
	wants(t, "by email", b.get("/reviews", as("bob@example.org")), `<span class="name">bob</span>`)
	wants(t, "by name", b.get("/reviews", as("ann")), `<span class="name">ann</span>`)
	for name, got := range map[string]page{"a stranger": b.get("/reviews", as("eve@example.org"))} {
		if got.status != http.StatusForbidden {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	for name, edit := range map[string]func(*http.Request){"nobody": as(), "two": as("ann", "bob"), "empty": as("")} {
		if got := b.get("/reviews", edit); got.goTo != "/sign-in" {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	path := "/requests/" + held.Request.ID
	sent := b.post(path+"/review", form(held, "approve", "fine"), as("ann@example.org"))
	wants(t, "a review", b.get(sent.goTo, as("ann@example.org")), "Your review decided the request")

	elsewhere := newOffice(t, one, behind("10.0.0.0/8"))
	if got := elsewhere.browser().get("/reviews", as("ann")); got.goTo != "/sign-in" {
		t.Errorf("from another address: %d", got.status)
	}
}

// TestWhereItIsServed: never beyond this machine without a sign-in, and never in clear.
func TestWhereItIsServed(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	link := console.SignIn{Links: []string{"ann"}, OnLink: func(string, string) {}}
	proxy := console.SignIn{ProxyHeader: "X-User", ProxyAddresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for name, tt := range map[string]struct {
		site   console.Site
		signIn console.SignIn
		ok     bool
	}{
		"loopback, link":     {console.Site{Listen: "127.0.0.1:8090"}, link, true},
		"IPv6 loopback":      {console.Site{Listen: "[::1]:8090"}, link, true},
		"everywhere, link":   {console.Site{Listen: "0.0.0.0:8090", TLS: true}, link, false},
		"any, link":          {console.Site{Listen: ":8090", URL: "https://console.example.org"}, link, false},
		"nobody":             {console.Site{Listen: "127.0.0.1:8090"}, console.SignIn{}, false},
		"proxy, TLS":         {console.Site{Listen: "0.0.0.0:8090", URL: "https://console.example.org"}, proxy, true},
		"proxy, clear":       {console.Site{Listen: "0.0.0.0:8090", URL: "http://console.example.org"}, proxy, false},
		"nowhere":            {console.Site{Listen: "0.0.0.0:8090", TLS: true}, proxy, false},
		"nowhere, IPv6":      {console.Site{Listen: "[::]:8090", TLS: true}, proxy, false},
		"with a path":        {console.Site{Listen: "127.0.0.1:8090", URL: "https://example.org/console"}, link, false},
		"both":               {console.Site{Listen: "0.0.0.0:8090", TLS: true}, console.SignIn{Links: link.Links, OnLink: link.OnLink, ProxyHeader: "X-User"}, false},
		"loopback and proxy": {console.Site{Listen: "127.0.0.1:8090"}, proxy, true},
	} {
		_, err := console.New(console.Config{Bus: o.bus, Ledger: o.book, Policies: o, Targets: o.targets, Seed: seed(t), Now: time.Now, Site: tt.site, SignIn: tt.signIn})
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCertificate: what cannot be served is said before a link is printed, and what can be is
// served by TLS.
func TestCertificate(t *testing.T) {
	t.Parallel()
	o := newOffice(t, one)
	dir := t.TempDir()
	key := filepath.Join(dir, "ops.nk")
	if _, err := review.NewKey(key, "ops"); err != nil {
		t.Fatal(err)
	}
	policies := filepath.Join(dir, "policies")
	if err := os.Mkdir(policies, 0o700); err != nil {
		t.Fatal(err)
	}
	text := "version: 1\nreviewers:\n  - {name: ann, email: ann@example.org}\n"
	if err := os.WriteFile(filepath.Join(policies, "reviewers.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var cfg config.Config
	cfg.Targets, cfg.Policies = o.targets, config.Policies{Dir: policies, StableFor: 100 * time.Millisecond}
	cfg.Console.Listen, cfg.Console.KeyFile = "127.0.0.1:0", key
	cfg.Console.TLS.Cert, cfg.Console.TLS.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	s := console.Server{Config: cfg, Bus: o.bus, Ledger: o.book, Log: zerolog.Nop(), People: []string{"ann"}, OnLink: func(_, url string) { t.Errorf("the link %s is printed", url) }}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "console.tls: ") {
		t.Errorf("%v, want an error of console.tls", err)
	}

	pair := writePair(t, cfg.Console.TLS.Cert, cfg.Console.TLS.Key)
	links := make(chan string, 1)
	s.OnLink = func(_, link string) { links <- link }
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	trusted := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	trusted.AddCert(leaf)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}}
	link := <-links
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatalf("get %s: %v", link, err)
	}
	defer answer.Body.Close() //nolint:errcheck // it is not read
	if answer.StatusCode != http.StatusOK || answer.TLS == nil {
		t.Errorf("%s is answered by %s", link, answer.Status)
	}
	client.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
