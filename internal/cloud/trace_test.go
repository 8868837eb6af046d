package cloud

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestTrace: each attempt of a call has a span with its operation and class, and nothing
// of the trace is sent to the cloud.
func TestTrace(t *testing.T) {
	t.Parallel()
	type inSpan struct{}
	var mu sync.Mutex
	var spans []string
	calls := 0
	rt := script(func(r *http.Request, _ string) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		if r.Context().Value(inSpan{}) == nil {
			t.Error("a request is sent outside of its span")
		}
		for name := range r.Header {
			if lower := strings.ToLower(name); strings.HasPrefix(lower, "trace") || lower == "baggage" {
				t.Errorf("the header %s is sent to the cloud", name)
			}
		}
		if calls++; calls == 1 {
			return says(http.StatusServiceUnavailable, errorJSON("APIGW.0201"))
		}
		return says(http.StatusOK, rowsJSON(1, rowJSON(endpoint, approval.Pending)))
	})
	c := client(t, rt, func(cfg *Config) {
		cfg.Trace = func(ctx context.Context, api, operation string) (context.Context, func(int, string, bool)) {
			return context.WithValue(ctx, inSpan{}, true), func(status int, class string, ok bool) {
				mu.Lock()
				defer mu.Unlock()
				spans = append(spans, strings.Join([]string{api, operation, http.StatusText(status), class, map[bool]string{true: "ok", false: "error"}[ok]}, " "))
			}
		}
	})
	if _, err := c.Facts(t.Context(), connect(service())); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{"vpcep ListServiceConnections Service Unavailable retry error", "vpcep ListServiceConnections OK ok ok"}
	if diff := cmp.Diff(want, spans); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}
