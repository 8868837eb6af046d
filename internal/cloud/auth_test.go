package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// vault is a changeable source of credentials.
type vault struct {
	mu    sync.Mutex
	cred  Credentials
	err   error
	reads int
}

func (v *vault) read() (Credentials, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads++
	return v.cred, v.err
}

func (v *vault) put(c Credentials) { v.mu.Lock(); defer v.mu.Unlock(); v.cred = c }

func key(name string) Credentials {
	return Credentials{AccessKey: name, SecretKey: "secret of " + name}
}

// callAll makes n concurrent calls that share only host and credential, and returns
// their errors.
func callAll(ctx context.Context, c *Client, n int) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = c.vpcEndpoints(ctx, project, "vpc") })
	}
	wg.Wait()
	return errs
}

func failures(errs []error) (n int) {
	for _, err := range errs {
		if err != nil {
			n++
		}
	}
	return n
}

// TestRefusedKeyIsNotLocked: of 64 concurrent calls with a wrong key one is sent, and
// then one every five and a half minutes while the key stays wrong.
func TestRefusedKeyIsNotLocked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			calls.Add(1)
			return says(401, errorJSON("APIGW.0301"))
		}))
		errs := callAll(t.Context(), c, 64)
		for _, err := range errs {
			e, ok := asError(err)
			if !ok || !errors.Is(err, ErrCredentials) || !e.Retryable() || e.RetryAfter() < time.Second || e.RetryAfter() > retryIn {
				t.Fatalf("error %v, retry after %v", err, e.RetryAfter())
			}
		}
		if calls.Load() != 1 {
			t.Errorf("the refused key was called %d times", calls.Load())
		}
		for range 60 { // five minutes of knocking
			_ = sleep(t.Context(), 5*time.Second)
			callAll(t.Context(), c, 10)
		}
		if calls.Load() != 1 {
			t.Errorf("within five minutes %d calls", calls.Load())
		}
		_ = sleep(t.Context(), 31*time.Second)
		callAll(t.Context(), c, 64)
		if calls.Load() != 2 {
			t.Errorf("%d calls after the probe, want 2", calls.Load())
		}
	})
}

// TestRefusedInFlight: a key that is revoked while many calls run is not called
// by those that still wait for the rate.
func TestRefusedInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls, late atomic.Int32
		var revoked atomic.Bool
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			if calls.Add(1); revoked.Load() {
				late.Add(1)
				return says(401, errorJSON("APIGW.0301"))
			}
			return says(200, rowsJSON(0))
		}), func(cfg *Config) { cfg.RatePerSecond = 10 })
		after(t.Context(), 2050*time.Millisecond, func() { revoked.Store(true) })
		errs := callAll(t.Context(), c, 200)
		if n := late.Load(); n > 5 {
			t.Errorf("the revoked key was called %d times", n)
		}
		if n := failures(errs); n < 150 {
			t.Errorf("%d failures", n)
		}
	})
}

func TestKeyRotates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{cred: key("K0")}
		good := "K0"
		refusals := 0
		w := &watcher{}
		var mu sync.Mutex
		c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
			_ = sleep(r.Context(), 50*time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if !strings.Contains(r.Header.Get("Authorization"), "Access="+good+",") {
				refusals++
				return says(401, errorJSON("APIGW.0301"))
			}
			return says(200, rowsJSON(0))
		}), func(cfg *Config) { cfg.Auth.Source, cfg.Observer = v.read, w })
		for i := range 20 { // a key lives 15 s
			for range 5 {
				if n := failures(callAll(t.Context(), c, 16)); n > 0 {
					t.Fatalf("%d calls failed in round %d", n, i)
				}
				_ = sleep(t.Context(), 3*time.Second)
			}
			mu.Lock()
			good = fmt.Sprintf("K%d", i+1)
			v.put(key(good))
			mu.Unlock()
		}
		// All 16 were on their way when the key ended; nobody could know.
		renewals := strings.Count(strings.Join(w.creds, " "), "unverified") - 1
		if refusals > 20*16 || renewals > 20 {
			t.Errorf("%d refusals, %d renewals for 20 ends", refusals, renewals)
		}
	})
}

func TestNewKeyIsFoundBeforeTheOldOneEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{cred: key("OLD")}
		begin, refusals := time.Now(), atomic.Int64{}
		c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
			if strings.Contains(r.Header.Get("Authorization"), "Access=OLD,") && time.Since(begin) > 15*time.Second {
				refusals.Add(1)
				return says(401, errorJSON("APIGW.0301"))
			}
			return says(200, rowsJSON(0))
		}), func(cfg *Config) { cfg.Auth.Source = v.read })
		after(t.Context(), 15*time.Second-checkInterval-time.Second, func() { v.put(key("NEW")) })
		for range 20 {
			if n := failures(callAll(t.Context(), c, 16)); n > 0 {
				t.Errorf("%d calls failed", n)
			}
			_ = sleep(t.Context(), time.Second)
		}
		if n := refusals.Load(); n > 0 {
			t.Errorf("%d calls were made with a key that had ended, and its successor had been there for %s", n, checkInterval+time.Second)
		}
	})
}

func TestNewKeyEndsRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{cred: key("OLD")}
		w := &watcher{}
		c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
			if strings.Contains(r.Header.Get("Authorization"), "Access=OLD") {
				return says(401, errorJSON("APIGW.0301"))
			}
			return says(200, rowsJSON(0))
		}), func(cfg *Config) { cfg.Auth.Source, cfg.Observer = v.read, w })
		if n := failures(callAll(t.Context(), c, 4)); n != 4 {
			t.Fatalf("%d failures", n)
		}
		v.put(key("NEW"))
		if failures(callAll(t.Context(), c, 1)) != 1 {
			t.Error("the source was read again immediately")
		}
		_ = sleep(t.Context(), checkInterval)
		if n := failures(callAll(t.Context(), c, 4)); n != 0 {
			t.Errorf("%d failures with the new key", n)
		}
		if got := strings.Join(w.creds, " "); got != "unverified refused unverified ok" {
			t.Errorf("states %s", got)
		}
	})
}

func TestProbeAfterRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		locked := true
		var calls atomic.Int32
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			if calls.Add(1); locked {
				return says(401, errorJSON("APIGW.0301"))
			}
			return says(200, rowsJSON(0))
		}))
		callAll(t.Context(), c, 8)
		locked = false
		_ = sleep(t.Context(), keyLockTime)
		if n := failures(callAll(t.Context(), c, 8)); n != 0 || calls.Load() != 9 {
			t.Errorf("%d failures, %d calls", n, calls.Load())
		}
	})
}

// TestUnverifiedKeyIsUsedOneByOne: calls are sequential until the credential is accepted.
// Responses that do not prove it change nothing.
func TestUnverifiedKeyIsUsedOneByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var inFlight, most, n atomic.Int32
		c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
			now := inFlight.Add(1)
			defer inFlight.Add(-1)
			if n.Add(1) <= 3 {
				most.Store(max(most.Load(), now))
				_ = sleep(r.Context(), time.Second)
				return says(502, "<html>")
			}
			_ = sleep(r.Context(), time.Second)
			return says(200, rowsJSON(0))
		}))
		if f := failures(callAll(t.Context(), c, 16)); f != 0 {
			t.Errorf("%d failures", f)
		}
		if most.Load() != 1 {
			t.Errorf("%d concurrent calls while unverified", most.Load())
		}
	})
}

// iamWorld issues tokens that expire after life.
type iamWorld struct {
	mu       sync.Mutex
	life     time.Duration
	password string
	issued   int
	asked    int
	down     bool
	expires  map[string]time.Time
	revoked  map[string]bool
	refused  int
}

func (w *iamWorld) answer(r *http.Request, body string) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasPrefix(r.URL.Host, "iam.") {
		w.asked++
		switch {
		case w.down:
			return says(503, "")
		case !strings.Contains(body, `"password":"`+w.password+`"`):
			return says(401, `{"error":{"code":"IAM.0061","message":"locked"}}`, "X-IAM-Trace-Id", "trace")
		}
		w.issued++
		tok := fmt.Sprintf("token-%d", w.issued)
		w.expires[tok] = time.Now().Add(w.life)
		return says(201, fmt.Sprintf(`{"token":{"expires_at":%q}}`, w.expires[tok].UTC().Format("2006-01-02T15:04:05.000000Z")), "X-Subject-Token", tok)
	}
	tok := r.Header.Get("X-Auth-Token")
	if !time.Now().Before(w.expires[tok]) || w.revoked[tok] {
		w.refused++
		return says(401, errorJSON("APIGW.0307"))
	}
	return says(200, rowsJSON(0))
}

func passwords(w *iamWorld, v *vault) func(*Config) {
	w.expires, w.revoked = map[string]time.Time{}, map[string]bool{}
	return func(cfg *Config) {
		cfg.Auth = Auth{Mode: ModePassword, Source: v.read}
	}
}

func TestTokensAreRenewedBeforeExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &iamWorld{life: 15 * time.Second, password: "p"}
		v := &vault{cred: Credentials{User: "u", Password: "p", Domain: "d"}}
		c := client(t, script(w.answer), passwords(w, v))
		for range 300 {
			if n := failures(callAll(t.Context(), c, 32)); n != 0 {
				t.Fatalf("%d calls failed", n)
			}
			_ = sleep(t.Context(), time.Second)
		}
		if w.issued > 300/12+2 {
			t.Errorf("%d tokens in 300 s, each living 15 s", w.issued)
		}
		if w.refused > 0 {
			t.Errorf("%d calls were made with an expired token", w.refused)
		}
	})
}

func TestTokenRevokedEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &iamWorld{life: 24 * time.Hour, password: "p"}
		v := &vault{cred: Credentials{User: "u", Password: "p", Domain: "d"}}
		c := client(t, script(w.answer), passwords(w, v))
		callAll(t.Context(), c, 4)
		w.revoked["token-1"] = true
		if n := failures(callAll(t.Context(), c, 32)); n != 0 || w.issued != 2 {
			t.Errorf("%d failures, %d tokens", n, w.issued)
		}
	})
}

// TestFinalAttempt: a refusal of renewed values stops all calls.
func TestFinalAttempt(t *testing.T) {
	t.Parallel()
	tokens := 0
	ask := func(context.Context, Credentials, string) (token, error) {
		tokens++
		return token{value: fmt.Sprint(tokens), expires: time.Now().Add(time.Hour), renew: time.Now().Add(time.Hour)}, nil
	}
	a, err := newAuth(Auth{ModePassword, func() (Credentials, error) { return Credentials{User: "u", Password: "p", Domain: "d"}, nil }}, ask, noopObserver{})
	if err != nil {
		t.Fatal(err)
	}
	for i, stops := range []bool{false, true} { // two calls, each refused for the first time
		p, err := a.acquire(t.Context(), scope{APIVPCEP, project})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.refuse(p, &Error{Class: ClassCredentials, Status: 401}, false); (err != nil) != stops {
			t.Errorf("refusal %d: %v", i+1, err)
		}
	}
	if _, err := a.acquire(t.Context(), scope{APIVPCEP, project}); !errors.Is(err, ErrCredentials) || tokens != 2 {
		t.Errorf("%v, %d tokens", err, tokens)
	}
}

// TestTokensThatNobodyAccepts: few tokens are requested while all are refused.
func TestTokensThatNobodyAccepts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &iamWorld{life: 0, password: "p"} // expired for the APIs as soon as issued
		v := &vault{cred: Credentials{User: "u", Password: "p", Domain: "d"}}
		c := client(t, script(w.answer), passwords(w, v))
		for _, err := range callAll(t.Context(), c, 64) {
			if !errors.Is(err, ErrCredentials) {
				t.Errorf("error %v", err)
			}
		}
		if w.issued > 2 || w.refused > 2 {
			t.Errorf("%d tokens, %d refused calls", w.issued, w.refused)
		}
	})
}

func TestWrongPasswordIsAskedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &iamWorld{life: time.Hour, password: "right"}
		v := &vault{cred: Credentials{User: "u", Password: "wrong", Domain: "d"}}
		c := client(t, script(w.answer), passwords(w, v))
		for range 50 {
			for _, err := range callAll(t.Context(), c, 8) {
				e, _ := asError(err)
				if !errors.Is(err, ErrCredentials) || e.Code != "IAM.0061" || strings.Contains(err.Error(), "wrong") {
					t.Fatalf("error %v", err)
				}
			}
			_ = sleep(t.Context(), 5*time.Second)
		}
		if w.asked != 1 {
			t.Errorf("IAM was asked %d times", w.asked)
		}
		v.put(Credentials{User: "u", Password: "right", Domain: "d"})
		if n := failures(callAll(t.Context(), c, 8)); n != 0 || w.asked != 2 {
			t.Errorf("%d failures with the right password, IAM was asked %d times", n, w.asked)
		}
	})
}

// TestIAMDownWhileTokenIsGood: the old token is used until its expiry, with few calls to
// IAM in the meantime.
func TestIAMDownWhileTokenIsGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &iamWorld{life: 10 * time.Minute, password: "p"}
		v := &vault{cred: Credentials{User: "u", Password: "p", Domain: "d"}}
		c := client(t, script(w.answer), passwords(w, v))
		callAll(t.Context(), c, 1)
		_ = sleep(t.Context(), 9*time.Minute)
		w.down = true
		if n := failures(callAll(t.Context(), c, 8)); n != 0 {
			t.Errorf("%d failures while the token is good", n)
		}
		_ = sleep(t.Context(), time.Minute)
		for _, err := range callAll(t.Context(), c, 2) {
			if e, ok := asError(err); !ok || !e.Retryable() || e.Class == ClassCredentials {
				t.Errorf("error %v", err)
			}
		}
		w.down = false
		_ = sleep(t.Context(), 20*time.Second)
		if n := failures(callAll(t.Context(), c, 8)); n != 0 {
			t.Errorf("%d failures after IAM is back", n)
		}
	})
}

func TestGivenToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{cred: Credentials{Token: "one"}}
		var seen []string
		c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
			seen = append(seen, r.Header.Get("X-Auth-Token")+r.Header.Get("Authorization"))
			if r.Header.Get("X-Auth-Token") != "two" {
				return says(401, `{"error":{"code":401,"message":"The token must be updated"}}`)
			}
			return says(200, rowsJSON(0))
		}), func(cfg *Config) {
			cfg.Auth = Auth{Mode: ModeToken, Source: func() (Credentials, error) {
				cred, err := v.read()
				v.put(Credentials{Token: "two"})
				return cred, err
			}}
		})
		if n := failures(callAll(t.Context(), c, 1)); n != 0 || strings.Join(seen, " ") != "one two" {
			t.Errorf("%d failures, tokens sent: %q", n, seen)
		}
	})
}

func TestCredentialsAreMasked(t *testing.T) {
	t.Parallel()
	cred := Credentials{"canary", "canary", "canary", "canary", "canary", "canary", "canary"}
	data, err := json.Marshal(map[string]any{"c": cred})
	text := fmt.Sprintf("%v %+v %#v %s %q %s %v", cred, cred, cred, cred, cred, data, struct{ C *Credentials }{&cred}.C)
	if err != nil || strings.Contains(text, "canary") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestCredentialsMustBeThere(t *testing.T) {
	t.Parallel()
	tests := []struct {
		mode string
		cred Credentials
		want string
	}{
		{"aksk", Credentials{AccessKey: "a"}, "secret key"},
		{"aksk", Credentials{SecretKey: "a"}, "access key"},
		{"aksk", Credentials{AccessKey: "a\n", SecretKey: "s"}, "line break"},
		{"token", Credentials{}, "token"},
		{"token", Credentials{Token: "a b"}, "space"},
		{"password", Credentials{User: "u", Password: "p"}, "domain"},
		{"kerberos", Credentials{}, "mode"},
	}
	for _, tt := range tests {
		_, err := New(Config{Region: "cn-north-4", Auth: Auth{Mode: tt.mode, Source: func() (Credentials, error) { return tt.cred, nil }}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one on %q", tt.mode, err, tt.want)
		}
	}
	if _, err := New(Config{Region: "cn-north-4", Auth: Auth{Mode: ModeAKSK}}); err == nil {
		t.Error("no source is no error")
	}
	broken := func() (Credentials, error) { return Credentials{}, errors.New("no such file") }
	if _, err := New(Config{Region: "cn-north-4", Auth: Auth{ModeAKSK, broken}}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a source that fails: %v", err)
	}
}
