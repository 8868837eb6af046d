package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// limited accepts up to limit connections of a domain.
func limited(limit int) policyFunc {
	return func(in *approval.Input) approval.Decision {
		if !in.Facts.Accepted.Known {
			return approval.Decision{Verdict: approval.Hold, NeedsCount: true, Limit: limit, Reasons: []approval.Reason{{Code: approval.ReasonCountUnknown}}}
		}
		if in.Facts.Accepted.N >= limit {
			return approval.Decision{Verdict: approval.Hold, Reasons: []approval.Reason{{Code: approval.ReasonLimitReached}}}
		}
		return approval.Decision{Verdict: approval.Accept, Limit: limit}
	}
}

// TestALimitIsKept: 100 concurrent requests over three workers against a limit of 10,
// of which some are taken, with a ledger and a list that fail now and then.
func TestALimitIsKept(t *testing.T) {
	t.Parallel()
	for _, taken := range []int{0, 4, 10} {
		t.Run(fmt.Sprintf("%d taken", taken), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Absent)
				delete(cloud.facts, endpoint)
				id := func(n int) string { return fmt.Sprintf("705290f3-0d00-41f2-aedc-%012d", n) }
				for n := range 100 + taken {
					state := approval.Pending
					if n >= 100 {
						state = approval.Accepted
					}
					cloud.facts[id(n)] = approval.Facts{EndpointID: id(n), DomainID: acme, State: state, MarkerID: int64(n + 1)}
				}
				counts := 0
				cloud.fail = func(op string, _ bool) error {
					if op == "count" {
						if counts++; counts%3 == 0 {
							return cloudError{retryable: true}
						}
					}
					return nil
				}
				first := newBench(t, cloud, limited(10))
				workers := []*bench{first, {Worker: first.replica(), cloud: cloud, results: first.results}, {Worker: first.replica(), cloud: cloud, results: first.results}}
				var wg sync.WaitGroup
				for n := range 100 {
					wg.Go(func() {
						d := connection(fmt.Sprint(n))
						d.Request.EndpointID = id(n)
						untilSettled(t, workers[n%3].Worker, d)
					})
				}
				wg.Wait()
				accepted := 0
				for _, r := range first.results.got {
					switch {
					case r.Outcome == approval.OutcomeAccepted:
						accepted++
					case r.Outcome != approval.OutcomeHeld || r.Decision.Reasons[0].Code != approval.ReasonLimitReached:
						t.Errorf("one ended %s because of %v, want held at the limit", r.Outcome, r.Decision.Reasons)
					}
				}
				if accepted != 10-taken || len(cloud.acts) != accepted || len(first.results.got) != 100 {
					t.Errorf("%d accepted by %d acts of %d, with %d taken before; want exactly 10 in all", accepted, len(cloud.acts), len(first.results.got), taken)
				}
			})
		})
	}
}

// TestALimitCountsConnections: several requests for each of 30 connections, all at
// once over two workers, against a limit of 10. Acts fail for good now and then,
// so that one request ends as failed while another for the same connection is
// under way.
func TestALimitCountsConnections(t *testing.T) {
	t.Parallel()
	const limit, connections, each = 10, 30, 3
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Absent)
		delete(cloud.facts, endpoint)
		id := func(n int) string { return fmt.Sprintf("705290f3-0d00-41f2-aedc-%012d", n) }
		for n := range connections {
			cloud.facts[id(n)] = approval.Facts{EndpointID: id(n), DomainID: acme, State: approval.Pending, MarkerID: int64(n + 1)}
		}
		acts := 0
		cloud.fail = func(op string, after bool) error {
			if op == "act" && !after {
				if acts++; acts%4 == 0 {
					return cloudError{}
				}
			}
			return nil
		}
		b := newBench(t, cloud, limited(limit))
		workers := []*Worker{b.Worker, b.replica()}
		ask := func(round string) {
			var wg sync.WaitGroup
			for n := range connections * each {
				wg.Go(func() {
					d := connection(fmt.Sprint(round, n))
					d.Request.EndpointID = id(n % connections)
					untilSettled(t, workers[n%2], d)
				})
			}
			wg.Wait()
		}
		accepted := func() int {
			n := 0
			for _, f := range cloud.facts {
				if f.State == approval.Accepted {
					n++
				}
			}
			return n
		}
		ask("first")
		if got := accepted(); got > limit || len(cloud.acts) != got {
			t.Errorf("%d connections are accepted by %d acts, the limit is %d", got, len(cloud.acts), limit)
		}
		// What failed has given its place back, and all requests that shared it may use it.
		cloud.fail = nil
		ask("second")
		if got := accepted(); got != limit || len(cloud.acts) != limit {
			t.Errorf("in the end %d connections are accepted by %d acts, want %d", got, len(cloud.acts), limit)
		}
	})
}

// TestAFailedAcceptGivesItsPlaceBack: what was reserved and not accepted is free
// for the next.
func TestAFailedAcceptGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		second := "00000000-0000-0000-0000-000000000002"
		cloud.facts[second] = approval.Facts{EndpointID: second, DomainID: acme, MarkerID: 2, State: approval.Pending}
		cloud.fail = func(op string, _ bool) error {
			if op == "act" {
				return cloudError{}
			}
			return nil
		}
		b := newBench(t, cloud, limited(1))
		if res, _ := b.deliver(t, connection("1"), 9); res.Outcome != approval.OutcomeFailed {
			t.Fatalf("the first ended %s, want failed", res.Outcome)
		}
		cloud.fail = nil
		d := connection("2")
		d.Request.EndpointID = second
		if res, _ := b.deliver(t, d, 9); res.Outcome != approval.OutcomeAccepted {
			t.Errorf("the second ended %s (%v), want the place of the first", res.Outcome, res.Decision.Reasons)
		}
	})
}

// untilSettled delivers d again and again, each time when w asks for it.
func untilSettled(t *testing.T, w *Worker, d approval.Delivery) {
	for {
		err := w.Handle(context.Background(), &d)
		if err == nil {
			return
		}
		later, ok := errors.AsType[*RetryLaterError](err)
		if !ok {
			t.Errorf("Handle: %v", err)
			return
		}
		<-time.After(later.After)
		d.Attempt++
	}
}
