package worker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// sweepAndDeliver sweeps, carries out what the sweep submits, and returns the results.
func (b *bench) sweepAndDeliver(t *testing.T, sweep *Sweep, bus *fakeBus) []approval.Result {
	t.Helper()
	clear(bus.got)
	if err := sweep.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out []approval.Result
	for _, r := range bus.got {
		res, _ := b.deliver(t, approval.Delivery{Request: r, Attempt: 1, PublishedAt: time.Now()}, 999)
		out = append(out, res)
	}
	return out
}

// TestAHeldCreationIsDecidedAgain: as a connection is, once the policies or the time
// allow it, and not before; and then no more.
func TestAHeldCreationIsDecidedAgain(t *testing.T) {
	t.Parallel()
	for _, first := range []approval.Verdict{approval.Hold, approval.Ignore} {
		for _, later := range approval.Verdicts() {
			for _, cut := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, then %s, cut off: %t", first, later, cut), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						verdict, cloud := first, newFakeCloud(approval.Accepted)
						b := newBench(t, cloud, policyFunc(func(*approval.Input) approval.Decision { return approval.Decision{Verdict: verdict} }))
						d := creation(functions())
						if cut { // before the claim could say how the request ended
							b.ledger.FailOnce("write", "lock.", cloudError{retryable: true}, false)
						}
						b.deliver(t, d, 9)
						bus := &fakeBus{got: map[string]approval.Request{}}
						sweep := b.sweep(bus)
						<-time.After(stalledAfter + time.Minute)
						if got := b.sweepAndDeliver(t, sweep, bus); len(got) != 0 {
							t.Fatalf("decided again although nothing changed: %+v", got)
						}
						verdict = later
						<-time.After(sweep.Interval)
						got := b.sweepAndDeliver(t, sweep, bus)
						if later == first {
							if len(got) != 0 {
								t.Errorf("decided again although nothing changed: %+v", got)
							}
							return
						}
						want := map[approval.Verdict]approval.Outcome{
							approval.Accept: approval.OutcomeCreated, approval.Reject: approval.OutcomeRefused,
							approval.Hold: approval.OutcomeHeld, approval.Ignore: approval.OutcomeIgnored,
						}[later]
						if len(got) != 1 || got[0].Outcome != want || got[0].Request.ID == d.Request.ID || got[0].Request.Subject() != d.Request.Subject() {
							t.Fatalf("the sweep led to %+v, want one %s of a request of its own", got, want)
						}
						if n := cloud.creates; (n == 1) != (later == approval.Accept) {
							t.Errorf("%d creations", n)
						}
						<-time.After(sweep.Interval)
						if got := b.sweepAndDeliver(t, sweep, bus); len(got) != 0 {
							t.Errorf("and again: %+v", got)
						}
					})
				})
			}
		}
	}
}

// TestWhatIsHeldAndSettledElsewhereEnds: a connection that was held and that a person
// settles, or its owner deletes, has a result of its own that says so, once.
func TestWhatIsHeldAndSettledElsewhereEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		settle func(c *fakeCloud)
		want   approval.Outcome
	}{
		{"accepted by a person", func(c *fakeCloud) { c.set(func(f *approval.Facts) { f.State = approval.Accepted }) }, approval.OutcomeSuperseded},
		{"rejected by a person", func(c *fakeCloud) { c.set(func(f *approval.Facts) { f.State = approval.Rejected }) }, approval.OutcomeSuperseded},
		{"deleted by its owner", func(c *fakeCloud) { delete(c.facts, endpoint) }, approval.OutcomeGone},
		{"pending still", func(*fakeCloud) {}, ""},
	} {
		for _, id := range []string{endpoint, strings.ToUpper(endpoint)} {
			t.Run(tt.name+" "+id[:4], func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cloud := newFakeCloud(approval.Pending)
					b := newBench(t, cloud, always(approval.Hold))
					cloud.set(func(f *approval.Facts) { f.EndpointID = id })
					held, _ := b.deliver(t, connection("1"), 9)
					bus := &fakeBus{got: map[string]approval.Request{}}
					sweep := b.sweep(bus)
					tt.settle(cloud)
					if got := b.sweepAndDeliver(t, sweep, bus); len(got) != 0 {
						t.Fatalf("a list that may be from before it was held led to %+v", got)
					}
					<-time.After(sweep.Interval)
					got := b.sweepAndDeliver(t, sweep, bus)
					if tt.want == "" {
						if len(got) != 0 {
							t.Errorf("the sweep led to %+v, want nothing", got)
						}
						return
					}
					if len(got) != 1 || got[0].Outcome != tt.want || got[0].Decision.ID == held.Decision.ID || got[0].Request.EventID != held.Request.ID {
						t.Fatalf("the sweep led to %+v, want one %s that follows request %s", got, tt.want, held.Request.ID)
					}
					for range 3 {
						<-time.After(maxResubmit)
						if got := b.sweepAndDeliver(t, sweep, bus); len(got) != 0 {
							t.Errorf("told again: %+v", got)
						}
					}
					if len(cloud.acts) != 0 {
						t.Errorf("acts %q", cloud.acts)
					}
				})
			})
		}
	}
}

// TestWhatIsHeldForItsOutdatedDecisionIsDecidedAgain: by the next sweep, and by what
// the policies say then.
func TestWhatIsHeldForItsOutdatedDecisionIsDecidedAgain(t *testing.T) {
	t.Parallel()
	for later, want := range map[approval.Verdict]approval.Outcome{approval.Reject: approval.OutcomeRejected, approval.Accept: approval.OutcomeAccepted, approval.Hold: ""} {
		t.Run(string(later), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				verdict, cloud := approval.Accept, newFakeCloud(approval.Pending)
				b := newBench(t, cloud, policyFunc(func(*approval.Input) approval.Decision { return approval.Decision{Verdict: verdict} }))
				b.Cloud = queueing{cloud, time.Second, func() { verdict = approval.Hold }}
				if res, _ := b.deliver(t, connection("1"), 9); res.Outcome != approval.OutcomeHeld {
					t.Fatalf("it ended %s", res.Outcome)
				}
				b.Cloud, verdict = cloud, later
				bus := &fakeBus{got: map[string]approval.Request{}}
				got := b.sweepAndDeliver(t, b.sweep(bus), bus)
				if (len(got) == 1) != (want != "") || len(got) == 1 && got[0].Outcome != want {
					t.Errorf("the sweep led to %+v, want %q", got, want)
				}
			})
		})
	}
}

// TestAnEndpointIDThatIsPendingAgain: a connection that was settled is pending again.
// If its account, number or time of making is another, it is another connection,
// which is decided again; if not, the list shows the past, and nothing is called.
func TestAnEndpointIDThatIsPendingAgain(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		change  func(f *approval.Facts)
		another bool
	}{
		{"the same row", func(*approval.Facts) {}, false},
		{"the same row with a fraction of a second", func(f *approval.Facts) { f.CreatedAt = made.Add(174 * time.Millisecond) }, false},
		{"nothing shows by which to tell", func(f *approval.Facts) { f.MarkerID, f.CreatedAt = 0, time.Time{} }, false},
		{"another number", func(f *approval.Facts) { f.MarkerID = 2 }, true},
		{"made at another time", func(f *approval.Facts) { f.CreatedAt = made.Add(time.Hour) }, true},
		{"another account", func(f *approval.Facts) { f.DomainID = "other" }, true},
	} {
		for _, first := range []approval.Verdict{approval.Accept, approval.Reject} {
			for _, second := range []approval.Verdict{approval.Accept, approval.Reject} {
				for _, told := range []string{"by an event", "by the sweep"} {
					t.Run(fmt.Sprintf("%s, %s and then %s, told %s", tt.name, first, second, told), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							verdict, cloud := first, newFakeCloud(approval.Pending)
							cloud.set(func(f *approval.Facts) { f.CreatedAt = made })
							b := newBench(t, cloud, policyFunc(func(*approval.Input) approval.Decision {
								return approval.Decision{Verdict: verdict, Policy: "p", Rule: "r"}
							}))
							b.deliver(t, connection("1"), 9)
							<-time.After(time.Hour)
							verdict = second
							cloud.set(func(f *approval.Facts) { f.State = approval.Pending; tt.change(f) })
							var res approval.Result
							if told == "by the sweep" {
								bus := &fakeBus{got: map[string]approval.Request{}}
								sweep := b.sweep(bus)
								got := b.sweepAndDeliver(t, sweep, bus)
								if (len(got) == 1) != tt.another {
									t.Fatalf("the sweep led to %+v, want another connection: %t", got, tt.another)
								}
								if !tt.another {
									return
								}
								res = got[0]
							} else {
								res, _ = b.deliver(t, connection("2"), 9999)
							}
							want := map[approval.Verdict]approval.Outcome{approval.Accept: approval.OutcomeAccepted, approval.Reject: approval.OutcomeRejected}[second]
							acts := 2
							if !tt.another {
								want, acts = approval.OutcomeUnknown, 1
								if first != second || tt.name == "nothing shows by which to tell" {
									want = ""
								}
							}
							if want != "" && res.Outcome != want || len(cloud.acts) != acts {
								t.Errorf("it ended %s (%+v) after %q, want %s after %d", res.Outcome, res.Failure, cloud.acts, want, acts)
							}
							if res.Failure != nil && strings.Contains(res.Failure.Text, "took the call") {
								t.Errorf("told %q, and no call was made", res.Failure.Text)
							}
						})
					})
				}
			}
		}
	}
}

// TestTwoLooksMustAgreeOnAnotherConnection: what one look shows, or what shows just
// after an act, is no reason to act on a settled connection's id.
func TestTwoLooksMustAgreeOnAnotherConnection(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		after time.Duration // the act
		looks int           // that show another connection
		acts  int
		wait  time.Duration // at least
	}{
		{"one look", time.Hour, 1, 1, 0},
		{"for good", time.Hour, 1e6, 2, confirmLookAfter},
		{"just after the act", time.Second, 1e6, 2, listLag - time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				b := newBench(t, cloud, always(approval.Accept))
				b.deliver(t, connection("1"), 9)
				<-time.After(tt.after)
				begin, looks := time.Now(), 0
				cloud.fail = func(op string, _ bool) error {
					if op != "facts" {
						return nil
					}
					f := cloud.facts[endpoint]
					if looks++; looks <= tt.looks && len(cloud.acts) < 2 {
						f.State, f.MarkerID = approval.Pending, 2
					} else if len(cloud.acts) < 2 {
						f.State, f.MarkerID = approval.Accepted, 1
					}
					cloud.facts[endpoint] = f
					return nil
				}
				res, _ := b.deliver(t, connection("2"), 99)
				if res.Outcome != approval.OutcomeAccepted || len(cloud.acts) != tt.acts || time.Since(begin) < tt.wait {
					t.Errorf("it ended %s after %s and %d acts, want %d acts after %s", res.Outcome, time.Since(begin), len(cloud.acts), tt.acts, tt.wait)
				}
			})
		})
	}
}

// TestAConnectionThatIsReplacedAfterTheAct: the one that was accepted is gone, and
// the next one with its id is decided by a request of its own.
func TestAConnectionThatIsReplacedAfterTheAct(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		cloud.stay = true
		b := newBench(t, cloud, always(approval.Accept))
		time.AfterFunc(10*time.Second, func() { cloud.set(func(f *approval.Facts) { f.MarkerID = 2 }) })
		res, _ := b.deliver(t, connection("1"), 99)
		if res.Outcome != approval.OutcomeGone || len(cloud.acts) != 1 {
			t.Fatalf("it ended %s after %q, want gone", res.Outcome, cloud.acts)
		}
		cloud.stay = false
		<-time.After(time.Minute)
		bus := &fakeBus{got: map[string]approval.Request{}}
		if got := b.sweepAndDeliver(t, b.sweep(bus), bus); len(got) != 1 || got[0].Outcome != approval.OutcomeAccepted || got[0].Decision.Facts.MarkerID != 2 {
			t.Errorf("the sweep led to %+v, want the other connection accepted", got)
		}
	})
}

// countingLister counts the looks of the sweep.
type countingLister struct {
	*fakeCloud
	lists *int
}

func (c countingLister) Pending(ctx context.Context, t approval.Target) ([]approval.Facts, error) {
	*c.lists++
	return c.fakeCloud.Pending(ctx, t)
}

// TestOneSweepAtTheStart: policies that were loaded before the first sweep ask for
// no second one; those that are loaded during or after it do.
func TestOneSweepAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Accepted), always(approval.Accept))
		kick, lists := make(chan struct{}, 1), 0
		sweep := b.sweep(&fakeBus{got: map[string]approval.Request{}})
		sweep.Cloud, sweep.Trigger = countingLister{b.cloud, &lists}, kick
		kick <- struct{}{} // the first load
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { sweep.Run(ctx); close(done) }()
		synctest.Wait()
		if lists != 1 {
			t.Errorf("%d sweeps at the start, want one", lists)
		}
		kick <- struct{}{}
		synctest.Wait()
		if lists != 2 {
			t.Errorf("%d sweeps after the policies changed, want one more", lists)
		}
		cancel()
		<-done
	})
}
