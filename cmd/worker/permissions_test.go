package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/demo"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// TestRolesDoTheirWork runs worker and commands on the server of deploy/nats, each
// as the user whose permission file is for it. The server must not have denied
// anything to any of them.
func TestRolesDoTheirWork(t *testing.T) {
	t.Parallel()
	server, denied := natstest.StartOptions(t, natstest.Options(t, "../../deploy/nats/nats-server.conf"))
	url := server.ClientURL()

	env := cli.Environment{Stdout: io.Discard, Stderr: io.Discard, ReadFile: os.ReadFile, IsTerminal: func(io.Writer) bool { return false }}
	d := &demo.Demo{Env: env, Dir: t.TempDir(), Seed: 1, Settings: map[string]string{
		"nats.create": "false", "nats.inbox_prefix": "_INBOX_vpcep_worker", "http.listen": "127.0.0.1:0", "http.probes": "127.0.0.1:0", "sweep.interval": "1s",
	}}
	if err := d.UnpackPolicies(); err != nil {
		t.Fatal(err)
	}
	key := reviewedPolicies(t, filepath.Join(d.Dir, "policies"))
	closeCloud, err := d.StartCloud(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeCloud)
	cfg, err := d.Config(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.NATS.User = func() (string, string, error) { return "vpcep-worker", "p", nil }
	file, err := os.ReadFile(d.ConfigFile())
	if err != nil {
		t.Fatal(err)
	}
	command := func(role string, args ...string) result {
		inbox := "_INBOX_vpcep_" + role
		if role == "producer" {
			inbox = "_INBOX"
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		return call{
			args:    append(args, "--config", "worker.yaml", "--nats-url", url, "--nats-inbox-prefix", inbox),
			environ: map[string]string{"APPROVER_NATS_USER": "vpcep-" + role, "APPROVER_NATS_PASSWORD": "p"},
			files:   map[string]string{"worker.yaml": string(file)},
		}.do(ctx)
	}
	do := func(role string, args ...string) string {
		t.Helper()
		got := command(role, args...)
		if got.code != cli.ExitDone {
			t.Fatalf("%s: worker %s: %+v", role, strings.Join(args, " "), got)
		}
		if lines := violations(denied); len(lines) > 0 {
			t.Fatalf("%s: worker %s: %q", role, strings.Join(args, " "), lines)
		}
		return got.stdout
	}

	do("setup", "bus", "setup")
	do("setup", "bus", "status")
	ready, ended := make(chan struct{}), make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	s := service.Service{Config: cfg, Log: zerolog.Nop(), Limits: worker.DefaultLimits(), WatchEvery: time.Second, Ready: func(*events.Bus, service.URLs) { close(ready) }}
	s.Limits.Visible, s.Limits.StabilizeFor = 2*time.Second, time.Second
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the worker did not start: %v", err)
	}

	told := d.Sim.Connect(demo.Service, simulator.Connection{DomainID: demo.Acme})
	swept := d.Sim.Connect(demo.Service, simulator.Connection{DomainID: demo.Acme})
	produce(t, url, cfg, told.ID)
	for _, id := range []string{told.ID, swept.ID} {
		await(t, "it is accepted", func() bool {
			return strings.Contains(do("reader", "watch", "--no-follow", "--since", "1h"), id)
		})
	}
	listed := do("reader", "requests", "list")
	if !strings.Contains(listed, told.ID) || !strings.Contains(listed, swept.ID) {
		t.Errorf("the ledger lists:\n%s", listed)
	}
	do("reader", "requests", "show", approval.RequestID("test", "told"))
	for _, role := range []string{"reader", "operator", "reviewer"} {
		do(role, "requests", "list", "--open")
	}
	do("reader", "bus", "status")
	do("reader", "status")

	stranger := d.Sim.Connect(demo.Service, simulator.Connection{DomainID: "99999999999999999999999999999999"})
	await(t, "it waits for a review", func() bool { return strings.Contains(do("reviewer", "reviews", "list"), stranger.ID) })
	held := regexp.MustCompile(`(?m)^([0-9a-f]{12}) .*` + stranger.ID).FindStringSubmatch(do("reviewer", "reviews", "list"))
	if held == nil {
		t.Fatal("the work list does not begin with ids")
	}
	if shown := do("reviewer", "reviews", "show", held[1]); !strings.Contains(shown, "not_allowed") || !strings.Contains(shown, "ann") {
		t.Errorf("reviews show:\n%s", shown)
	}
	if got := command("reviewer", "reviews", "approve", held[1], "--key", key, "--name", "bob", "--reason", "known", "--wait"); got.code != cli.ExitFailed || !strings.Contains(got.stderr, "other_person") {
		t.Errorf("a review in another's name: %+v", got)
	}
	for _, who := range [][]string{{"--key", key}, {"--name", "ann"}} {
		if got := do("reviewer", append([]string{"reviews", "list", "--mine"}, who...)...); !strings.Contains(got, stranger.ID) {
			t.Errorf("the work list of ann, by %s:\n%s", who[0], got)
		}
	}
	for _, who := range [][]string{{"--mine"}, {"--name", "ann"}, {"--mine", "--name", "anne"}, {"--mine", "--name", "ann", "--key", key}} {
		if got := command("reviewer", append([]string{"reviews", "list"}, who...)...); got.code != cli.ExitUsage {
			t.Errorf("reviews list %s: %+v, want a usage error", who, got)
		}
	}
	if got := command("reviewer", "reviews", "list", "--target", "paymnts"); got.code != cli.ExitInvalid || !strings.Contains(got.stderr, "did you mean payments?") {
		t.Errorf("the work list of a target that is not there: %+v", got)
	}
	if got := command("reviewer", "reviews", "keygen", "--name", "x: {y"); got.code != cli.ExitUsage {
		t.Errorf("a key for a name that reviewers.yaml cannot have: %+v", got)
	}
	whole := regexp.MustCompile(`"id": "(` + held[1] + `[0-9a-f]{20})"`).FindStringSubmatch(do("reviewer", "reviews", "list", "-o", "json"))
	if whole == nil || !strings.Contains(do("reviewer", "reviews", "show", whole[1]), stranger.ID) {
		t.Errorf("the whole id %q is not found", whole)
	}
	// One that does not wait does not keep the others.
	if got := command("reviewer", "reviews", "approve", strings.Repeat("0", 32), held[1], "--key", key, "--reason", "known partner", "--wait"); got.code != cli.ExitInvalid || !strings.Contains(got.stderr, strings.Repeat("0", 32)) || !strings.Contains(got.stdout, "accepted") {
		t.Errorf("reviews approve of two: %+v", got)
	}
	if got := do("reviewer", "watch", "--no-follow", "--since", "1h"); !strings.Contains(got, "accepted") || !strings.Contains(got, stranger.ID) {
		t.Errorf("the results are:\n%s", got)
	}
	if got := do("reviewer", "reviews", "list"); strings.Contains(got, stranger.ID) {
		t.Errorf("the work list has it still:\n%s", got)
	}

	await(t, "the dead letter is there", func() bool { return strings.Contains(do("operator", "deadletters", "list"), "unreadable") })
	do("operator", "deadletters", "show", "1")
	do("operator", "deadletters", "replay", "1")
	await(t, "it is a dead letter again", func() bool { return strings.Contains(do("operator", "deadletters", "list"), "unreadable") })
	number := regexp.MustCompile(`(?m)^\s*(\d+)\s.*unreadable`).FindStringSubmatch(do("operator", "deadletters", "list"))
	if number == nil {
		t.Fatal("no dead letter is listed")
	}
	do("operator", "deadletters", "drop", number[1])
	do("operator", "submit", "--target", "payments", "--endpoint-id", told.ID, "--id", "again", "--wait")
	do("operator", "pause")
	do("operator", "resume")
	do("reviewer", "requests", "list")
	do("console", "requests", "show", approval.RequestID("test", "told"))
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	if lines := violations(denied); len(lines) > 0 {
		t.Errorf("the worker: %q", lines)
	}

	forbidden(t, url, map[string][]string{
		"producer": {"vpcep.requests._sweep.payments", "vpcep.requests._sweep", "vpcep.results.accepted.a.b", "$KV.vpcep-ledger.request.a", "$JS.API.STREAM.INFO.VPCEP_RESULTS", "$JS.API.STREAM.PURGE.VPCEP_REQUESTS"},
		"reader":   {"vpcep.requests.payments", "vpcep.results.accepted.a.b", "$KV.vpcep-ledger.request.a", "$JS.API.STREAM.PURGE.KV_vpcep-ledger", "$JS.API.CONSUMER.DELETE.VPCEP_REQUESTS.vpcep-approver"},
		"operator": {"vpcep.requests._sweep.payments", "vpcep.results.accepted.a.b", "$KV.vpcep-ledger.request.a", "$JS.API.STREAM.DELETE.VPCEP_REQUESTS"},
		"reviewer": {"vpcep.requests.payments", "vpcep.reviews.refused.payments.a", "$KV.vpcep-ledger.request.a"},
		"console":  {"vpcep.requests._sweep.payments", "vpcep.reviews.refused.payments.a", "$KV.vpcep-ledger.request.a", "$JS.API.STREAM.PURGE.KV_vpcep-ledger", "$JS.API.STREAM.PURGE.VPCEP_DEADLETTERS"},
		"worker":   {"vpcep.requests.payments", "$JS.API.STREAM.DELETE.VPCEP_REQUESTS", "$JS.API.STREAM.CREATE.VPCEP_REQUESTS", "$JS.API.CONSUMER.CREATE.VPCEP_RESULTS.x"},
	})
}

// violations are those of all but producers, who try to look whether a request is
// poison.
func violations(log *natstest.Log) []string {
	return slices.DeleteFunc(log.With("Violation"), func(line string) bool { return strings.Contains(line, "STREAM.INFO.KV_vpcep-ledger") })
}

// produce publishes a request and what is no event, with the rights of a producer.
func produce(t *testing.T, url string, cfg config.Config, endpoint string) {
	t.Helper()
	login := func() (string, string, error) { return "vpcep-producer", "p", nil }
	bus, err := events.Connect(t.Context(), events.Config{URL: url, Login: login, Targets: cfg.Targets, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close() //nolint:errcheck // not what is tested
	target := cfg.Targets[slices.IndexFunc(cfg.Targets, func(t approval.Target) bool { return t.Name == "payments" })]
	if err := bus.SubmitNew(t.Context(), approval.Request{Source: "test", EventID: "told", Target: target, EndpointID: endpoint}); err != nil {
		t.Error(err)
	}
	if err := bus.SubmitRaw(t.Context(), "payments", nil, []byte("no event")); err != nil {
		t.Error(err)
	}
}

// forbidden wants the server to deny each subject to the user of a role.
func forbidden(t *testing.T, url string, subjects map[string][]string) {
	t.Helper()
	for role, all := range subjects {
		said := make(chan error, len(all))
		nc, err := nats.Connect(url, nats.UserInfo("vpcep-"+role, "p"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { said <- err }))
		if err != nil {
			t.Fatal(err)
		}
		for _, subject := range all {
			if err := nc.Publish(subject, nil); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-said:
				if !strings.Contains(err.Error(), subject) {
					t.Errorf("%s publishes on %s: %v", role, subject, err)
				}
			case <-time.After(time.Minute):
				t.Errorf("%s may publish on %s", role, subject)
			}
		}
		nc.Close()
	}
}

// await asks again and again until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(2 * time.Minute); !ok(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestDoctorOfALeastPrivilegeUser wants doctor to be content with the worker's own
// rights, and to name each that others lack.
func TestDoctorOfALeastPrivilegeUser(t *testing.T) {
	t.Parallel()
	server, _ := natstest.StartOptions(t, natstest.Options(t, "../../deploy/nats/nats-server.conf"))
	c := doctored(t)
	run := func(role string, args ...string) result {
		c := c
		c.args = append(append([]string{}, args...), "--nats-url", server.ClientURL(), "--nats-inbox-prefix", "_INBOX_vpcep_"+role)
		c.environ["APPROVER_NATS_USER"], c.environ["APPROVER_NATS_PASSWORD"] = "vpcep-"+role, "p"
		return c.do(t.Context())
	}
	doctor := []string{"doctor", "--policies-dir", "testdata/policies/good"}
	if got := run("setup", doctor...); !strings.Contains(got.stdout, "worker run makes them") || strings.Contains(got.stdout, "CREATE") {
		t.Errorf("before anything is made, with the right to make it:\n%s", got.stdout)
	}
	if got := run("worker", doctor...); got.code != cli.ExitFailed || !strings.Contains(got.stdout, "allow the user: publish $JS.API.STREAM.CREATE.VPCEP_REQUESTS") {
		t.Errorf("before anything is made, without the right to make it:\n%s", got.stdout)
	}
	if got := run("setup", "bus", "setup"); got.code != cli.ExitDone {
		t.Fatalf("%+v", got)
	}
	if got := run("worker", doctor...); got.code != cli.ExitDone || !regexp.MustCompile(`ok +permissions +all \d+ rights that the worker needs were tried`).MatchString(got.stdout) {
		t.Errorf("the worker:\n%s", got.stdout)
	}
	got := run("reader", doctor...)
	for _, want := range []string{"publish vpcep.results.>", "publish vpcep.deadletters.>", "publish $KV.vpcep-ledger.>", "publish $JS.ACK.VPCEP_REQUESTS.vpcep-approver.>", "publish $JS.API.CONSUMER.MSG.NEXT.VPCEP_REQUESTS.vpcep-approver"} {
		if got.code != cli.ExitFailed || !strings.Contains(got.stdout, "allow the user: "+want) {
			t.Errorf("a reader lacks %s:\n%s", want, got.stdout)
		}
	}
}

// TestDoctorWithTheEmbeddedServer is asked before the first run.
func TestDoctorWithTheEmbeddedServer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := natstest.Start(t)
	for _, tt := range []struct {
		name, dir, listen, want string
		code                    int
	}{
		{"a folder that is not there yet", filepath.Join(t.TempDir(), "a", "b"), freePort(t), "embedded: worker run starts it", cli.ExitDone},
		{"a file", file, freePort(t), file + "/lock: not a directory", cli.ExitInvalid},
		{"an address that is taken", t.TempDir(), strings.TrimPrefix(taken.URL, "nats://"), "nats.listen: ", cli.ExitInvalid},
	} {
		c := doctored(t)
		c.args = append(c.args, "--nats-url", "embedded", "--nats-data-dir", tt.dir, "--nats-listen", tt.listen)
		if got := c.do(t.Context()); got.code != tt.code || !strings.Contains(got.stdout, tt.want) {
			t.Errorf("%s: exit %d, want %d and %q:\n%s", tt.name, got.code, tt.code, tt.want, got.stdout)
		}
		if _, err := os.Stat(tt.dir); strings.Contains(tt.name, "not there") && err == nil {
			t.Errorf("%s: doctor made it", tt.name)
		}
	}
}

// reviewedPolicies adds a policy whose holds ann may decide, and returns her key file.
func reviewedPolicies(t *testing.T, dir string) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "ann.nk")
	public, err := review.NewKey(key, "ann")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"reviewed.yaml":  "version: 1\npolicy: reviewed\ntargets: [payments]\nreview: {by: [ann]}\n",
		"reviewers.yaml": "version: 1\nreviewers:\n  - {name: ann, key: " + public + "}\n  - {name: bob, email: bob@example.org}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}
