package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// saved is a stream as `nats stream backup` saves it: its settings and state, and
// its archive in pieces.
type saved struct {
	description json.RawMessage
	pieces      [][]byte
}

// backupStream saves a stream of a running server, consumers included.
func backupStream(t *testing.T, nc *nats.Conn, stream string) saved {
	t.Helper()
	inbox := nc.NewRespInbox()
	arriving, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(map[string]any{"deliver_subject": inbox})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := nc.Request("$JS.API.STREAM.SNAPSHOT."+stream, request, 10*time.Second)
	if err != nil {
		t.Fatalf("back up %s: %v", stream, err)
	}
	var described struct {
		Config json.RawMessage `json:"config"`
		State  json.RawMessage `json:"state"`
	}
	if err := json.Unmarshal(answer.Data, &described); err != nil {
		t.Fatal(err)
	}
	var out saved
	if out.description, err = json.Marshal(described); err != nil {
		t.Fatal(err)
	}
	for {
		piece, err := arriving.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatalf("back up %s: %v", stream, err)
		}
		if status := piece.Header.Get("Status"); status != "" && status != "204" {
			t.Fatalf("back up %s: the server ended it: %q", stream, piece.Header)
		}
		if len(piece.Data) == 0 {
			return out
		}
		out.pieces = append(out.pieces, piece.Data)
		if piece.Reply != "" {
			if err := piece.Respond(nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// restoreStream makes the stream on another server, as `nats stream restore` does.
func restoreStream(t *testing.T, nc *nats.Conn, stream string, from saved) {
	t.Helper()
	ask := func(subject string, data []byte, answer any) {
		t.Helper()
		msg, err := nc.Request(subject, data, 10*time.Second)
		if err != nil {
			t.Fatalf("restore %s: %v", stream, err)
		}
		if answer == nil {
			return
		}
		if err := json.Unmarshal(msg.Data, answer); err != nil {
			t.Fatalf("restore %s: %v: %s", stream, err, msg.Data)
		}
	}
	var begun struct {
		Subject string          `json:"deliver_subject"`
		Error   json.RawMessage `json:"error"`
	}
	ask("$JS.API.STREAM.RESTORE."+stream, from.description, &begun)
	if begun.Subject == "" {
		t.Fatalf("restore %s: %s", stream, begun.Error)
	}
	for _, piece := range from.pieces {
		ask(begun.Subject, piece, nil)
	}
	var done struct {
		Error json.RawMessage `json:"error"`
	}
	ask(begun.Subject, nil, &done)
	if done.Error != nil {
		t.Fatalf("restore %s: %s", stream, done.Error)
	}
}

// connectTo is a client's connection, which ends with the test.
func connectTo(t *testing.T, server *broker.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// submitTo publishes a request and waits until each of ids has a result.
func (r *running) submitTo(t *testing.T, endpoints map[string]string, ids ...string) {
	t.Helper()
	for id, endpoint := range endpoints {
		header, body := foreign(t, id, "vpcep.connection.requested", map[string]any{"target": "payments", "endpoint_id": endpoint}, true)
		if err := r.bus.SubmitRaw(t.Context(), "payments", header, body); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for res, err := range r.bus.Results(ctx, events.ResultFilter{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if res.Outcome != approval.OutcomeAccepted {
			t.Errorf("%s ended %s", res.Request.EventID, res.Outcome)
		}
		if ids = slices.DeleteFunc(ids, func(id string) bool { return id == res.Request.EventID }); len(ids) == 0 {
			return
		}
	}
}

// TestOperateNamesTheRightsOfABackup backs up and restores a stream as users with the
// rights that docs/operate.md names and no others. The stream is larger than what a
// server sends before the first acknowledgement.
func TestOperateNamesTheRightsOfABackup(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	users := `{user: admin, password: p}`
	for _, role := range []string{"back up", "restore"} {
		row := regexp.MustCompile(`(?m)^\| ` + role + ` \| (.*) \|$`).FindSubmatch(doc)
		if row == nil {
			t.Fatalf("docs/operate.md does not name the rights to %s", role)
		}
		subjects := strings.NewReplacer("`", `"`).Replace(string(row[1]))
		users += fmt.Sprintf("\n{user: %q, password: p, permissions: {publish: {allow: [%s]}, subscribe: {allow: [\"_INBOX.>\"]}}}", role, subjects)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte("jetstream: enabled\nauthorization: {users: ["+users+"]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server, denied := natstest.StartOptions(t, natstest.Options(t, file))
	as := func(user string) *nats.Conn {
		t.Helper()
		nc, err := nats.Connect(server.ClientURL(), nats.UserInfo(user, "p"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}

	js, err := jetstream.New(as("admin"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "LARGE", Subjects: []string{"large"}}); err != nil {
		t.Fatal(err)
	}
	const messages = 24
	random := rand.NewChaCha8([32]byte{}) // does not compress
	for range messages {
		body := make([]byte, 512<<10)
		if _, err := random.Read(body); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "large", body); err != nil {
			t.Fatal(err)
		}
	}

	// The nats tool asks for the state of the stream before and after.
	info := func(user string) {
		t.Helper()
		if _, err := as(user).Request("$JS.API.STREAM.INFO.LARGE", nil, 10*time.Second); err != nil {
			t.Errorf("%s: %v: %q", user, err, denied.With("Violation"))
		}
	}
	info("back up")
	backup := backupStream(t, as("back up"), "LARGE")
	restorer := as("restore")
	if _, err := restorer.Request("$JS.API.STREAM.DELETE.LARGE", nil, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	restoreStream(t, restorer, "LARGE", backup)
	info("restore")
	restored, err := js.Stream(t.Context(), "LARGE")
	if err != nil {
		t.Fatal(err)
	}
	if n := restored.CachedInfo().State.Msgs; n != messages {
		t.Errorf("%d messages are restored, want %d", n, messages)
	}
	if lines := denied.With("Violation"); len(lines) > 0 {
		t.Errorf("%q", lines)
	}
}

// TestBackupAndRestore does what docs/operate.md says: it saves the streams of a
// server, restores them on a new one and starts the worker there. A request that
// was decided before has no second result there, and new ones are decided.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	r := start(t, map[string]string{"sweep.interval": "1h"}, nil) // it leaves what is new to the events
	before := r.Sim.Connect(Service, simulator.Connection{DomainID: Acme})
	r.submitTo(t, map[string]string{"before": before.ID}, "before")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	streams := []string{events.RequestsStream, events.ResultsStream, events.DeadLettersStream, events.ReviewsStream, "KV_" + events.LedgerBucket}
	backup := map[string]saved{}
	old := connectTo(t, r.server)
	for _, stream := range streams {
		backup[stream] = backupStream(t, old, stream)
	}
	r.server.Shutdown()

	server, err := broker.Start(broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	nc := connectTo(t, server)
	for _, stream := range streams {
		restoreStream(t, nc, stream, backup[stream])
	}
	r.server = server
	r.serve(t)
	after := r.Sim.Connect(Service, simulator.Connection{DomainID: Acme})
	r.submitTo(t, map[string]string{"before": before.ID, "after": after.ID}, "before", "after")

	// The repeated request is done when nothing is left to acknowledge.
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.Consumer(t.Context(), events.RequestsStream, events.ConsumerName)
	if err != nil {
		t.Fatal(err)
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-again.C {
		info, err := consumer.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.NumAckPending == 0 && info.NumPending == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests are not acknowledged", info.NumAckPending)
		}
	}
	// The sweep may have found a connection before its event came, and asks under a
	// subject of its own.
	subjects := func(stream, filter string) map[string]uint64 {
		found, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		info, err := found.Info(t.Context(), jetstream.WithSubjectFilter(filter))
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Subjects
	}
	if got := subjects(events.RequestsStream, "vpcep.requests.payments"); got["vpcep.requests.payments"] != 3 {
		t.Errorf("the stream of requests holds %v, want the first event twice and the second one", got)
	}
	results := subjects(events.ResultsStream, "vpcep.results.>")
	if len(results) < 2 {
		t.Errorf("there are the results %v, want one of each event", results)
	}
	for subject, n := range results { // it ends in the id of the request
		if n != 1 {
			t.Errorf("%s has %d results, want 1", subject, n)
		}
	}
}
