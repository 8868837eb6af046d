package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

// TestOneShape compares the data of a result event with what commands print of the
// same request.
func TestOneShape(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	target, _ := f.cfg.Targets.ByName("payments")
	req := approval.Request{
		ID: approval.RequestID("/x", "1"), Source: "/x", EventID: "1", Target: target, EndpointID: endpointA,
		Claims: approval.Claims{"requester": "<a&b>", "tags": map[string]any{"env": "prod"}},
	}
	res := resultFor(req, approval.OutcomeFailed)
	res.Decision.Facts.MarkerID = 1<<53 + 1
	res.Failure = &approval.Failure{Code: "EndPoint.0005", Text: "It is not there.", RequestID: "c0ffee"}
	if err := f.bus.Publish(t.Context(), res); err != nil {
		t.Fatal(err)
	}
	bucket, err := f.bus.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	book := ledger.New(bucket, nil)
	entry, _, err := ledgertest.Record(t.Context(), book, &req, &res.Decision)
	if err != nil {
		t.Fatal(err)
	}
	entry.Result = &res
	if err := book.Put(t.Context(), entry); err != nil {
		t.Fatal(err)
	}

	nc, err := nats.Connect(f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), events.ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var event struct {
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(raw.Data, &event); err != nil {
		t.Fatal(err)
	}
	facts, _ := event.Data["facts"].(map[string]any)
	if facts["marker_id"] != "9007199254740993" {
		t.Errorf("marker_id is %v, want a string with every digit", facts["marker_id"])
	}
	object := func(text string) map[string]any {
		t.Helper()
		var v map[string]any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return v
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(f.do(t.Context(), "", "requests", "list", "-o", "json").stdout), &list); err != nil || len(list) != 1 {
		t.Fatalf("requests list: %v, %v", list, err)
	}
	for name, got := range map[string]map[string]any{
		"watch":         object(f.do(t.Context(), "", "watch", "--no-follow", "--since", "1h", "-o", "json").stdout),
		"requests show": object(f.do(t.Context(), "", "requests", "show", req.ID, "-o", "json").stdout),
		"requests list": list[0],
	} {
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		checkResult(t, name, text)
		for _, ledgers := range []string{"acted_at", "sends", "revision", "history"} {
			delete(got, ledgers)
		}
		if diff := cmp.Diff(event.Data, got); diff != "" {
			t.Errorf("%s differs from the event (-event +printed):\n%s", name, diff)
		}
	}
	// The request is known, so its result is there already.
	event2 := `{"specversion": "1.0", "id": "1", "source": "/x", "type": "vpcep.connection.requested", "data": {"target": "payments", "endpoint_id": "` + endpointA + `"}}`
	waited := object(f.do(t.Context(), event2, "submit", "--file", "-", "--wait", "-o", "json").stdout)
	if diff := cmp.Diff(event.Data, waited); diff != "" {
		t.Errorf("submit --wait differs from the event (-event +printed):\n%s", diff)
	}
}

// TestSubmitWithAUsedID: what was not stored is not called submitted.
func TestSubmitWithAUsedID(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	submit := func(endpoint string) result {
		return f.do(t.Context(), "", "submit", "--target", "payments", "--endpoint-id", endpoint, "--id", "same")
	}
	for range 2 {
		if got := submit(endpointA); got.code != cli.ExitDone {
			t.Errorf("%+v", got)
		}
	}
	got := submit(strings.Replace(endpointA, "7", "8", 1))
	if got.code != cli.ExitFailed || got.stdout != "" || !strings.Contains(got.stderr, "id already used (sequence 1)") {
		t.Errorf("%+v, want exit 1 and the sequence", got)
	}
	if got := f.do(t.Context(), "", "submit", "--target", "payments", "--endpoint-id", endpointA, "--source", approval.SweepSource); got.code != cli.ExitInvalid || !strings.Contains(got.stderr, "sweep's own") {
		t.Errorf("%+v, want the sweep's source refused", got)
	}
}

// TestSubmitSaysThatNobodyServes before it gives up.
func TestSubmitSaysThatNobodyServes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	got := f.do(t.Context(), "", "submit", "--target", "payments", "--endpoint-id", endpointA, "--wait", "--timeout", "6s")
	if got.code != cli.ExitFailed || !strings.Contains(got.stderr, "no worker takes requests") || !strings.Contains(got.stderr, "no result within 6s") {
		t.Errorf("%+v", got)
	}
}
