package cloudevent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	sdk "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/events/cloudevent"
)

const event = `{"specversion":"1.0","id":"e1","source":"//producer.example.org/a","type":"order.created","subject":"o1",` +
	`"time":"2026-11-21T08:00:00+01:00","traceid":"t1","data":{"n":1}}`

// TestBothModesAreOneEvent parses one event in both content modes, writes it and
// parses it again.
func TestBothModesAreOneEvent(t *testing.T) {
	t.Parallel()
	structured, err := cloudevent.Parse(nil, []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	binary, err := cloudevent.Parse(map[string][]string{
		"ce-specversion": {"1.0"}, "Ce-Id": {"e1"}, "ce-source": {"//producer.example.org/a"}, "ce-type": {"order.created"},
		"ce-subject": {"%6F1"}, "ce-time": {"2026-11-21T07:00:00Z"}, "ce-traceid": {"t1"},
	}, []byte(`{"n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(structured, binary); d != "" {
		t.Errorf("binary mode (-structured +binary):\n%s", d)
	}
	body, header, err := structured.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := cloudevent.Parse(header, body)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(structured, again); d != "" {
		t.Errorf("encoded and parsed again (-first +again):\n%s", d)
	}
}

func TestErrorNamesTheField(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body, field string
		header            map[string][]string
	}{
		{name: "no JSON", body: "x"},
		{name: "another version", body: strings.Replace(event, `"1.0"`, `"0.3"`, 1), field: "specversion"},
		{name: "no id", body: strings.Replace(event, `"e1"`, `""`, 1), field: "id"},
		{name: "a source that is a number", body: strings.Replace(event, `"//producer.example.org/a"`, `7`, 1), field: "source"},
		{name: "two modes", body: event, field: "header ce-specversion", header: map[string][]string{"Content-Type": {"application/cloudevents+json"}, "ce-specversion": {"1.0"}}},
	} {
		_, err := cloudevent.Parse(tt.header, []byte(tt.body))
		if e, ok := errors.AsType[*cloudevent.Error](err); !ok || e.Field != tt.field {
			t.Errorf("%s: %v, want an error of the field %q", tt.name, err, tt.field)
		}
	}
}

func FuzzAgainstTheSDK(f *testing.F) {
	f.Add(event)
	f.Add(`{"specversion":"1.0","id":"1","source":"/a","type":"t","time":"2026-11-21T08:00:00.5Z","mine":true,"n":-7,"data_base64":"e30="}`)
	f.Add(`{"specversion":"1.0","id":"\ud83d\ude00","source":"a%20b","type":"t","subject":null,"datacontenttype":"application/x+json","data":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		ours, err := cloudevent.Parse(nil, []byte(body))
		if err != nil {
			return
		}
		var theirs sdk.Event
		if err := json.Unmarshal([]byte(body), &theirs); err != nil {
			return // it is stricter in places that the specification leaves open
		}
		// The SDK keeps the source as a URL, which escapes what may not stand in one.
		source, err := url.Parse(ours.Source)
		if err != nil {
			t.Fatalf("the SDK takes the source %q, which is no URL: %v", ours.Source, err)
		}
		got := []any{ours.ID, source.String(), ours.Type, ours.Subject, ours.Time.Equal(theirs.Time())}
		want := []any{theirs.ID(), theirs.Source(), theirs.Type(), theirs.Subject(), true}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the same bytes are two events (-SDK +ours):\n%s", d)
		}
	})
}

func ExampleParse() {
	e, err := cloudevent.Parse(map[string][]string{
		"ce-specversion": {"1.0"}, "ce-id": {"4711"}, "ce-source": {"portal"}, "ce-type": {"order.created"},
	}, []byte(`{"n":1}`))
	fmt.Println(e.ID, e.Source, e.Type, string(e.Data), err)
	// Output: 4711 portal order.created {"n":1} <nil>
}
