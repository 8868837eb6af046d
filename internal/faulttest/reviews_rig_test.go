package faulttest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// danLeaves is when dan's entry in reviewers.yaml expires. Simulated time begins at
// the first second of 2000.
const danLeaves = 3 * time.Minute

// signers are the people and consoles with keys; mallory is in no reviewers.yaml.
func signers() []string {
	return []string{"ann", "bob", "cid", "dan", "eve", "fay", "hal", "ops", "mallory"}
}

// keyring holds the seeds of the signers.
type keyring struct{ seeds, public map[string]string }

func newKeyring(t testing.TB) keyring {
	t.Helper()
	k := keyring{seeds: map[string]string{}, public: map[string]string{}}
	for _, name := range signers() {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, err1 := pair.Seed()
		public, err2 := pair.PublicKey()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		k.seeds[name], k.public[name] = string(seed), public
	}
	return k
}

// reviewers is the file: ann and bob are the network team, with cid, who owns the
// stranger's account, dan, who leaves, fay, who only views, and gus, who has no key. eve
// is an auditor, and hal is neither.
func (k keyring) reviewers() string {
	var b strings.Builder
	b.WriteString("version: 1\nreviewers:\n")
	for name, more := range map[string]string{
		"ann": "groups: [network], email: ann@example.org", "bob": "groups: [network]", "cid": "groups: [network], domains: [" + stranger + "]",
		"dan": "groups: [network], expires: '" + time.Unix(946684800, 0).Add(danLeaves).UTC().Format(time.RFC3339) + "'",
		"eve": "groups: [audit]", "fay": "groups: [network], roles: [viewer]", "hal": "groups: [sales]",
	} {
		fmt.Fprintf(&b, "  - {name: %s, key: %s, %s}\n", name, k.public[name], more)
	}
	b.WriteString("  - {name: gus, groups: [network], oidc: {issuer: 'https://id.example.org', subject: gus}}\n")
	fmt.Fprintf(&b, "consoles:\n  - {name: ops, key: %s}\n", k.public["ops"])
	return b.String()
}

// reviewSet is a set of policies as the reference knows it.
type reviewSet struct {
	rules      []reviewRule // none: nobody may review
	acceptOnly bool
	denied     string // an account more that is denied
}

type reviewRule struct {
	group     string
	approvals int
}

// reviewSets are what may be in force. In each the partner is accepted and the banned
// are rejected.
func reviewSets() []reviewSet {
	return []reviewSet{
		{rules: []reviewRule{{"network", 2}}},
		{rules: []reviewRule{{"network", 1}}, acceptOnly: true},
		{rules: []reviewRule{{"network", 1}, {"audit", 1}}},
		{rules: []reviewRule{{"network", 1}}, denied: stranger},
		{},
	}
}

// files are the policies of s.
func (s reviewSet) files(k keyring) map[string]string {
	files := policies()
	files[policy.ReviewersFile] = k.reviewers()
	text := files["connections.yaml"]
	if s.denied != "" {
		text = strings.Replace(text, "domain_id: ["+banned+"]", "domain_id: ["+banned+", "+s.denied+"]", 1)
	}
	for i, rule := range s.rules {
		block := fmt.Sprintf("review: {by: [%s], approvals: %d}\n", rule.group, rule.approvals)
		if i == 0 {
			if s.acceptOnly {
				block += "mode: accept-only\n"
			}
			text += block
			continue
		}
		files[rule.group+".yaml"] = "version: 1\npolicy: " + rule.group + "\ntargets: [payments, orders]\n" + block
	}
	files["connections.yaml"] = text
	return files
}

// spoken is a review that was published, and what became of it.
type spoken struct {
	review.Message
	kind    string // of a review that must not count; empty: it may
	who     string
	approve bool
	console bool
	facts   review.Facts
	subject string

	ended   bool
	refused string    // code; empty: it counted
	at      time.Time // when it ended
}

// office is a rig whose held requests people review. Reviews come by a bus in memory,
// at least once, to every replica.
type office struct {
	*rig
	keys keyring

	// current has the set that is in force; nil: that of the rig.
	current func() *policy.Set

	said     []*spoken // with mu of the rig held
	requests map[string]bool
}

func newOffice(r *rig, keys keyring) *office {
	return &office{rig: r, keys: keys, requests: map[string]bool{}}
}

// Current is the set that is in force.
func (o *office) Current() *policy.Set {
	if o.current != nil {
		return o.current()
	}
	return o.sets[o.inForce.Load()]
}

// Submit takes the requests that reviews decide, each once, as the bus does.
func (o *office) Submit(_ context.Context, r approval.Request) error {
	o.mu.Lock()
	known := o.requests[r.ID]
	o.requests[r.ID] = true
	o.mu.Unlock()
	if !known {
		o.note(asked{RequestID: r.ID, Subject: r.Subject(), Mark: r.EventID})
		o.submit(r)
	}
	return nil
}

// Reviewed and ReviewDecided are the observer's.
func (*office) Reviewed(string)                     {}
func (*office) ReviewDecided(string, time.Duration) {}

// say publishes a review, and has it delivered until it is settled.
func (o *office) say(s *spoken) {
	o.mu.Lock()
	o.said = append(o.said, s)
	s.Sequence = uint64(len(o.said))
	s.StoredAt = time.Now().Add(time.Duration(len(o.said))) // the broker stores one after the other
	o.mu.Unlock()
	o.running.Go(func() {
		for attempt := 1; attempt <= 1000; attempt++ {
			h := &handling{rig: o.rig, stalled: make(chan struct{}), ended: make(chan struct{})}
			o.running.Go(func() { o.deliver(h, s) })
			select {
			case <-h.stalled:
			case <-h.ended:
			}
			if o.settled(s) {
				return
			}
			pass(context.Background(), ackWait)
			if o.settled(s) {
				return
			}
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.stuck = append(o.stuck, "a review of "+s.who+" was delivered 1000 times")
	})
}

func (o *office) settled(s *spoken) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return s.ended
}

// deliver has one replica take s.
func (o *office) deliver(h *handling, s *spoken) {
	defer close(h.ended)
	msg := s.Message
	c := review.Counter{
		Ledger: doomedReviews{o.store, h}, Policies: o, Requests: o, Observer: o, Log: zerolog.Nop(),
	}
	ctx, cancel := context.WithTimeout(o.ctx, ackWait*4/5) // as the bus does
	defer cancel()
	err := c.Handle(ctx, &msg)
	h.back, h.err = true, err
	refused, ok := errors.AsType[*review.RefusedError](err)
	if err != nil && !ok {
		return // it comes again
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	code := ""
	if ok {
		code = refused.Code
	}
	if s.ended && (s.refused == "") != (code == "") {
		o.stuck = append(o.stuck, fmt.Sprintf("a review of %s both counted and was refused: %q, %q", s.who, s.refused, code))
	}
	if !s.ended {
		s.ended, s.refused, s.at = true, code, time.Now()
	}
}

// doomedReviews is the ledger of a counter that may die.
type doomedReviews struct {
	review.Ledger
	h *handling
}

func (d doomedReviews) PutReview(ctx context.Context, r *approval.ReviewRecord) error {
	d.h.at("before-review", r.Request)
	err := d.Ledger.PutReview(ctx, r)
	d.h.at("after-review", r.Request)
	return err
}

// honest is a review of req by a person: with their own key, or at the console if they
// have none.
func (o *office) honest(t testing.TB, req approval.Request, who string, approve, console bool) *spoken {
	t.Helper()
	s := o.draft(req, who, approve)
	key := who
	if console || who == "gus" {
		key, s.SignIn = "ops", &review.SignIn{Method: "proxy", Subject: who}
		if who == "gus" {
			s.SignIn = &review.SignIn{Method: "oidc", Issuer: "https://id.example.org", Subject: who}
		}
	}
	out := o.sign(t, s, key, req)
	out.console = key == "ops"
	return out
}

// onList is what the work list shows of req: the request that is held, and the facts to
// review. If it does not wait, they are those of req and of the cloud.
func (o *office) onList(req approval.Request) (held approval.Request, facts review.Facts) {
	if record, err := o.store.Review(o.ctx, req.Subject()); err == nil && record != nil {
		return record.Request, review.Facts(record.ToReview())
	}
	c, _ := o.sim.Connection(req.EndpointID)
	return req, review.Facts{DomainID: cmp.Or(c.DomainID, stranger), EndpointID: req.EndpointID, MarkerID: max(c.MarkerID, 1)}
}

// draft is an unsigned review of what the work list shows of req.
func (o *office) draft(req approval.Request, who string, approve bool) *review.Submission {
	verdict := review.Reject
	if approve {
		verdict = review.Approve
	}
	held, facts := o.onList(req)
	return review.New(held.ID, verdict, "ticket 4711", who, facts, time.Now(), 30*time.Minute)
}

func (o *office) sign(t testing.TB, s *review.Submission, key string, req approval.Request) *spoken {
	t.Helper()
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := review.Sign([]byte(o.keys.seeds[key]), data)
	if err != nil {
		t.Fatal(err)
	}
	return &spoken{
		Message: review.Message{Data: data, Signature: signature, Target: req.Target.Name, RequestID: s.RequestID},
		who:     s.Reviewer, approve: s.Verdict == review.Approve, facts: s.Facts, subject: req.Subject(),
	}
}

// cheats are the reviews that never count, by what is wrong with them, and the codes
// with which they are refused. What does not come from the signature alone may also be
// refused because the request does not wait for a review.
func cheats() map[string]string {
	return map[string]string{
		"altered data": "bad_signature", "signature of other data": "bad_signature", "unsigned": "bad_signature", "not JSON": "unreadable",
		"expired": "submission_expired", "signed in the future": "submission_not_yet_valid",
		"unknown key": "unknown_key", "for somebody else": "other_person", "console without sign-in": "other_person",
		"console for another": "other_person", "own key as a console": "other_person", "console for nobody": policy.RefusedUnknownReviewer,
		"another request's subject": "wrong_subject", "another target's subject": "wrong_subject", "unknown request": "unknown_request",
		"a copy": "replayed", "other account": policy.RefusedFactsChanged, "other number": policy.RefusedFactsChanged,
		"own account": policy.RefusedOwnRequest, "viewer": policy.RefusedRole, "foreign group": policy.RefusedGroup,
	}
}

// cheat is a review of req with this fault. earlier is a review that was published.
func (o *office) cheat(t testing.TB, kind string, req approval.Request, approve bool, earlier *spoken) *spoken {
	t.Helper()
	who := map[string]string{"own account": "cid", "viewer": "fay", "foreign group": "hal", "unknown key": "mallory", "console for nobody": "zoe", "console for another": "gus"}[kind]
	s := o.draft(req, cmp.Or(who, "ann"), approve)
	key := cmp.Or(who, "ann")
	switch kind {
	case "expired":
		s.IssuedAt, s.ExpiresAt = s.IssuedAt.Add(-time.Hour), s.IssuedAt.Add(-time.Second)
	case "signed in the future":
		s.IssuedAt, s.ExpiresAt = s.IssuedAt.Add(time.Hour), s.IssuedAt.Add(2*time.Hour)
	case "for somebody else":
		s.Reviewer = "bob"
	case "console without sign-in":
		key = "ops"
	case "console for another":
		key, s.SignIn = "ops", &review.SignIn{Method: "oidc", Issuer: "https://id.example.org", Subject: "not gus"}
	case "console for nobody":
		key, s.SignIn = "ops", &review.SignIn{Method: "link", Subject: "zoe"}
	case "own key as a console":
		s.SignIn = &review.SignIn{Method: "link", Subject: "ann"}
	case "unknown request":
		s.RequestID = strings.Repeat("e", 32)
	case "other account":
		s.Facts.DomainID = workspace
	case "other number":
		s.Facts.MarkerID += 77
	}
	out := o.sign(t, s, key, req)
	switch kind {
	case "altered data":
		out.Data = []byte(strings.Replace(string(out.Data), "ticket 4711", "ticket 4712", 1))
	case "signature of other data":
		out.Signature = o.sign(t, o.draft(req, "ann", !approve), "ann", req).Signature
	case "unsigned":
		out.Signature = ""
	case "not JSON":
		out.Data = []byte("{{")
	case "another request's subject":
		out.RequestID = strings.Repeat("f", 32)
	case "another target's subject":
		out.Target = map[string]string{"payments": "orders", "orders": "payments"}[req.Target.Name]
	case "a copy":
		out.Message = earlier.Message
		out.who, out.approve, out.facts, out.subject = earlier.who, earlier.approve, earlier.facts, earlier.subject
	}
	out.kind = kind
	return out
}
