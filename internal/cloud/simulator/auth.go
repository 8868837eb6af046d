package simulator

import (
	"net/http"
	"time"
)

const (
	clockSkew   = 15 * time.Minute // tolerated for signatures
	maxFailures = 5                // consecutive; one more locks
	lockTime    = 5 * time.Minute
	tokenLife   = 24 * time.Hour
)

// Auth is the credentials that the cloud accepts: a key, a user and a fixed token. Empty
// ones do not exist. Keys and tokens can be added later.
type Auth struct {
	AccessKey, SecretKey string
	SecurityToken        string // if set, the key is temporary and needs it
	User, Password       string
	Domain               string // the user's account
	Token                string // a token that never expires
	TokenLife            time.Duration
	None                 bool // accept all calls
}

// DefaultAuth returns made-up credentials, which only the simulator accepts.
func DefaultAuth() Auth {
	return Auth{
		AccessKey: "SIMULATEDACCESSKEY01", SecretKey: "simulated-secret-key-of-no-other-use-0001",
		User: "simulated-user", Password: "simulated-password", Domain: "simulated-account",
		Token: "simulated-token",
	}
}

// Key is an access key. SecurityToken is only set for a temporary one.
type Key struct {
	AccessKey, SecretKey, SecurityToken string
	Expires                             time.Time // zero: never
}

type keyring struct {
	keys   map[string]*Key     // by access key
	failed map[string]*failure // by access key or "user "+name; only known ones
	tokens map[string]token
}

// failure counts consecutive failures.
type failure struct {
	tries  int
	locked time.Time // end of the lock
}

// token is an issued token. An empty project allows any.
type token struct {
	project string
	expires time.Time // zero: never
}

func newKeyring(a Auth) keyring {
	k := keyring{keys: map[string]*Key{}, failed: map[string]*failure{}, tokens: map[string]token{}}
	if a.AccessKey != "" {
		k.keys[a.AccessKey] = &Key{AccessKey: a.AccessKey, SecretKey: a.SecretKey, SecurityToken: a.SecurityToken}
		k.failed[a.AccessKey] = &failure{}
	}
	if a.User != "" {
		k.failed["user "+a.User] = &failure{}
	}
	if a.Token != "" {
		k.tokens[a.Token] = token{}
	}
	return k
}

// AddKey adds a key or replaces the one with the same access key.
func (s *Simulator) AddKey(k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keyring.keys[k.AccessKey] = &k
	s.keyring.failed[k.AccessKey] = &failure{}
}

// RemoveKey removes a key.
func (s *Simulator) RemoveKey(accessKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keyring.keys, accessKey)
}

// NewToken returns a token for any project that expires after life; zero: never.
func (s *Simulator) NewToken(life time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := token{}
	if life > 0 {
		t.expires = s.now().Add(life)
	}
	return s.issue(t)
}

// RevokeTokens revokes all tokens, as a new password would.
func (s *Simulator) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.keyring.tokens)
}

func (s *Simulator) issue(t token) string {
	text := "MII" + s.newHex() + s.newHex() + s.newHex()
	s.keyring.tokens[text] = t
	return text
}

// unauthorized returns the gateway's refusal of credentials.
func (s *Simulator) unauthorized(c *call, code, message string) *answer {
	s.tally.refused++
	a := gateway(http.StatusUnauthorized, code, message, c.id)
	return &a
}

// authenticate returns the refusal of c, or nil if its credentials are valid. A
// signature takes precedence over a token.
func (s *Simulator) authenticate(c *call) *answer {
	h := c.request.Header
	if h.Get("Authorization") != "" {
		return s.checkSignature(c)
	}
	text := h.Get("X-Auth-Token")
	t, known := s.keyring.tokens[text]
	switch {
	case text == "":
		return s.unauthorized(c, "APIGW.0301", "Incorrect IAM authentication information: neither a token nor a signature")
	case !known:
		return s.unauthorized(c, "APIGW.0301", "Incorrect IAM authentication information: decrypt token fail")
	case !t.expires.IsZero() && !c.now.Before(t.expires):
		delete(s.keyring.tokens, text)
		return s.unauthorized(c, "APIGW.0307", "The token must be updated.")
	case t.project != "" && c.path["project"] != "" && t.project != c.path["project"]:
		return s.unauthorized(c, "APIGW.0307", "The token must be updated: it is of another project or region.")
	}
	return nil
}

// fail counts a failure of who, which may lock it.
func (s *Simulator) fail(who string, now time.Time) {
	f := s.keyring.failed[who]
	if f == nil {
		return
	}
	f.tries++
	if f.tries > maxFailures {
		f.tries, f.locked = 0, now.Add(lockTime)
		s.tally.locks++
	}
}

// locked reports whether who is locked.
func (s *Simulator) locked(who string, now time.Time) bool {
	f := s.keyring.failed[who]
	return f != nil && now.Before(f.locked)
}

// succeeded resets the failures of who.
func (s *Simulator) succeeded(who string) {
	if f := s.keyring.failed[who]; f != nil {
		f.tries = 0
	}
}
