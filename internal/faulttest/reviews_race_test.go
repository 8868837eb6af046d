package faulttest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// racing is a world in which people at two consoles and two command lines decide the
// same held requests.
type racing struct {
	*world
	bus  *events.Bus
	held []approval.Request
	keys map[string]string // file of a person's key, or seed of a console
}

// newRacing starts two workers and has n requests held.
func newRacing(t *testing.T, n int) *racing {
	t.Helper()
	r := &racing{world: newWorld(t, simulator.Config{}), keys: map[string]string{}}
	public := map[string]string{}
	for _, name := range []string{"ann", "bob"} {
		r.keys[name] = filepath.Join(r.dir, name+".nk")
		var err error
		if public[name], err = review.NewKey(r.keys[name], name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"ops", "desk"} {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, err1 := pair.Seed()
		key, err2 := pair.PublicKey()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		r.keys[name], public[name] = string(seed), key
	}
	text := policies()["connections.yaml"] + "review: {by: [network]}\n"
	r.write(filepath.Join(r.policies, "connections.yaml"), text)
	r.write(filepath.Join(r.policies, policy.ReviewersFile), fmt.Sprintf(`version: 1
reviewers:
  - {name: ann, key: %s, groups: [network]}
  - {name: bob, key: %s, groups: [network]}
  - {name: cid, email: cid@example.org, groups: [network]}
  - {name: dan, email: dan@example.org, groups: [network]}
consoles:
  - {name: ops, key: %s}
  - {name: desk, key: %s}
`, public["ann"], public["bob"], public["ops"], public["desk"]))
	for i := range 2 {
		r.start(fmt.Sprintf("worker-%d", i), options{}).ready()
	}
	bus, err := events.Connect(t.Context(), events.Config{URL: r.broker.URL, Targets: targets(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	r.bus = bus
	for i := range n {
		target := []string{"payments", "orders"}[i%2]
		req := r.connectAs(target, simulator.Connection{DomainID: stranger, MarkerID: int64(i + 1), State: simulator.PendingAcceptance})
		r.mu.Lock()
		r.truths[req.Subject()] = truth{Domain: stranger, Allowed: true, Denied: true} // by a review
		r.mu.Unlock()
		r.held = append(r.held, r.ask(req, fmt.Sprintf("held-%d", i), approval.OutcomeHeld))
	}
	if !r.settled(2 * time.Minute) {
		t.Fatalf("%d of %d requests are not held", r.missing(nil), n)
	}
	for _, req := range r.held {
		event := req.ID + "/review/1"
		r.note(asked{
			RequestID: approval.RequestID(approval.SweepSource, event), Subject: req.Subject(), Mark: event,
			Outcomes: []approval.Outcome{approval.OutcomeAccepted, approval.OutcomeRejected},
		})
	}
	return r
}

// order is the held requests in an order of its own.
func (r *racing) order(seed uint64) []approval.Request {
	out := append([]approval.Request{}, r.held...)
	random := rand.New(rand.NewPCG(seed, 1))
	random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// commandLine has a person decide everything by one command, and returns how many
// reviews it submitted.
func (r *racing) commandLine(seed uint64, verdict, who string) (int, error) {
	args := []string{"reviews", verdict, "--key", r.keys[who], "--reason", "ticket 4711"}
	for _, req := range r.order(seed) {
		args = append(args, req.ID)
	}
	out, _ := r.command(options{}, args...)
	submitted := strings.Count(out, "submitted: "+verdict)
	if told := submitted + strings.Count(out, "does not wait for a review"); told != len(r.held) {
		return submitted, fmt.Errorf("the command line of %s printed %d of %d requests:\n%.2000s", who, told, len(r.held), out)
	}
	return submitted, nil
}

// console has a person who signed in at a console decide everything.
func (r *racing) console(seed uint64, verdict, who, name string) (int, error) {
	for _, req := range r.order(seed) {
		c, _ := r.sim.Connection(req.EndpointID)
		s := review.New(req.ID, verdict, "ticket 4711", who, review.Facts{DomainID: stranger, EndpointID: req.EndpointID, MarkerID: c.MarkerID}, time.Now(), 30*time.Minute)
		s.SignIn = &review.SignIn{Method: "proxy", Subject: who}
		data, err := s.Encode()
		if err != nil {
			return 0, err
		}
		signature, err := review.Sign([]byte(r.keys[name]), data)
		if err != nil {
			return 0, err
		}
		if _, err := r.bus.SubmitReview(r.t.Context(), req.Target.Name, req.ID, data, signature); err != nil {
			return 0, err
		}
	}
	return len(r.held), nil
}

// reviews reads what was submitted, by sequence, and what was refused.
func (r *racing) reviews(f *findings) (nonces map[uint64]string, refused map[uint64]string) {
	nonces, refused = map[uint64]string{}, map[uint64]string{}
	note := func(err error) {
		if err != nil {
			f.wrong("read the reviews: %v", err)
		}
	}
	note(r.read(events.ReviewsStream, []string{events.ReviewsSubmittedSubject + ".>"}, func(m jetstream.Msg) {
		meta, err := m.Metadata()
		note(err)
		var s review.Submission
		note(json.Unmarshal(m.Data(), &s))
		nonces[meta.Sequence.Stream] = s.Nonce
	}))
	note(r.read(events.ReviewsStream, []string{events.ReviewsRefusedSubject + ".>"}, func(m jetstream.Msg) {
		var event struct{ Data events.ReviewRefusal }
		note(json.Unmarshal(m.Data(), &event))
		why := event.Data
		if other := refused[why.Sequence]; other != "" {
			f.doubled("the review %d was refused twice: %s, %s", why.Sequence, other, why.Code)
		}
		refused[why.Sequence] = why.Code
	}))
	return nonces, refused
}

// counted are the nonces of the reviews that decided something, and how many decisions
// they made.
func (r *racing) counted(f *findings) (nonces map[string]bool, decisions int) {
	h, err := r.look()
	if err != nil {
		f.wrong("%v", err)
	}
	nonces = map[string]bool{}
	for _, versions := range h.Entries {
		d := versions[len(versions)-1].Entry.Decision
		if d.Reviews == nil {
			continue
		}
		decisions++
		for _, said := range d.Reviews.Said {
			nonces[said.Nonce] = true
		}
	}
	return nonces, decisions
}

// TestReviewersWhoRace is F32: two consoles and two command lines decide the same held
// requests at the same time, two of them to approve and two to reject. Each request is
// decided once, and each review has an end.
func TestReviewersWhoRace(t *testing.T) {
	t.Parallel()
	r := newRacing(t, times(50, 200, 1000))
	var f findings
	var mu sync.Mutex
	var racers sync.WaitGroup
	submitted := 0
	for _, race := range []func() (int, error){
		func() (int, error) { return r.commandLine(1, review.Approve, "ann") },
		func() (int, error) { return r.commandLine(2, review.Reject, "bob") },
		func() (int, error) { return r.console(3, review.Approve, "cid", "ops") },
		func() (int, error) { return r.console(4, review.Reject, "dan", "desk") },
	} {
		racers.Go(func() {
			n, err := race()
			mu.Lock()
			defer mu.Unlock()
			submitted += n
			if err != nil {
				f.wrong("%v", err)
			}
		})
	}
	racers.Wait()
	if !r.settled(3 * time.Minute) {
		f.lost("%d requests have not ended", r.missing(nil))
	}
	idle := until(t.Context(), time.Minute, func() bool {
		s, err := r.js.Consumer(t.Context(), events.ReviewsStream, events.ReviewsConsumerName)
		if err != nil {
			return false
		}
		info := s.CachedInfo()
		return info.NumPending == 0 && info.NumAckPending == 0
	})
	if !idle {
		f.lost("reviews have not been taken")
	}
	f.join(r.judge())

	nonces, refused := r.reviews(&f)
	counted, decisions := r.counted(&f)
	if len(nonces) != submitted {
		f.lost("%d reviews were submitted, and %d are stored", submitted, len(nonces))
	}
	for sequence, nonce := range nonces {
		code, was := refused[sequence]
		switch {
		case !was && !counted[nonce]:
			f.lost("the review %d was neither counted nor refused", sequence)
		case was && counted[nonce]:
			f.wrong("the review %d counted and was refused: %s", sequence, code)
		case was && !regexp.MustCompile(`^(already_decided|not_held)$`).MatchString(code):
			f.wrong("the review %d was refused with %s", sequence, code)
		}
	}
	if decisions != len(r.held) {
		f.wrong("%d decisions by reviews on %d requests", decisions, len(r.held))
	}
	table.add(t, row{
		Name: "F32 two consoles and two command lines", Tries: len(r.held), findings: f, Took: r.took(),
		Note: fmt.Sprintf("%d reviews, %d refused", len(nonces), len(refused)),
	})
}
