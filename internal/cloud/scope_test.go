package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const otherProject = "abcdef0123456789abcdef0123456789"

// callOf makes one call of an API for a project.
func callOf(ctx context.Context, c *Client, api, project string) error {
	if api == APIHSS {
		ctx = forTarget(ctx, "hosts")
		_, err := c.hostEndpoints(ctx, approval.Target{ProjectID: project}, hssQuery{HostIDs: []string{"h"}})
		return err
	}
	if api == APIAPIG {
		_, _, err := c.gatewayConnections(ctx, project, gatewayID, filter{limit: 10})
		return err
	}
	_, err := c.vpcEndpoints(ctx, project, "vpc")
	return err
}

// fine is an answer that each of these calls takes.
func fine() (*http.Response, error) {
	return says(200, `{"endpoints":[],"connections":[],"data_list":[],"total_count":0,"total":0}`)
}

// refuser answers 401 where refuses says so, and counts.
type refuser struct {
	mu      sync.Mutex
	refuses func(api, project string) (status int, body string)
	calls   []string // "api project", of refused calls
	times   []time.Time
}

func (r *refuser) answer(req *http.Request, _ string) (*http.Response, error) {
	api, _, _ := strings.Cut(req.URL.Host, ".")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuses != nil {
		if status, body := r.refuses(api, req.Header.Get("X-Project-Id")); status != 0 {
			r.calls = append(r.calls, api+" "+req.Header.Get("X-Project-Id"))
			r.times = append(r.times, time.Now())
			return says(status, body)
		}
	}
	return fine()
}

func (r *refuser) heal() { r.mu.Lock(); defer r.mu.Unlock(); r.refuses = nil }

func (r *refuser) refused() int { r.mu.Lock(); defer r.mu.Unlock(); return len(r.calls) }

// TestARefusalHoldsForAnAPIAndAProject: what one API says for one project does not
// stop the others, is asked again about once a minute, and names where it came from.
func TestARefusalHoldsForAnAPIAndAProject(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		api, project string
		body         string
		status       int
		credentials  bool
		most         int // refused calls in ten minutes
	}{
		{"the token is of another project", APIVPCEP, otherProject, errorJSON("APIGW.0307"), 401, true, 11},
		{"a signature, by one product only", APIHSS, project, errorJSON("APIGW.0301"), 401, true, 11},
		{"a gateway of another region", APIAPIG, otherProject, errorJSON("APIC.7102"), 401, true, 11},
		{"Keystone's shape", APIHSS, project, `{"error":{"code":401,"message":"m","title":"Unauthorized"}}`, 401, true, 11},
		{"a key that is not active, by one product only", APIHSS, project, errorJSON("IAM.1107"), 400, true, 11},
		{"a proxy in front of one host", APIHSS, project, "<html>login</html>", 401, false, 600},
		{"a proxy without a text", APIHSS, project, "", 401, false, 600},
	}
	for _, mode := range []string{ModeAKSK, ModeToken} {
		for _, tt := range tests {
			t.Run(mode+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := &refuser{refuses: func(api, project string) (int, string) {
						if api == tt.api && project == tt.project {
							return tt.status, tt.body
						}
						return 0, ""
					}}
					w := &watcher{}
					c := client(t, script(r.answer), func(cfg *Config) {
						cfg.Observer = w
						cfg.Auth = Auth{mode, func() (Credentials, error) {
							return Credentials{AccessKey: "a", SecretKey: "s", Token: "t"}, nil
						}}
					})
					var others int
					call := func() {
						for _, api := range []string{APIVPCEP, APIHSS, APIAPIG} {
							for _, of := range []string{project, otherProject} {
								ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
								err := callOf(ctx, c, api, of)
								cancel()
								if api == tt.api && (of == tt.project || !tt.credentials) { // a proxy speaks for its host
									if e, ok := asError(err); of == tt.project && (!ok || !e.Retryable() || errors.Is(err, ErrCredentials) != tt.credentials) {
										t.Fatalf("%s for %s: %v", api, of, err)
									}
									continue
								}
								if err != nil {
									t.Fatalf("%s for %s: %v", api, of, err)
								}
								others++
							}
						}
					}
					for range 60 {
						call()
						_ = sleep(t.Context(), 10*time.Second)
					}
					if n := r.refused(); n > tt.most || n < 2 {
						t.Errorf("%d refused calls in ten minutes, want at most %d", n, tt.most)
					}
					if got := strings.Join(w.creds, " "); got != "unverified ok" {
						t.Errorf("states of the key: %s", got)
					}
					r.heal()
					_ = sleep(t.Context(), scopeProbeInterval)
					if err := callOf(t.Context(), c, tt.api, tt.project); err != nil {
						t.Errorf("after it is fixed: %v", err)
					}
				})
			})
		}
	}
}

// TestKeyRestsAfterThreeRefusals: a key that nobody accepts is tried three times,
// whatever the codes, then once a minute, and works within a minute of being good.
func TestKeyRestsAfterThreeRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		status     int
		first      int // calls until all stops
	}{
		{"codes that may be of a scope", errorJSON("APIGW.0307"), 401, maxRefusals},
		{"no code", `{"error":{"code":401}}`, 401, maxRefusals},
		{"the signature is wrong", errorJSON("APIGW.0301"), 401, 1},
		{"the key is blacklisted", errorJSON("IAM.1104"), 400, 1},
		{"the key has expired", errorJSON("IAM.1105"), 400, 1},
		{"the user is disabled", errorJSON("IAM.0080"), 403, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &refuser{refuses: func(string, string) (int, string) { return tt.status, tt.body }}
				w := &watcher{}
				c := client(t, script(r.answer), func(cfg *Config) { cfg.Observer = w })
				knock := func() (failed int) {
					var wg sync.WaitGroup
					var mu sync.Mutex
					for _, api := range []string{APIVPCEP, APIHSS, APIAPIG} {
						for i := range 20 {
							wg.Go(func() {
								err := callOf(t.Context(), c, api, fmt.Sprintf("%032x", i))
								mu.Lock()
								defer mu.Unlock()
								if err != nil {
									failed++
								}
								if err != nil && !errors.Is(err, ErrCredentials) {
									t.Errorf("error %v", err)
								}
							})
						}
					}
					wg.Wait()
					return failed
				}
				knock()
				if n := r.refused(); n != tt.first {
					t.Errorf("60 calls of 60 scopes: the key was called %d times, want %d", n, tt.first)
				}
				for range 120 {
					_ = sleep(t.Context(), 5*time.Second)
					knock()
				}
				if n := r.refused() - tt.first; n > 10 || n < 8 {
					t.Errorf("%d probes in ten minutes", n)
				}
				if n := busiest(r.times[tt.first:], keyProbeInterval); n > 1 {
					t.Errorf("%d probes within a minute", n)
				}
				r.heal()
				_ = sleep(t.Context(), scopeProbeInterval)
				knock()
				_ = sleep(t.Context(), scopeProbeInterval)
				if n := knock(); n > 0 {
					t.Errorf("%d calls fail after the key is good again", n)
				}
				if got := w.creds[len(w.creds)-1]; got != "ok" {
					t.Errorf("the key's state is %s", got)
				}
			})
		})
	}
}

// TestAQuietProductDoesNotStopTheOthers: three refusals in a row by one product, at
// night, let the key rest; the next call of another product proves it again within
// a minute.
func TestAQuietProductDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &refuser{refuses: func(api, _ string) (int, string) {
			if api == APIHSS {
				return 401, errorJSON("APIGW.0307")
			}
			return 0, ""
		}}
		c := client(t, script(r.answer))
		for range 60 {
			_ = callOf(t.Context(), c, APIHSS, project)
			_ = sleep(t.Context(), 10*time.Second)
		}
		begin := time.Now()
		for callOf(t.Context(), c, APIVPCEP, project) != nil {
			_ = callOf(t.Context(), c, APIHSS, project)
			_ = sleep(t.Context(), time.Second)
		}
		if took := time.Since(begin); took > keyProbeInterval {
			t.Errorf("the other product was called after %s", took)
		}
	})
}

// TestAWrongWordAboutTheKeyIsRemembered: a product that called the key bad, and was
// wrong as others accepted it, does not stop them later by saying it again.
func TestAWrongWordAboutTheKeyIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &refuser{refuses: func(api, _ string) (int, string) {
			if api == APIHSS {
				return 401, errorJSON("APIGW.0301")
			}
			return 0, ""
		}}
		w := &watcher{}
		c := client(t, script(r.answer), func(cfg *Config) { cfg.Observer = w })
		_ = callOf(t.Context(), c, APIHSS, project) // the very first word about this key
		if err := callOf(t.Context(), c, APIVPCEP, project); !errors.Is(err, ErrCredentials) {
			t.Errorf("error %v", err)
		}
		_ = sleep(t.Context(), keyProbeInterval)
		for range 20 { // every two minutes
			if err := callOf(t.Context(), c, APIVPCEP, project); err != nil {
				t.Fatal(err)
			}
			_ = sleep(t.Context(), 2*time.Minute)
			_ = callOf(t.Context(), c, APIHSS, project)
		}
		if got := strings.Join(w.creds, " "); got != "unverified refused unverified ok" {
			t.Errorf("states of the key: %s", got)
		}
	})
}

// TestRefusalsAreNamed: who meets a refusal later is told where it came from, and
// the observer is told once for each answer.
func TestRefusalsAreNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &refuser{refuses: func(api, _ string) (int, string) {
			if api == APIHSS {
				return 401, errorJSON("APIGW.0303")
			}
			return 0, ""
		}}
		w := &watcher{}
		c := client(t, script(r.answer), func(cfg *Config) { cfg.Observer = w })
		for range 5 {
			err := callOf(t.Context(), c, APIHSS, project)
			e, ok := asError(err)
			if !ok || e.Target != "hosts" || e.RequestID != "req-1" || e.RetryAfter() < time.Second || e.RetryAfter() > retryIn {
				t.Fatalf("%+v", e)
			}
			if f, ok := e.OperatorFault(); !ok || f.API != APIHSS || f.Operation != "ShowEndpointStatus" || f.Code != "APIGW.0303" || f.RequestID != "req-1" || f.Text == "" {
				t.Errorf("fault %+v, %v", f, ok)
			}
		}
		const fault = "hosts hss ShowEndpointStatus APIGW.0303 req-1"
		if got := strings.Join(w.told(), "; "); got != fault {
			t.Errorf("told: %s", got)
		}
		r.heal()
		_ = sleep(t.Context(), scopeProbeInterval)
		if err := callOf(t.Context(), c, APIHSS, project); err != nil {
			t.Error(err)
		}
		if got := strings.Join(w.told(), "; "); got != fault+"; hosts hss over" {
			t.Errorf("told: %s", got)
		}
	})
}

// projectWorld is IAM and APIs that refuse tokens of other projects.
type projectWorld struct {
	mu     sync.Mutex
	life   time.Duration
	bad    map[string]bool // projects for which the user has no rights
	issued map[string]int
	asked  map[string]int
	tokens map[string]string // token to project
	ends   map[string]time.Time
}

func (w *projectWorld) answer(r *http.Request, body string) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasPrefix(r.URL.Host, "iam.") {
		_, rest, _ := strings.Cut(body, `"scope":{"project":{"id":"`)
		of, _, _ := strings.Cut(rest, `"`)
		w.asked[of]++
		if w.bad[of] {
			return says(401, `{"error":{"code":"IAM.0001","message":"m"}}`)
		}
		w.issued[of]++
		tok := fmt.Sprintf("%s-%d", of, w.issued[of])
		w.tokens[tok], w.ends[tok] = of, time.Now().Add(w.life)
		return says(201, fmt.Sprintf(`{"token":{"expires_at":%q}}`, w.ends[tok].UTC().Format("2006-01-02T15:04:05.000000Z")), "X-Subject-Token", tok)
	}
	tok := r.Header.Get("X-Auth-Token")
	if w.tokens[tok] != r.Header.Get("X-Project-Id") || !time.Now().Before(w.ends[tok]) {
		return says(401, errorJSON("APIGW.0307"))
	}
	return fine()
}

func newProjectWorld(life time.Duration) *projectWorld {
	return &projectWorld{life: life, bad: map[string]bool{}, issued: map[string]int{}, asked: map[string]int{}, tokens: map[string]string{}, ends: map[string]time.Time{}}
}

// TestOneTokenForEachProject: in password mode each project has a token of its own,
// asked for once however many calls wait for it, and renewed before it ends.
func TestOneTokenForEachProject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, seen := newProjectWorld(10*time.Minute), &watcher{}
		v := &vault{cred: Credentials{User: "u", Password: "p", Domain: "d"}}
		c := client(t, script(w.answer), func(cfg *Config) { cfg.Auth, cfg.Observer = Auth{ModePassword, v.read}, seen })
		for range 60 {
			var wg sync.WaitGroup
			for i := range 64 {
				wg.Go(func() {
					if err := callOf(t.Context(), c, []string{APIVPCEP, APIHSS, APIAPIG}[i%3], []string{project, otherProject}[i/3%2]); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			_ = sleep(t.Context(), 30*time.Second)
		}
		for _, of := range []string{project, otherProject} {
			if n := w.issued[of]; n < 3 || n > 5 { // half an hour
				t.Errorf("%d tokens of project %s", n, of)
			}
		}
		if len(w.asked) != 2 || len(seen.told()) != 0 {
			t.Errorf("asked for %v, faults %v", w.asked, seen.told())
		}
	})
}

// TestAProjectWithoutRightsStopsNoOther: IAM refuses a token for one project. The
// others go on, and IAM is asked for it once a minute, or the user would be locked.
func TestAProjectWithoutRightsStopsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, seen := newProjectWorld(24*time.Hour), &watcher{}
		w.bad[otherProject] = true
		v := &vault{cred: Credentials{User: "u", Password: "p", Domain: "d"}}
		c := client(t, script(w.answer), func(cfg *Config) { cfg.Auth, cfg.Observer = Auth{ModePassword, v.read}, seen })
		if err := callOf(t.Context(), c, APIVPCEP, project); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			if err := callOf(t.Context(), c, APIVPCEP, project); err != nil {
				t.Fatal(err)
			}
			if err := callOf(t.Context(), c, APIVPCEP, otherProject); !errors.Is(err, ErrCredentials) {
				t.Fatalf("error %v", err)
			}
			_ = sleep(t.Context(), time.Second)
		}
		if n := w.asked[otherProject]; n != 1 {
			t.Errorf("IAM was asked %d times within a minute", n)
		}
		if !strings.Contains(strings.Join(seen.told(), ";"), "iam KeystoneCreateUserTokenByPassword IAM.0001") {
			t.Errorf("told: %q", seen.told())
		}
		w.mu.Lock()
		w.bad[otherProject] = false
		w.mu.Unlock()
		_ = sleep(t.Context(), scopeProbeInterval)
		if err := callOf(t.Context(), c, APIVPCEP, otherProject); err != nil {
			t.Errorf("with the rights: %v", err)
		}
	})
}

// TestIAMNeverEndsARequest: whatever IAM answers to the call for a token, it is no
// fault of the request that waits for it.
func TestIAMNeverEndsARequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		code   string
		want   Class
	}{
		{400, "IAM.0011", ClassOperator},
		{400, "IAM.1101", ClassOperator},
		{400, "IAM.1104", ClassCredentials},
		{400, "IAM.1108", ClassCredentials},
		{401, "IAM.0001", ClassCredentials},
		{401, "IAM.0062", ClassCredentials},
		{403, "IAM.0002", ClassOperator},
		{403, "IAM.0080", ClassCredentials},
		{404, "IAM.0004", ClassOperator},
		{404, "IAM.9999", ClassOperator},
		{410, "IAM.0020", ClassRetry},
		{429, "IAM.0012", ClassThrottle},
		{500, "IAM.0006", ClassRetry},
		{413, "APIGW.0201", ClassOperator},
	} {
		t.Run(fmt.Sprint(tt.status, " ", tt.code), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := &vault{cred: Credentials{User: "u", Password: "p", Domain: "d"}}
				c := client(t, script(func(*http.Request, string) (*http.Response, error) {
					return says(tt.status, fmt.Sprintf(`{"code":%q,"message":"m"}`, tt.code))
				}), func(cfg *Config) { cfg.Auth = Auth{ModePassword, v.read} })
				_, err := c.Create(t.Context(), creation(approval.HSS))
				e, ok := asError(err)
				if !ok || !e.Retryable() || e.OutcomeUnknown() || e.Gone() || e.API != APIIAM {
					t.Fatalf("error %v", err)
				}
				if _, fault := e.OperatorFault(); fault != (tt.want == ClassOperator || tt.want == ClassCredentials) || e.Class != tt.want {
					t.Errorf("class %s, want %s; a fault of the operator: %v", e.Class, tt.want, fault)
				}
			})
		})
	}
}
