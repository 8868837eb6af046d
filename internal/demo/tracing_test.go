package demo

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

// TestTracesOfAWorker runs a request through a whole worker with a collector: the trace of
// the event holds the delivery, its stages and the calls of the cloud, and nothing secret;
// the result, the log and the exemplars name it.
func TestTracesOfAWorker(t *testing.T) {
	const canary, theirs = "CANARY4711", "4bf92f3577b34da6a3ce929d0e0e4736"
	var mu sync.Mutex
	var raw bytes.Buffer
	var spans []*otlp.Span
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unzipped
		}
		data, err := io.ReadAll(body)
		var export collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(data, &export)
		}
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		raw.Write(data)
		for _, of := range export.GetResourceSpans() {
			for _, scope := range of.GetScopeSpans() {
				spans = append(spans, scope.GetSpans()...)
			}
		}
	}))
	defer srv.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)

	r := start(t, map[string]string{"log.level": "info"}, nil)
	c := r.Sim.Connect(Service, simulator.Connection{DomainID: Acme})
	header, body := foreign(t, "traced", "vpcep.connection.requested", map[string]any{
		"target": "payments", "endpoint_id": c.ID, "claims": map[string]any{"token": canary, "requester": canary},
	}, false)
	if err := r.bus.SubmitRaw(t.Context(), "payments", header, body); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for res, err := range r.bus.Results(ctx, events.ResultFilter{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := "00-" + theirs + "-00f067aa0ba902b7-01"; res.Request.TraceParent != want {
			t.Errorf("the result has the trace context %q, want %q", res.Request.TraceParent, want)
		}
		break
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	mu.Lock()
	defer mu.Unlock()
	names := map[string]int{}
	for _, s := range spans {
		name := s.GetName()
		if hex.EncodeToString(s.GetTraceId()) != theirs {
			name = "elsewhere: " + name // a read that several requests share
		}
		names[name]++
	}
	for _, name := range []string{"process request", "recall", "verify", "decide", "record", "act", "follow", "conclude", "vpcep AcceptOrRejectEndpoint"} {
		if names[name] == 0 {
			t.Errorf("the trace has no span %q: %v", name, names)
		}
	}
	if names["vpcep ListServiceConnections"]+names["elsewhere: vpcep ListServiceConnections"] == 0 {
		t.Errorf("no span of a read: %v", names)
	}
	auth := simulator.DefaultAuth()
	for _, secret := range []string{canary, auth.AccessKey, auth.SecretKey, "limit=", "Authorization"} {
		if bytes.Contains(raw.Bytes(), []byte(secret)) {
			t.Errorf("%q reached the collector", secret)
		}
	}
	if !strings.Contains(r.log.String(), `"trace_id":"`+theirs+`"`) {
		t.Error("the log does not name the trace")
	}
}
