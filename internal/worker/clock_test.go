package worker

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// clock is the time of a worker whose machine sets its clock.
type clock struct {
	ahead time.Duration
}

func (c *clock) now() time.Time { return time.Now().Add(c.ahead) }

// step sets the clock by d.
func (c *clock) step(d time.Duration) { c.ahead += d }

// steps are the ways in which a clock is set: ahead, back, and to and fro.
func steps() map[string][]time.Duration {
	const ten = 10 * time.Minute
	return map[string][]time.Duration{
		"ahead": {ten}, "back": {-ten}, "ahead and back": {ten, -ten}, "back and ahead": {-ten, ten},
	}
}

// TestClockSteps: the clock is set by ten minutes at any moment of a request,
// which ends as it would have ended without.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	moments := []string{"facts", "act", "await", "look", "create"}
	requests := map[string]struct {
		verdict approval.Verdict
		d       func() approval.Delivery
		want    approval.Outcome
	}{
		"accepted": {approval.Accept, func() approval.Delivery { return connection("1") }, approval.OutcomeAccepted},
		"rejected": {approval.Reject, func() approval.Delivery { return connection("1") }, approval.OutcomeRejected},
		"held":     {approval.Hold, func() approval.Delivery { return connection("1") }, approval.OutcomeHeld},
		"created":  {approval.Accept, func() approval.Delivery { return creation(functions()) }, approval.OutcomeCreated},
	}
	for how, by := range steps() {
		for name, tt := range requests {
			for _, moment := range moments {
				for _, lost := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, %s at %s, answers lost: %t", name, how, moment, lost), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							cloud, c := newFakeCloud(approval.Pending), &clock{}
							b := newBench(t, cloud, always(tt.verdict))
							b.Now, b.Slots, b.Started = c.now, NewTargetSlots(64, 1, c.now), c.now()
							left, fails := by, lost
							cloud.fail = func(op string, after bool) error {
								if op == moment && len(left) > 0 {
									c.step(left[0])
									left = left[1:]
								}
								if fails && after { // of an act or a creation: done, and nobody heard of it
									fails = false
									return cloudError{retryable: true, unknown: true}
								}
								return nil
							}
							res, _ := b.deliver(t, tt.d(), 200)
							if res.Outcome != tt.want {
								t.Errorf("it ended %s (%+v), want %s", res.Outcome, res.Failure, tt.want)
							}
							if cloud.creates > 1 {
								t.Errorf("made %d endpoints", cloud.creates)
							}
							for _, v := range cloud.acts {
								if v != tt.verdict {
									t.Errorf("did %s, decided %s", v, tt.verdict)
								}
							}
							for stage, s := range res.Seconds {
								if s < -(10*time.Minute).Seconds() || s > (11*time.Minute).Seconds() {
									t.Errorf("stage %s took %v seconds", stage, s)
								}
							}
						})
					})
				}
			}
		}
	}
}

// TestClockStepsWhileTheEndpointIsMade: an endpoint that does not show yet is not
// given up because the clock was set, and errors end nothing sooner than they may.
func TestClockStepsWhileTheEndpointIsMade(t *testing.T) {
	t.Parallel()
	for how, by := range steps() {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud, c := newFakeCloud(approval.Absent), &clock{}
				b := newBench(t, cloud, always(approval.Accept))
				b.Now, b.Slots, b.Started = c.now, NewTargetSlots(64, 1, c.now), c.now()
				left, looks := by, 0
				cloud.fail = func(op string, _ bool) error {
					if looks++; looks == 3 || looks == 5 {
						if len(left) > 0 {
							c.step(left[0])
							left = left[1:]
						}
					}
					if op == "facts" && looks%4 == 0 {
						return errors.New("the API is away")
					}
					return nil
				}
				shows := time.AfterFunc(45*time.Second, func() {
					cloud.mu.Lock()
					defer cloud.mu.Unlock()
					f := cloud.facts[endpoint]
					f.State = approval.Pending
					cloud.facts[endpoint] = f
				})
				defer shows.Stop()
				if res, _ := b.deliver(t, connection("1"), 1000); res.Outcome != approval.OutcomeAccepted {
					t.Errorf("it ended %s (%+v), want accepted", res.Outcome, res.Failure)
				}
			})
		})
	}
}

// TestClockStepsOfTheSweep: the sweep goes on, and a lease that a wrong clock
// wrote keeps nobody out for longer than a lease lasts.
func TestClockStepsOfTheSweep(t *testing.T) {
	t.Parallel()
	for how, by := range steps() {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &clock{}
				b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
				bus := &fakeBus{got: map[string]approval.Request{}}
				sweep := b.sweep(bus)
				sweep.Now = c.now
				for range 3 {
					if err := sweep.Once(t.Context()); err != nil {
						t.Fatal(err)
					}
					if len(by) > 0 {
						c.step(by[0])
						by = by[1:]
					}
					<-time.After(sweep.Interval)
				}
				if len(bus.got) != 1 {
					t.Fatalf("submitted %d requests, want the one connection", len(bus.got))
				}
				clear(bus.got)
				// Another replica, whose clock is right, after one whose clock was ten minutes ahead.
				until := time.Now().Add(10*time.Minute + sweep.Interval).UTC().Format(time.RFC3339)
				b.ledger.PutRaw("lease.sweep", []byte(`{"v":1,"Holder":"ahead","Until":"`+until+`"}`))
				other := b.sweep(bus)
				other.InstanceID = "b"
				begin := time.Now()
				for len(bus.got) == 0 && time.Since(begin) < time.Hour {
					if err := other.Once(t.Context()); err != nil {
						t.Fatal(err)
					}
					<-time.After(time.Second)
				}
				if took := time.Since(begin); len(bus.got) != 1 || took > other.Interval {
					t.Errorf("after %s the next replica has submitted %d, want 1 within %s", took, len(bus.got), other.Interval)
				}
			})
		})
	}
}
