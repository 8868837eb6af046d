package console

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

const (
	idleLimit    = 30 * time.Minute // a session without a request for longer ends
	sessionLimit = 8 * time.Hour    // any session ends after it
	maxSessions  = 1000             // the one that was idle the longest ends
)

// session is a person who has signed in.
type session struct {
	person string // name in reviewers.yaml
	signIn review.SignIn
	began  time.Time
	used   time.Time
}

// sessions are kept in memory only, so a restart ends them all. It is safe for
// concurrent use.
type sessions struct {
	now   func() time.Time
	ended func() // called when a session has ended; it must not wait
	mu    sync.Mutex
	all   map[[sha256.Size]byte]*session // by the hash of the token
}

func newSessions(now func() time.Time, ended func()) *sessions {
	return &sessions{now: now, ended: ended, all: map[[sha256.Size]byte]*session{}}
}

// start begins a session and returns its token.
func (s *sessions) start(person string, signIn review.SignIn) string {
	token, now := rand.Text(), s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clean(now)
	s.all[sha256.Sum256([]byte(token))] = &session{person: person, signIn: signIn, began: now, used: now}
	return token
}

// clean removes what has ended, and the one that was idle the longest if there are
// too many. The caller holds the lock.
func (s *sessions) clean(now time.Time) {
	var oldest [sha256.Size]byte
	var since time.Time
	for key, have := range s.all {
		if have.ended(now) {
			delete(s.all, key)
			continue
		}
		if since.IsZero() || have.used.Before(since) {
			oldest, since = key, have.used
		}
	}
	if len(s.all) >= maxSessions {
		delete(s.all, oldest)
		s.ended()
	}
}

func (s *session) ended(now time.Time) bool {
	return now.Sub(s.used) >= idleLimit || now.Sub(s.began) >= sessionLimit
}

// find returns the session of a token. touch says that the person did something.
func (s *sessions) find(token string, touch bool) (session, bool) {
	key, now := sha256.Sum256([]byte(token)), s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.all[key]
	if have == nil {
		return session{}, false
	}
	if have.ended(now) {
		delete(s.all, key)
		return session{}, false
	}
	if touch {
		have.used = now
	}
	return *have, true
}

// end ends the session of a token.
func (s *sessions) end(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := sha256.Sum256([]byte(token)); s.all[key] != nil {
		delete(s.all, key)
		s.ended()
	}
}

// cookieName is the name of the cookie with the token. A browser takes __Host- only
// by TLS and from this very host, so no neighbor can set it.
func (c *Console) cookieName() string {
	if c.cfg.Site.secureCookies() {
		return "__Host-vpcep_console"
	}
	return "vpcep_console"
}

func (c *Console) setCookie(w http.ResponseWriter, token string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: Secure unless it is served to this machine alone
		Name: c.cookieName(), Value: token, Path: "/", MaxAge: maxAge, Secure: c.cfg.Site.secureCookies(), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// token is the token that the browser sent.
func (c *Console) token(r *http.Request) string {
	cookie, err := r.Cookie(c.cookieName())
	if err != nil {
		return ""
	}
	return cookie.Value
}
