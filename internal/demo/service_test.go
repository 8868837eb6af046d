package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// running is a worker in this process, over real HTTP to the simulator and a
// real NATS server, with the example policies.
type running struct {
	*Demo
	bus    *events.Bus
	urls   service.URLs
	log    *bytes.Buffer
	server *broker.Server
	stop   func() error // of the worker
}

// start runs the service until the test ends, with settings over the demo's; edit
// may change the cloud before.
func start(t testing.TB, settings map[string]string, edit func(cfg *simulator.Config)) *running {
	t.Helper()
	env := cli.Environment{Stdout: io.Discard, Stderr: io.Discard, ReadFile: os.ReadFile, IsTerminal: func(io.Writer) bool { return false }}
	r := &running{Demo: &Demo{Env: env, Dir: t.TempDir(), Seed: 1, Settings: settings, edit: edit}, log: &bytes.Buffer{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(r.UnpackPolicies())
	var err error
	r.server, err = broker.Start(broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	must(err)
	t.Cleanup(r.server.Shutdown)
	closeCloud, err := r.StartCloud(t.Context())
	must(err)
	t.Cleanup(closeCloud)
	r.serve(t)
	return r
}

// serve runs the worker at r.server until the test ends or r.stop is called.
func (r *running) serve(t testing.TB) {
	t.Helper()
	cfg, err := r.Config(r.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	limits := worker.DefaultLimits()
	limits.Visible, limits.StabilizeFor = 2*time.Second, time.Second
	ready := make(chan struct{})
	s := service.Service{Config: cfg, Log: zerolog.New(zerolog.SyncWriter(r.log)), Limits: limits, Server: r.server, WatchEvery: time.Second, Ready: func(bus *events.Bus, urls service.URLs) {
		r.bus, r.urls = bus, urls
		close(ready)
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop := func() error {
		stopped = true
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Minute):
			t.Fatal("the worker did not stop within a minute")
			return nil
		}
	}
	r.stop = stop
	t.Cleanup(func() {
		if !stopped {
			if err := stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
		}
		if t.Failed() {
			t.Logf("log of the worker:\n%s", r.log)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the worker did not start: %v", err)
	}
}

// get returns what the worker answers on path.
func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	base := r.urls.Probes
	if path == "/metrics" {
		base = r.urls.Metrics
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing was written
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// series returns the names and labels of all our series on /metrics, but for
// approval_enabled, which has no value until the cloud was asked.
func (r *running) series(t *testing.T) []string {
	t.Helper()
	_, text := r.get(t, "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for name, f := range families {
		for _, m := range f.GetMetric() {
			s := name
			for _, l := range m.GetLabel() {
				s += "," + l.GetName() + "=" + l.GetValue()
			}
			if strings.HasPrefix(name, "vpcep_approver_") && name != "vpcep_approver_approval_enabled" {
				out = append(out, s)
			}
		}
	}
	slices.Sort(out)
	return out
}

// foreign makes an event as a program that knows nothing of ours does, with the
// CloudEvents SDK, in one of the two modes of the NATS binding.
func foreign(t *testing.T, id, kind string, data any, binary bool) (header map[string][]string, body []byte) {
	t.Helper()
	e := event.New()
	e.SetID(id)
	e.SetSource("https://tickets.example.org/network")
	e.SetType(kind)
	e.SetTime(time.Now())
	e.SetExtension("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if err := e.SetData(event.ApplicationJSON, data); err != nil {
		t.Fatal(err)
	}
	if !binary {
		body, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return map[string][]string{"Content-Type": {"application/cloudevents+json; charset=UTF-8"}}, body
	}
	return map[string][]string{
		"Ce-Specversion": {e.SpecVersion()}, "CE-ID": {e.ID()}, "ce-source": {"https:%2F%2Ftickets.example.org/network"}, "ce-type": {e.Type()},
		"ce-time": {e.Time().Format(time.RFC3339Nano)}, "ce-datacontenttype": {e.DataContentType()},
		"ce-traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	}, e.Data()
}

// TestForeignProducer: requests that a program of someone else makes, in both
// modes, are decided, carried out, confirmed and answered.
func TestForeignProducer(t *testing.T) {
	t.Parallel()
	r := start(t, nil, nil)
	before := r.series(t)
	want := map[string]approval.Outcome{}
	for _, binary := range []bool{false, true} {
		mode := "structured"
		if binary {
			mode = "binary"
		}
		for _, tt := range []struct {
			name, target, domain string
			want                 approval.Outcome
		}{
			{"allowed", "payments", Acme, approval.OutcomeAccepted},
			{"denied", "payments", Former, approval.OutcomeRejected},
			{"unlisted", "orders-gateway", Stranger, approval.OutcomeHeld},
			{"at the gateway", "orders-gateway", Acme, approval.OutcomeAccepted},
		} {
			service := Service
			if tt.target == "orders-gateway" {
				service = Gateway
			}
			c := r.Sim.Connect(service, simulator.Connection{DomainID: tt.domain})
			id := mode + " " + tt.name
			header, body := foreign(t, id, "vpcep.connection.requested", map[string]any{"target": tt.target, "endpoint_id": c.ID}, binary)
			if err := r.bus.SubmitRaw(t.Context(), tt.target, header, body); err != nil {
				t.Fatal(err)
			}
			want[id] = tt.want
		}
		id := mode + " creation"
		header, body := foreign(t, id, "vpcep.endpoint.requested", map[string]any{"target": "functions", "functiongraph": map[string]any{
			"vpc_id": demoFunctionsVPC, "subnet_id": "5b0e7a11-0000-4000-8000-00000000000" + map[bool]string{false: "1", true: "2"}[binary], "flavor": "default",
		}}, binary)
		if err := r.bus.SubmitRaw(t.Context(), "functions", header, body); err != nil {
			t.Fatal(err)
		}
		want[id] = approval.OutcomeCreated
	}

	got := map[string]approval.Outcome{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for res, err := range r.bus.Results(ctx, events.ResultFilter{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got[res.Request.EventID] = res.Outcome
		if res.Request.Source != "https://tickets.example.org/network" || !strings.Contains(res.Request.TraceParent, "4bf92f") {
			t.Errorf("result of %q has source %q and traceparent %q", res.Request.EventID, res.Request.Source, res.Request.TraceParent)
		}
		if c, ok := r.Sim.Connection(res.Request.EndpointID); ok && res.Outcome != approval.OutcomeHeld && c.State != string(res.Outcome) {
			t.Errorf("%q ended %s, and the cloud has it %s", res.Request.EventID, res.Outcome, c.State)
		}
		if len(got) == len(want) {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if code, text := r.get(t, path); code != http.StatusOK {
			t.Errorf("%s answers %d %s", path, code, text)
		}
	}
	if diff := cmp.Diff(before, r.series(t)); diff != "" {
		t.Errorf("series that were not there from the start:\n%s", diff)
	}
	if n := len(before); n > 1000 {
		t.Errorf("%d series without a single rule on trial, want far below 2,000", n)
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop = %v, want a clean end", err)
	}
	if n := strings.Count(r.log.String(), `"message":"finished"`); n != len(want) {
		t.Errorf("%d lines about finished requests, want %d", n, len(want))
	}
}

// TestCandidatePolicies: what a folder of candidates would decide is counted and
// told, and nothing is done by it.
func TestCandidatePolicies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := "version: 1\npolicy: open\nowner: team-payments\ntargets: [payments]\nallow:\n  - {id: everyone, any_domain: true}\n"
	if err := os.WriteFile(filepath.Join(dir, "open.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, map[string]string{"policies.shadow_dir": dir}, nil)
	before := r.series(t)
	c := r.Sim.Connect(Service, simulator.Connection{DomainID: Stranger})
	header, body := foreign(t, "1", "vpcep.connection.requested", map[string]any{"target": "payments", "endpoint_id": c.ID}, false)
	if err := r.bus.SubmitRaw(t.Context(), "payments", header, body); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	both := append(approval.Outcomes(), events.ShadowOutcome)
	got := map[approval.Outcome]approval.Decision{}
	for res, err := range r.bus.Results(ctx, events.ResultFilter{Follow: true, Outcomes: both}) {
		if err != nil {
			t.Fatal(err)
		}
		if got[res.Outcome] = res.Decision; len(got) == 2 {
			break
		}
	}
	if d := got[events.ShadowOutcome]; d.Verdict != approval.Accept || d.Rule != "everyone" {
		t.Errorf("on trial: %+v, want an accept by everyone", d)
	}
	if d := got[approval.OutcomeHeld]; d.Verdict != approval.Hold {
		t.Errorf("in force: %+v, want it held", got)
	}
	if now, _ := r.Sim.Connection(c.ID); now.State != "pendingAcceptance" {
		t.Errorf("the connection is %s, want it left alone", now.State)
	}
	if diff := cmp.Diff(before, r.series(t)); diff != "" {
		t.Errorf("series that were not there from the start:\n%s", diff)
	}
	const counted = `vpcep_approver_policy_shadow_decisions_total{differs="true",policy="open",rule="everyone"} 1`
	if _, text := r.get(t, "/metrics"); !strings.Contains(text, counted) {
		t.Errorf("/metrics lacks %s", counted)
	}
}

// TestUnreadableCandidates: what is wrong with candidates is reported, and keeps
// the policies in force from nothing.
func TestUnreadableCandidates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	r := start(t, map[string]string{"policies.shadow_dir": dir}, nil)
	await := func(what string, lines ...string) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for {
			_, text := r.get(t, "/metrics")
			missing := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.Contains(text, "\nvpcep_approver_"+line+"\n") })
			if len(missing) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: /metrics lacks %q", what, missing)
			}
		}
	}
	const live = `policy_reload_success{set="live"} 1`
	await("no folder", live, `policy_reload_success{set="shadow"} 0`)
	put := func(text string) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "open.yaml.new"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "open.yaml.new"), filepath.Join(dir, "open.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	put("version: 1\npolicy: open\ntargets: [payments]\nallow:\n  - {id: everyone, any_domain: true}\n")
	await("a good folder", live, `policy_reload_success{set="shadow"} 1`, `policies{set="shadow"} 1`)
	put("version: 1\npolicy: open\n")
	await("a candidate with an error", live, `policy_reload_success{set="shadow"} 0`, `policies{set="shadow"} 1`)
	if code, text := r.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("readyz answers %d %s, want that candidates do not matter", code, text)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.log.String(), "the candidate policies cannot be loaded") {
		t.Error("nothing is logged about the candidates")
	}
}

// TestTheSeriesOfManyTargets: with the labels that the worker has, neither targets
// nor rules make more than 2,000 series.
func TestTheSeriesOfManyTargets(t *testing.T) {
	t.Parallel()
	var targets approval.Targets
	for i := range 1000 {
		targets = append(targets, approval.Target{Name: fmt.Sprintf("t%d", i), Kind: approval.TargetKinds()[i%5], ServiceID: "4189d3c2-8882-4871-a3c2-d380272eed88"})
	}
	rules := make([][2]string, 0, 10_000)
	for i := range 10_000 {
		rules = append(rules, [2]string{"candidate", fmt.Sprintf("r%d", i)})
	}
	registry := prometheus.NewRegistry()
	m := metrics.New(registry, service.LabelsOf(targets), service.MetricsBuild())
	m.Set(metrics.ShadowSet)
	m.Rules(rules)
	m.ShadowRules(metrics.LiveSet, rules[5_000:])
	m.ShadowRules(metrics.ShadowSet, rules)
	var expiries []metrics.Expiry
	for i, rule := range rules {
		expiries = append(expiries, metrics.Expiry{Rule: rule, At: time.Unix(int64(i), 0)})
		for _, verdict := range approval.Verdicts() {
			d := &approval.Decision{Verdict: verdict, Policy: rule[0], Rule: rule[1], Shadow: &approval.ShadowDecision{Verdict: approval.Hold, Policy: rule[0], Rule: rule[1]}}
			m.Decided(d)
			m.LimitUsed(d, "t0", fmt.Sprintf("account%d", i), 1, 2)
			m.LimitUsed(d, "t0", "account", 1, 2)
		}
	}
	m.Expiries(expiries)
	for _, target := range targets {
		for _, outcome := range approval.Outcomes() {
			m.Finished(&approval.Result{Request: approval.Request{Target: target, TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, Outcome: outcome, Seconds: map[approval.Stage]float64{approval.StageAct: 1}})
		}
		m.CloudUnknownState(target.Name)
		m.WorkSeen(target.Name, metrics.Work{Pending: 1})
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			n += 1 + len(metric.GetHistogram().GetBucket())
			if metric.GetHistogram() != nil {
				n += 2
			}
		}
	}
	t.Logf("%d series", n)
	if n > 2000 {
		t.Errorf("%d series, want at most 2,000", n)
	}
}
