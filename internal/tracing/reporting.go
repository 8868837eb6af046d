package tracing

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// logEvery is how often failures to send spans are logged.
const logEvery = time.Minute

// reporting counts and logs what an exporter could not send. The SDK would write it to
// the standard logger.
type reporting struct {
	sdk.SpanExporter
	log    zerolog.Logger
	failed func()
	now    func() time.Time

	mu   sync.Mutex
	last time.Time
}

// ExportSpans sends spans.
func (r *reporting) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	r.failed()
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); r.last.IsZero() || now.Sub(r.last) >= logEvery {
		r.last = now
		r.log.Warn().Err(err).Int("spans", len(spans)).Msg("traces cannot be sent and are dropped; check OTEL_EXPORTER_OTLP_ENDPOINT and the collector")
	}
	return nil
}
