package demo

import (
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// printed is what the demo prints. It is safe for concurrent use.
type printed struct {
	mu   sync.Mutex
	text strings.Builder
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// serveDemo runs demo --serve, with so many requests of its own, until the test ends.
func serveDemo(t *testing.T, requests int) (*Demo, *printed) {
	t.Helper()
	out := &printed{}
	env := cli.Environment{Stdout: out, Stderr: io.Discard, ReadFile: os.ReadFile, IsTerminal: func(io.Writer) bool { return false }}
	d := &Demo{Env: env, Dir: t.TempDir(), Requests: requests, Serve: true, Seed: 1, Faults: "none", Output: NewOutput(out, cli.Palette{})}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(t.Context()) }() // which ends before the cleanup
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Errorf("the demo ended with %v", err)
		}
	})
	return d, out
}

// TestReviewInTheBrowser: who starts the demo can open the link, approve what is held,
// and see it accepted by the cloud.
func TestReviewInTheBrowser(t *testing.T) {
	t.Parallel()
	d, out := serveDemo(t, 2)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	read := func(method, address string, form url.Values) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	find := func(what string, pattern string, in func() string) string {
		t.Helper()
		end := time.After(time.Minute)
		for {
			if m := regexp.MustCompile(pattern).FindStringSubmatch(in()); m != nil {
				return m[1]
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-end:
				t.Fatalf("there is no %s in:\n%s", what, in())
			}
		}
	}
	link, err := url.Parse(find("link", `(http://\S+/sign-in/link\?token=\S+)`, out.String))
	if err != nil {
		t.Fatal(err)
	}
	key := find("command to approve", `reviews approve ID --config `+regexp.QuoteMeta(d.ConfigFile())+` --key (\S+) --reason`, out.String)
	seed, _, err := review.ReadKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if people, err := os.ReadFile(filepath.Join(d.Dir, "policies", policy.ReviewersFile)); err != nil || !strings.Contains(string(people), "{name: "+reviewer+", key: "+public+",") {
		t.Errorf("the key %s of the command is not that of %s in:\n%s%v", public, reviewer, people, err)
	}
	base := "http://" + link.Host
	read(http.MethodPost, base+"/sign-in/link", url.Values{"token": {link.Query().Get("token")}})
	path := find("held request", `href="(/requests/[0-9a-f]{32})"`, func() string { return read(http.MethodGet, base+"/reviews", nil) })
	page := read(http.MethodGet, base+path, nil)
	form := url.Values{"verdict": {"approve"}, "reason": {"known from the demo"}}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)">`).FindAllStringSubmatch(page, -1) {
		form.Set(m[1], m[2])
	}
	if after := read(http.MethodPost, base+path+"/review", form); !strings.Contains(after, "Your review") {
		t.Errorf("after the review:\n%s", after)
	}
	find("accepted connection", `(accepted) +payments .*Approved by demo-user`, out.String)
	if n := d.Sim.Counters().Count(simulator.EffectAccept, ""); n != 2 { // acme, and the stranger
		t.Errorf("%d connections are accepted, want 2", n)
	}
}
