package oidctest

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

const (
	client   = "console"
	secret   = "secret of the console"
	password = "verysecure" // of all users of the provider
)

// user is somebody whom the provider knows.
type user struct{ name, subject, email string }

var (
	first  = user{"test-user@127.0.0.1", "id1", "test-user@zitadel.ch"}
	second = user{"test-user2", "id2", "test-user2@zitadel.ch"}
)

// startProvider starts a provider that knows both users and one client, and returns
// its issuer. Clients are global in the provider, so the tests do not run in parallel.
func startProvider(t *testing.T, callback string) (issuer string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	issuer = "http://" + server.Listener.Addr().String() + "/"
	storage.RegisterClients(storage.WebClient(client, secret, callback))
	server.Config.Handler = exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore(issuer)), slog.New(slog.DiscardHandler), false)
	server.Start()
	t.Cleanup(server.Close)
	return issuer
}

// browser keeps cookies and shows each address that it is sent to.
type browser struct {
	*http.Client
	t *testing.T
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, t}
}

// page is what a browser got.
type page struct {
	status int
	text   string
	to     *url.URL // where it is sent; nil: nowhere
}

func (b *browser) send(method, address string, form url.Values) page {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		b.t.Fatal(err)
	}
	got := page{status: resp.StatusCode, text: string(text)}
	if resp.Header.Get("Location") != "" {
		if got.to, err = resp.Location(); err != nil {
			b.t.Fatal(err)
		}
	}
	return got
}

var loginForm = regexp.MustCompile(`action="([^"]+)"(?s:.*?)name="id" value="([^"]+)"`)

// authorize begins a sign-in at the console, lets the provider ask who, and returns
// the address with the code to which the provider sends the browser. ask changes the
// request to the provider.
func (b *browser) authorize(console string, who user, ask func(url.Values)) (back *url.URL) {
	b.t.Helper()
	begin := b.send(http.MethodGet, console+"/sign-in/oidc", nil)
	if begin.to == nil {
		b.t.Fatalf("the console does not send the browser to the provider: %d: %s", begin.status, begin.text)
	}
	if ask != nil {
		query := begin.to.Query()
		ask(query)
		begin.to.RawQuery = query.Encode()
	}
	login := b.follow(begin.to)
	found := loginForm.FindStringSubmatch(login.text)
	if found == nil {
		b.t.Fatalf("the provider shows no form: %d: %s", login.status, login.text)
	}
	action, err := begin.to.Parse(found[1])
	if err != nil {
		b.t.Fatal(err)
	}
	if wrong := b.send(http.MethodPost, action.String(), url.Values{"id": {found[2]}, "username": {who.name}, "password": {"wrong"}}); wrong.to != nil {
		b.t.Fatalf("a wrong password leads to %s", wrong.to)
	}
	sent := b.send(http.MethodPost, action.String(), url.Values{"id": {found[2]}, "username": {who.name}, "password": {password}})
	if sent.to == nil {
		b.t.Fatalf("the provider does not let %s in: %d: %s", who.name, sent.status, sent.text)
	}
	back = b.send(http.MethodGet, sent.to.String(), nil).to
	if back == nil || !strings.HasPrefix(back.String(), console+callback+"?") {
		b.t.Fatalf("the provider sends the browser to %v", back)
	}
	return back
}

// follow goes where a browser is sent, until there is a page.
func (b *browser) follow(to *url.URL) page {
	b.t.Helper()
	for range 10 {
		got := b.send(http.MethodGet, to.String(), nil)
		if got.to == nil {
			return got
		}
		to = got.to
	}
	b.t.Fatalf("the browser is sent on and on, last to %s", to)
	return page{}
}
