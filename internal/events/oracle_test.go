package events

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	sdk "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// The CloudEvents SDK is the oracle: what it writes we read, what we write it
// reads, and what we take it takes to be the same event.

func sdkEvent(t *testing.T) sdk.Event {
	t.Helper()
	e := sdk.New()
	e.SetID("e 1/€%41")
	e.SetSource("//producer.example.org/a?b=c")
	e.SetType(TypeConnection)
	e.SetSubject("Euro €")
	e.SetTime(time.Date(2026, 11, 21, 8, 0, 0, 123, time.FixedZone("", 3600)))
	e.SetDataSchema("https://example.org/schema")
	e.SetExtension("count", 42)
	e.SetExtension("flag", true)
	e.SetExtension("mine", "ä%20")
	if err := e.SetData("application/json", map[string]any{"target": "payments", "endpoint_id": endpoint, "claims": map[string]any{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestReadsWhatTheSDKWrites(t *testing.T) {
	t.Parallel()
	e := sdkEvent(t)
	want := approval.Request{
		ID: approval.RequestID(e.Source(), e.ID()), Source: e.Source(), EventID: e.ID(), Time: e.Time().UTC(),
		Target: targets()[0], EndpointID: endpoint, Claims: approval.Claims{"a": "b"},
	}
	structured, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRequest(nats.Header{"Content-Type": {"application/cloudevents+json"}}, structured, targets())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("structured mode (-SDK +ours):\n%s", d)
	}

	header := nats.Header{
		"ce-specversion": {e.SpecVersion()}, "ce-id": {url.PathEscape(e.ID())}, "ce-source": {url.PathEscape(e.Source())},
		"ce-type": {e.Type()}, "ce-subject": {url.PathEscape(e.Subject())}, "ce-time": {e.Time().Format(time.RFC3339Nano)},
		"ce-dataschema": {url.PathEscape(e.DataSchema())}, "ce-datacontenttype": {e.DataContentType()},
	}
	for name, value := range e.Extensions() {
		header["ce-"+name] = []string{url.PathEscape(fmt.Sprint(value))}
	}
	got, err = DecodeRequest(header, e.Data(), targets())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("binary mode (-SDK +ours):\n%s", d)
	}
	parsed, err := parseEvent(header, e.Data(), MaxEvent)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"count": "42", "flag": "true", "mine": "ä%20"}, parsed.Extensions); d != "" {
		t.Errorf("extensions in binary mode (-SDK +ours):\n%s", d)
	}
}

func TestTheSDKReadsWhatWeWrite(t *testing.T) {
	t.Parallel()
	r := result("e 1/€", approval.OutcomeAccepted)
	body, _, err := encodeResult(r, r.Decision.ID, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var e sdk.Event
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	got := []any{e.ID(), e.Source(), e.Type(), e.Subject(), e.DataContentType(), e.Time().Equal(r.At), e.Extensions()["causationid"], e.Extensions()["traceparent"]}
	want := []any{r.Decision.ID, "vpcep-approver", "vpcep.request.accepted", endpoint, "application/json", true, "e 1/€", r.Request.TraceParent}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("a result (-ours +SDK):\n%s", d)
	}
	body, _, err = encodeRequest(connection("e 1/€"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Validate() != nil || e.ID() != "e 1/€" || e.Type() != TypeConnection {
		t.Errorf("a request: %v, %v, %+v", err, e.Validate(), e)
	}
}
