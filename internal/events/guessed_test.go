package events

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/cloudevent"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// swept is what the sweep submits for a connection.
func swept(eventID string) approval.Request {
	r := connection(eventID)
	r.Source = approval.SweepSource
	r.ID = approval.RequestID(r.Source, r.EventID)
	return r
}

// occupy publishes garbage to a stream under a message id.
func occupy(t *testing.T, b *Bus, subject, id string) uint64 {
	t.Helper()
	ack, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("garbage")}, jetstream.WithMsgID(id))
	if err != nil || ack.Duplicate {
		t.Fatalf("occupy %s: %+v, %v", id, ack, err)
	}
	return ack.Sequence
}

func last(t *testing.T, b *Bus, stream string) *jetstream.RawStreamMsg {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.GetMsg(t.Context(), s.CachedInfo().State.LastSeq)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestSweepIsStoredWhoeverHasItsMessageID: what the broker drops as a duplicate is
// not stored.
func TestSweepIsStoredWhoeverHasItsMessageID(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	r := swept("payments/" + endpoint)
	occupy(t, b, "vpcep.requests.payments", r.ID)
	if err := b.Submit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	raw := last(t, b, RequestsStream)
	if raw.Subject != "vpcep.requests._sweep.payments" || !sameRequest(raw, mustTake(t, r)) {
		t.Errorf("stored last: %s %s", raw.Subject, raw.Data)
	}

	// So is one whose id has an event that looks like it on another subject.
	r = swept("payments/2")
	msg, _, err := requestMessage(r)
	if err != nil {
		t.Fatal(err)
	}
	msg.Subject = "vpcep.requests.payments"
	if _, err := b.js.PublishMsg(t.Context(), msg, jetstream.WithMsgID(r.ID)); err != nil {
		t.Fatal(err)
	}
	before := stored(t, b, RequestsStream)
	for range 2 {
		if err := b.Submit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if raw := last(t, b, RequestsStream); raw.Subject != "vpcep.requests._sweep.payments" {
		t.Errorf("stored last: %s", raw.Subject)
	}
	if n := stored(t, b, RequestsStream) - before; n < 1 {
		t.Errorf("stored %d times", n)
	}

	// The same from another replica counts once, whenever it was made.
	r = swept("payments/3")
	before = stored(t, b, RequestsStream)
	for range 3 {
		r.Time = r.Time.AddDate(0, 0, 1)
		if err := b.Submit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if n := stored(t, b, RequestsStream) - before; n != 1 {
		t.Errorf("the same request is stored %d times", n)
	}
}

func mustTake(t *testing.T, r approval.Request) approval.Request {
	t.Helper()
	_, taken, err := requestMessage(r)
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

func TestSubmitNewTellsThatAnIDIsUsed(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	first := connection("1")
	for range 2 { // the same again is no loss
		if err := b.SubmitNew(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	other := first
	other.EndpointID = service
	claims := first
	claims.Claims = approval.Claims{"domain_id": "e"}
	elsewhere := first
	elsewhere.Target = targets()[1]
	for name, r := range map[string]approval.Request{"another endpoint": other, "other claims": claims, "another target": elsewhere} {
		err := b.SubmitNew(t.Context(), r)
		used, ok := errors.AsType[*IDUsedError](err)
		if !ok || used.Sequence != 1 || used.Unread || !strings.Contains(err.Error(), "id already used (sequence 1)") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := stored(t, b, RequestsStream); n != 1 {
		t.Errorf("%d requests are stored", n)
	}
	// Garbage is not this request either.
	r := connection("2")
	seq := occupy(t, b, "vpcep.requests.payments", r.ID)
	if used, ok := errors.AsType[*IDUsedError](b.SubmitNew(t.Context(), r)); !ok || used.Sequence != seq {
		t.Errorf("an id that garbage has: %v", used)
	}
	// The sweep's source is nobody else's.
	if invalidErr, ok := errors.AsType[*InvalidEventError](b.SubmitNew(t.Context(), swept("3"))); !ok || invalidErr.Reason != ReasonWrongSubject {
		t.Errorf("with the sweep's source: %v", invalidErr)
	}
}

// TestDeadLettersAreStoredWhoeverHasTheirMessageID, and replays too.
func TestDeadLettersAreStoredWhoeverHasTheirMessageID(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if err := b.SubmitRaw(t.Context(), "payments", nil, []byte("no event")); err != nil {
		t.Fatal(err)
	}
	raw := last(t, b, RequestsStream)
	key := messageKey{seq: raw.Sequence, at: raw.Time.UnixNano()}
	occupy(t, b, "vpcep.deadletters.unreadable", deadLetterID(key.seq, key.at))
	consume(t, b, func(context.Context, *approval.Delivery) error { return nil })
	seen.exactly(t, "dead unreadable", 1)
	var letters []DeadLetter
	for d, err := range b.DeadLetters(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		letters = append(letters, d)
	}
	if len(letters) != 2 || string(letters[1].Body) != "no event" {
		t.Fatalf("dead letters: %+v", letters)
	}
	before := stored(t, b, RequestsStream)
	occupy(t, b, "vpcep.requests.payments", replayID(letters[1]))
	if err := b.Replay(t.Context(), letters[1].Sequence); err != nil {
		t.Fatal(err)
	}
	if n := stored(t, b, RequestsStream) - before; n != 2 {
		t.Errorf("%d messages are stored, want the garbage and the replay", n)
	}
}

// TestSweepSubjectIsTheSweepsOnly: what claims to be the sweep elsewhere takes no
// id from it.
func TestSweepSubjectIsTheSweepsOnly(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	publish := func(subject string, r approval.Request) {
		t.Helper()
		body, header, err := encodeRequest(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: header, Data: body}); err != nil {
			t.Fatal(err)
		}
	}
	forged := swept("payments/" + endpoint)
	forged.EndpointID = service
	publish("vpcep.requests.payments", forged)
	publish("vpcep.requests._sweep.payments", connection("1"))
	publish("vpcep.requests._sweep.orders", swept("1"))
	publish("vpcep.requests.orders", connection("2"))
	if err := b.Submit(t.Context(), swept("payments/"+endpoint)); err != nil {
		t.Fatal(err)
	}
	handled := make(chan approval.Request, 8)
	consume(t, b, func(_ context.Context, d *approval.Delivery) error {
		handled <- d.Request
		return nil
	})
	seen.exactly(t, "dead wrong_subject", 4)
	if r := <-handled; r.Source != approval.SweepSource || r.EndpointID != endpoint {
		t.Errorf("handled %+v", r)
	}
	// Replayed they are what they were.
	for d, err := range b.DeadLetters(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Replay(t.Context(), d.Sequence); err != nil {
			t.Fatal(err)
		}
	}
	seen.exactly(t, "dead wrong_subject", 8)
	if len(handled) > 0 {
		t.Errorf("handled %+v", <-handled)
	}
}

// TestAForgedResultIsCorrected: what stands for a decision and says something else
// was not written by a worker.
func TestAForgedResultIsCorrected(t *testing.T) {
	t.Parallel()
	log := &safeBuffer{}
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer, c.Log = seen, zerolog.New(log) })
	forgeries := map[string]func(r approval.Result) *nats.Msg{
		"another outcome": func(r approval.Result) *nats.Msg {
			r.Outcome = approval.OutcomeAccepted
			return resultMsg(t, r, r.Request.Target.Name)
		},
		"the same outcome of another account": func(r approval.Result) *nats.Msg {
			r.Decision.Facts.DomainID = "other"
			return resultMsg(t, r, r.Request.Target.Name)
		},
		"another target": func(r approval.Result) *nats.Msg { return resultMsg(t, r, "orders") },
		"garbage": func(r approval.Result) *nats.Msg {
			return &nats.Msg{Subject: resultSubject("accepted", "payments", r.Decision.ID), Data: []byte("garbage")}
		},
	}
	n := 0
	for name, forge := range forgeries {
		n++
		r := result(name, approval.OutcomeHeld)
		if _, err := b.js.PublishMsg(t.Context(), forge(r)); err != nil {
			t.Fatal(err)
		}
		for range 3 { // the correction is published once
			if err := b.Publish(t.Context(), r); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		stands, err := b.storedResults(t.Context(), r.Decision.ID)
		if err != nil || len(stands) != 2 || !isResult(stands[1], r) {
			t.Errorf("%s: %d messages stand for the decision, %v", name, len(stands), err)
			continue
		}
		e, err := cloudevent.Parse(stands[1].Header, stands[1].Data)
		if err != nil || e.ID != r.Decision.ID+"-correction" || e.Type != "vpcep.request.held" {
			t.Errorf("%s: the correction is %+v, %v", name, e, err)
		}
		if !strings.Contains(log.String(), r.Request.ID) {
			t.Errorf("%s: nothing is logged of it", name)
		}
	}
	if got := seen.get("published conflict"); got != n {
		t.Errorf("%d conflicts are counted, want %d", got, n)
	}
	if got := seen.get("published ok"); got != 2*n {
		t.Errorf("%d good ones are counted, want %d", got, 2*n)
	}
	if lines := strings.Count(log.String(), `"level":"error"`); lines != n {
		t.Errorf("%d errors are logged, want %d:\n%s", lines, n, log.String())
	}
}

func resultMsg(t *testing.T, r approval.Result, target string) *nats.Msg {
	t.Helper()
	body, header, err := encodeResult(r, r.Decision.ID, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return &nats.Msg{Subject: resultSubject(string(r.Outcome), target, r.Decision.ID), Header: header, Data: body}
}
