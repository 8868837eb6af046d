package console

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Site is where the console is reached.
type Site struct {
	URL    string // public, such as https://console.example.org; empty: http://Listen
	Listen string // host:port on which it listens
	TLS    bool   // whether it serves TLS itself
}

// base is the URL of the console without a slash at its end.
func (s Site) base() string {
	if s.URL != "" {
		return strings.TrimSuffix(s.URL, "/")
	}
	if s.TLS {
		return "https://" + s.Listen
	}
	return "http://" + s.Listen
}

// secureCookies reports whether browsers reach the console by TLS.
func (s Site) secureCookies() bool { return strings.HasPrefix(s.base(), "https://") }

// loopback reports whether only this machine reaches the listener.
func (s Site) loopback() bool {
	host, _, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// hosts are the values of the Host header that are answered.
func (s Site) hosts() map[string]bool {
	out := map[string]bool{}
	u, err := url.Parse(s.base())
	if err != nil || u.Host == "" {
		return out
	}
	standard := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	// Browsers leave the standard port out.
	add := func(host, port string) {
		host = strings.ToLower(host)
		if port != "" {
			out[host+":"+port] = true
		}
		if port == "" || port == standard {
			out[host], out[host+":"+standard] = true, true
		}
	}
	add(strings.TrimSuffix(u.Host, ":"+u.Port()), u.Port())
	if _, port, err := net.SplitHostPort(s.Listen); err == nil && s.loopback() && s.URL == "" {
		for _, host := range []string{"localhost", "127.0.0.1", "[::1]"} {
			add(host, port)
		}
	}
	return out
}

// check reports why the console may not be served like this.
func (c Config) check() error {
	s := c.Site
	u, err := url.Parse(s.base())
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return fmt.Errorf("the URL %q must be like https://console.example.org, without a path", s.base())
	}
	if !s.loopback() && !c.SignIn.real() {
		return fmt.Errorf("the console does not listen on %s without a sign-in: set console.oidc or console.proxy, or listen on 127.0.0.1", s.Listen)
	}
	if len(c.SignIn.Links) > 0 && !s.loopback() {
		return errors.New("one-time links are for a console that listens on 127.0.0.1")
	}
	if !s.loopback() && !s.secureCookies() {
		return fmt.Errorf("people must reach the console by https beyond this machine: set console.tls, or console.url to the https address of the proxy in front of it; it is %s", s.base())
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "" || err == nil && ip.IsUnspecified() {
		return fmt.Errorf("no browser asks for %s: set console.url to the address that people use", s.base())
	}
	if !c.SignIn.real() && len(c.SignIn.Links) == 0 {
		return errors.New("nobody can sign in: name a person of reviewers.yaml with --person, or set console.oidc or console.proxy")
	}
	return nil
}

// contentPolicy lets a page load only what the console serves.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// secure refuses foreign hosts and posts from other sites, and sets the headers that
// have the browser do the same. The host comes first: a name that an attacker has
// point at this machine passes the check of the origin.
func (c *Console) secure(next http.Handler) http.Handler {
	hosts := c.cfg.Site.hosts()
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.fail(w, r, nil, forbidden("error.cross_site"))
	}))
	protected := cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.Path == "/livez" { // probes do not know the name
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte("ok\n")) // a prober that hung up needs no answer
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if c.cfg.Site.secureCookies() {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if !hosts[strings.ToLower(r.Host)] {
			http.Error(w, "this console is not served under this name", http.StatusMisdirectedRequest)
			return
		}
		protected.ServeHTTP(w, r)
	})
}
