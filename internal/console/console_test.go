package console_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/console"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

const (
	account  = "6e9dfd51d1124e8d8498dce894923a0d"
	endpoint = "705290f3-0d00-41f2-aedc-71f09844e879"
)

// office is a console on a real bus and ledger, with workers that count reviews and
// publish what they decide.
type office struct {
	t       *testing.T
	broker  *natstest.Server
	bus     *events.Bus
	book    *ledger.Ledger
	targets approval.Targets
	set     atomic.Pointer[policy.Set]
	public  string // of the console
	server  *httptest.Server
	console *console.Console
	spki    string // hash of the key of the server's certificate; empty: it serves plain HTTP

	mu     sync.Mutex
	links  map[string]string // by name
	offset time.Duration     // of the console's clock
}

func (o *office) Current() *policy.Set { return o.set.Load() }

func (*office) Reviewed(string)                     {}
func (*office) ReviewDecided(string, time.Duration) {}

func (o *office) now() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Add(o.offset)
}

func (o *office) later(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.offset += d
}

// people are the reviewers of the tests. %s is the console's key.
const people = `version: 1
reviewers:
  - {name: ann, email: ann@example.org, groups: [network]}
  - {name: bob, email: bob@example.org, groups: [network]}
  - {name: vic, email: vic@example.org, groups: [network], roles: [viewer]}
  - {name: own, email: own@example.org, groups: [network], domains: [` + account + `]}
consoles:
  - {name: ops, key: %s}
`

// newOffice starts an office whose policy has this review.
func newOffice(t *testing.T, rule string, edit ...func(*console.Config)) *office {
	t.Helper()
	o := &office{t: t, links: map[string]string{}}
	o.targets = approval.Targets{{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88", Region: "cn-north-4"}}
	o.broker = natstest.Start(t)
	var err error
	if o.bus, err = events.Connect(t.Context(), events.Config{URL: o.broker.URL, Create: true, Targets: o.targets, Ledger: service.CrashRecords}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.bus.Close() })
	if err := o.bus.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	bucket, err := o.bus.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o.book = ledger.New(bucket, nil)
	own := seed(t)
	pair, err := nkeys.FromSeed(own)
	if err != nil {
		t.Fatal(err)
	}
	if o.public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	o.load(rule, strings.Replace(people, "%s", o.public, 1))

	o.server = httptest.NewUnstartedServer(nil)
	cfg := console.Config{
		Bus: o.bus, Ledger: o.book, Policies: o, Targets: o.targets, Seed: own, Now: o.now, Log: zerolog.New(zerolog.NewTestWriter(t)),
		Site: console.Site{Listen: o.server.Listener.Addr().String()},
		SignIn: console.SignIn{Links: []string{"ann", "bob", "vic", "own"}, OnLink: func(name, url string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.links[name] = url
		}},
	}
	for _, change := range edit {
		change(&cfg)
	}
	if o.console, err = console.New(cfg); err != nil {
		t.Fatal(err)
	}
	o.server.Config.Handler = o.console
	if cfg.Site.TLS {
		var cert tls.Certificate
		cert, o.spki = selfSigned(t)
		o.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		o.server.StartTLS()
	} else {
		o.server.Start()
	}
	o.run()
	return o
}

func seed(t *testing.T) []byte {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

// run runs the console and a worker until the test ends.
func (o *office) run() {
	ctx, cancel := context.WithCancel(context.Background())
	count := &review.Counter{Ledger: o.book, Policies: o, Requests: o.bus, Observer: o, Log: zerolog.Nop()}
	var running sync.WaitGroup
	running.Go(func() { o.console.Run(ctx) })
	running.Go(func() {
		o.bus.ConsumeReviews(ctx, func(ctx context.Context, in *events.ReviewMessage) (*events.ReviewRefusal, error) {
			err := count.Handle(ctx, &review.Message{Data: in.Data, Signature: in.Signature, Target: in.Target, RequestID: in.RequestID, Sequence: in.Sequence, StoredAt: in.StoredAt})
			if refused, ok := errors.AsType[*review.RefusedError](err); ok {
				return &events.ReviewRefusal{RequestID: in.RequestID, Target: in.Target, Reviewer: refused.Reviewer, Code: refused.Code, Text: refused.Text}, nil
			}
			return nil, err
		})
	})
	running.Go(func() {
		_ = o.bus.Consume(ctx, func(ctx context.Context, d *approval.Delivery) error { return o.decide(ctx, d.Request) })
	})
	o.t.Cleanup(func() {
		cancel()
		running.Wait()
		o.server.CloseClientConnections()
		o.server.Close()
	})
}

// decide ends a request that reviews have decided, as a worker does.
func (o *office) decide(ctx context.Context, req approval.Request) error {
	record, err := o.book.Review(ctx, req.Subject())
	if err != nil || record == nil {
		return err
	}
	in := &approval.Input{Request: record.Request, Facts: record.Facts, Now: time.Now(), Reviews: &record.Reviews}
	d := o.Current().Evaluate(in)
	outcome := map[approval.Verdict]approval.Outcome{approval.Accept: approval.OutcomeAccepted, approval.Reject: approval.OutcomeRejected, approval.Hold: approval.OutcomeHeld}[d.Verdict]
	d.Facts, d.At = record.Facts, time.Now().UTC()
	entry, _, err := ledgertest.Record(ctx, o.book, &req, &d)
	if err != nil {
		return err
	}
	entry.Result = &approval.Result{Request: req, Decision: entry.Decision, Outcome: outcome, At: time.Now().UTC(), Attempts: 1}
	if err := o.book.Put(ctx, entry); err != nil {
		return err
	}
	if err := ledger.NewReviews(o.book, o.bus).DropReview(ctx, record); err != nil {
		return err
	}
	return o.bus.Publish(ctx, *entry.Result)
}

// load puts policies into force.
func (o *office) load(rule, reviewers string) {
	o.t.Helper()
	set, err := policy.Load(fstest.MapFS{
		"p.yaml":         {Data: []byte("version: 1\npolicy: p\ntargets: [payments]\nallow: [{id: partner, domain_id: [b70fde8e849b4e76a61dd8aa0ec05c81]}]\n" + rule)},
		"reviewers.yaml": {Data: []byte(reviewers)},
	}, o.targets)
	if err != nil {
		o.t.Fatal(err)
	}
	o.set.Store(set)
}

// hold adds a request that is held.
func (o *office) hold(event string, change ...func(*approval.Request, *approval.Facts)) *approval.ReviewRecord {
	o.t.Helper()
	req := approval.Request{ID: approval.RequestID("test", event), Source: "test", EventID: event, Target: o.targets[0], EndpointID: endpoint[:24] + (event + "000000000000")[:12]}
	facts := approval.Facts{DomainID: account, MarkerID: 7, State: approval.Pending, ReadAt: time.Now().UTC()}
	for _, c := range change {
		c(&req, &facts)
	}
	facts.EndpointID = req.EndpointID
	held := time.Now().Add(-time.Hour).UTC()
	d := o.Current().Evaluate(&approval.Input{Request: req, Facts: facts, Now: held})
	d.Facts, d.At = facts, held
	entry, _, err := ledgertest.Record(o.t.Context(), o.book, &req, &d)
	if err != nil {
		o.t.Fatal(err)
	}
	entry.Result = &approval.Result{Request: req, Decision: entry.Decision, Outcome: approval.OutcomeHeld, State: approval.Pending, At: held, Attempts: 1}
	if err := o.book.Put(o.t.Context(), entry); err != nil {
		o.t.Fatal(err)
	}
	record := &approval.ReviewRecord{Request: req, Facts: facts, Reviews: approval.Reviews{HeldAt: held}}
	if err := o.book.PutReview(o.t.Context(), record); err != nil {
		o.t.Fatal(err)
	}
	return record
}

// browser keeps cookies, and shows where a page sends it.
type browser struct {
	*http.Client
	o *office
}

func (o *office) browser() *browser {
	o.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		o.t.Fatal(err)
	}
	return &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, o}
}

// page is what a browser got.
type page struct {
	status int
	goTo   string
	text   string
	header http.Header
}

func (b *browser) send(req *http.Request) page {
	b.o.t.Helper()
	resp, err := b.Do(req)
	if err != nil {
		b.o.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		b.o.t.Fatal(err)
	}
	return page{resp.StatusCode, resp.Header.Get("Location"), string(text), resp.Header}
}

func (b *browser) get(path string, edit ...func(*http.Request)) page {
	b.o.t.Helper()
	req, err := http.NewRequest(http.MethodGet, b.o.server.URL+path, nil)
	if err != nil {
		b.o.t.Fatal(err)
	}
	for _, e := range edit {
		e(req)
	}
	return b.send(req)
}

func (b *browser) post(path string, form url.Values, edit ...func(*http.Request)) page {
	b.o.t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.o.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.o.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, e := range edit {
		e(req)
	}
	return b.send(req)
}

// link is the one-time link of a person, once the console has printed it.
func (o *office) link(name string) string {
	o.t.Helper()
	var link string
	o.until("a link for "+name, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		link = o.links[name]
		return link != ""
	})
	u, err := url.Parse(link)
	if err != nil {
		o.t.Fatal(err)
	}
	return u.Query().Get("token")
}

// signIn returns a browser in which a person has signed in.
func (o *office) signIn(name string) *browser {
	o.t.Helper()
	b := o.browser()
	if got := b.post("/sign-in/link", url.Values{"token": {o.link(name)}}); got.status != http.StatusSeeOther || got.goTo != "/" {
		o.t.Fatalf("sign in: %d, %s", got.status, got.text)
	}
	return b
}

// until waits until done reports true.
func (o *office) until(what string, done func() bool) {
	o.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			o.t.Fatalf("there is no %s", what)
		}
	}
}

// form is what the page of record sends.
func form(record *approval.ReviewRecord, verdict, reason string) url.Values {
	facts := record.ToReview()
	return url.Values{
		"verdict": {verdict}, "reason": {reason}, "domain_id": {facts.DomainID}, "endpoint_id": {facts.EndpointID}, "marker_id": {"7"}, "parameters": {""},
	}
}

// follow returns the page that a post sends the browser to.
func (b *browser) follow(got page) page {
	b.o.t.Helper()
	if got.status != http.StatusSeeOther {
		b.o.t.Fatalf("status %d: %s", got.status, got.text)
	}
	return b.get(got.goTo)
}

func wants(t *testing.T, what string, got page, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(got.text, text) {
			t.Errorf("%s: the page lacks %q:\n%s", what, text, got.text)
		}
	}
}
