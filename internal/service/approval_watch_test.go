package service

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// settingsOf is an approvalReader: "on", "off", or an error.
type settingsOf map[string]string

func (s settingsOf) ApprovalEnabled(_ context.Context, t approval.Target) (bool, error) {
	if s[t.Name] == "" {
		return false, errors.New("forbidden")
	}
	return s[t.Name] == "on", nil
}

// TestApprovalThatIsDisabledIsTold: once, with the target's name, and in the metric;
// what cannot be read has no value there.
func TestApprovalThatIsDisabledIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		cloud := settingsOf{"payments": "on", "open": "off", "hidden": ""}
		w := approvalWatch{
			cloud: cloud, metrics: metrics.New(reg, metrics.Labels{Targets: []string{"payments", "open", "hidden", "gateway", "functions"}}, metrics.Build{}), log: zerolog.New(&log),
			targets: approval.Targets{
				{Name: "payments", Kind: approval.Service},
				{Name: "open", Kind: approval.Gateway, ServiceID: "s"},
				{Name: "hidden", Kind: approval.Service},
				{Name: "gateway", Kind: approval.Gateway},
				{Name: "functions", Kind: approval.FunctionGraph},
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.run(ctx)
		<-time.After(time.Minute)
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], `"target":"open"`) || !strings.Contains(lines[0], "approval is disabled") || !strings.Contains(lines[1], `"target":"hidden"`) {
			t.Errorf("log:\n%s", &log)
		}
		got := gathered(t, reg)
		for _, want := range []string{`approval_enabled{target="payments"} 1`, `approval_enabled{target="open"} 0`} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s", want)
			}
		}
		for _, name := range []string{"hidden", "gateway", "functions"} {
			if !strings.Contains(got, `approval_enabled{target="`+name+`"} NaN`) {
				t.Errorf("what was not read of %s has a value", name)
			}
		}
		log.Reset()
		<-time.After(time.Hour)
		if log.Len() > 0 {
			t.Errorf("told again:\n%s", &log)
		}
		cloud["open"], cloud["hidden"], cloud["payments"] = "on", "on", "off"
		<-time.After(2 * time.Hour)
		if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "enabled again") || !strings.Contains(got, `"target":"payments"`) {
			t.Errorf("log of the changes:\n%s", got)
		}
	})
}
