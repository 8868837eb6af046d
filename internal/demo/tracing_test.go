package demo

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/tracing/tracingtest"
)

// TestTracesOfAWorker runs a request through a whole worker with a collector: the trace of
// the event holds the delivery, its stages and the calls of the cloud, and nothing secret;
// the result, the log and the exemplars name it.
func TestTracesOfAWorker(t *testing.T) {
	const canary, theirs = "CANARY4711", "4bf92f3577b34da6a3ce929d0e0e4736"
	got := tracingtest.Start(t)
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

	names := map[string]int{}
	for _, s := range got.Spans() {
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
		if got.Contains(secret) {
			t.Errorf("%q reached the collector", secret)
		}
	}
	if !strings.Contains(r.log.String(), `"trace_id":"`+theirs+`"`) {
		t.Error("the log does not name the trace")
	}
}
