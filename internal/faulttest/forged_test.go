package faulttest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

// forger is a producer with the rights of its role who wants the requests of others
// lost or changed. What it wants for itself is a stranger's endpoint.
type forger struct {
	*world
	js    jetstream.JetStream
	tries int
}

// garbage occupies a message id of the broker.
func (a *forger) garbage(mark, messageID string) {
	a.t.Helper()
	a.note(asked{Mark: mark, Bad: true, Reason: events.ReasonUnreadable})
	a.put("vpcep.requests.payments", nats.Header{markHeader: {mark}, jetstream.MsgIDHeader: {messageID}}, []byte("{{{"))
}

// event publishes what looks like another producer's event, about a stranger's
// endpoint. It must end as a dead letter with this reason; without one it is held.
func (a *forger) event(mark, from, id, reason string) {
	a.t.Helper()
	r := a.connect("payments", stranger)
	r.Source, r.EventID, r.Time = from, id, time.Now().UTC()
	r.ID = approval.RequestID(from, id)
	if reason != "" {
		a.note(asked{Mark: mark, Bad: true, Reason: reason})
	} else {
		a.note(asked{RequestID: r.ID, Subject: r.Subject(), Mark: mark, Outcomes: []approval.Outcome{approval.OutcomeHeld}})
	}
	a.put("vpcep.requests.payments", nats.Header{"Content-Type": {"application/cloudevents+json"}, markHeader: {mark}}, eventJSON(r))
}

func (a *forger) put(subject string, header nats.Header, body []byte) {
	a.t.Helper()
	a.tries++
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	if _, err := a.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: header, Data: body}); err != nil {
		a.t.Fatalf("the forger publishes on %s: %v", subject, err)
	}
}

// denied reports whether the broker keeps the forger from a subject.
func (a *forger) denied(subject string) bool {
	a.tries++
	ctx, cancel := context.WithTimeout(a.t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := a.js.Publish(ctx, subject, []byte("{}"))
	return err != nil
}

// TestProducersWhoForge is F30: a producer reuses the ids of others, guesses those
// that they will use, and takes the sweep's, as source, as event id and as message
// id of the broker. All that others asked for is done, and nothing else.
func TestProducersWhoForge(t *testing.T) {
	t.Parallel()
	victims := times(4, 10, 1000)
	patience := time.Duration(times(60, 60, 900)) * time.Second
	w := newGuardedWorld(t, simulator.Config{}, nil)
	if out, code := w.command(options{user: "vpcep-setup"}, "bus", "setup"); code != 0 {
		t.Fatalf("bus setup ended with %d:\n%s", code, out)
	}
	w.start("worker", options{sweep: "2s"}).ready()
	a := &forger{world: w, js: w.as("vpcep-producer", "")}
	bus, err := events.Connect(t.Context(), events.Config{
		URL: w.broker.URL, Targets: targets(), Log: zerolog.Nop(),
		Login: func() (string, string, error) { return "vpcep-producer", rolePassword, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })

	var f findings
	old, told := time.Now().Add(-time.Hour), 0
	var wanted []string // endpoints that must be accepted in the end
	pending := func(id string) approval.Request {
		r := w.connectAs("payments", simulator.Connection{ID: id, DomainID: partner, State: simulator.PendingAcceptance, CreatedAt: old})
		wanted = append(wanted, r.EndpointID)
		return r
	}
	bySweep := func(r approval.Request) {
		id := approval.RequestID(approval.SweepSource, "payments/"+r.EndpointID)
		w.note(asked{RequestID: id, Subject: r.Subject(), Mark: "sweep " + r.EndpointID, Outcomes: []approval.Outcome{approval.OutcomeAccepted}})
	}
	name := func(kind string, i int) string { return fmt.Sprintf("%s-%d", kind, i) }
	structured := func(mark string) nats.Header {
		return nats.Header{"Content-Type": {"application/cloudevents+json"}, markHeader: {mark}}
	}
	var firsts []approval.Request
	for i := range victims {
		firsts = append(firsts, w.ask(pending(""), name("first", i), approval.OutcomeAccepted))
		a.event(name("guessed", i), source, name("second", i), "")

		// What the sweep will send for a connection that is not there yet.
		id := uuid("e5555555", i)
		a.garbage(name("message id of the sweep", i), approval.RequestID(approval.SweepSource, "payments/"+id))
		a.event(name("source of the sweep", i), approval.SweepSource, "payments/"+id, events.ReasonWrongSubject)
		bySweep(pending(id))

		// The message id under which another will submit. It is told, or it is done.
		third := pending("")
		third.Source, third.EventID = source, name("third", i)
		third.ID = approval.RequestID(source, third.EventID)
		a.garbage(name("message id", i), third.ID)
		if err := bus.SubmitNew(t.Context(), third); err != nil {
			told++
			third.EventID = name("third again", i)
			if err := bus.SubmitNew(t.Context(), third); err != nil {
				f.lost("%s cannot be submitted under another id: %v", third.EventID, err)
			}
		}
		third.ID = approval.RequestID(source, third.EventID)
		w.note(asked{RequestID: third.ID, Subject: third.Subject(), Mark: third.EventID, Outcomes: []approval.Outcome{approval.OutcomeAccepted}})
	}
	w.settled(patience)
	for i, first := range firsts {
		// An id that was used, for something else; and the same once more.
		a.event(name("reused", i), source, first.EventID, events.ReasonIDReused)
		a.put("vpcep.requests.payments", structured(name("repeated", i)), eventJSON(first))

		// An id that was guessed. The one who comes later is told by a dead letter, and
		// the sweep finds the connection.
		second := pending("")
		second.Source, second.EventID, second.Time = source, name("second", i), time.Now().UTC()
		w.note(asked{Mark: name("second", i), Bad: true, Reason: events.ReasonIDReused})
		w.send(second)
		bySweep(second)

		// An id that both use at the same time: one of them is told.
		both := pending("")
		both.Source, both.EventID, both.Time = source, name("both", i), time.Now().UTC()
		w.note(asked{
			RequestID: approval.RequestID(source, both.EventID), Subject: both.Subject(), Mark: "either of " + both.EventID,
			Outcomes: []approval.Outcome{approval.OutcomeAccepted, approval.OutcomeHeld},
		})
		w.send(both)
		mine := a.connect("payments", stranger)
		mine.Source, mine.EventID, mine.Time = source, both.EventID, time.Now().UTC()
		a.put("vpcep.requests.payments", structured(name("at the same time", i)), eventJSON(mine))
	}
	for _, subject := range []string{
		"vpcep.requests._sweep.payments", "vpcep.results.accepted.payments.x", "vpcep.deadletters.unreadable",
		"$KV.vpcep-ledger.request.x", "$JS.API.STREAM.PURGE.VPCEP_REQUESTS", "$JS.API.STREAM.MSG.DELETE.VPCEP_REQUESTS",
	} {
		if !a.denied(subject) {
			f.wrong("a producer may publish on %s", subject)
		}
	}
	accepted := func(id string) bool {
		c, ok := w.sim.Connection(id)
		return ok && c.State == simulator.Accepted
	}
	until(t.Context(), patience, func() bool {
		return !slices.ContainsFunc(wanted, func(id string) bool { return !accepted(id) })
	})
	w.settled(patience)
	f.join(w.judge())
	for _, id := range wanted {
		if !accepted(id) {
			f.lost("connection %s was to be accepted", id)
		}
	}
	table.add(t, row{Name: "F30 producers who reuse, guess and forge ids", Tries: a.tries, findings: f, Took: w.took(), Note: fmt.Sprintf("%d requests of others, %d told that their id is used", len(wanted), told)})
}
