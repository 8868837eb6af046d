package review_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

const (
	account  = "6e9dfd51d1124e8d8498dce894923a0d"
	endpoint = "705290f3-0d00-41f2-aedc-71f09844e879"
)

func at() time.Time { return time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC) }

// office is a ledger with one held request, people with keys, and a counter.
type office struct {
	*review.Counter
	t         *testing.T
	ledger    *ledgertest.Fake
	set       *policy.Set
	held      *approval.ReviewRecord
	seeds     map[string][]byte
	mu        sync.Mutex
	submitted []approval.Request
	fail      error
	seen      []string // by the observer
	published atomic.Uint64
}

func (o *office) Current() *policy.Set { return o.set }

func (o *office) Submit(_ context.Context, r approval.Request) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.submitted = append(o.submitted, r)
	return o.fail
}

func (o *office) Reviewed(verdict string) { o.see(verdict) }
func (o *office) ReviewDecided(verdict string, held time.Duration) {
	o.see(fmt.Sprintf("%s after %s", verdict, held))
}

func (o *office) see(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, what)
}

func newOffice(t *testing.T, rule string) *office {
	t.Helper()
	o := &office{t: t, ledger: ledgertest.NewFake(), seeds: map[string][]byte{}}
	public := map[string]string{}
	for _, name := range []string{"ann", "bob", "ops", "stranger"} {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		if o.seeds[name], err = pair.Seed(); err != nil {
			t.Fatal(err)
		}
		if public[name], err = pair.PublicKey(); err != nil {
			t.Fatal(err)
		}
	}
	target := approval.Target{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88", Region: "cn-north-4"}
	var err error
	o.set, err = policy.Load(fstest.MapFS{
		"p.yaml": {Data: []byte("version: 1\npolicy: p\ntargets: [payments]\n" + rule)},
		"reviewers.yaml": {Data: []byte("version: 1\nreviewers:\n" +
			"  - {name: ann, key: " + public["ann"] + ", groups: [network]}\n" +
			"  - {name: bob, key: " + public["bob"] + ", groups: [network]}\n" +
			"  - {name: cid, email: cid@example.org, groups: [network], oidc: {issuer: 'https://id.example.org', subject: '7'}}\n" +
			"  - {name: eve, email: eve@example.org}\n" +
			"consoles:\n  - {name: ops, key: " + public["ops"] + "}\n")},
	}, approval.Targets{target})
	if err != nil {
		t.Fatal(err)
	}
	req := approval.Request{ID: approval.RequestID("test", "1"), Source: "test", EventID: "1", Target: target, EndpointID: endpoint}
	facts := approval.Facts{EndpointID: endpoint, DomainID: account, MarkerID: 7, State: approval.Pending}
	if _, _, err := ledgertest.Record(t.Context(), o.ledger, &req, &approval.Decision{Verdict: approval.Hold, Facts: facts, At: at()}); err != nil {
		t.Fatal(err)
	}
	o.held = &approval.ReviewRecord{Request: req, Facts: facts, Reviews: approval.Reviews{HeldAt: at().Add(-time.Hour)}}
	if err := o.ledger.PutReview(t.Context(), o.held); err != nil {
		t.Fatal(err)
	}
	o.Counter = &review.Counter{Ledger: o.ledger, Policies: o, Requests: o, Observer: o, Log: zerolog.Nop()}
	return o
}

// say signs a review by the key of who.
func (o *office) say(who, verdict string, change ...func(*review.Submission)) *review.Message {
	o.t.Helper()
	s := review.New(o.held.Request.ID, verdict, "because", who, review.Facts(o.held.ToReview()), at(), 10*time.Minute)
	key := who
	for _, c := range change {
		c(s)
	}
	if s.SignIn != nil {
		key = "ops"
	}
	return o.sign(s, key)
}

func (o *office) sign(s *review.Submission, key string) *review.Message {
	o.t.Helper()
	data, err := s.Encode()
	if err != nil {
		o.t.Fatal(err)
	}
	signature, err := review.Sign(o.seeds[key], data)
	if err != nil {
		o.t.Fatal(err)
	}
	return &review.Message{Data: data, Signature: signature, Target: "payments", RequestID: s.RequestID, StoredAt: at().Add(time.Second), Sequence: o.published.Add(1)}
}

func (o *office) record() *approval.ReviewRecord {
	o.t.Helper()
	r, err := o.ledger.Review(o.t.Context(), o.held.Request.Subject())
	if err != nil {
		o.t.Fatal(err)
	}
	return r
}

func (o *office) refused(m *review.Message) string {
	o.t.Helper()
	err := o.Handle(o.t.Context(), m)
	if err == nil {
		return ""
	}
	refused, ok := errors.AsType[*review.RefusedError](err)
	if !ok {
		o.t.Fatalf("Handle: %v, which is no refusal", err)
	}
	if refused.Text == "" {
		o.t.Errorf("%s says nothing to the person", refused.Code)
	}
	return refused.Code
}

func TestTwoPeopleDecide(t *testing.T) {
	t.Parallel()
	o := newOffice(t, "review: {by: [network], approvals: 2}\n")
	if code := o.refused(o.say("ann", review.Approve)); code != "" || len(o.submitted) != 0 || o.record().Closed != "" {
		t.Fatalf("the first: %q, %d submitted, closed %q", code, len(o.submitted), o.record().Closed)
	}
	if code := o.refused(o.say("ann", review.Approve)); code != "" || len(o.submitted) != 0 {
		t.Fatalf("the same person again: %q, %d submitted", code, len(o.submitted))
	}
	if code := o.refused(o.say("bob", review.Approve)); code != "" || len(o.submitted) != 1 || o.record().Closed != approval.ReviewDecided {
		t.Fatalf("the second: %q, %d submitted, closed %q", code, len(o.submitted), o.record().Closed)
	}
	if r := o.submitted[0]; r.Source != approval.SweepSource || r.EndpointID != endpoint || r.ID == o.held.Request.ID {
		t.Errorf("submitted %+v", r)
	}
	if code := o.refused(o.say("bob", review.Reject)); code != "already_decided" {
		t.Errorf("after it is decided: %q", code)
	}
	if want := []string{"approve", "approve", "approve", "approve after 1h0m1s"}; !slices.Equal(o.seen, want) {
		t.Errorf("the observer saw %q, want %q", o.seen, want)
	}
}

func TestAReplayedReviewCountsOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t, "review: {by: [network], approvals: 2}\n")
	m := o.say("ann", review.Approve)
	if code := o.refused(m); code != "" {
		t.Fatal(code)
	}
	dup := *m
	dup.Sequence++
	for range 2 {
		if code := o.refused(&dup); code != "replayed" || len(o.record().Reviews.Said) != 1 {
			t.Errorf("a copy: %q, %d reviews", code, len(o.record().Reviews.Said))
		}
		// Its worker stalled before it wrote, and another counted it.
		if code := o.refused(m); code != "" || len(o.record().Reviews.Said) != 1 {
			t.Errorf("delivered again: %q, %d reviews", code, len(o.record().Reviews.Said))
		}
	}
}

// TestAReviewThatWasCarriedOutIsNotRefused, if its worker was stopped before it could
// acknowledge it; a copy is.
func TestAReviewThatWasCarriedOutIsNotRefused(t *testing.T) {
	t.Parallel()
	o := newOffice(t, "review: {by: [network]}\n")
	m := o.say("ann", review.Approve)
	if code := o.refused(m); code != "" {
		t.Fatal(code)
	}
	record := o.record()
	d := o.set.Evaluate(&approval.Input{Request: o.submitted[0], Facts: record.Facts, Now: at(), Reviews: &record.Reviews})
	if _, _, err := ledgertest.Record(t.Context(), o.ledger, &o.submitted[0], &d); err != nil {
		t.Fatal(err)
	}
	if err := o.ledger.DropReview(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	dup := *m
	dup.Sequence++
	if code := o.refused(m); code != "" || len(o.submitted) != 1 {
		t.Errorf("delivered again: %q, %d submitted", code, len(o.submitted))
	}
	if code := o.refused(&dup); code != "already_decided" {
		t.Errorf("a copy: %q", code)
	}
}

// TestCutOffAfterCounting: a worker that counted the last review and was stopped
// before it submitted the request leaves that to the next.
func TestCutOffAfterCounting(t *testing.T) {
	t.Parallel()
	o := newOffice(t, "review: {by: [network]}\n")
	o.fail = errors.New("the broker is away")
	m := o.say("ann", review.Approve)
	if err := o.Handle(t.Context(), m); !errors.Is(err, o.fail) {
		t.Fatalf("Handle: %v", err)
	}
	o.fail = nil
	if code := o.refused(m); code != "" || len(o.submitted) != 2 || o.submitted[0].ID != o.submitted[1].ID {
		t.Errorf("%q, submitted %d", code, len(o.submitted))
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	signIn := func(method, issuer, subject, email string) func(*review.Submission) {
		return func(s *review.Submission) {
			s.SignIn = &review.SignIn{Method: method, Issuer: issuer, Subject: subject, Email: email}
		}
	}
	for name, tt := range map[string]struct {
		make func(o *office) *review.Message
		code string
	}{
		"counted": {func(o *office) *review.Message { return o.say("ann", review.Approve) }, ""},
		"vouched for": {func(o *office) *review.Message {
			return o.say("cid", review.Approve, signIn("oidc", "https://id.example.org", "7", ""))
		}, ""},
		"not JSON": {func(o *office) *review.Message { m := o.say("ann", review.Approve); m.Data = []byte("{"); return m }, "unreadable"},
		"forged": {func(o *office) *review.Message {
			m := o.say("ann", review.Approve)
			m.Signature = o.say("ann", review.Reject).Signature
			return m
		}, "bad_signature"},
		"unsigned": {func(o *office) *review.Message { m := o.say("ann", review.Approve); m.Signature = ""; return m }, "bad_signature"},
		"expired": {func(o *office) *review.Message {
			m := o.say("ann", review.Approve)
			m.StoredAt = at().Add(time.Hour)
			return m
		}, "submission_expired"},
		"a stranger's key": {func(o *office) *review.Message { return o.say("stranger", review.Approve) }, "unknown_key"},
		"for somebody else": {func(o *office) *review.Message {
			return o.sign(review.New(o.held.Request.ID, review.Approve, "x", "bob", review.Facts(o.held.ToReview()), at(), time.Minute), "ann")
		}, "other_person"},
		"own key, as console": {func(o *office) *review.Message {
			s := review.New(o.held.Request.ID, review.Approve, "x", "ann", review.Facts(o.held.ToReview()), at(), time.Minute)
			s.SignIn = &review.SignIn{Method: "link", Subject: "ann"}
			return o.sign(s, "ann")
		}, "other_person"},
		"console, no sign-in": {func(o *office) *review.Message {
			return o.sign(review.New(o.held.Request.ID, review.Approve, "x", "ann", review.Facts(o.held.ToReview()), at(), time.Minute), "ops")
		}, "other_person"},
		"another subject": {func(o *office) *review.Message {
			return o.say("cid", review.Approve, signIn("oidc", "https://id.example.org", "8", ""))
		}, "other_person"},
		"another issuer": {func(o *office) *review.Message {
			return o.say("cid", review.Approve, signIn("oidc", "https://evil.example.org", "7", ""))
		}, "other_person"},
		"email with another subject": {func(o *office) *review.Message {
			return o.say("cid", review.Approve, signIn("oidc", "https://evil.example.org", "9", "cid@example.org"))
		}, "other_person"},
		"console, nobody": {func(o *office) *review.Message { return o.say("zoe", review.Approve, signIn("link", "", "zoe", "")) }, "unknown_reviewer"},
		"another request": {func(o *office) *review.Message {
			return o.say("ann", review.Approve, func(s *review.Submission) { s.RequestID = strings.Repeat("a", 32) })
		}, "unknown_request"},
		"another subject of the bus": {func(o *office) *review.Message { m := o.say("ann", review.Approve); m.Target = "other"; return m }, "wrong_subject"},
		"changed facts": {func(o *office) *review.Message {
			return o.say("ann", review.Approve, func(s *review.Submission) { s.Facts.MarkerID = 8 })
		}, "facts_changed"},
		"not of the group": {func(o *office) *review.Message { return o.say("eve", review.Approve, signIn("proxy", "", "eve", "")) }, "not_a_reviewer_of_the_policy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, "review: {by: [network], approvals: 2}\n")
			if got := o.refused(tt.make(o)); got != tt.code {
				t.Errorf("refused with %q, want %q", got, tt.code)
			}
			if n := len(o.record().Reviews.Said); n != map[bool]int{true: 1, false: 0}[tt.code == ""] {
				t.Errorf("%d reviews are counted", n)
			}
		})
	}
}

func TestOwnRequestsAndLateReviews(t *testing.T) {
	t.Parallel()
	o := newOffice(t, "review: {by: [network], within: 30m}\n") // held an hour ago
	if code := o.refused(o.say("ann", review.Approve)); code != "review_expired" {
		t.Errorf("late: %q", code)
	}
	o = newOffice(t, "review: {by: [network]}\n")
	o.held.Request.Claims = approval.Claims{"requester": "ann"}
	if err := o.ledger.PutReview(t.Context(), o.held); err != nil {
		t.Fatal(err)
	}
	if code := o.refused(o.say("ann", review.Approve)); code != "own_request" {
		t.Errorf("their own: %q", code)
	}
	if code := o.refused(o.say("bob", review.Approve)); code != "" {
		t.Errorf("another's: %q", code)
	}
}

func TestARejectWhereThePolicyNeverRejects(t *testing.T) {
	t.Parallel()
	o := newOffice(t, "mode: accept-only\nreview: {by: [network]}\n")
	if code := o.refused(o.say("ann", review.Reject)); code != "" || len(o.submitted) != 0 || o.record().Closed != approval.ReviewRejected {
		t.Errorf("%q, %d submitted, closed %q", code, len(o.submitted), o.record().Closed)
	}
	list, err := review.WorkList(t.Context(), o.ledger.ReviewRecords(t.Context(), ""), o.set, at())
	if err != nil || len(list) != 0 {
		t.Errorf("the work list has %d, %v", len(list), err)
	}
}

// TestBothVerdictsConcurrently: exactly one of them decides, and the other is refused.
func TestBothVerdictsConcurrently(t *testing.T) {
	t.Parallel()
	for range 20 {
		o := newOffice(t, "review: {by: [network]}\n")
		var wait sync.WaitGroup
		codes := make([]string, 2)
		for i, m := range []*review.Message{o.say("ann", review.Approve), o.say("bob", review.Reject)} {
			wait.Go(func() { codes[i] = o.refused(m) })
		}
		wait.Wait()
		if (codes[0] == "") == (codes[1] == "") || codes[0]+codes[1] != "already_decided" || len(o.submitted) != 1 {
			t.Fatalf("refused with %q, %d submitted", codes, len(o.submitted))
		}
	}
}
