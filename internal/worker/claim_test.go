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
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

// another is a request for the same endpoint as creation's.
func another(t approval.Target, eventID string) approval.Delivery {
	d := creation(t)
	d.Request.EventID, d.Request.ID = eventID, approval.RequestID("test", eventID)
	return d
}

// TestAClaimIsNoBarForEver: a request for a creation whose event was lost is gone
// on with by the next one for the same endpoint, and there is one endpoint.
func TestAClaimIsNoBarForEver(t *testing.T) {
	t.Parallel()
	for _, sent := range []bool{false, true} {
		t.Run(fmt.Sprintf("sent: %v", sent), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				b := newBench(t, cloud, always(approval.Accept))
				lost := creation(functions())
				entry, _, err := ledgertest.Record(t.Context(), b.ledger, &lost.Request, new(b.Policy.Evaluate(&approval.Input{Now: time.Now()})))
				if err != nil {
					t.Fatal(err)
				}
				if sent {
					entry.Intent = &approval.Intent{At: time.Now(), Sends: 1}
					if err := b.ledger.Put(t.Context(), entry); err != nil {
						t.Fatal(err)
					}
					if _, err := cloud.Create(t.Context(), lost.Request); err != nil {
						t.Fatal(err)
					}
				}
				res, _ := b.deliver(t, another(functions(), "next"), 1000)
				if res.Outcome != approval.OutcomeCreated || !res.Created.Existing || cloud.creates != 1 {
					t.Errorf("the next ended %s (%+v) after %d creations, want the one of the lost request", res.Outcome, res.Created, cloud.creates)
				}
				if first := b.results.got[lost.Request.ID]; first.Outcome != approval.OutcomeCreated {
					t.Errorf("the lost request ended %q, want created", first.Outcome)
				}
			})
		})
	}
}

// TestOneOfManyMakesItAgain: what was made and deleted is made again once, however
// many ask for it at the same time.
func TestOneOfManyMakesItAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		b.deliver(t, creation(functions()), 9)
		cloud.endpoints = nil
		<-time.After(time.Hour)
		// All find it gone before any of them goes on.
		var looked sync.WaitGroup
		looked.Add(2)
		var once [2]sync.Once
		var wg sync.WaitGroup
		for i := range 2 {
			w := b.replica()
			w.Creator = lookingTogether{cloud, func() { once[i].Do(func() { looked.Done(); looked.Wait() }) }}
			wg.Go(func() {
				d := another(functions(), fmt.Sprint(i))
				for err := errors.New("not yet"); err != nil; d.Attempt++ {
					if err = w.Handle(context.Background(), &d); err != nil {
						<-time.After(time.Second)
					}
				}
			})
		}
		wg.Wait()
		if cloud.creates != 2 {
			t.Errorf("%d creations, want the first and one again", cloud.creates)
		}
	})
}

// lookingTogether is told when something was looked for.
type lookingTogether struct {
	*fakeCloud
	looked func()
}

func (l lookingTogether) Look(ctx context.Context, r approval.Request, before []string) (approval.Look, error) {
	look, err := l.fakeCloud.Look(ctx, r, before)
	l.looked()
	return look, err
}

// TestWhoFollowsAnotherWaitsForIt: a request that leaves the act to an earlier one
// does not fail because that one meets errors for long.
func TestWhoFollowsAnotherWaitsForIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud, down := newFakeCloud(approval.Pending), true
		cloud.fail = func(op string, _ bool) error {
			if op == "act" && down {
				return cloudError{retryable: true}
			}
			return nil
		}
		b := newBench(t, cloud, always(approval.Accept))
		first, second := connection("1"), connection("2")
		if err := b.Handle(t.Context(), &first); err == nil {
			t.Fatal("the first should have met an error")
		}
		<-time.After(2 * b.Limits.ConfirmFor)
		second.PublishedAt = time.Now()
		if err := b.Handle(t.Context(), &second); err == nil {
			t.Errorf("the second ended %s although the first goes on", b.results.got[second.Request.ID].Outcome)
		}
		down, first.Attempt, second.Attempt = false, 2, 2
		b.deliver(t, first, 9)
		if res, _ := b.deliver(t, second, 9); res.Outcome != approval.OutcomeAccepted {
			t.Errorf("the second ended %s (%+v), want accepted", res.Outcome, res.Failure)
		}
	})
}

// TestADecisionMadeMeanwhileIsNotEnded: a worker that gives a request up while
// another decides it lets the decision be carried out.
func TestADecisionMadeMeanwhileIsNotEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		d, first := connection("1"), true
		cloud.fail = func(op string, _ bool) error {
			if op != "facts" || !first {
				return nil
			}
			first = false
			if _, _, err := ledgertest.Record(context.Background(), b.ledger, &d.Request, new(b.Policy.Evaluate(&approval.Input{Now: time.Now()}))); err != nil {
				t.Error(err)
			}
			return cloudError{}
		}
		if res, _ := b.deliver(t, d, 9); res.Outcome != approval.OutcomeAccepted {
			t.Errorf("it ended %s (%+v), want accepted", res.Outcome, res.Failure)
		}
	})
}
