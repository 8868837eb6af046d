package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

// byReview holds what people may decide, and decides what they said: the number of
// approvals is what counts.
func byReview(needed int) policyFunc {
	return func(in *approval.Input) approval.Decision {
		d := approval.Decision{Verdict: approval.Hold, Facts: in.Facts, At: in.Now, Digest: "sha256:0"}
		approvals := 0
		if in.Reviews != nil {
			for _, said := range in.Reviews.Said {
				if said.Approve && said.Facts == approval.FactsToReview(&in.Request, &in.Facts) {
					approvals++
				}
			}
		}
		if approvals >= needed {
			d.Verdict, d.Rule, d.Reviews = approval.Accept, "review", in.Reviews
			return d
		}
		d.Review = []approval.ReviewRule{{Policy: "p", By: []string{"a"}, Approvals: needed, Within: approval.Period(time.Hour)}}
		return d
	}
}

func (b *bench) record(t *testing.T) *approval.ReviewRecord {
	t.Helper()
	record, err := b.ledger.Review(t.Context(), connection("1").Request.Subject())
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// approve adds an approval to what is known of the connection.
func (b *bench) approve(t *testing.T, nonce string) {
	t.Helper()
	record := b.record(t)
	next := record.Add(approval.Review{Reviewer: nonce, Approve: true, Reason: "ok", At: time.Now(), Facts: record.ToReview(), Nonce: nonce})
	if err := b.ledger.PutReview(t.Context(), &next); err != nil {
		t.Fatal(err)
	}
}

// again is the request by which the connection is decided again.
func again(eventID string) approval.Delivery {
	d := connection(eventID)
	d.Request.Source = SweepSource
	d.Request.ID = approval.RequestID(SweepSource, eventID)
	return d
}

func TestAHeldRequestIsAcceptedByReviews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, byReview(2))
		res, _ := b.deliver(t, connection("1"), 9)
		if res.Outcome != approval.OutcomeHeld || b.record(t) == nil || len(res.Decision.Review) != 1 {
			t.Fatalf("%s, on the work list: %+v", res.Outcome, b.record(t))
		}
		held := b.record(t).Reviews.HeldAt
		b.approve(t, "ann")
		res, _ = b.deliver(t, again("x/review/1"), 9)
		if res.Outcome != approval.OutcomeHeld || b.record(t) == nil || !b.record(t).Reviews.HeldAt.Equal(held) {
			t.Fatalf("after one of two: %s, %+v", res.Outcome, b.record(t))
		}
		b.approve(t, "bob")
		res, _ = b.deliver(t, again("x/review/2"), 9)
		if res.Outcome != approval.OutcomeAccepted || res.Decision.Rule != "review" || len(res.Decision.Reviews.Said) != 2 {
			t.Fatalf("after two of two: %s, %+v", res.Outcome, res.Decision)
		}
		if b.record(t) != nil {
			t.Error("it is on the work list still")
		}
		if len(cloud.acts) != 1 {
			t.Errorf("%d acts, want 1", len(cloud.acts))
		}
	})
}

// TestReviewsAreCountedAgainRightBeforeTheAct: who may not review any more does not count.
func TestReviewsAreCountedAgainRightBeforeTheAct(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		needed, evaluations := 1, 0
		b := newBench(t, cloud, policyFunc(func(in *approval.Input) approval.Decision {
			d := byReview(needed)(in)
			if d.Verdict == approval.Accept {
				evaluations++
				needed = 9 // the reviewer is removed after the decision
			}
			return d
		}))
		b.deliver(t, connection("1"), 9)
		b.approve(t, "ann")
		res, _ := b.deliver(t, again("x/review/1"), 9)
		if res.Outcome != approval.OutcomeHeld || len(cloud.acts) != 0 || evaluations != 1 {
			t.Errorf("%s after %d acts and %d accepting evaluations", res.Outcome, len(cloud.acts), evaluations)
		}
		if b.record(t) == nil {
			t.Error("it left the work list")
		}
	})
}

// TestReviewsOfAnotherConnectionDoNotCount: the endpoint id names another account's
// connection by now.
func TestReviewsOfAnotherConnectionDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, byReview(1))
		b.deliver(t, connection("1"), 9)
		b.approve(t, "ann")
		cloud.set(func(f *approval.Facts) { f.MarkerID++ })
		res, _ := b.deliver(t, again("x/review/1"), 9)
		if res.Outcome != approval.OutcomeHeld || len(cloud.acts) != 0 {
			t.Errorf("%s after %d acts", res.Outcome, len(cloud.acts))
		}
		if record := b.record(t); record == nil || len(record.Reviews.Said) != 0 || record.Facts.MarkerID != 2 {
			t.Errorf("the work list has %+v", record)
		}
	})
}

func TestTheWorkListIsWrittenBeforeTheResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), byReview(1))
		b.ledger.FailOnce("write", "review.", cloudError{retryable: true}, false)
		if res, _ := b.deliver(t, connection("1"), 9); res.Outcome != approval.OutcomeHeld || b.record(t) == nil {
			t.Errorf("%s, on the work list: %v", res.Outcome, b.record(t))
		}
	})
}

// TestTheSweepSubmitsWhatReviewsDecideByNow: fewer approvals are needed after a change
// of the policies.
func TestTheSweepSubmitsWhatReviewsDecideByNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		needed := 2
		b := newBench(t, newFakeCloud(approval.Pending), policyFunc(func(in *approval.Input) approval.Decision { return byReview(needed)(in) }))
		b.deliver(t, connection("1"), 9)
		b.approve(t, "ann")
		bus := &fakeBus{got: map[string]approval.Request{}}
		sweep := b.sweep(bus)
		<-time.After(eventGrace + time.Minute)
		if got := b.sweepAndDeliver(t, sweep, bus); len(got) != 0 || b.record(t) == nil {
			t.Fatalf("one of two: %+v", got)
		}
		needed = 1
		<-time.After(sweep.Interval)
		got := b.sweepAndDeliver(t, sweep, bus)
		if len(got) != 1 || got[0].Outcome != approval.OutcomeAccepted || b.record(t) != nil {
			t.Errorf("one of one: %+v, on the work list: %v", got, b.record(t))
		}
	})
}

// TestReviewsDecideAgainAfterTheyDidNotSuffice: more approvals are needed right before
// the act, and fewer again later. Nobody has to say it again.
func TestReviewsDecideAgainAfterTheyDidNotSuffice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		needed := 1
		b := newBench(t, newFakeCloud(approval.Pending), policyFunc(func(in *approval.Input) approval.Decision { return byReview(needed)(in) }))
		b.deliver(t, connection("1"), 9)
		b.approve(t, "ann")
		needed = 2
		first := approval.ReviewedRequest(b.record(t))
		if res, _ := b.deliver(t, approval.Delivery{Request: first, Attempt: 1, PublishedAt: time.Now()}, 9); res.Outcome != approval.OutcomeHeld {
			t.Fatalf("one of two: %s", res.Outcome)
		}
		if b.record(t).Closed != "" || approval.ReviewedRequest(b.record(t)).ID == first.ID {
			t.Fatalf("it cannot be decided again: %+v", b.record(t))
		}
		needed = 1
		bus := &fakeBus{got: map[string]approval.Request{}}
		<-time.After(eventGrace + time.Minute)
		if got := b.sweepAndDeliver(t, b.sweep(bus), bus); len(got) != 1 || got[0].Outcome != approval.OutcomeAccepted {
			t.Errorf("one of one: %+v", got)
		}
	})
}

// TestReviewsStayWhileAnotherRequestMayAct: the connection is pending, so nothing is
// settled yet.
func TestReviewsStayWhileAnotherRequestMayAct(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, byReview(1))
		b.deliver(t, connection("1"), 9)
		b.approve(t, "ann")
		other := connection("2").Request
		if _, _, err := ledgertest.Record(t.Context(), b.ledger, &other, &approval.Decision{Verdict: approval.Reject, Policy: "p", Rule: "r", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		first := approval.ReviewedRequest(b.record(t))
		if res, _ := b.deliver(t, approval.Delivery{Request: first, Attempt: 1, PublishedAt: time.Now()}, 9); res.Outcome != approval.OutcomeSuperseded || len(cloud.acts) != 0 {
			t.Fatalf("%s after %d acts", res.Outcome, len(cloud.acts))
		}
		if record := b.record(t); record == nil || len(record.Reviews.Said) != 1 || record.Closed != "" || approval.ReviewedRequest(record).ID == first.ID {
			t.Errorf("the record is %+v", record)
		}
	})
}

// TestWhatIsSettledElsewhereLeavesTheWorkList within one sweep, with a result.
func TestWhatIsSettledElsewhereLeavesTheWorkList(t *testing.T) {
	t.Parallel()
	for state, want := range map[approval.State]approval.Outcome{
		approval.Accepted: approval.OutcomeSuperseded, approval.Rejected: approval.OutcomeSuperseded, approval.Absent: approval.OutcomeGone,
	} {
		synctest.Test(t, func(t *testing.T) {
			cloud := newFakeCloud(approval.Pending)
			b := newBench(t, cloud, byReview(1))
			b.deliver(t, connection("1"), 9)
			<-time.After(eventGrace + time.Minute)
			cloud.set(func(f *approval.Facts) { f.State = state })
			bus := &fakeBus{got: map[string]approval.Request{}}
			sweep := b.sweep(bus)
			got := b.sweepAndDeliver(t, sweep, bus)
			if len(got) != 1 || got[0].Outcome != want {
				t.Errorf("%q: %+v, want %s", state, got, want)
			}
			if b.record(t) != nil {
				t.Errorf("%q: it is on the work list still", state)
			}
		})
	}
}
