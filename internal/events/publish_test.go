package events

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// result is how connection(eventID) ended.
func result(eventID string, o approval.Outcome) approval.Result {
	at := time.Date(2026, 11, 21, 8, 0, 3, 0, time.UTC)
	req := connection(eventID)
	req.Time = at.Add(-3 * time.Second)
	req.Target.ProjectID = ""
	req.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	return approval.Result{
		Request: req,
		Decision: approval.Decision{
			ID: approval.DecisionID(req.ID), Verdict: approval.Accept, Policy: "payments", Rule: "acme",
			Reasons: []approval.Reason{{Code: approval.ReasonAllowed, Text: "The domain is on the list."}},
			Contact: "network@example.org", Digest: "sha256:00", At: at.Add(-time.Second),
			Facts: approval.Facts{
				EndpointID: endpoint, MarkerID: 16777510, DomainID: "6e9dfd51d1124e8d8498dce894923a0d", State: approval.Pending,
				CreatedAt: at.Add(-time.Minute), UpdatedAt: at.Add(-time.Minute), Accepted: approval.Counted(2), ReadAt: at.Add(-2 * time.Second),
			},
		},
		Outcome: o, State: approval.Accepted, Attempts: 2, Reversible: true,
		Failure: &approval.Failure{Code: "EndPoint.0005", Text: "It is not there.", RequestID: "c0ffee"},
		Created: &approval.Created{ID: "i", EndpointID: endpoint, Addresses: []string{"10.0.0.1"}, Domain: "f.example.org", State: approval.Accepted, Existing: true},
		Seconds: map[approval.Stage]float64{approval.StageQueued: 0.5, approval.StageAct: 0.25}, Version: "v1.2.3", At: at,
	}
}

func stored(t testing.TB, b *Bus, stream string) uint64 {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestPublishOnceForADecision(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	if err := b.Publish(t.Context(), result("1", approval.OutcomeAccepted)); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	seen.exactly(t, "reconnected", 1)
	for range 2 {
		if err := b.Publish(t.Context(), result("1", approval.OutcomeAccepted)); err != nil {
			t.Errorf("again: %v", err)
		}
	}
	if n := stored(t, b, ResultsStream); n != 1 {
		t.Errorf("%d results of one decision", n)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := b.Publish(t.Context(), result("2", approval.OutcomeHeld)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := stored(t, b, ResultsStream); n != 2 {
		t.Errorf("%d results of two decisions", n)
	}
	if ok, failed := seen.get("published ok"), seen.get("published error"); ok != 23 || failed != 0 {
		t.Errorf("reported %d good and %d bad, want 23 and 0", ok, failed)
	}
}

func TestPublishRefusesWhatMakesNoSubject(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	for _, edit := range []func(*approval.Result){
		func(r *approval.Result) { r.Decision.ID = "a.b" },
		func(r *approval.Result) { r.Decision.ID = "" },
		func(r *approval.Result) { r.Request.Target.Name = "*" },
		func(r *approval.Result) { r.Outcome = "" },
	} {
		r := result("1", approval.OutcomeAccepted)
		edit(&r)
		if err := b.Publish(t.Context(), r); err == nil {
			t.Errorf("published %+v", r)
		}
	}
}

func TestPublishWhenTheStreamIsFull(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	cfg := b.streams()[1]
	cfg.MaxMsgs = 1
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), result("1", approval.OutcomeAccepted)); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), result("2", approval.OutcomeAccepted)); err == nil {
		t.Fatal("published into a stream that is full")
	}
	if err := b.Publish(t.Context(), result("1", approval.OutcomeAccepted)); err != nil {
		t.Errorf("what is stored already: %v", err)
	}
	cfg.MaxMsgs = -1
	if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), result("2", approval.OutcomeAccepted)); err != nil {
		t.Errorf("after there was room again: %v", err)
	}
}

func TestPublishDropsClaimsRatherThanTheResult(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.StartWith(t, broker.Options{MaxPayload: 128 << 10}), nil)
	r := result("1", approval.OutcomeAccepted)
	r.Request.Claims = approval.Claims{"long": strings.Repeat("x", 256<<10)}
	if err := b.Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for got, err := range b.Results(t.Context(), ResultFilter{RequestID: r.Request.ID}) {
		if err != nil || got.Request.Claims != nil || got.Decision.Rule != "acme" {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	s, err := b.js.Stream(t.Context(), ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.GetMsg(t.Context(), 1)
	if err != nil || !strings.Contains(string(raw.Data), `"claims_dropped":true`) {
		t.Errorf("the result does not say that claims are missing: %s, %v", raw.Data, err)
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	for id, o := range map[string]approval.Outcome{"1": approval.OutcomeAccepted, "2": approval.OutcomeHeld} {
		if err := b.Publish(t.Context(), result(id, o)); err != nil {
			t.Fatal(err)
		}
	}
	count := func(f ResultFilter) int {
		t.Helper()
		n := 0
		for r, err := range b.Results(t.Context(), f) {
			if err != nil || r.Request.Target.Name != "payments" {
				t.Fatalf("Results(%+v): %+v, %v", f, r, err)
			}
			n++
		}
		return n
	}
	tests := []struct {
		filter ResultFilter
		want   int
	}{
		{ResultFilter{}, 2},
		{ResultFilter{RequestID: connection("1").ID}, 1},
		{ResultFilter{RequestID: connection("3").ID}, 0},
		{ResultFilter{Target: "payments"}, 2},
		{ResultFilter{Target: "orders"}, 0},
		{ResultFilter{Outcomes: []approval.Outcome{approval.OutcomeHeld}}, 1},
		{ResultFilter{Outcomes: []approval.Outcome{approval.OutcomeHeld, approval.OutcomeAccepted}}, 2},
		{ResultFilter{New: true}, 0},
		{ResultFilter{Since: time.Now().Add(-time.Minute)}, 2},
		{ResultFilter{Since: time.Now().Add(time.Minute)}, 0},
	}
	for _, tt := range tests {
		if got := count(tt.filter); got != tt.want {
			t.Errorf("Results(%+v) yields %d, want %d", tt.filter, got, tt.want)
		}
	}
	for _, f := range []ResultFilter{{Target: ">"}, {RequestID: "*"}, {Outcomes: []approval.Outcome{">"}}} {
		for r, err := range b.Results(t.Context(), f) {
			if err == nil {
				t.Errorf("Results(%+v) yields %+v", f, r)
			}
		}
	}
}

func TestResultsFollow(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer = seen })
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Hang)
	defer cancel()
	if err := b.Publish(ctx, result("1", approval.OutcomeAccepted)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r, err := range b.Results(ctx, ResultFilter{Follow: true}) {
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got = append(got, r.Request.EventID)
		switch r.Request.EventID {
		case "1":
			s.Restart() // the reader resumes by itself
			seen.exactly(t, "reconnected", 1)
			if err := b.Publish(ctx, result("2", approval.OutcomeHeld)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		break
	}
	if d := cmp.Diff([]string{"1", "2"}, got); d != "" {
		t.Errorf("followed (-want +got):\n%s", d)
	}
	// A context that ends is told.
	short, stop := context.WithCancel(ctx)
	stop()
	for _, err := range b.Results(short, ResultFilter{Follow: true}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

var updateGolden = flag.Bool("update", false, "rewrite the golden files")

// TestResultFormat guards the result event, which others read.
func TestResultFormat(t *testing.T) {
	t.Parallel()
	creation := result("2", approval.OutcomeRefused)
	creation.Request.Target = targets()[3]
	creation.Request.EndpointID = ""
	creation.Request.Creation.HSS = &approval.HSSEndpoints{HostIDs: []string{endpoint}, VPCs: []approval.HSSVPC{{VPCID: service, SubnetIDs: []string{gateway}}}}
	bare := approval.Result{
		Request:  approval.Request{ID: "r", Source: "s", EventID: "e", Target: targets()[1], EndpointID: endpoint},
		Decision: approval.Decision{ID: "r", Verdict: approval.Hold, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		Outcome:  approval.OutcomeHeld, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for name, want := range map[string]approval.Result{
		"accepted": result("1", approval.OutcomeAccepted), "refused": creation, "held": bare,
	} {
		body, header, err := encodeResult(want, want.Decision.ID, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		file := "testdata/result-" + name + ".golden"
		if *updateGolden {
			if err := os.WriteFile(file, append(body, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(golden), string(body)+"\n"); d != "" {
			t.Errorf("the result event changed (-want +got):\n%s", d)
		}
		got, err := DecodeResult(header, body)
		if err != nil {
			t.Fatal(err)
		}
		want.Request.Target.WorkspaceID, want.Request.Target.ProjectID = "", ""
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("encoded (-) and decoded (+) differ:\n%s", d)
		}
	}
	if _, err := DecodeResult(nil, []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":[]}`)); err == nil {
		t.Error("decoded a result that is none")
	}
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	b := connect(t, natstest.Start(t), nil)
	for range 3 {
		if err := b.Submit(t.Context(), connection("1")); err != nil {
			t.Fatal(err)
		}
	}
	if n := stored(t, b, RequestsStream); n != 1 {
		t.Errorf("submitted thrice, stored %d times", n)
	}
	bad := connection("2")
	bad.EndpointID = "../x"
	var invalidErr *InvalidEventError
	if err := b.Submit(t.Context(), bad); !errors.As(err, &invalidErr) || invalidErr.Reason != ReasonBadID {
		t.Errorf("submitted a bad id: %v", err)
	}
	if err := b.SubmitRaw(t.Context(), "a.b", nil, nil); err == nil {
		t.Error("submitted to what is no target")
	}
}

// TestWaiting has two requests wait of which one is taken.
func TestWaiting(t *testing.T) {
	t.Parallel()
	s, seen := natstest.Start(t), newWatcher()
	b := connect(t, s, func(c *Config) { c.Observer, c.Slots = seen, 1 })
	none := func(when string) {
		t.Helper()
		if at, err := b.Waiting(t.Context()); err != nil || !at.IsZero() {
			t.Errorf("%s one waits since %v, %v; want none", when, at, err)
		}
	}
	none("with nothing stored")
	for _, id := range []string{"1", "2"} {
		if err := b.Submit(t.Context(), connection(id)); err != nil {
			t.Fatal(err)
		}
	}
	first, err := b.Waiting(t.Context())
	if err != nil || time.Since(first).Abs() > time.Minute {
		t.Errorf("the first waits since %v, %v; want just now", first, err)
	}
	taken, release := make(chan struct{}), make(chan struct{})
	consume(t, b, func(context.Context, *approval.Delivery) error {
		taken <- struct{}{}
		<-release
		return nil
	})
	<-taken
	if second, err := b.Waiting(t.Context()); err != nil || !second.After(first) {
		t.Errorf("the next waits since %v, %v; want after %v", second, err, first)
	}
	close(release)
	<-taken
	none("with the last in flight")
}

func TestWithoutStreams(t *testing.T) {
	t.Parallel()
	b, err := Connect(t.Context(), testConfig(natstest.Start(t), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck // not what is tested
	if err := b.Publish(t.Context(), result("1", approval.OutcomeHeld)); !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("Publish: %v", err)
	}
	if err := b.Submit(t.Context(), connection("1")); err == nil || !strings.Contains(err.Error(), "worker bus status") {
		t.Errorf("Submit: %v", err)
	}
	if _, err := b.Bucket(t.Context()); err == nil {
		t.Error("there is a bucket")
	}
	for _, err := range b.Results(t.Context(), ResultFilter{}) {
		if err == nil {
			t.Error("there is a result")
		}
	}
	if _, err := b.DeadLetter(t.Context(), 1); err == nil {
		t.Error("there is a dead letter")
	}
}
