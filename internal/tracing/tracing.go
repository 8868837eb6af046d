// Package tracing makes OpenTelemetry spans of deliveries, their stages and the calls
// of the cloud, and sends them by OTLP over HTTP. Nothing of an event, a URL, a header or a
// body becomes part of a span but ids, names and codes.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const (
	// closeTimeout limits what a collector that does not answer takes of the shutdown.
	closeTimeout = 3 * time.Second
	// retryFor limits how long spans are sent again; later ones wait meanwhile, and are
	// dropped once there are too many.
	retryFor = 10 * time.Second
)

// Config configures a Tracer. Everything else comes from the OTEL_ variables.
type Config struct {
	Version    string // of the worker
	InstanceID string
	Log        zerolog.Logger
	Failed     func() // counts spans that could not be sent; called for each batch
}

// Enabled reports whether an OTLP endpoint is set.
func Enabled() bool {
	return os.Getenv("OTEL_SDK_DISABLED") != "true" &&
		(os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "")
}

// Tracer makes spans. It is safe for concurrent use.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	sampler  sdk.Sampler
	closeIn  time.Duration
}

// New returns a Tracer that sends to the endpoint of the OTEL_ variables. It does not
// connect, so a collector that is away delays nothing.
func New(ctx context.Context, c Config) (*Tracer, error) {
	ratio, err := ratio()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if p := os.Getenv(name); p != "" && p != "http/protobuf" {
			return nil, fmt.Errorf("%s: %q is not supported; set http/protobuf", name, p)
		}
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
		Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: retryFor,
	}))
	if err != nil {
		return nil, fmt.Errorf("set up the export of traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "vpcep-approver"), attribute.String("service.version", c.Version), attribute.String("service.instance.id", c.InstanceID)),
		resource.WithTelemetrySDK(), resource.WithFromEnv()) // what the operator sets comes last
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	sampler := sdk.TraceIDRatioBased(ratio)
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&reporting{SpanExporter: exporter, log: c.Log, failed: c.Failed, now: time.Now}),
		sdk.WithResource(about), sdk.WithSampler(sampler), sdk.WithIDGenerator(idGenerator{}))
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/vpcep-approver/vpcep-approver"), sampler: sampler, closeIn: closeTimeout}, nil
}

// ratio is the part of the traces that are recorded. It is chosen by trace id and not
// by the flag of the producer, who could flood the collector or hide from it.
func ratio() (float64, error) {
	const name = "OTEL_TRACES_SAMPLER_ARG"
	text := os.Getenv(name)
	if text == "" {
		return 1, nil
	}
	r, err := strconv.ParseFloat(text, 64)
	if err != nil || !(r >= 0 && r <= 1) {
		return 0, fmt.Errorf("%s: %q is not a number from 0 to 1", name, text)
	}
	return r, nil
}

// Close sends what is left, for at most three seconds.
func (t *Tracer) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.closeIn)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what could not be sent was reported
}

// delivery is the span of a delivery and that of its current stage.
type delivery struct {
	span, stage trace.Span
}

type deliveryKey struct{}

// Delivery returns handle with a span around it. All deliveries of a request are in one
// trace: that of the event's traceparent, else one that is named by the request's id. A
// span is linked to that of the delivery before, whose id follows from the request.
// The trace context with our choice of whether the trace is recorded goes into the request,
// and from there into its result and the exemplars.
func (t *Tracer) Delivery(handle func(context.Context, *approval.Delivery) error) func(context.Context, *approval.Delivery) error {
	return func(ctx context.Context, d *approval.Delivery) error {
		span := t.start(ctx, d)
		current := &delivery{span: span}
		err := handle(context.WithValue(trace.ContextWithSpan(ctx, span), deliveryKey{}, current), d)
		current.end()
		span.SetAttributes(attribute.String("vpcep.delivery.outcome", outcomeOf(err)))
		span.End()
		return err
	}
}

// outcomeOf is what becomes of a delivery: done, dead_letter, or the cause for which it
// is given back.
func outcomeOf(err error) string {
	if err == nil {
		return "done"
	}
	if e, ok := errors.AsType[interface {
		error
		GivenBack() string
	}](err); ok {
		return e.GivenBack()
	}
	return "dead_letter"
}

// start starts the span of d, and sets the trace context of its request.
func (t *Tracer) start(ctx context.Context, d *approval.Delivery) trace.Span {
	r := &d.Request
	parent, carried := parseTraceParent(r.TraceParent)
	traceID := parent.TraceID()
	if !carried {
		traceID = traceIDOf(r.ID)
	}
	sampled := t.sampler.ShouldSample(sdk.SamplingParameters{TraceID: traceID}).Decision == sdk.RecordAndSample
	within := withIDs(ctx, traceID, spanIDOf(d, d.Attempt))
	if carried {
		within = trace.ContextWithRemoteSpanContext(within, parent)
	}
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			attribute.String("messaging.system", "nats"), attribute.String("messaging.operation.type", "process"),
			attribute.String("vpcep.request.id", r.ID), attribute.String("vpcep.target", r.Target.Name), attribute.Int("vpcep.delivery.attempt", d.Attempt)),
	}
	if !carried {
		options = append(options, trace.WithNewRoot())
	}
	if d.Attempt > 1 {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: traceID, SpanID: spanIDOf(d, d.Attempt-1), TraceFlags: flags(sampled),
		})}))
	}
	_, span := t.tracer.Start(within, "process request", options...)
	// The same for every delivery, since it goes into the ledger and the result.
	from := parent.SpanID()
	if !carried {
		from = spanIDOf(d, 1)
	}
	r.TraceParent = fmt.Sprintf("00-%s-%s-%s", traceID, from, flags(sampled))
	return span
}

// Stage ends the stage before, and starts the span of the next one in the delivery
// of ctx.
func (t *Tracer) Stage(ctx context.Context, name string) context.Context {
	current, ok := ctx.Value(deliveryKey{}).(*delivery)
	if !ok {
		return ctx
	}
	current.end()
	ctx, current.stage = t.tracer.Start(trace.ContextWithSpan(ctx, current.span), name)
	return ctx
}

func (d *delivery) end() {
	if d.stage != nil {
		d.stage.End()
		d.stage = nil
	}
}

// Call starts the span of a call of the cloud. end takes the HTTP status, 0 if there is
// none, and the class of the result; ok if it is a success. A read that several requests share
// is in a trace of its own.
func (t *Tracer) Call(ctx context.Context, api, operation string) (within context.Context, end func(status int, class string, ok bool)) {
	within, span := t.tracer.Start(ctx, api+" "+operation, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rpc.service", api), attribute.String("rpc.method", operation)))
	return within, func(status int, class string, ok bool) {
		span.SetAttributes(attribute.String("vpcep.call.class", class))
		if status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", status))
		}
		if !ok {
			span.SetStatus(codes.Error, class)
		}
		span.End()
	}
}
