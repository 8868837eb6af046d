package events

import (
	"errors"
	"strings"
	"testing"
)

// TestCoreAttributesAreStrings: an id, a source or a type that is a number or a
// bool is refused; an extension may be either.
func TestCoreAttributesAreStrings(t *testing.T) {
	t.Parallel()
	const event = `{"specversion":"1.0","id":"1","source":"s","type":"vpcep.connection.requested","time":"2026-11-21T08:00:00Z","mine":7,` +
		`"data":{"target":"payments","endpoint_id":"705290f3-0d00-41f2-aedc-71f09844e879"}}`
	if _, err := DecodeRequest(nil, []byte(event), targets()); err != nil {
		t.Fatalf("the event itself: %v", err)
	}
	for from, to := range map[string]string{
		`"id":"1"`: `"id":1`, `"source":"s"`: `"source":true`, `"type":"vpcep.connection.requested"`: `"type":10`,
		`"specversion":"1.0"`: `"specversion":1.0`, `"time":"2026-11-21T08:00:00Z"`: `"time":1795248000`,
	} {
		_, err := DecodeRequest(nil, []byte(strings.Replace(event, from, to, 1)), targets())
		if r, ok := errors.AsType[*InvalidEventError](err); !ok || r.Reason != ReasonUnreadable {
			t.Errorf("with %s: %v, want it unreadable", to, err)
		}
	}
}
