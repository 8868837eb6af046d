package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// pipe is the connection to a browser that needs some time for each write, but for the
// first. A write that needs longer fails at its deadline, as that to a socket whose
// buffers are full. It is safe for concurrent use.
type pipe struct {
	needs time.Duration
	head  http.Header

	mu       sync.Mutex
	deadline time.Time
	begun    bool
	ids      []uint64 // of the rows that came
	gap      bool     // whether the browser was told that rows are missing
}

func newPipe(needs time.Duration) *pipe { return &pipe{needs: needs, head: http.Header{}} }

func (p *pipe) Header() http.Header           { return p.head }
func (*pipe) WriteHeader(int)                 {}
func (*pipe) Flush()                          {}
func (*pipe) SetReadDeadline(time.Time) error { return nil }

func (p *pipe) SetWriteDeadline(at time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = at
	return nil
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := time.Until(p.deadline); p.begun {
		<-time.After(min(p.needs, left))
		if p.needs > left {
			return 0, os.ErrDeadlineExceeded
		}
	}
	p.begun = true
	for line := range strings.Lines(string(b)) {
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(id), 10, 64)
			if err != nil {
				return 0, err
			}
			p.ids = append(p.ids, n)
		}
		p.gap = p.gap || line == "event: gap\n"
	}
	return len(b), nil
}

// rows returns the sequences of the rows that came, and whether the browser was told that
// some are missing.
func (p *pipe) rows() (ids []uint64, gap bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ids), p.gap
}

// complete checks that the rows from first to last came, once each and in order.
func complete(t *testing.T, what string, p *pipe, first, last uint64, wantGap bool) {
	t.Helper()
	ids, gap := p.rows()
	if gap != wantGap {
		t.Errorf("%s: the browser is told that rows are missing: %v", what, gap)
	}
	if len(ids) != int(last-first+1) {
		t.Errorf("%s: %d rows came, want %d to %d", what, len(ids), first, last)
	}
	for i, id := range ids {
		if id != first+uint64(i) {
			t.Fatalf("%s: row %d is %d, want %d", what, i, id, first+uint64(i))
		}
	}
}

// rateConsole is a console without a bus, at which ann has the session of the token.
func rateConsole(t testing.TB) (c *Console, token string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.Load(fstest.MapFS{
		"p.yaml":         {Data: []byte("version: 1\npolicy: p\ntargets: [payments]\nreview: {by: [ann]}\n")},
		"reviewers.yaml": {Data: []byte("version: 1\nreviewers:\n  - {name: ann, email: ann@example.org}\n")},
	}, approval.Targets{{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err = New(Config{
		Policies: fixed{set}, Seed: seed, Now: time.Now, Log: zerolog.Nop(), Site: Site{Listen: "127.0.0.1:8090"},
		SignIn: SignIn{Links: []string{"ann"}, OnLink: func(string, string) {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, c.sessions.start("ann", review.SignIn{Method: "link", Subject: "ann"})
}

// TestLiveAtTwoHundredASecond: for 21 seconds of 200 decisions a second, every row is
// with a browser before the next decision falls, once and in order. A browser that needs
// a second for each write gets many rows in one. One that takes nothing is cut, delays
// nobody, and gets what it missed when it is back.
func TestLiveAtTwoHundredASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate, all = 200, 21 * 200 // the feed drops the oldest after 20 s
		c, token := rateConsole(t)
		ctx, stop := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		follow := func(to *pipe, last uint64) (ended chan struct{}) {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8090/live/stream?after=0", nil)
			r.AddCookie(&http.Cookie{Name: c.cookieName(), Value: token})
			r.Header.Set("Last-Event-ID", fmt.Sprint(last))
			ended = make(chan struct{})
			serving.Go(func() {
				defer close(ended)
				c.ServeHTTP(to, r)
			})
			synctest.Wait()
			return ended
		}
		quick, slow, stalled := newPipe(0), newPipe(time.Second), newPipe(time.Hour)
		follow(quick, 0)
		follow(slow, 0)
		cut := follow(stalled, 0)

		for n := range uint64(all) {
			c.feed.add(decided{Sequence: n + 1, ID: approval.RequestID("rate", fmt.Sprint(n)), Outcome: "accepted", Target: "payments", Rule: "p/partner", At: time.Now()})
			<-time.After(time.Second / rate) // simulated
			if n%rate == 0 {
				complete(t, "the quick browser so far", quick, 1, n+1, false)
			}
			c.feed.mu.Lock()
			kept, browsers := len(c.feed.last), len(c.feed.browsers)
			c.feed.mu.Unlock()
			if kept > 2*feedSize || n > lagLimit && browsers != 2 {
				t.Fatalf("after %d decisions %d are kept, for %d browsers", n+1, kept, browsers)
			}
		}
		<-time.After(2 * time.Second) // the slow one has two writes to go at most
		complete(t, "the quick browser", quick, 1, all, false)
		complete(t, "the slow browser", slow, 1, all, false)
		select {
		case <-cut:
		default:
			t.Error("the browser that takes nothing is not cut")
		}
		if ids, _ := stalled.rows(); len(ids) != 0 {
			t.Errorf("the browser that takes nothing has %d rows", len(ids))
		}

		back, late := newPipe(0), newPipe(0)
		follow(back, all-feedSize+1)
		complete(t, "back in time", back, all-feedSize+2, all, false)
		follow(late, 1)
		complete(t, "back too late", late, all-feedSize+1, all, true)
		stop()
		serving.Wait()
		if n := c.streams.Load(); n != 0 || len(c.feed.browsers) != 0 {
			t.Errorf("%d streams and %d browsers are left", n, len(c.feed.browsers))
		}
	})
}

// TestHosts: browsers leave the standard port of a scheme out.
func TestHosts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		site Site
		yes  []string
		no   []string
	}{
		{Site{URL: "https://Console.example.org:443", Listen: ":8090"}, []string{"console.example.org", "console.example.org:443"}, []string{"console.example.org:80", "console.example.org:8090", "localhost"}},
		{Site{URL: "https://console.example.org", Listen: ":8090"}, []string{"console.example.org", "console.example.org:443"}, []string{"console.example.org:80"}},
		{Site{URL: "https://console.example.org:8443", Listen: ":8090"}, []string{"console.example.org:8443"}, []string{"console.example.org", "console.example.org:443"}},
		{Site{URL: "http://[::1]:80", Listen: "[::1]:80"}, []string{"[::1]", "[::1]:80"}, []string{"[::1]:443", "localhost"}},
		{Site{Listen: "127.0.0.1:80"}, []string{"127.0.0.1", "127.0.0.1:80", "localhost", "[::1]"}, []string{"localhost:443"}},
		{Site{Listen: "127.0.0.1:443", TLS: true}, []string{"127.0.0.1", "localhost"}, []string{"localhost:80"}},
		{Site{Listen: "127.0.0.1:8090"}, []string{"127.0.0.1:8090", "localhost:8090"}, []string{"localhost", "127.0.0.1"}},
	} {
		hosts := tt.site.hosts()
		for _, name := range tt.yes {
			if !hosts[name] {
				t.Errorf("%+v does not answer %s", tt.site, name)
			}
		}
		for _, name := range tt.no {
			if hosts[name] {
				t.Errorf("%+v answers %s", tt.site, name)
			}
		}
	}
}

// TestTroubleIsToldSeldom: what cannot be followed is tried again soon, and fills no log.
func TestTroubleIsToldSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := &Console{cfg: Config{Log: zerolog.New(&log)}}
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute-time.Second)
		defer stop()
		tries := 0
		c.keepFollowing(ctx, "the results", func() error { tries++; return errors.New("away") }, func(error) {})
		if lines := strings.Count(log.String(), "\n"); tries != 150 || lines != 10 {
			t.Errorf("%d lines for %d tries, want 10 for 150", lines, tries)
		}
	})
}
