package service

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// settingsOf is an approvalReader: "on", "off", or an error. It is safe for
// concurrent use.
type settingsOf struct {
	mu sync.Mutex
	of map[string]string // by target
}

func (s *settingsOf) ApprovalEnabled(_ context.Context, t approval.Target) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[t.Name] == "" {
		return false, errors.New("forbidden")
	}
	return s.of[t.Name] == "on", nil
}

func (s *settingsOf) set(of map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.of, of)
}

// lockedLog is a log that is safe for concurrent use.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) Reset() { l.take() }

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// take returns what was written since the last call.
func (l *lockedLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// TestApprovalThatIsDisabledIsTold: once, with the target's name, and in the metric;
// what cannot be read has no value there.
func TestApprovalThatIsDisabledIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &lockedLog{}
		reg := prometheus.NewRegistry()
		cloud := &settingsOf{of: map[string]string{"payments": "on", "open": "off", "hidden": ""}}
		w := approvalWatch{
			cloud: cloud, metrics: metrics.New(reg, metrics.Labels{Targets: []string{"payments", "open", "hidden", "gateway", "functions"}}, metrics.Build{}), log: zerolog.New(log),
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
		synctest.Wait()
		text := log.take()
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], `"target":"open"`) || !strings.Contains(lines[0], "approval is disabled") || !strings.Contains(lines[1], `"target":"hidden"`) {
			t.Errorf("log:\n%s", text)
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
		<-time.After(time.Hour)
		synctest.Wait()
		if again := log.take(); again != "" {
			t.Errorf("told again:\n%s", again)
		}
		cloud.set(map[string]string{"open": "on", "hidden": "on", "payments": "off"})
		<-time.After(2 * time.Hour)
		synctest.Wait()
		if got := log.take(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "enabled again") || !strings.Contains(got, `"target":"payments"`) {
			t.Errorf("log of the changes:\n%s", got)
		}
	})
}
