package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
	"github.com/vpcep-approver/vpcep-approver/internal/submit"
)

const endpointA = "705290f3-0d00-41f2-aedc-71f09844e879"

// fixture is a broker that is set up, with a bus that stands for the worker.
type fixture struct {
	url string
	bus *events.Bus
	cfg events.Config
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	srv := natstest.Start(t)
	cfg, err := config.Load(call{files: map[string]string{"worker.yaml": goodFile}}.environment(io.Discard, io.Discard), config.Flags{})
	if err != nil {
		t.Fatal(err)
	}
	b := events.Config{URL: srv.URL, Create: true, Targets: cfg.Targets, Ledger: service.CrashRecords}
	bus, err := events.Connect(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := bus.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fixture{srv.URL, bus, b}
}

// do runs a command against the broker with the targets of goodFile.
func (f fixture) do(ctx context.Context, stdin string, args ...string) result {
	return call{
		args: append(args, "--nats-url", f.url), stdin: stdin,
		files: map[string]string{"worker.yaml": goodFile},
	}.do(ctx)
}

// resultFor is how a request might end.
func resultFor(req approval.Request, outcome approval.Outcome) approval.Result {
	at := time.Date(2026, 11, 18, 12, 0, 3, 0, time.UTC)
	return approval.Result{
		Request: req, Outcome: outcome, State: approval.Accepted, Attempts: 1, At: at, Version: "v1.0.0",
		Decision: approval.Decision{
			ID: approval.DecisionID(req.ID), Verdict: approval.Accept, Policy: "payments", Rule: "acme",
			Reasons: []approval.Reason{{Code: approval.ReasonAllowed, Text: "The account is on the list.\x1b[2J"}},
			Digest:  "sha256:" + strings.Repeat("0", 64), At: at.Add(-2 * time.Second),
			Facts: approval.Facts{EndpointID: req.EndpointID, DomainID: "ee9dfd51d1124e8d8498dce894923a0f", State: approval.Pending},
		},
		Seconds: map[approval.Stage]float64{approval.StageVerify: 0.25, approval.StageConfirm: 1.5},
	}
}

// serve answers requests with outcome until ctx ends.
func (f fixture) serve(t *testing.T, outcome approval.Outcome) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- f.bus.Consume(ctx, func(ctx context.Context, d *approval.Delivery) error {
			return f.bus.Publish(ctx, resultFor(d.Request, outcome))
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestSubmitAndWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.serve(t, approval.OutcomeAccepted)
	got := f.do(t.Context(), "", "submit", "--target", "payments", "--endpoint-id", endpointA, "--claim", "tags.env=prod", "--id", "e1", "--wait", "-o", "json")
	if got.code != cli.ExitDone {
		t.Fatalf("%+v", got)
	}
	var v events.Record
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil {
		t.Fatal(err)
	}
	some := []any{v.Request.ID, v.Request.EventID, v.Request.Source, v.Request.Target, v.Request.TargetKind, v.Request.EndpointID, v.Request.Claims, v.Outcome}
	want := []any{
		approval.RequestID(submit.DefaultSource, "e1"), "e1", submit.DefaultSource, "payments", "service", endpointA,
		approval.Claims{"tags": map[string]any{"env": "prod"}},
		"accepted",
	}
	if diff := cmp.Diff(want, some); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}

	// The same event again is the same request: its result is there already.
	again := f.do(t.Context(), "", "submit", "--target", "payments", "--endpoint-id", endpointA, "--claim", "tags.env=prod", "--id", "e1", "--wait")
	if again.code != cli.ExitDone || !strings.HasPrefix(again.stdout, "accepted payments "+endpointA+"\n") {
		t.Errorf("%+v", again)
	}
	if strings.Contains(again.stdout, "\x1b") {
		t.Errorf("what others wrote steers the terminal: %q", again.stdout)
	}
	watched := f.do(t.Context(), "", "watch", "--no-follow", "--since", "1h", "--outcome", "accepted,failed", "--target", "payments")
	if watched.code != cli.ExitDone || !strings.Contains(watched.stdout, "accepted") || strings.Count(watched.stdout, "\n") != 1 {
		t.Errorf("%+v", watched)
	}
	none := f.do(t.Context(), "", "watch", "--no-follow", "--since", "1h", "--outcome", "failed")
	if none != (result{}) {
		t.Errorf("%+v, want nothing", none)
	}
}

func TestSubmitSaysHowItFailed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.serve(t, approval.OutcomeFailed)
	if slip := f.do(t.Context(), "", "submit", "--target", "paymnts", "--endpoint-id", endpointA); slip.code != cli.ExitInvalid || !strings.Contains(slip.stderr, "did you mean payments?") {
		t.Errorf("a slip in the target: %+v", slip)
	}
	got := f.do(t.Context(), "", "submit", "--target", "payments", "--endpoint-id", endpointA, "--wait")
	if got.code != cli.ExitFailed || !strings.HasPrefix(got.stdout, "failed payments ") || got.stderr != "" {
		t.Errorf("%+v, want the failure on stdout and exit 1", got)
	}
}

func TestSubmitWithoutAWorker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	got := f.do(t.Context(), "", "submit", "--target", "payments", "--endpoint-id", endpointA, "--wait", "--timeout", "50ms")
	if got.code != cli.ExitFailed || !strings.Contains(got.stderr, "no result within 50ms") {
		t.Errorf("%+v", got)
	}
	got = f.do(t.Context(), "", "submit", "--target", "payments", "--endpoint-id", endpointA)
	if got.code != cli.ExitDone || !strings.HasPrefix(got.stdout, "submitted request ") {
		t.Errorf("%+v", got)
	}
}

func TestSubmitFromAFile(t *testing.T) {
	t.Parallel()
	const (
		vpc      = "9d4c0e5a-6b1f-4f0e-8c27-3a5d9e7b1c60"
		creation = `{"target": "functions", "functiongraph": {"vpc_id": "` + vpc + `", "subnet_id": "` + endpointA + `"}}`
		event    = `{"specversion": "1.0", "id": "7", "source": "/crm", "type": "vpcep.connection.requested", "data": {"target": "payments", "endpoint_id": "` + endpointA + `"}}`
	)
	f := newFixture(t)
	tests := []struct {
		name  string
		stdin string
		args  []string
		code  int
		want  string // a part of what is printed
	}{
		{"the data of a creation", creation, nil, cli.ExitDone, "submitted request"},
		{"a whole event", event, nil, cli.ExitDone, "submitted request " + approval.RequestID("/crm", "7")},
		{"a whole event and an id", event, []string{"--id", "8"}, cli.ExitInvalid, "leave --id and --source out"},
		{"a file and a target", event, []string{"--target", "payments"}, cli.ExitUsage, "--file holds the whole request"},
		{"no JSON", "target: payments", nil, cli.ExitInvalid, "the request is no JSON object"},
		{"nothing", "", nil, cli.ExitInvalid, "the request is no JSON object"},
		{"an unknown target", strings.ReplaceAll(creation, "functions", "functoins"), nil, cli.ExitInvalid, "unknown_target"},
		{"a bad id", strings.ReplaceAll(event, endpointA, "../x"), nil, cli.ExitInvalid, "bad_id"},
		{"a doubled key", `{"target": "payments", "target": "payments", "endpoint_id": "` + endpointA + `"}`, nil, cli.ExitInvalid, "the request would not be taken"},
		{"too large", `{"target": "payments", "endpoint_id": "` + endpointA + `", "claims": {"a": "` + strings.Repeat("x", events.MaxEvent) + `"}}`, nil, cli.ExitInvalid, "too_large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := f.do(t.Context(), tt.stdin, append([]string{"submit", "--file", "-"}, tt.args...)...)
			if got.code != tt.code || !strings.Contains(got.stdout+got.stderr, tt.want) {
				t.Errorf("%+v, want exit %d and %q", got, tt.code, tt.want)
			}
		})
	}
	t.Run("without configured targets", func(t *testing.T) {
		t.Parallel()
		got := call{args: []string{"submit", "--file", "r.json", "--nats-url", f.url}, files: map[string]string{"r.json": creation}}.do(t.Context())
		if got.code != cli.ExitDone {
			t.Errorf("%+v", got)
		}
	})
}

func TestWatchFollowsUntilInterrupted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan result)
	go func() {
		got <- call{args: []string{"watch", "--nats-url", f.url, "-o", "json"}}.do(ctx)
	}()
	cancel()
	if r := <-got; r.code != cli.ExitInterrupted {
		t.Errorf("%+v, want exit %d", r, cli.ExitInterrupted)
	}
}

func TestARefusedUserIsNotShown(t *testing.T) {
	t.Parallel()
	srv := natstest.StartWith(t, broker.Options{Users: []broker.User{{Name: "bob", Password: "right"}}})
	tests := []struct {
		name, password string
		code           int
	}{
		{"right", "right", cli.ExitDiffers}, // nothing is set up there
		{"wrong", canary, cli.ExitUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := call{
				args:    []string{"bus", "status", "--nats-url", srv.URL},
				environ: map[string]string{"APPROVER_NATS_USER": "bob", "APPROVER_NATS_PASSWORD_FILE": "secret"},
				files:   map[string]string{"secret": tt.password + "\n"},
			}.do(t.Context())
			if got.code != tt.code || strings.Contains(got.stdout+got.stderr, canary) {
				t.Errorf("%+v, want exit %d and no secret", got, tt.code)
			}
		})
	}
}
