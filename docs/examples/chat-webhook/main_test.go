package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/docs/examples/exampletest"
)

// TestPosts: held requests alone are posted, and again if the chat did not take them.
func TestPosts(t *testing.T) {
	t.Parallel()
	posted, calls := make(chan string, 10), atomic.Int32{}
	chat := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 { // one message is in flight at a time
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		var body struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Method != http.MethodPost {
			t.Errorf("%s: %v", r.Method, err)
		}
		posted <- body.Text
	}))
	defer chat.Close()
	url, golden := exampletest.Start(t), exampletest.Golden(t)
	exampletest.Publish(t, url, golden["accepted"], golden["held"], golden["refused"])

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- poster{webhook: chat.URL, client: chat.Client(), retry: 1}.run(ctx, url, "test") }()
	const want = "A request to orders waits for a person.\nendpoint: 705290f3-0d00-41f2-aedc-71f09844e879\nsee it: worker reviews show r"
	if got := <-posted; got != want {
		t.Errorf("posted %q, want %q", got, want)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if len(posted) != 0 || calls.Load() != 2 {
		t.Errorf("%d calls, and %d more are posted", calls.Load(), len(posted))
	}
}

// TestText shows who may decide, and nothing that was claimed.
func TestText(t *testing.T) {
	t.Parallel()
	var event held
	if err := json.Unmarshal([]byte(`{"data": {"request": {"id": "a1", "target": "payments", "endpoint_id": "e1", "claims": {"requester": "<!channel>"}},
		"decision": {"reasons": [{"code": "not_allowed", "text": "No rule allows this request."}], "review": [{"policy": "payments", "by": ["network-team"], "approvals": 2}]},
		"facts": {"domain_id": "d1"}}}`), &event); err != nil {
		t.Fatal(err)
	}
	const want = "A request to payments waits for a person.\nendpoint: e1\naccount: d1\nwhy: No rule allows this request.\nmay decide: network-team; approvals needed: 2\nsee it: worker reviews show a1"
	if got := text(event); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestErrorsHideTheAddress: who knows the address of the webhook can post.
func TestErrorsHideTheAddress(t *testing.T) {
	t.Parallel()
	for _, webhook := range []string{"http://127.0.0.1:1/SECRET", "://SECRET"} {
		err := poster{webhook: webhook, client: http.DefaultClient}.post(t.Context(), []byte(`{}`))
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", webhook, err)
		}
	}
}
