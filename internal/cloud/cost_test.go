package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// inProcess calls a handler without a network, so that time can be simulated. Each call
// takes latency and is counted by its operation.
type inProcess struct {
	http.Handler
	latency time.Duration

	mu    sync.Mutex
	reads int
	kinds map[string]int // of the reads
	acts  int
}

func (p *inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	if r.Method == http.MethodPost {
		p.acts++
	} else {
		p.reads++
		q := r.URL.Query()
		if q.Has("id") {
			q.Set("id", "...")
		}
		p.kinds[q.Encode()]++
	}
	p.mu.Unlock()
	pause(r.Context(), p.latency)
	if r.Body == nil {
		r.Body = http.NoBody // as a server has it
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// factsMaxAge is the age from which a worker reads facts again before an act.
const factsMaxAge = 5 * time.Second

var errAged = errors.New("the facts have aged")

// approve accepts a connection as a worker does: on facts that are not old when the call
// is sent, and by what the list shows after it. aged counts acts that met old facts.
func approve(ctx context.Context, c *cloud.Client, req approval.Request, aged *atomic.Int64) error {
	for {
		f, err := c.Facts(ctx, req)
		if err != nil || f.State != approval.Pending {
			return fmt.Errorf("facts: %+v: %w", f, err)
		}
		permit := func() error {
			if time.Since(f.ReadAt) <= factsMaxAge {
				return nil
			}
			if latest, ok := c.LatestPending(req); ok && time.Since(latest.ReadAt) <= factsMaxAge && latest.Same(f) {
				return nil
			}
			return errAged
		}
		err = c.Act(approval.WithPermit(ctx, permit), &req, approval.Accept)
		if errors.Is(err, errAged) {
			aged.Add(1)
			continue
		}
		if err != nil {
			return fmt.Errorf("act: %w", err)
		}
		break
	}
	state, err := c.Await(ctx, req, approval.Accepted, time.Now())
	if err != nil || state != approval.Accepted {
		return fmt.Errorf("await: %q: %w", state, err)
	}
	return nil
}

// bench is a simulated cloud with a client, both without a network.
func bench(t *testing.T, rate float64, targets ...approval.Target) (*simulator.Simulator, *inProcess, *cloud.Client) {
	t.Helper()
	sim := simulator.New(simulator.Config{Auth: simulator.Auth{None: true}, RepeatOK: true})
	sim.AddProject(simulator.Project{ID: project, Name: "cn-north-4"})
	for _, target := range targets {
		if target.Kind == approval.Gateway {
			sim.AddGateway(simulator.Gateway{ID: target.ID, ProjectID: project})
		} else {
			sim.AddService(simulator.Service{ID: target.ID, Name: target.Name, ProjectID: project, ApprovalEnabled: true})
		}
	}
	p := &inProcess{Handler: sim, latency: 20 * time.Millisecond, kinds: map[string]int{}}
	c, err := cloud.New(cloud.Config{Region: "cn-north-4", Auth: signed(), RatePerSecond: rate, Transport: p, Targets: targets})
	if err != nil {
		t.Fatal(err)
	}
	return sim, p, c
}

// approveAll approves connections with a number of slots. It returns the time it took, and
// how often an act met old facts.
func approveAll(t *testing.T, c *cloud.Client, slots int, requests []approval.Request) (took time.Duration, aged int64) {
	t.Helper()
	var old atomic.Int64
	begin := time.Now()
	free := make(chan struct{}, slots)
	var wg sync.WaitGroup
	for _, req := range requests {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			if err := approve(t.Context(), c, req, &old); err != nil {
				t.Errorf("%s: %v", req.EndpointID, err)
			}
		})
	}
	wg.Wait()
	return time.Since(begin), old.Load()
}

// TestCostDoesNotGrowWithTheList: 1,000 approvals take at most 1.1 calls each, and 8 a
// second at a rate of 10, however many connections the target has.
func TestCostDoesNotGrowWithTheList(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		target   approval.Target
		accepted int
		rate     float64
		slots    int
	}{
		{targets()[0], 500, 10, 256},
		{targets()[0], 5000, 10, 64},
		{targets()[0], 5000, 200, 256},
		{targets()[0], 100_000, 10, 256},
		{targets()[1], 500, 10, 256},
		{targets()[1], 5000, 1000, 256},
		{targets()[1], 50_000, 10, 256},
	} {
		t.Run(fmt.Sprintf("%s, %d accepted, rate %v, %d slots", tt.target.Kind, tt.accepted, tt.rate, tt.slots), func(t *testing.T) {
			t.Parallel()
			if tt.accepted > 5000 {
				cloud.Counted(t)
			}
			synctest.Test(t, func(t *testing.T) {
				sim, p, c := bench(t, tt.rate, tt.target)
				long := time.Now().Add(-24 * time.Hour)
				for range tt.accepted {
					sim.Connect(tt.target.ID, simulator.Connection{State: simulator.Accepted, CreatedAt: long})
				}
				var requests []approval.Request
				for range 1000 {
					conn := sim.Connect(tt.target.ID, simulator.Connection{State: simulator.PendingAcceptance})
					requests = append(requests, approval.Request{Target: tt.target, EndpointID: conn.ID})
				}
				took, aged := approveAll(t, c, tt.slots, requests)
				t.Logf("%d reads, %d acts in %v; %v", p.reads, p.acts, took, p.kinds)
				if p.acts != 1000 || p.acts+p.reads > 1100 {
					t.Errorf("%d reads and %d acts for 1000 approvals: %v", p.reads, p.acts, p.kinds)
				}
				if aged > 100 && !withRace { // calls are bounded above in either case
					t.Errorf("%d acts met old facts", aged)
				}
				if rate := 1000 / took.Seconds(); rate < 0.8*min(tt.rate, 100) {
					t.Errorf("%.1f approvals a second at a rate of %v", rate, tt.rate)
				}
			})
		})
	}
}

// TestCostOfManyTargets: a lone request of each of 1,000 targets takes three calls: the
// facts, the act and its confirmation.
func TestCostOfManyTargets(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{10, 100, 1000} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			t.Parallel()
			if rate != 100 {
				cloud.Counted(t)
			}
			synctest.Test(t, func(t *testing.T) {
				var all []approval.Target
				for i := range 1000 {
					all = append(all, approval.Target{Name: fmt.Sprintf("t%d", i), Kind: approval.Service, ID: fmt.Sprintf("4189d3c2-8882-4871-a3c2-%012x", i), ProjectID: project})
				}
				sim, p, c := bench(t, rate, all...)
				var requests []approval.Request
				for _, target := range all {
					conn := sim.Connect(target.ID, simulator.Connection{State: simulator.PendingAcceptance})
					requests = append(requests, approval.Request{Target: target, EndpointID: conn.ID})
				}
				took, aged := approveAll(t, c, 256, requests)
				t.Logf("%d reads, %d acts in %v; %v", p.reads, p.acts, took, p.kinds)
				if p.acts != 1000 || p.acts+p.reads > 3100 || aged > 0 {
					t.Errorf("%d reads and %d acts for 1000 approvals, %d met old facts", p.reads, p.acts, aged)
				}
			})
		})
	}
}
