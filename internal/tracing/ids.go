package tracing

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"go.opentelemetry.io/otel/trace"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// traceIDOf is the trace of a request whose event names none. A request id is 32
// hexadecimal digits of a digest, which is the form of a trace id.
func traceIDOf(requestID string) trace.TraceID {
	if id, err := trace.TraceIDFromHex(requestID); err == nil {
		return id
	}
	sum := sha256.Sum256([]byte(requestID))
	return trace.TraceID(sum[:16])
}

// spanIDOf is the span of a delivery, so that the next one can be linked to it wherever it
// is made. The time at which the bus took the message tells replays apart.
func spanIDOf(d *approval.Delivery, attempt int) trace.SpanID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%d", d.Request.ID, d.PublishedAt.UnixNano(), attempt))
	return trace.SpanID(sum[:8])
}

func flags(sampled bool) trace.TraceFlags { return trace.TraceFlags(0).WithSampled(sampled) }

// parseTraceParent reads a W3C traceparent that the bus has checked; false if it is empty.
func parseTraceParent(s string) (trace.SpanContext, bool) {
	if len(s) < 55 {
		return trace.SpanContext{}, false
	}
	traceID, err1 := trace.TraceIDFromHex(s[3:35])
	spanID, err2 := trace.SpanIDFromHex(s[36:52])
	if err1 != nil || err2 != nil {
		return trace.SpanContext{}, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, Remote: true}), true
}

// idGenerator takes the ids from the context where they are known, and else random ones.
type idGenerator struct{}

type idsKey struct{}

type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

func withIDs(ctx context.Context, traceID trace.TraceID, spanID trace.SpanID) context.Context {
	return context.WithValue(ctx, idsKey{}, ids{traceID, spanID})
}

// NewIDs returns the ids of a span without a parent.
func (g idGenerator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if known, ok := ctx.Value(idsKey{}).(ids); ok {
		return known.trace, known.span
	}
	var id trace.TraceID
	_, _ = rand.Read(id[:]) // never fails
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID returns the id of a span with a parent.
func (idGenerator) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if known, ok := ctx.Value(idsKey{}).(ids); ok {
		return known.span
	}
	var id trace.SpanID
	_, _ = rand.Read(id[:]) // never fails
	return id
}
