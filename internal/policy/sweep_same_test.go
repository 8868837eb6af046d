package policy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// TestTheSweepDecidesAlike puts 10,000 random connections through the worker and
// through its sweep, which finds each of them held since before the policies were
// loaded. Both must judge the same and so decide the same, to the last byte; and
// so must what explain says of the record, and the decision on what the sweep submits.
func TestTheSweepDecidesAlike(t *testing.T) {
	t.Parallel()
	const inputs = 50
	sets := uint64(policy.Tries(200))
	shares := (sets + 49) / 50
	for share := range uint64(shares) {
		t.Run(fmt.Sprintf("share %d", share), func(t *testing.T) {
			t.Parallel()
			decideAlike(t, share*sets/shares, (share+1)*sets/shares, inputs)
		})
	}
}

// decideAlike is that for the sets of these seeds and so many connections each.
func decideAlike(t *testing.T, from, to uint64, inputs int) {
	said := map[approval.Verdict]int{}
	limits, full := 0, 0
	m := metrics.New(prometheus.NewRegistry(), metrics.Labels{}, metrics.Build{})
	dir := t.TempDir()
	for seed := from; seed < to; seed++ {
		r := rand.New(rand.NewPCG(seed, 11))
		source := sourceOf(t, r, filepath.Join(dir, fmt.Sprint(seed)))
		for n := range inputs {
			in := randomConnection(r, n)
			live := inBothWays(t, m, source, in, r.IntN(4), n%5 == 0)
			said[live.Verdict]++
			if live.Limit > 0 {
				limits++
			}
			for _, reason := range live.Reasons {
				if reason.Code == approval.ReasonLimitReached {
					full++
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d, connection %d: %+v", seed, n, in)
			}
		}
	}
	for _, v := range approval.Verdicts() {
		if said[v] < policy.Tries(20) {
			t.Errorf("only %d of the connections end in %s; the generator is too narrow", said[v], v)
		}
	}
	if least := policy.Tries(20); limits < least || full < least {
		t.Errorf("%d are accepted within a limit and %d held at one; the generator is too narrow", limits, full)
	}
}

// sourceOf is the worker's source of random policies, not loaded yet.
func sourceOf(t *testing.T, r *rand.Rand, dir string) *policy.Source {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, text := range policy.RandomPolicies(r) {
		if !strings.Contains(text, "targets: [hosts]") {
			text = narrowed(r, text)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("p%d.yaml", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source := policy.NewSource(dir, policy.DemoTargets(), nil)
	source.StableFor = 0
	return source
}

// narrowed gives some of the entries of allow what depends on counts, on the time
// and on claims.
func narrowed(r *rand.Rand, text string) string {
	more := []string{"", "", ", limit: 1", ", limit: 2", ", limit: 3", ", expires: 2026-01-01", `, when: "now > facts.created_at"`, ", when: claims.tags.env == 'prod'"}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "  - {id: allow-") {
			last := len(more)
			if strings.Contains(line, "any_domain") {
				last-- // what is for everybody must not rest on claims
			}
			lines[i] = strings.TrimSuffix(line, "}") + more[r.IntN(last)] + "}"
		}
	}
	return strings.Join(lines, "\n")
}

func randomConnection(r *rand.Rand, n int) approval.Input {
	in := policy.RandomInput(r)
	for in.Request.Creates() {
		in = policy.RandomInput(r)
	}
	in.Request.Source, in.Request.EventID = "/random", fmt.Sprint(n)
	in.Request.ID = approval.RequestID(in.Request.Source, in.Request.EventID)
	in.Facts.State, in.Facts.Accepted, in.Facts.ReadAt = approval.Pending, approval.Count{}, in.Now
	if r.IntN(2) == 0 {
		in.Facts.CreatedAt = in.Now.Add(-time.Hour)
	}
	return in
}

// inBothWays decides in as when its event comes, and as a sweep does that finds
// it held on older facts, compares, and returns the decision. If followed, what the
// sweep submits is handled too, and explained.
func inBothWays(t *testing.T, m *metrics.Metrics, source *policy.Source, in approval.Input, accepted int, followed bool) approval.Decision {
	t.Helper()
	targets := approval.Targets{in.Request.Target}
	late := newSite(m, in, accepted)
	late.in.Now = in.Now.Add(-time.Hour)
	late.in.Facts.DomainID, late.in.Facts.ReadAt = "", late.in.Now // the owner shows later
	late.handle(t, policy.NewSource("unused", targets, nil), in.Request)
	late.in = in

	if !source.Loaded() {
		if err := source.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	seen := &recorder{policy: source}
	sweep := &worker.Sweep{
		Cloud: late, Locks: late.Fake, Results: late, Reviews: late, Requests: late, Policy: seen, Metrics: m, Log: zerolog.Nop(),
		Now: late.now, Targets: targets, Interval: time.Minute, InstanceID: "a",
	}
	if err := sweep.Once(t.Context()); err != nil || seen.asked == 0 {
		t.Fatalf("the sweep: %v, the policies were asked %d times", err, seen.asked)
	}

	live := newSite(m, in, accepted).handle(t, source, in.Request)
	text := textOf(t, live)
	if swept := textOf(t, seen.last); swept != text {
		t.Errorf("the sweep decides otherwise:\n%s\n%s", text, swept)
	}
	submitted := late.submitted.ID != ""
	if submitted != (live.Verdict != approval.Hold) {
		t.Errorf("submitted: %v, and it is decided %s", submitted, live.Verdict)
	}
	if !followed {
		return live
	}
	if submitted {
		if again := textOf(t, late.handle(t, source, late.submitted)); again != text {
			t.Errorf("what the sweep submits is decided otherwise:\n%s\n%s", text, again)
		}
	}
	rec := workbench.RecordOf(approval.Entry{Request: in.Request, Decision: live})
	if explained := textOf(t, source.Current().Explain(&rec.Input).Decision); explained != text {
		t.Errorf("explain decides otherwise:\n%s\n%s", text, explained)
	}
	return live
}

// textOf is what d says, without the id that the ledger gave it.
func textOf(t *testing.T, d approval.Decision) string {
	t.Helper()
	d.ID = ""
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// recorder keeps what the policies said last.
type recorder struct {
	policy *policy.Source
	last   approval.Decision
	asked  int
}

func (r *recorder) Evaluate(in *approval.Input) approval.Decision {
	r.last = r.policy.Evaluate(in)
	r.asked++
	return r.last
}

// site is a ledger, a bus, and a cloud with one connection in addition to those that are
// accepted.
type site struct {
	*ledgertest.Fake
	metrics   *metrics.Metrics
	in        approval.Input
	accepted  int
	submitted approval.Request
	results   []approval.Result
}

func newSite(m *metrics.Metrics, in approval.Input, accepted int) *site {
	return &site{Fake: ledgertest.NewFake(), metrics: m, in: in, accepted: accepted}
}

// handle has the worker settle req by the policies, and returns its decision.
func (s *site) handle(t *testing.T, p worker.Policy, req approval.Request) approval.Decision {
	t.Helper()
	w := &worker.Worker{
		Cloud: s, Limiter: s, Policy: p, Ledger: s, Reviews: s, Results: s, Metrics: s.metrics, Log: zerolog.Nop(), Now: s.now,
		Limits: worker.DefaultLimits(), Slots: worker.NewTargetSlots(8, 1, s.now), Targets: approval.Targets{req.Target},
	}
	if err := w.Handle(t.Context(), &approval.Delivery{Request: req, Attempt: 1, PublishedAt: s.now()}); err != nil {
		t.Fatal(err)
	}
	entry, err := s.Get(t.Context(), req.ID)
	if err != nil || entry == nil {
		t.Fatalf("the ledger has no entry: %v", err)
	}
	return entry.Decision
}

func (s *site) now() time.Time { return s.in.Now }

func (s *site) Facts(context.Context, approval.Request) (approval.Facts, error) {
	return s.in.Facts, nil
}

func (s *site) Act(context.Context, *approval.Request, approval.Verdict) error { return nil }

func (s *site) Await(_ context.Context, _ approval.Request, want approval.State, _ time.Time) (approval.State, error) {
	return want, nil
}

func (s *site) Pending(context.Context, approval.Target) ([]approval.Facts, error) {
	return []approval.Facts{s.in.Facts}, nil
}

func (*site) LatestPending(approval.Request) (approval.Facts, bool) { return approval.Facts{}, false }

func (s *site) Accepted(context.Context, approval.Target, string, string) (approval.AccountCount, error) {
	return approval.AccountCount{Accepted: s.accepted}, nil
}

func (s *site) Submit(_ context.Context, r approval.Request) error {
	s.submitted = r
	return nil
}

func (s *site) Waiting(context.Context) (time.Time, error) { return time.Time{}, nil }

func (s *site) Publish(_ context.Context, r approval.Result) error {
	s.results = append(s.results, r)
	return nil
}

func (s *site) Held(_ context.Context, after uint64, each func(approval.Held), outcomes ...approval.Outcome) (uint64, error) {
	for _, r := range s.results[after:] {
		if slices.Contains(outcomes, r.Outcome) {
			each(approval.Held{RequestID: r.Request.ID, Subject: r.Request.Subject(), Target: r.Request.Target.Name, Outcome: r.Outcome, At: r.At})
		}
	}
	return uint64(len(s.results)), nil
}
