package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// SignIn says how people sign in.
type SignIn struct {
	// Links are the people of reviewers.yaml who get a one-time link. OnLink is called
	// with each; after one was used, there is a new one.
	Links  []string
	OnLink func(name, url string)
	// ProxyHeader is the header in which a proxy says who signed in there; empty: there
	// is none. It is taken from ProxyAddresses only.
	ProxyHeader    string
	ProxyAddresses []netip.Prefix
	OIDC           *OIDC // nil: there is no provider
}

// real reports whether people prove who they are.
func (s SignIn) real() bool { return s.ProxyHeader != "" || s.OIDC != nil }

// visitor is a person of reviewers.yaml who has signed in.
type visitor struct {
	policy.Reviewer

	signIn  review.SignIn
	Session bool // here, which can be ended
}

// visitor returns who sent r; nil if nobody signed in. What reviewers.yaml says now
// counts: who is not in it any more has no session.
func (c *Console) visitor(r *http.Request, touch bool) (*visitor, error) {
	people := c.cfg.Policies.Current().Reviewers()
	if in, ok := c.proxied(r); ok {
		person := people.ByName(in.Subject)
		if person == nil {
			person = people.ByEmail(in.Subject)
		}
		if person == nil || !person.Active(c.cfg.Now()) || !review.SignedInAs(person, &in) {
			return nil, forbidden("error.unknown_person", in.Subject)
		}
		return &visitor{Reviewer: *person, signIn: in}, nil
	}
	token := c.token(r)
	if token == "" {
		return nil, nil
	}
	have, ok := c.sessions.find(token, touch)
	if !ok {
		return nil, nil
	}
	person := people.ByName(have.person)
	if person == nil || !person.Active(c.cfg.Now()) || !review.SignedInAs(person, &have.signIn) {
		c.sessions.end(token)
		return nil, nil
	}
	return &visitor{Reviewer: *person, signIn: have.signIn, Session: true}, nil
}

// proxied returns who the proxy says has signed in there. A request of another
// address is none of the proxy, whatever it says.
func (c *Console) proxied(r *http.Request) (review.SignIn, bool) {
	s := c.cfg.SignIn
	if s.ProxyHeader == "" || !slices.ContainsFunc(s.ProxyAddresses, func(p netip.Prefix) bool { return p.Contains(peer(r)) }) {
		return review.SignIn{}, false
	}
	if said := r.Header.Values(s.ProxyHeader); len(said) == 1 && said[0] != "" {
		return review.SignIn{Method: "proxy", Subject: said[0]}, true
	}
	return review.SignIn{}, false
}

// peer is the address that sent r.
func peer(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip, _ := netip.ParseAddr(host)
	return ip.Unmap()
}

// begin starts a session of person, and ends the one that the browser had.
func (c *Console) begin(w http.ResponseWriter, r *http.Request, person *policy.Reviewer, signIn review.SignIn) {
	c.sessions.end(c.token(r))
	c.setCookie(w, c.sessions.start(person.Name, signIn), int(sessionLimit.Seconds()))
	c.cfg.Log.Info().Str("person", person.Name).Str("method", signIn.Method).Msg("signed in")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (c *Console) signInPage(w http.ResponseWriter, r *http.Request) {
	if v, err := c.visitor(r, false); err == nil && v != nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	c.render(w, r, nil, response{name: "sign-in", title: "signin.title", data: c.cfg.SignIn})
}

func (c *Console) signOut(w http.ResponseWriter, r *http.Request) {
	c.sessions.end(c.token(r))
	c.setCookie(w, "", -1)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

const (
	linkLife     = time.Hour
	triesAMinute = 10 // of each address, to sign in
	maxAddresses = 1000
)

// links are one-time links. It is safe for concurrent use.
type links struct {
	now    func() time.Time
	base   string
	onLink func(name, url string)
	mu     sync.Mutex
	open   map[[sha256.Size]byte]link
}

type link struct {
	person string
	until  time.Time
}

func newLinks(now func() time.Time, base string, onLink func(name, url string)) *links {
	return &links{now: now, base: base, onLink: onLink, open: map[[sha256.Size]byte]link{}}
}

// keep has a link for each person until ctx ends: a new one when the last expires.
func (l *links) keep(ctx context.Context, people []string) {
	if len(people) == 0 {
		return
	}
	tick := time.NewTicker(linkLife)
	defer tick.Stop()
	for {
		for _, person := range people {
			l.issue(person)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// issue makes a link for person in the place of the last, and tells it.
func (l *links) issue(person string) {
	token := rand.Text()
	l.mu.Lock()
	maps.DeleteFunc(l.open, func(_ [sha256.Size]byte, old link) bool { return old.person == person })
	l.open[sha256.Sum256([]byte(token))] = link{person, l.now().Add(linkLife)}
	l.mu.Unlock()
	l.onLink(person, l.base+"/sign-in/link?token="+url.QueryEscape(token))
}

// use returns whose link it is, once.
func (l *links) use(token string) (person string, ok bool) {
	key := sha256.Sum256([]byte(token))
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := l.open[key]
	delete(l.open, key)
	return found.person, ok && l.now().Before(found.until)
}

// linkPage asks whether to use a link. The link itself does nothing: programs that
// look at links would use it up.
func (c *Console) linkPage(w http.ResponseWriter, r *http.Request) {
	c.render(w, r, nil, response{name: "link", title: "signin.title", data: r.URL.Query().Get("token")})
}

func (c *Console) useLink(w http.ResponseWriter, r *http.Request) {
	if !c.attempts.allow(peer(r).String()) {
		c.fail(w, r, nil, &pageError{http.StatusTooManyRequests, "error.too_many", nil})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	name, ok := c.links.use(r.PostFormValue("token"))
	if !ok {
		c.fail(w, r, nil, forbidden("error.link"))
		return
	}
	c.links.issue(name)
	person := c.cfg.Policies.Current().Reviewers().ByName(name)
	if person == nil || !person.Active(c.cfg.Now()) {
		c.fail(w, r, nil, forbidden("error.unknown_person", name))
		return
	}
	c.begin(w, r, person, review.SignIn{Method: "link", Subject: name})
}

// attempts limits how often an address may try to sign in. It is safe for concurrent use.
type attempts struct {
	now func() time.Time
	mu  sync.Mutex
	by  map[string]int
	min time.Time // the minute that is counted
}

func newAttempts(now func() time.Time) *attempts { return &attempts{now: now, by: map[string]int{}} }

// allow counts a try, and reports whether it may be made. Where too many addresses
// try, all that are new count as one.
func (a *attempts) allow(address string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if minute := a.now().Truncate(time.Minute); !minute.Equal(a.min) {
		a.min = minute
		clear(a.by)
	}
	if _, known := a.by[address]; !known && len(a.by) >= maxAddresses {
		address = "others"
	}
	a.by[address]++
	return a.by[address] <= triesAMinute
}
