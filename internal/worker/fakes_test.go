package worker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

const (
	payments = "4189d3c2-8882-4871-a3c2-d380272eed88"
	endpoint = "705290f3-0d00-41f2-aedc-71f09844e879"
	acme     = "6e9dfd51d1124e8d8498dce894923a0d"
)

func service() approval.Target {
	return approval.Target{Name: "payments", Kind: approval.Service, ID: payments, Region: "cn-north-4"}
}

func functions() approval.Target {
	return approval.Target{Name: "functions", Kind: approval.FunctionGraph, Region: "cn-north-4"}
}

func insight() approval.Target {
	return approval.Target{Name: "insight", Kind: approval.DataArtsInsight, Region: "cn-north-4"}
}

// fakeCloud is the cloud as the worker sees it. fail is asked before and after
// each deed; an error after the deed is an answer that was lost.
type fakeCloud struct {
	mu        sync.Mutex
	facts     map[string]approval.Facts
	fail      func(op string, after bool) error
	stay      bool           // an act is taken, but the state does not move
	become    approval.State // what an act makes of a connection, if not what it asks
	lookBlind bool
	endpoints []string // what Look sees
	acts      []approval.Verdict
	creates   int
	connects  string // the endpoint id that Create answers with
	asked     int
}

func newFakeCloud(state approval.State) *fakeCloud {
	return &fakeCloud{facts: map[string]approval.Facts{
		endpoint: {EndpointID: endpoint, DomainID: acme, State: state, MarkerID: 1},
	}}
}

// set changes the connection.
func (c *fakeCloud) set(change func(*approval.Facts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.facts[endpoint]
	change(&f)
	c.facts[endpoint] = f
}

func (c *fakeCloud) failing(op string, after bool) error {
	if c.fail == nil {
		return nil
	}
	return c.fail(op, after)
}

func (c *fakeCloud) Facts(_ context.Context, req approval.Request) (approval.Facts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if err := c.failing("facts", false); err != nil {
		return approval.Facts{}, err
	}
	f := c.facts[req.EndpointID]
	f.ReadAt = time.Now()
	return f, nil
}

func (c *fakeCloud) Act(ctx context.Context, req *approval.Request, v approval.Verdict) error {
	if err := approval.Permit(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failing("act", false); err != nil {
		return err
	}
	c.acts = append(c.acts, v)
	f := c.facts[req.EndpointID]
	switch {
	case c.stay:
	case c.become != "":
		f.State = c.become
	default:
		f.State = v.Goal()
	}
	c.facts[req.EndpointID] = f
	return c.failing("act", true)
}

func (c *fakeCloud) Await(ctx context.Context, req approval.Request, want approval.State, actedAt time.Time) (approval.State, error) {
	for reads := 1; ; reads++ {
		c.mu.Lock()
		state := c.facts[req.EndpointID].State
		err := c.failing("await", false)
		c.mu.Unlock()
		moving := state == approval.Pending || state == approval.Creating || !state.Known()
		if err != nil || state == want || !moving && reads > 1 && time.Since(actedAt) > 30*time.Second {
			return state, err
		}
		select {
		case <-ctx.Done():
			return state, ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

func (c *fakeCloud) Look(_ context.Context, _ approval.Request, before []string) (approval.Look, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lookBlind {
		return approval.Look{}, cloudError{noReadBack: true}
	}
	if err := c.failing("look", false); err != nil {
		return approval.Look{}, err
	}
	look := approval.Look{Keys: slices.Clone(c.endpoints)}
	for _, id := range c.endpoints {
		if !slices.Contains(before, id) {
			look.Created = &approval.Created{EndpointID: id, State: approval.Accepted}
		}
		if strings.HasPrefix(id, "made-") {
			look.Existing = &approval.Created{EndpointID: id, State: approval.Accepted}
		}
	}
	return look, nil
}

func (c *fakeCloud) Create(ctx context.Context, _ approval.Request) (approval.Created, error) {
	if err := approval.Permit(ctx); err != nil {
		return approval.Created{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failing("create", false); err != nil {
		return approval.Created{}, err
	}
	c.creates++
	c.endpoints = append(c.endpoints, "made-"+string(rune('0'+c.creates)))
	return approval.Created{Domain: "functions.example", EndpointID: c.connects}, c.failing("create", true)
}

// LatestPending knows of no other reads.
func (*fakeCloud) LatestPending(approval.Request) (approval.Facts, bool) {
	return approval.Facts{}, false
}

func (c *fakeCloud) Accepted(_ context.Context, _ approval.Target, domainID, endpointID string) (approval.AccountCount, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failing("count", false); err != nil {
		return approval.AccountCount{}, err
	}
	if c.facts[endpointID].DomainID != domainID {
		return approval.AccountCount{}, cloudError{retryable: true}
	}
	shown := maps.Clone(c.facts)
	n := approval.AccountCount{At: time.Now(), State: func(id string) approval.State { return shown[id].State }}
	for id, f := range c.facts {
		switch {
		case id == endpointID || f.DomainID != domainID:
		case f.State == approval.Accepted:
			n.Accepted++
		case f.State == approval.Creating:
			n.Creating++
		}
	}
	return n, nil
}

func (c *fakeCloud) Pending(context.Context, approval.Target) ([]approval.Facts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []approval.Facts
	for _, f := range c.facts {
		if f.State == approval.Pending {
			out = append(out, f)
		}
	}
	return out, nil
}

// cloudError is an error of the cloud with each behavior that the worker asks for.
type cloudError struct {
	retryable, unknown, gone, noReadBack bool
	operator                             bool
	after                                time.Duration
}

func (e cloudError) Error() string        { return "the cloud failed" }
func (e cloudError) Retryable() bool      { return e.retryable }
func (e cloudError) OutcomeUnknown() bool { return e.unknown }
func (e cloudError) Gone() bool           { return e.gone }
func (e cloudError) NoReadBack() bool     { return e.noReadBack }
func (e cloudError) OperatorFault() (approval.OperatorFault, bool) {
	return approval.OperatorFault{API: "vpcep", Operation: "AcceptOrRejectEndpoint", Code: "EndPoint.0004", Text: "not allowed", RequestID: "req-1"}, e.operator
}
func (e cloudError) RetryAfter() time.Duration { return e.after }
func (e cloudError) Failure() approval.Failure {
	return approval.Failure{Code: "EndPoint.2013", Text: "not of this service"}
}

// policyFunc is a policy of one line.
type policyFunc func(in *approval.Input) approval.Decision

func (p policyFunc) Evaluate(in *approval.Input) approval.Decision {
	d := p(in)
	d.Facts, d.At, d.Digest = in.Facts, in.Now, "sha256:test"
	return d
}

func always(v approval.Verdict) policyFunc {
	return func(*approval.Input) approval.Decision { return approval.Decision{Verdict: v, Policy: "p", Rule: "r"} }
}

// fakeResults keeps what is published, once for each decision.
type fakeResults struct {
	mu   sync.Mutex
	fail error
	got  map[string]approval.Result
	all  []approval.Result // in their order
	runs int
}

func (r *fakeResults) Publish(_ context.Context, res approval.Result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs++
	if r.fail != nil {
		return r.fail
	}
	if _, ok := r.got[res.Decision.ID]; !ok {
		r.got[res.Decision.ID] = res
		r.all = append(r.all, res)
	}
	return nil
}

// Held calls each as the bus does.
func (r *fakeResults) Held(_ context.Context, after uint64, each func(approval.Held), outcomes ...approval.Outcome) (uint64, error) {
	r.mu.Lock()
	all := slices.Clone(r.all)
	r.mu.Unlock()
	for _, res := range all[after:] {
		if slices.Contains(outcomes, res.Outcome) {
			each(approval.Held{
				RequestID: res.Request.ID, Subject: res.Request.Subject(), Target: res.Request.Target.Name, Outcome: res.Outcome, At: res.At,
			})
		}
	}
	return uint64(len(all)), nil
}

// bench is a worker with all its neighbours in memory.
type bench struct {
	*Worker
	cloud   *fakeCloud
	ledger  *ledgertest.Fake
	results *fakeResults
}

func newBench(_ testing.TB, cloud *fakeCloud, policy Policy) *bench {
	b := &bench{cloud: cloud, ledger: ledgertest.NewFake(), results: &fakeResults{got: map[string]approval.Result{}}}
	b.Worker = &Worker{
		Cloud: cloud, Creator: cloud, Limiter: limiter{cloud, b.ledger}, Policy: policy, Ledger: b.ledger, Reviews: b.ledger, Results: b.results,
		Metrics: metrics.New(prometheus.NewRegistry(), metrics.Labels{}, metrics.Build{}),
		Log:     zerolog.Nop(), Now: time.Now, Limits: DefaultLimits(), Slots: NewTargetSlots(64, 1, time.Now),
		Targets: approval.Targets{service(), functions(), insight()}, Version: "test",
	}
	return b
}

// replica is another worker on the same cloud, ledger and bus.
func (b *bench) replica() *Worker {
	w := *b.Worker
	w.Slots = NewTargetSlots(64, 1, time.Now)
	return &w
}

// limiter has the cloud count and the ledger reserve, as in the real worker.
type limiter struct {
	*fakeCloud
	*ledgertest.Fake
}

// connection is the first delivery of a request for the endpoint.
func connection(eventID string) approval.Delivery {
	return approval.Delivery{Attempt: 1, PublishedAt: time.Now(), Request: approval.Request{
		ID: approval.RequestID("test", eventID), Source: "test", EventID: eventID, Target: service(), EndpointID: endpoint,
	}}
}

func creation(t approval.Target) approval.Delivery {
	d := approval.Delivery{Attempt: 1, PublishedAt: time.Now(), Request: approval.Request{
		ID: approval.RequestID("test", t.Name), Source: "test", EventID: t.Name, Target: t,
	}}
	if t.Kind == approval.FunctionGraph {
		d.Request.Creation.FunctionGraph = &approval.FunctionGraphEndpoint{VPCID: "v", SubnetID: "s"}
	} else {
		d.Request.Creation.DataArtsInsight = &approval.DataArtsInsightEndpoint{DSType: "DWS", ServerID: payments}
	}
	return d
}

// deliver hands d over as the bus does, again and again, until it is settled;
// it returns the result and how many deliveries it took. Time is simulated.
func (b *bench) deliver(t *testing.T, d approval.Delivery, most int) (approval.Result, int) {
	t.Helper()
	for ; d.Attempt <= most; d.Attempt++ {
		err := b.Handle(t.Context(), &d)
		if err == nil {
			res, ok := b.results.got[d.Request.ID]
			if !ok {
				t.Fatal("settled without a result")
			}
			return res, d.Attempt
		}
		later, ok := errors.AsType[*RetryLaterError](err)
		if !ok {
			t.Fatalf("Handle: %v, which does not say when to come again", err)
		}
		<-time.After(later.After)
	}
	t.Fatalf("not settled after %d deliveries: %v", most, b.Handle(t.Context(), &d))
	return approval.Result{}, 0
}
