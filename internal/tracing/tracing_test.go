package tracing

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/tracing/tracingtest"
)

// named returns the spans of a name.
func named(c *tracingtest.Collector, name string) []*otlp.Span {
	return slices.DeleteFunc(c.Spans(), func(s *otlp.Span) bool { return s.GetName() != name })
}

func attributes(s *otlp.Span) map[string]string {
	out := map[string]string{}
	for _, kv := range s.GetAttributes() {
		out[kv.GetKey()] = kv.GetValue().GetStringValue()
		if _, ok := kv.GetValue().GetValue().(*common.AnyValue_IntValue); ok {
			out[kv.GetKey()] = "int"
		}
	}
	return out
}

func start(t *testing.T) *Tracer {
	t.Helper()
	if !Enabled() {
		t.Fatal("tracing is off")
	}
	tr, err := New(t.Context(), Config{Version: "v1.2.3", InstanceID: "h/1", Log: zerolog.Nop(), Failed: func() { t.Error("spans could not be sent") }})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

const (
	requestID = "433acc450204be2581e13aa4c2983a01"
	theirs    = "4bf92f3577b34da6a3ce929d0e0e4736"
	secret    = "SECRET-CANARY"
)

// deliver has a delivery handled in two stages with a call of the cloud.
func deliver(t *testing.T, tr *Tracer, attempt int, traceParent string, err error) *approval.Delivery {
	t.Helper()
	d := &approval.Delivery{
		Request: approval.Request{
			ID: requestID, Source: secret, EventID: secret, Target: approval.Target{Name: "payments"}, TraceParent: traceParent,
			Claims: approval.Claims{"token": secret},
		},
		Attempt: attempt, PublishedAt: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC),
	}
	got := tr.Delivery(func(ctx context.Context, _ *approval.Delivery) error {
		_, end := tr.Call(tr.Stage(ctx, "verify"), "vpcep", "ListServiceConnections")
		end(http.StatusOK, "ok", true)
		_, end = tr.Call(tr.Stage(ctx, "act"), "vpcep", "AcceptOrRejectEndpoint")
		end(http.StatusTooManyRequests, "throttle", false)
		return err
	})(t.Context(), d)
	if !errors.Is(got, err) {
		t.Errorf("the delivery ended with %v, want %v", got, err)
	}
	return d
}

// TestTraceOfARequest: names, parents, links and the resource.
func TestTraceOfARequest(t *testing.T) {
	got := tracingtest.Start(t)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
	tr := start(t)
	first := deliver(t, tr, 1, "", errors.New("x"))
	second := deliver(t, tr, 2, "", nil)
	tr.Close(t.Context())

	if want := "00-" + requestID + "-"; !strings.HasPrefix(first.Request.TraceParent, want) || first.Request.TraceParent != second.Request.TraceParent || !strings.HasSuffix(first.Request.TraceParent, "-01") {
		t.Errorf("the requests have %q and %q, want the same, %s…-01", first.Request.TraceParent, second.Request.TraceParent, want)
	}
	if got.Resource("service.name") != "vpcep-approver" || got.Resource("service.version") != "v1.2.3" || got.Resource("deployment.environment") != "test" || got.Resource("service.instance.id") != "h/1" {
		t.Error("the resource lacks its name, version, instance or environment")
	}
	roots := named(got, "process request")
	if len(roots) != 2 {
		t.Fatalf("%d roots, want one for each delivery", len(roots))
	}
	for i, root := range roots {
		if hex.EncodeToString(root.GetTraceId()) != requestID || len(root.GetParentSpanId()) != 0 || root.GetKind() != otlp.Span_SPAN_KIND_CONSUMER {
			t.Errorf("root %d is in the trace %x below %x", i, root.GetTraceId(), root.GetParentSpanId())
		}
	}
	if len(roots[0].GetLinks()) != 0 || len(roots[1].GetLinks()) != 1 || !bytes.Equal(roots[1].GetLinks()[0].GetSpanId(), roots[0].GetSpanId()) {
		t.Errorf("the second delivery is linked to %v, want %x", roots[1].GetLinks(), roots[0].GetSpanId())
	}
	if hex.EncodeToString(roots[0].GetSpanId()) != first.Request.TraceParent[36:52] {
		t.Errorf("the result names %s, want the span of the first delivery", first.Request.TraceParent)
	}
	for i, outcome := range []string{"dead_letter", "done"} {
		want := map[string]string{
			"messaging.system": "nats", "messaging.operation.type": "process", "vpcep.request.id": requestID, "vpcep.target": "payments",
			"vpcep.delivery.attempt": "int", "vpcep.delivery.outcome": outcome,
		}
		if diff := cmp.Diff(want, attributes(roots[i])); diff != "" {
			t.Errorf("attributes of delivery %d (-want +got):\n%s", i+1, diff)
		}
	}
	for stage, call := range map[string]string{"verify": "vpcep ListServiceConnections", "act": "vpcep AcceptOrRejectEndpoint"} {
		for i, s := range named(got, stage) {
			calls := named(got, call)
			if !bytes.Equal(s.GetParentSpanId(), roots[i].GetSpanId()) || !bytes.Equal(calls[i].GetParentSpanId(), s.GetSpanId()) || calls[i].GetKind() != otlp.Span_SPAN_KIND_CLIENT {
				t.Errorf("%s of delivery %d is not below its delivery, or its call not below it", stage, i+1)
			}
		}
	}
	if refused := named(got, "vpcep AcceptOrRejectEndpoint")[0]; refused.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("a refused call has the status %v", refused.GetStatus())
	}
	for _, s := range got.Spans() {
		if text := s.String(); strings.Contains(text, secret) {
			t.Errorf("a span holds what the event says: %s", text)
		}
	}
}

// TestTraceOfTheProducer: the event's trace goes on, and its flag decides nothing.
func TestTraceOfTheProducer(t *testing.T) {
	got := tracingtest.Start(t)
	tr := start(t)
	d := deliver(t, tr, 1, "00-"+theirs+"-00f067aa0ba902b7-00", nil)
	tr.Close(t.Context())
	roots := named(got, "process request")
	if len(roots) != 1 {
		t.Fatalf("%d spans of the delivery, want 1", len(roots))
	}
	root := roots[0]
	if hex.EncodeToString(root.GetTraceId()) != theirs || hex.EncodeToString(root.GetParentSpanId()) != "00f067aa0ba902b7" {
		t.Errorf("the delivery is in %x below %x", root.GetTraceId(), root.GetParentSpanId())
	}
	if want := "00-" + theirs + "-00f067aa0ba902b7-01"; d.Request.TraceParent != want {
		t.Errorf("passed on is %s, want %s", d.Request.TraceParent, want)
	}
}

// TestSampling: the ratio decides by trace id, whatever the producer says.
func TestSampling(t *testing.T) {
	got := tracingtest.Start(t)
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0")
	tr := start(t)
	d := deliver(t, tr, 1, "00-"+theirs+"-00f067aa0ba902b7-01", nil)
	tr.Close(t.Context())
	if len(got.Spans()) != 0 || !strings.HasSuffix(d.Request.TraceParent, "-00") {
		t.Errorf("%d spans were sent, and passed on is %s", len(got.Spans()), d.Request.TraceParent)
	}
	for name, value := range map[string]string{"OTEL_TRACES_SAMPLER_ARG": "1.5", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"} {
		t.Setenv(name, value)
		if _, err := New(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
		t.Setenv(name, "")
	}
}

// TestACollectorThatHangsDelaysNothing: neither requests nor the shutdown.
func TestACollectorThatHangsDelaysNothing(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)
	tr, err := New(t.Context(), Config{Failed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 { // more than wait to be sent
		deliver(t, tr, 1, "", nil)
	}
	tr.closeIn = time.Millisecond
	tr.Close(t.Context()) // the collector has not answered yet
}

// failing is an exporter that always fails.
type failing struct{ sdk.SpanExporter }

func (failing) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return errors.New("refused") }

// TestFailuresAreCountedAndLoggedOnceAMinute.
func TestFailuresAreCountedAndLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	now, failed := time.Now(), 0
	r := &reporting{SpanExporter: failing{}, log: zerolog.New(&log), failed: func() { failed++ }, now: func() time.Time { return now }}
	for _, after := range []time.Duration{0, time.Second, logEvery - 2*time.Second, time.Second, time.Second} {
		now = now.Add(after)
		if err := r.ExportSpans(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	if lines := strings.Count(log.String(), "traces cannot be sent"); failed != 5 || lines != 2 {
		t.Errorf("counted %d failures and logged %d, want 5 and 2:\n%s", failed, lines, log.String())
	}
}

func TestOffWithoutAnEndpoint(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	if Enabled() {
		t.Error("tracing is on without an endpoint")
	}
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")
	if !Enabled() {
		t.Error("tracing is off with an endpoint")
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if Enabled() {
		t.Error("tracing is on though it is disabled")
	}
}
