package faulttest

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// TestRotatingCredentials is F13: credentials live for 15 s. Keys and tokens get a
// successor shortly before they end; for user and password the worker gets its tokens
// itself. Time is simulated, because the margins are seconds.
func TestRotatingCredentials(t *testing.T) {
	together(t)
	const life, early = 15 * time.Second, 7 * time.Second
	const user, password, account = "faulttest", "faulttest-password", "account"
	turns := times(3, 5, 100)
	modes := map[string]struct {
		auth  simulator.Auth
		renew func(sim *simulator.Simulator, turn int) cloud.Credentials // nil: the worker does
	}{
		cloud.ModeAKSK: {renew: func(sim *simulator.Simulator, turn int) cloud.Credentials {
			k := simulator.Key{
				AccessKey: fmt.Sprintf("TEMPORARY%d", turn), SecretKey: fmt.Sprintf("secret-%d", turn),
				SecurityToken: fmt.Sprintf("token-%d", turn), Expires: time.Now().Add(life),
			}
			sim.AddKey(k)
			return cloud.Credentials{AccessKey: k.AccessKey, SecretKey: k.SecretKey, SecurityToken: k.SecurityToken}
		}},
		cloud.ModeToken: {renew: func(sim *simulator.Simulator, _ int) cloud.Credentials {
			return cloud.Credentials{Token: sim.NewToken(life)}
		}},
		cloud.ModePassword: {auth: simulator.Auth{User: user, Password: password, Domain: account, TokenLife: life}},
	}
	for mode, tt := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			simulated(t, func(t *testing.T) {
				r := newRig(t, 1, 50, simulator.Config{Auth: tt.auth, Delays: walk()}, loadPolicies(t, policies()))
				var mu sync.Mutex
				current := cloud.Credentials{User: user, Password: password, Domain: account}
				rotate := func(turn int) (due time.Time) {
					mu.Lock()
					defer mu.Unlock()
					if tt.renew != nil {
						current = tt.renew(r.sim, turn)
					}
					return time.Now().Add(life - early)
				}
				begin := time.Now()
				due := rotate(0)
				r.use(t, 50, func(cfg *cloud.Config) {
					cfg.Auth = cloud.Auth{Mode: mode, Source: func() (cloud.Credentials, error) {
						mu.Lock()
						defer mu.Unlock()
						return current, nil
					}}
				})
				for turn := range turns {
					for i := 0; time.Now().Before(due); i++ {
						r.mixed(2, fmt.Sprintf("rotating-%d-%d", turn, i))
						pass(t.Context(), time.Second)
					}
					due = rotate(turn + 1)
				}
				for i := 0; time.Now().Before(due); i++ { // until the last but one has ended
					r.mixed(2, fmt.Sprintf("rotated-%d", i))
					pass(t.Context(), time.Second)
				}
				f := r.judge()
				counters := r.sim.Counters()
				if counters.Locks > 0 {
					f.wrong("the credential was locked %d times", counters.Locks)
				}
				// Each end costs one renewal: a new value that was found before the old
				// one ended, or one that was looked for because a call was refused.
				if counters.Refused > turns {
					f.wrong("%d calls were refused at %d ends", counters.Refused, turns)
				}
				asked, most := counters.Total(simulator.IAM), int(time.Since(begin)/(life*4/5))+1
				if tt.renew == nil && (asked == 0 || asked > most) {
					f.wrong("IAM was asked for %d tokens in %s, %d had ended", asked, time.Since(begin), most-1)
				}
				table.add(t, row{
					Name: "F13 credentials that live 15 s, mode " + mode, Tries: turns, findings: f, Took: time.Since(begin),
					Note: fmt.Sprintf("%d calls refused, %d tokens asked for, simulated time", counters.Refused, asked),
				})
			})
		})
	}
}

// bearers notes the credentials that calls of the cloud come with.
type bearers struct {
	http.Handler
	mu   sync.Mutex
	seen string // of the last call
	old  string // what must not come any more; empty: nothing
	late int    // calls with it
}

func (b *bearers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	shown := r.Header.Get("X-Auth-Token") + r.Header.Get("Authorization")
	b.mu.Lock()
	b.seen = shown
	if b.old != "" && strings.Contains(shown, b.old) {
		b.late++
	}
	b.mu.Unlock()
	b.Handler.ServeHTTP(w, r)
}

// uses reports whether the last call came with a value.
func (b *bearers) uses(value string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(b.seen, value)
}

// TestCredentialFilesAreSwapped is the rest of F13: keys and tokens lie in files of a
// folder that is swapped whole under load, as Kubernetes does with secrets. The worker
// takes the new value by itself, and never the old one after that.
func TestCredentialFilesAreSwapped(t *testing.T) {
	t.Parallel()
	swaps := times(1, 1, 20)
	modes := map[string]func(w *world, turn int) (files map[string]string, shown string){
		cloud.ModeAKSK: func(w *world, turn int) (map[string]string, string) {
			k := simulator.Key{
				AccessKey: fmt.Sprintf("TEMPORARY%dX", turn), SecretKey: fmt.Sprintf("secret-%d", turn), SecurityToken: fmt.Sprintf("token-%d", turn),
			}
			w.sim.AddKey(k)
			return map[string]string{
				"HUAWEICLOUD_SDK_AK": k.AccessKey, "HUAWEICLOUD_SDK_SK": k.SecretKey, "HUAWEICLOUD_SDK_SECURITY_TOKEN": k.SecurityToken,
			}, k.AccessKey
		},
		cloud.ModeToken: func(w *world, _ int) (map[string]string, string) {
			token := w.sim.NewToken(0)
			return map[string]string{"HW_AUTH_TOKEN": token}, token
		},
	}
	for mode, renew := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, simulator.Config{})
			calls := &bearers{Handler: w.sim}
			api := httptest.NewServer(calls)
			t.Cleanup(func() {
				api.CloseClientConnections()
				api.Close()
			})
			secrets := filepath.Join(w.dir, "secrets")
			var env []string
			swap := func(turn int) (shown string) {
				folder := fmt.Sprintf("%s-%d", secrets, turn)
				if err := os.Mkdir(folder, 0o700); err != nil {
					t.Fatal(err)
				}
				files, shown := renew(w, turn)
				for name, value := range files {
					w.write(filepath.Join(folder, name), value+"\n")
					if turn == 0 {
						env = append(env, name+"_FILE="+filepath.Join(secrets, name))
					}
				}
				if err := errors.Join(os.Symlink(folder, secrets+".new"), os.Rename(secrets+".new", secrets)); err != nil {
					t.Fatal(err)
				}
				return shown
			}
			shown := swap(0)
			o := options{auth: mode, api: strings.TrimPrefix(api.URL, "http://")}
			start(t, "worker", w.config(o), env).ready()
			var f findings
			for turn := range swaps {
				w.mixed(6, fmt.Sprintf("before-%d", turn))
				old := shown
				shown = swap(turn + 1)
				n := 0
				await(t, time.Minute, "a call comes with the new value", func() bool {
					if w.ends() >= w.wanted() { // a call makes the worker look
						w.ask(w.connect("payments", banned), fmt.Sprintf("meanwhile-%d-%d", turn, n), approval.OutcomeRejected)
						n++
					}
					return calls.uses(shown)
				})
				if !w.settled(time.Minute) { // calls that were on their way have ended
					f.lost("swap %d: not everything has ended", turn)
				}
				calls.mu.Lock()
				calls.old = old
				calls.mu.Unlock()
				w.mixed(6, fmt.Sprintf("after-%d", turn))
				w.settled(time.Minute)
			}
			f.join(w.judge())
			calls.mu.Lock()
			defer calls.mu.Unlock()
			if calls.late > 0 {
				f.wrong("%d calls came with a value after its successor was in use", calls.late)
			}
			if n := w.sim.Counters().Refused; n > 0 {
				f.wrong("%d calls were refused", n)
			}
			table.add(t, row{Name: "F13 files with credentials are swapped, mode " + mode, Tries: swaps, findings: f, Took: w.took()})
		})
	}
}
