package service

import (
	"context"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/tracing"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// tracer connects tracing to the parts. Without an OTLP endpoint it changes none of them,
// so that tracing costs nothing.
type tracer struct{ *tracing.Tracer }

func (s *Service) startTracing(ctx context.Context, counters *metrics.Metrics) (tracer, error) {
	if !tracing.Enabled() {
		return tracer{}, nil
	}
	t, err := tracing.New(ctx, tracing.Config{
		Version: cli.ReadBuild().Version, InstanceID: instanceID(), Log: s.Log, Failed: counters.TraceExportFailed,
	})
	return tracer{t}, err
}

// close sends what is left.
func (t tracer) close(ctx context.Context) {
	if t.Tracer != nil {
		t.Close(ctx)
	}
}

func (t tracer) cloud(c cloud.Config) cloud.Config {
	if t.Tracer != nil {
		c.Trace = t.Call
	}
	return c
}

// worker returns what handles the deliveries of w.
func (t tracer) worker(w *worker.Worker) func(context.Context, *approval.Delivery) error {
	handle := deadLetterUnprocessable(w.Handle)
	if t.Tracer == nil {
		return handle
	}
	w.Tracer = t.Tracer
	return t.Delivery(handle)
}
