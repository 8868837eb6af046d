package worker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// fakePauses is what a worker knows of the emergency stop. Once it was asked free
// times, then is what it answers.
type fakePauses struct {
	mu    sync.Mutex
	free  int
	then  approval.Pause
	stale bool
	asked int
}

func (p *fakePauses) Of(string) (approval.Pause, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked++; p.asked <= p.free {
		return approval.Pause{}, true
	}
	return p.then, !p.stale
}

func (p *fakePauses) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free, p.then = 0, approval.Pause{Paused: true, At: time.Now()}
}

func (p *fakePauses) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.then, p.stale = approval.Pause{At: time.Now()}, false
}

// givenBack delivers d until until, wants the code each time, and returns the next delivery.
func givenBack(t *testing.T, b *bench, d approval.Delivery, code string, until time.Time) approval.Delivery {
	t.Helper()
	for ; d.Attempt == 1 || time.Now().Before(until); d.Attempt++ {
		err := b.Handle(t.Context(), &d)
		later, ok := errors.AsType[*RetryLaterError](err)
		if !ok || later.code != code || (later.Cause == CausePaused) != (code == "paused") {
			t.Fatalf("delivery %d: %v, want that it waits for %s", d.Attempt, err, code)
		}
		<-time.After(later.After)
	}
	return d
}

// TestNothingIsDoneWhilePaused: whenever a pause comes, nothing is sent any more, the request
// outlasts its age, and after the pause it is done exactly once.
func TestNothingIsDoneWhilePaused(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"connection", "creation"} {
		for _, code := range []string{"paused", "pause_unknown"} {
			for free := range 8 {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
					b.Started, b.Limits.MaxAge = time.Now(), 10*time.Minute
					stop := &fakePauses{free: free, then: approval.Pause{Paused: code == "paused", At: time.Now()}, stale: code != "paused"}
					b.Pauses = stop
					d := connection("1")
					if kind == "creation" {
						d = creation(functions())
					}
					if err := b.Handle(t.Context(), &d); err == nil {
						if stop.asked > free {
							t.Fatalf("%s, %s after %d looks: it was asked %d times and acted", kind, code, free, stop.asked)
						}
						return // it was done before the pause
					}
					d.Attempt = 2
					d = givenBack(t, b, d, code, time.Now().Add(2*b.Limits.MaxAge))
					if len(b.cloud.acts) != 0 || b.cloud.creates != 0 {
						t.Fatalf("%s, %s after %d looks: %d acts, %d creations", kind, code, free, len(b.cloud.acts), b.cloud.creates)
					}
					entry, err := b.ledger.Get(t.Context(), d.Request.ID)
					if err != nil || entry == nil || entry.Wait == nil || entry.Wait.Code != code || !entry.SentAt.IsZero() || entry.Intent != nil && entry.Intent.Sends != 0 {
						t.Fatalf("%s, %s after %d looks: the ledger has %+v, %v", kind, code, free, entry, err)
					}
					stop.resume()
					result, _ := b.deliver(t, d, d.Attempt+20)
					want := map[string]approval.Outcome{"connection": approval.OutcomeAccepted, "creation": approval.OutcomeCreated}[kind]
					if result.Outcome != want || len(b.cloud.acts)+b.cloud.creates != 1 {
						t.Errorf("%s, %s after %d looks: %s with %d acts and %d creations", kind, code, free, result.Outcome, len(b.cloud.acts), b.cloud.creates)
					}
				})
			}
		}
	}
}

// pausing is a cloud on which a pause comes while a call waits for its turn.
type pausing struct {
	*fakeCloud
	stop *fakePauses
}

func (c pausing) Act(ctx context.Context, req *approval.Request, v approval.Verdict) error {
	c.stop.pause()
	return c.fakeCloud.Act(ctx, req, v)
}

func (c pausing) Create(ctx context.Context, req approval.Request) (approval.Created, error) {
	c.stop.pause()
	return c.fakeCloud.Create(ctx, req)
}

// TestAPauseStopsACallThatWaits: what waits for its turn at the cloud is not sent, and the ledger
// says that it was not.
func TestAPauseStopsACallThatWaits(t *testing.T) {
	t.Parallel()
	for _, d := range []approval.Delivery{connection("1"), creation(functions()), creation(insight())} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
			stop := &fakePauses{free: 1 << 20}
			b.Pauses = stop
			b.Cloud, b.Creator = pausing{b.cloud, stop}, pausing{b.cloud, stop}
			d.PublishedAt = time.Now()
			d = givenBack(t, b, d, "paused", time.Now())
			entry, err := b.ledger.Get(t.Context(), d.Request.ID)
			if err != nil || !entry.SentAt.IsZero() || entry.Intent != nil && entry.Intent.Sends != 0 || len(b.cloud.acts)+b.cloud.creates != 0 {
				t.Fatalf("%s: %d acts, %d creations, the ledger has %+v, %v", d.Request.Target.Name, len(b.cloud.acts), b.cloud.creates, entry, err)
			}
			b.Cloud, b.Creator = b.cloud, b.cloud
			stop.resume()
			b.deliver(t, d, 40)
			if n := len(b.cloud.acts) + b.cloud.creates; n != 1 {
				t.Errorf("%s: %d calls after the pause", d.Request.Target.Name, n)
			}
		})
	}
}

// TestAPauseIsAskedBeforeTheCloud: a request of a paused target costs no read.
func TestAPauseIsAskedBeforeTheCloud(t *testing.T) {
	t.Parallel()
	b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
	b.Pauses = &fakePauses{then: approval.Pause{Paused: true}}
	if err := b.Handle(t.Context(), new(connection("1"))); err == nil || b.cloud.asked != 0 {
		t.Errorf("%v, after %d reads", err, b.cloud.asked)
	}
}

// TestWhatWasDoneIsFollowedWhilePaused: a pause does not keep the result of an act back.
func TestWhatWasDoneIsFollowedWhilePaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
		stop := &fakePauses{free: 1 << 20}
		b.Pauses, b.cloud.stay = stop, true
		d := connection("1")
		if err := b.Handle(t.Context(), &d); err == nil {
			t.Fatal("it ended before its connection was accepted")
		}
		stop.free, stop.then = 0, approval.Pause{Paused: true, At: time.Now()}
		b.cloud.set(func(f *approval.Facts) { f.State = approval.Accepted })
		d.Attempt = 2
		if result, _ := b.deliver(t, d, 20); result.Outcome != approval.OutcomeAccepted || len(b.cloud.acts) != 1 {
			t.Errorf("%s with %d acts", result.Outcome, len(b.cloud.acts))
		}
	})
}

// TestErrorsWhilePausedEndNothing: a request that is tried on, because something may have been
// done by it, does not end by its age while its target is paused.
func TestErrorsWhilePausedEndNothing(t *testing.T) {
	t.Parallel()
	w := &Worker{Now: time.Now, Started: time.Now().Add(-48 * time.Hour), Limits: DefaultLimits()}
	d := connection("1")
	d.Attempt, d.PublishedAt = 1000, time.Now().Add(-48*time.Hour)
	overdue := func(p Pauses) bool {
		w.Pauses = p
		return w.overdue(&task{Delivery: &d})
	}
	for name, tt := range map[string]struct {
		pauses Pauses
		want   bool
	}{
		"never paused":    {&fakePauses{}, true},
		"without pauses":  {nil, true},
		"paused":          {&fakePauses{then: approval.Pause{Paused: true, At: time.Now().Add(-40 * time.Hour)}}, false},
		"unknown":         {&fakePauses{stale: true}, false},
		"resumed now":     {&fakePauses{then: approval.Pause{At: time.Now()}}, false},
		"resumed earlier": {&fakePauses{then: approval.Pause{At: time.Now().Add(-40 * time.Hour)}}, true},
	} {
		if got := overdue(tt.pauses); got != tt.want {
			t.Errorf("%s: overdue is %v, want %v", name, got, tt.want)
		}
	}
}
