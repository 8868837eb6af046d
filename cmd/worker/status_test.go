package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	none := f.do(t.Context(), "", "status", "-o", "json")
	if none.code != 0 || strings.TrimSpace(none.stdout) != "[]" || !strings.Contains(none.stderr, "no worker is alive") {
		t.Errorf("without a worker: %+v", none)
	}
	f.serve(t, approval.OutcomeAccepted)
	var got inspect.Workers
	for end := time.Now().Add(20 * time.Second); len(got) == 0 && time.Now().Before(end); {
		r := f.do(t.Context(), "", "status", "-o", "json")
		if r.code != 0 {
			t.Fatalf("%+v", r)
		}
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
			t.Fatalf("%v: %s", err, r.stdout)
		}
	}
	if len(got) != 1 || got[0].Instance == "" || got[0].Host == "" || got[0].State != approval.WorkerRunning || got[0].InFlight != 0 ||
		len(got[0].Targets) != len(f.cfg.Targets) || time.Since(got[0].SentAt) > time.Minute {
		t.Fatalf("the workers are %+v", got)
	}
	table := f.do(t.Context(), "", "status")
	if table.code != 0 || table.stderr != "" || strings.Count(table.stdout, "\n") != 2 || !strings.Contains(table.stdout, got[0].Instance) || !strings.Contains(table.stdout, "IN FLIGHT") {
		t.Errorf("the table is %+v", table)
	}
	if yaml := f.do(t.Context(), "", "status", "-o", "yaml"); yaml.code != 0 || !strings.Contains(yaml.stdout, "in_flight: 0") {
		t.Errorf("as YAML: %+v", yaml)
	}
	if r := f.do(t.Context(), "", "status", "extra"); r.code != 2 {
		t.Errorf("with an argument: %+v", r)
	}
}
