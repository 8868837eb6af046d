package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/doctor"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

// deadLetter makes dead letters of these bodies, and returns once all are there.
func (f fixture) deadLetter(t *testing.T, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := f.bus.SubmitRaw(t.Context(), "payments", nil, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	// One good request after them tells that they are done: one slot keeps the order.
	target, _ := f.cfg.Targets.ByName("payments")
	req := approval.Request{Source: "/test", EventID: "last", Target: target, EndpointID: endpointA}
	if err := f.bus.Submit(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	one, err := events.Connect(ctx, events.Config{URL: f.url, Targets: f.cfg.Targets, Slots: 1, Ledger: service.CrashRecords})
	if err != nil {
		t.Fatal(err)
	}
	err = one.Consume(ctx, func(context.Context, *approval.Delivery) error {
		cancel()
		return nil
	})
	if err := errors.Join(err, one.Close()); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// deadLetters lists what is there, by the command.
func (f fixture) deadLetters(t *testing.T, args ...string) []inspect.DeadLetter {
	t.Helper()
	got := f.do(t.Context(), "", append([]string{"deadletters", "list", "-o", "json"}, args...)...)
	var views []inspect.DeadLetter
	if err := json.Unmarshal([]byte(got.stdout), &views); err != nil || got.code != cli.ExitDone {
		t.Fatalf("%+v: %v", got, err)
	}
	return views
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const wrongType = `{"specversion": "1.0", "id": "1", "source": "/x", "type": "other", "data": {}}`
	f.deadLetter(t, "not json \x1b[2J", wrongType, "\xff\xfe")

	all := f.deadLetters(t)
	var reasons []string
	for _, d := range all {
		reasons = append(reasons, d.Reason)
	}
	if diff := cmp.Diff([]string{"unreadable", "unknown_type", "unreadable"}, reasons); diff != "" {
		t.Fatalf("dead letters (-want +got):\n%s", diff)
	}
	if some := f.deadLetters(t, "--reason", "unknown_type"); len(some) != 1 {
		t.Errorf("%+v, want the one of unknown type", some)
	}
	if last := f.deadLetters(t, "--limit", "1"); len(last) != 1 || last[0].Number != all[2].Number {
		t.Errorf("%+v, want the last", last)
	}
	table := f.do(t.Context(), "", "deadletters", "list")
	if table.code != cli.ExitDone || strings.Count(table.stdout, "\n") != 4 {
		t.Errorf("%+v, want a head and three rows", table)
	}

	shown := f.do(t.Context(), "", "deadletters", "show", "1")
	if shown.code != cli.ExitDone || !strings.Contains(shown.stdout, `not json \u001b[2J`) || strings.Contains(shown.stdout, "\x1b") {
		t.Errorf("%+v, want the body, harmless", shown)
	}
	binary := f.do(t.Context(), "", "deadletters", "show", "3", "-o", "json")
	if binary.code != cli.ExitDone || !strings.Contains(binary.stdout, `"body_base64": "//4="`) {
		t.Errorf("%+v, want the bytes in base64", binary)
	}

	for _, tt := range []struct {
		args []string
		code int
		want string
		left int
	}{
		{[]string{"show", "99"}, cli.ExitInvalid, "dead letter 99", 3},
		{[]string{"show", "x"}, cli.ExitUsage, `"x" is not the number`, 3},
		{[]string{"drop"}, cli.ExitUsage, "either by their numbers", 3},
		{[]string{"drop", "1", "--all"}, cli.ExitUsage, "either by their numbers", 3},
		{[]string{"drop", "--reason", "unredable"}, cli.ExitUsage, "did you mean unreadable?", 3},
		{[]string{"drop", "99"}, cli.ExitInvalid, "dead letter 99", 3},
		{[]string{"replay", "2"}, cli.ExitDone, "replayed 1 dead letter", 2},
		{[]string{"drop", "--reason", "unreadable"}, cli.ExitDone, "dropped 2 dead letters", 0},
		{[]string{"replay", "--all"}, cli.ExitDone, "replayed 0 dead letters", 0},
	} {
		got := f.do(t.Context(), "", append([]string{"deadletters"}, tt.args...)...)
		if got.code != tt.code || !strings.Contains(got.stdout+got.stderr, tt.want) {
			t.Errorf("deadletters %q = %+v, want exit %d and %q", tt.args, got, tt.code, tt.want)
		}
		if left := f.deadLetters(t); len(left) != tt.left {
			t.Errorf("after %q %d dead letters are left, want %d", tt.args, len(left), tt.left)
		}
	}
}

func TestBusSetupAndStatus(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	run := func(args ...string) result {
		return call{args: append(args, "--nats-url", srv.URL)}.do(t.Context())
	}
	if got := run("bus", "status"); got.code != cli.ExitDiffers || strings.Count(got.stdout, "missing") != 8 {
		t.Errorf("%+v, want all eight missing and exit %d", got, cli.ExitDiffers)
	}
	for range 2 {
		if got := run("bus", "setup"); got.code != cli.ExitDone || !strings.Contains(got.stdout, "are as they should be") {
			t.Errorf("%+v", got)
		}
	}
	if got := run("bus", "status", "-o", "json"); got != (result{stdout: "[]\n"}) {
		t.Errorf("%+v, want no differences", got)
	}

	// An operator's hand: results that are soon forgotten.
	stream, err := srv.JetStream().Stream(t.Context(), events.ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.Discard = jetstream.DiscardOld
	if _, err := srv.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if got := run("bus", "status"); got.code != cli.ExitDiffers || !strings.Contains(got.stdout, "discard") {
		t.Errorf("%+v, want the difference and exit %d", got, cli.ExitDiffers)
	}
	if got := run("bus", "setup"); got.code != cli.ExitInvalid || !strings.Contains(got.stderr, "discard") {
		t.Errorf("%+v, want the difference and exit %d", got, cli.ExitInvalid)
	}
}

// doctored is a whole environment in which nothing is wrong.
func doctored(t *testing.T) call {
	t.Helper()
	f := newFixture(t)
	srv := doctoredCloud(t, true)
	key := simulator.DefaultAuth()
	return call{
		args: []string{"doctor", "--nats-url", f.url, "--policies-dir", "testdata/policies/good"},
		environ: map[string]string{
			"HUAWEICLOUD_SDK_AK": key.AccessKey, "HUAWEICLOUD_SDK_SK": key.SecretKey,
			"APPROVER_CLOUD_ENDPOINTS_VPCEP": srv, "APPROVER_CLOUD_ENDPOINTS_FUNCTIONGRAPH": srv,
		},
		files: map[string]string{"worker.yaml": goodFile},
	}
}

// doctoredCloud is the address of a cloud with the target's service.
func doctoredCloud(t *testing.T, approvalEnabled bool, faults ...simulator.Fault) string {
	t.Helper()
	const project, service = "6e9dfd51d1124e8d8498dce894923a0d", "4189d3c2-8882-4871-a3c2-d380272eed88"
	sim := simulator.New(simulator.Config{Faults: faults})
	sim.AddProject(simulator.Project{ID: project, Name: "cn-north-4"})
	sim.AddService(simulator.Service{ID: service, ProjectID: project, ApprovalEnabled: approvalEnabled})
	srv := httptest.NewServer(sim)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(t *testing.T, c *call)
		code int
		want map[string]string // check to its status, where that is not ok
		say  string            // a part of what is printed
	}{
		{"nothing wrong", func(*testing.T, *call) {}, cli.ExitDone, nil, "0 connections pending"},
		{"a setting", func(_ *testing.T, c *call) { c.environ["APPROVER_NAT_URL"] = "x" }, cli.ExitInvalid, map[string]string{"configuration": doctor.Failed, "everything else": doctor.Skipped}, "did you mean"},
		{"several settings", func(_ *testing.T, c *call) { c.environ["APPROVER_NAT_URL"], c.environ["APPROVER_LOG_LEVEL"] = "x", "x" }, cli.ExitInvalid, map[string]string{"configuration": doctor.Failed, "everything else": doctor.Skipped}, "2 errors:\n" + strings.Repeat(" ", 38) + "APPROVER_"},
		{"no targets", func(_ *testing.T, c *call) { c.files = nil }, cli.ExitInvalid, map[string]string{"configuration": doctor.Warning, "policies": doctor.Failed, "clock": doctor.Skipped}, "list yours under targets"},
		{"wrong policies", func(_ *testing.T, c *call) { c.args = append(c.args, "--policies-dir", "testdata/policies/wrong") }, cli.ExitInvalid, map[string]string{"policies": doctor.Failed}, "worker policy check"},
		{"odd policies", func(_ *testing.T, c *call) { c.args = append(c.args, "--policies-dir", "testdata/policies/odd") }, cli.ExitDone, map[string]string{"policies": doctor.Warning}, "1 warning"},
		{"wrong candidates", func(_ *testing.T, c *call) {
			c.args = append(c.args, "--policies-shadow-dir", "testdata/policies/wrong")
		}, cli.ExitInvalid, map[string]string{"candidate policies": doctor.Failed}, "worker policy check testdata/policies/wrong"},
		{"no policies", func(t *testing.T, c *call) { c.args = append(c.args, "--policies-dir", t.TempDir()) }, cli.ExitDone, map[string]string{"policies": doctor.Warning}, "everything would be held"},
		{"no broker", func(_ *testing.T, c *call) { c.args = append(c.args, "--nats-url", "nats://127.0.0.1:1") }, cli.ExitUnreachable, map[string]string{"broker": doctor.Failed, "streams": doctor.Skipped, "permissions": doctor.Skipped}, "check nats.url"},
		{"no streams", func(t *testing.T, c *call) { c.args = append(c.args, "--nats-url", natstest.Start(t).URL) }, cli.ExitDone, map[string]string{"streams": doctor.Warning}, "those to make what is missing among them"},
		{"no streams, and none are made", func(t *testing.T, c *call) {
			c.args = append(c.args, "--nats-url", natstest.Start(t).URL, "--nats-create=false")
		}, cli.ExitInvalid, map[string]string{"streams": doctor.Failed, "permissions": doctor.Skipped}, "worker bus setup"},
		{"no credentials", func(_ *testing.T, c *call) { delete(c.environ, "HUAWEICLOUD_SDK_SK") }, cli.ExitInvalid, map[string]string{"credentials": doctor.Failed, "target payments": doctor.Skipped}, "HUAWEICLOUD_SDK_SK not set"},
		{"refused credentials", func(_ *testing.T, c *call) { c.environ["HUAWEICLOUD_SDK_SK"] = canary }, cli.ExitFailed, map[string]string{"target payments": doctor.Failed}, "check the credentials"},
		{"no API", func(_ *testing.T, c *call) {
			c.environ["APPROVER_CLOUD_ENDPOINTS_FUNCTIONGRAPH"] = "http://127.0.0.1:1"
		}, cli.ExitUnreachable, map[string]string{"API functiongraph": doctor.Failed}, "check the region"},
		{"a service that is not there", func(_ *testing.T, c *call) {
			c.files = map[string]string{"worker.yaml": strings.ReplaceAll(goodFile, "4189d3c2", "5189d3c2")}
		}, cli.ExitInvalid, map[string]string{"target payments": doctor.Failed}, "check the target's id"},
		{"approval is disabled", func(t *testing.T, c *call) { c.environ["APPROVER_CLOUD_ENDPOINTS_VPCEP"] = doctoredCloud(t, false) }, cli.ExitInvalid, map[string]string{"approval payments": doctor.Failed}, "enable connection approval"},
		{"the approval setting is hidden", func(t *testing.T, c *call) {
			c.environ["APPROVER_CLOUD_ENDPOINTS_VPCEP"] = doctoredCloud(t, true, simulator.Fault{API: simulator.VPCEP, Operation: "ListServiceDetails", Kind: simulator.Refuse, Status: 403, Code: "EndPoint.0004"})
		}, cli.ExitDone, map[string]string{"approval payments": doctor.Warning}, "grant vpcep:endpointServices:get"},
		{"a wrong clock", func(t *testing.T, c *call) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT")
			}))
			t.Cleanup(srv.Close)
			c.environ["APPROVER_CLOUD_ENDPOINTS_FUNCTIONGRAPH"] = srv.URL
		}, cli.ExitFailed, map[string]string{"clock": doctor.Failed}, "synchronize it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := doctored(t)
			tt.edit(t, &c)
			text := c.do(t.Context())
			if text.code != tt.code || !strings.Contains(text.stdout, tt.say) || strings.Contains(text.stdout+text.stderr, canary) {
				t.Errorf("exit %d, want %d and %q:\n%s%s", text.code, tt.code, tt.say, text.stdout, text.stderr)
			}
			c.args = append(c.args, "-o", "json")
			got := map[string]string{}
			for line := range strings.Lines(c.do(t.Context()).stdout) {
				var r doctor.Check
				if err := json.Unmarshal([]byte(line), &r); err != nil {
					t.Fatal(err)
				}
				if r.Status != doctor.OK && r.Name != "target functions" {
					got[r.Name] = r.Status
				}
			}
			want := tt.want
			if want == nil {
				want = map[string]string{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("checks (-want +got):\n%s\n%s", diff, text.stdout)
			}
		})
	}
}
