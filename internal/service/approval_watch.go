package service

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

const (
	approvalInterval = time.Hour       // between reads of the approval settings
	approvalRetry    = 5 * time.Minute // the same while one of them cannot be read
)

// approvalReader reads the approval setting of an endpoint service; *cloud.Client
// provides it.
type approvalReader interface {
	ApprovalEnabled(ctx context.Context, t approval.Target) (bool, error)
}

// approvalWatch reports endpoint services that accept every connection by
// themselves: the policies are not asked there, and nothing else would show it.
type approvalWatch struct {
	cloud   approvalReader
	metrics *metrics.Metrics
	log     zerolog.Logger
	targets approval.Targets

	told map[string]string // what was logged last, by target
}

// run reads the settings now and then until ctx ends.
func (w *approvalWatch) run(ctx context.Context) {
	w.told = map[string]string{}
	for {
		wait := approvalInterval
		if !w.read(ctx) {
			wait = approvalRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// read reads the setting of each target that has one, and reports whether it could.
func (w *approvalWatch) read(ctx context.Context) bool {
	all := true
	for _, t := range w.targets {
		if !cloud.ApprovalReadable(t) {
			continue
		}
		enabled, err := w.cloud.ApprovalEnabled(ctx, t)
		if ctx.Err() != nil {
			return false
		}
		last := w.told[t.Name]
		switch {
		case err != nil:
			all = false
			if last == "" {
				w.told[t.Name] = "unreadable"
				w.log.Warn().Err(err).Str("target", t.Name).
					Msg("whether the endpoint service asks for approval cannot be read; grant vpcep:endpointServices:get, or see that approval is enabled")
			}
			continue
		case !enabled && last != "disabled":
			w.told[t.Name] = "disabled"
			w.log.Warn().Str("target", t.Name).
				Msg("approval is disabled for the endpoint service: the cloud accepts every connection and no policy is asked; enable it in the console")
		case enabled && last == "disabled":
			w.told[t.Name] = "enabled"
			w.log.Info().Str("target", t.Name).Msg("approval is enabled again for the endpoint service")
		case enabled:
			w.told[t.Name] = "enabled"
		}
		w.metrics.ApprovalEnabled(t.Name, enabled)
	}
	return all
}
