package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// readErrors are what a read can meet, whatever the error thinks of itself.
func readErrors() map[string]error {
	return map[string]error{
		"may pass":              cloudError{retryable: true},
		"never succeeds":        cloudError{},
		"the endpoint is gone":  cloudError{gone: true},
		"the operator's to fix": cloudError{operator: true},
		"outcome unknown":       cloudError{retryable: true, unknown: true},
	}
}

// TestNoReadDecidesTheOutcomeOfAnAct: whatever reads meet after an act, the
// request goes on until its time to be confirmed is up, and then nobody knows.
func TestNoReadDecidesTheOutcomeOfAnAct(t *testing.T) {
	t.Parallel()
	for name, failure := range readErrors() {
		for _, op := range []string{"facts", "await"} {
			for _, verdict := range []approval.Verdict{approval.Accept, approval.Reject} {
				for _, passes := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s of %s meets what %s, passes: %t", op, verdict, name, passes), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							cloud, begin := newFakeCloud(approval.Pending), time.Now()
							cloud.stay = true
							b := newBench(t, cloud, always(verdict))
							cloud.fail = func(o string, _ bool) error {
								if o != op || len(cloud.acts) == 0 || passes && time.Since(begin) > b.Limits.ConfirmFor/2 {
									return nil
								}
								return failure
							}
							if passes {
								time.AfterFunc(b.Limits.ConfirmFor/2, func() { cloud.set(func(f *approval.Facts) { f.State = verdict.Goal() }) })
							}
							res, _ := b.deliver(t, connection("1"), 1e5)
							took := time.Since(begin)
							if len(cloud.acts) != 1 {
								t.Errorf("acts %q, want one", cloud.acts)
							}
							if passes {
								if want := map[approval.Verdict]approval.Outcome{approval.Accept: approval.OutcomeAccepted, approval.Reject: approval.OutcomeRejected}[verdict]; res.Outcome != want {
									t.Errorf("it ended %s (%+v), want %s", res.Outcome, res.Failure, want)
								}
								return
							}
							if res.Outcome != approval.OutcomeUnknown || res.Failure == nil || res.Failure.Code != "not_confirmed" || !res.Reversible {
								t.Errorf("it ended %s (%+v), reversible: %t; want unknown, not_confirmed and reversible", res.Outcome, res.Failure, res.Reversible)
							}
							if took < b.Limits.ConfirmFor || took > b.Limits.ConfirmFor+2*time.Minute {
								t.Errorf("it ended after %s, want %s", took, b.Limits.ConfirmFor)
							}
						})
					})
				}
			}
		}
	}
}

// TestReadsThatFailAreRepeatedUntilMaxAge: whatever reads meet before anything was
// done, the request is decided once they work again; else it is held when its time
// is up, with the error in the result, and never failed.
func TestReadsThatFailAreRepeatedUntilMaxAge(t *testing.T) {
	t.Parallel()
	requests := map[string]struct {
		d    func() approval.Delivery
		op   string
		want approval.Outcome
	}{
		"facts of a connection": {func() approval.Delivery { return connection("1") }, "facts", approval.OutcomeAccepted},
		"look of a creation":    {func() approval.Delivery { return creation(functions()) }, "look", approval.OutcomeCreated},
		"count for a limit":     {func() approval.Delivery { return connection("1") }, "count", approval.OutcomeAccepted},
	}
	for name, failure := range readErrors() {
		for what, tt := range requests {
			for _, times := range []int{1, 20, 1e6} {
				t.Run(fmt.Sprintf("%s meets what %s, %d times", what, name, times), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						cloud, begin, left := newFakeCloud(approval.Pending), time.Now(), times
						cloud.fail = func(o string, _ bool) error {
							if o == tt.op && left > 0 {
								left--
								return failure
							}
							return nil
						}
						policy := always(approval.Accept)
						if tt.op == "count" {
							policy = limited(1)
						}
						b := newBench(t, cloud, policy)
						res, _ := b.deliver(t, tt.d(), 1e5)
						if times < 1e6 {
							if res.Outcome != tt.want {
								t.Errorf("it ended %s (%+v), want %s", res.Outcome, res.Failure, tt.want)
							}
							return
						}
						if len(cloud.acts)+cloud.creates != 0 {
							t.Errorf("did %q and %d creations", cloud.acts, cloud.creates)
						}
						if took := time.Since(begin); took < b.Limits.MaxAge {
							t.Errorf("it ended after %s, want %s", took, b.Limits.MaxAge)
						}
						code := "EndPoint.2013"
						if e, ok := errors.AsType[cloudError](failure); ok && e.operator {
							code = "EndPoint.0004"
						}
						if res.Outcome != approval.OutcomeHeld || res.Decision.Verdict != approval.Hold || res.Decision.Reasons[0].Code != approval.ReasonNotDecided ||
							res.Failure == nil || res.Failure.Code != code {
							t.Errorf("it ended %s for %v (%+v), want held, not_decided and %s", res.Outcome, res.Decision.Reasons, res.Failure, code)
						}
					})
				})
			}
		}
	}
}

// TestWhatTheOperatorCanFixEndsNoRequestBeforeItsTime: an act or a creation that is
// refused for a permission or a quota is tried again, and is done once it is fixed.
func TestWhatTheOperatorCanFixEndsNoRequestBeforeItsTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		d    func() approval.Delivery
		op   string
		want approval.Outcome
	}{
		{"accept", func() approval.Delivery { return connection("1") }, "act", approval.OutcomeAccepted},
		{"creation", func() approval.Delivery { return creation(functions()) }, "create", approval.OutcomeCreated},
		{"creation that nobody can look for", func() approval.Delivery { return creation(insight()) }, "create", approval.OutcomeCreated},
	} {
		for _, fixed := range []time.Duration{time.Second, 30 * time.Minute, 0} {
			t.Run(fmt.Sprintf("%s, fixed after %s", tt.name, fixed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cloud, begin := newFakeCloud(approval.Pending), time.Now()
					cloud.lookBlind = tt.name == "creation that nobody can look for"
					cloud.fail = func(o string, after bool) error {
						if o == tt.op && !after && (fixed == 0 || time.Since(begin) < fixed) {
							return cloudError{operator: true}
						}
						return nil
					}
					b := newBench(t, cloud, always(approval.Accept))
					res, _ := b.deliver(t, tt.d(), 1e5)
					took := time.Since(begin)
					switch {
					case fixed == 0 && (res.Outcome != approval.OutcomeFailed || res.Failure.Code != "EndPoint.0004" || res.Failure.RequestID != "req-1" || took < b.Limits.MaxAge):
						t.Errorf("it ended %s (%+v) after %s, want failed with the code after %s", res.Outcome, res.Failure, took, b.Limits.MaxAge)
					case fixed > 0 && (res.Outcome != tt.want || len(cloud.acts)+cloud.creates != 1):
						t.Errorf("it ended %s (%+v) after %d deeds, want %s after one", res.Outcome, res.Failure, len(cloud.acts)+cloud.creates, tt.want)
					case fixed > 0 && took > fixed+2*time.Minute:
						t.Errorf("it ended %s after it was fixed, want within two minutes", took-fixed)
					}
				})
			})
		}
	}
}

// TestOnlyAListTellsThatAnEndpointIsGone: an act that is refused because the
// endpoint does not exist says nothing while the list shows it.
func TestOnlyAListTellsThatAnEndpointIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud, left := newFakeCloud(approval.Pending), 3
		cloud.fail = func(op string, after bool) error {
			if op == "act" && !after && left > 0 {
				left--
				return cloudError{gone: true}
			}
			return nil
		}
		b := newBench(t, cloud, always(approval.Accept))
		if res, _ := b.deliver(t, connection("1"), 99); res.Outcome != approval.OutcomeAccepted || len(cloud.acts) != 1 {
			t.Errorf("it ended %s (%+v) after %q, want accepted", res.Outcome, res.Failure, cloud.acts)
		}
	})
}

// TestAnActThatMayHaveBeenDoneIsNotDenied: the answer of an accept is lost, and then
// nothing can be read until the time of the request is up.
func TestAnActThatMayHaveBeenDoneIsNotDenied(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("the worker died in the call: %t", killed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud, sent := newFakeCloud(approval.Pending), false
				cloud.stay = true
				cloud.fail = func(op string, after bool) error {
					switch {
					case op == "act" && after:
						sent = true
						return cloudError{retryable: true, unknown: true}
					case sent && (op == "facts" || op == "await"):
						return cloudError{}
					}
					return nil
				}
				b := newBench(t, cloud, always(approval.Accept))
				if killed { // what it had noted by then is all that is left of it
					b.Ledger = noteless{b.Ledger, &sent}
				}
				res, _ := b.deliver(t, connection("1"), 1e5)
				if res.Outcome != approval.OutcomeUnknown || res.Failure.Code != "not_confirmed" || !res.Reversible || !slices.Equal(cloud.acts, []approval.Verdict{approval.Accept}) {
					t.Errorf("it ended %s (%+v) after %q, want unknown", res.Outcome, res.Failure, cloud.acts)
				}
			})
		})
	}
}

// noteless loses every note of why a request waits after the act was sent.
type noteless struct {
	Ledger
	sent *bool
}

func (l noteless) Put(ctx context.Context, e *approval.Entry) error {
	if *l.sent && e.Wait != nil && e.Result == nil {
		return cloudError{retryable: true}
	}
	return l.Ledger.Put(ctx, e)
}

// TestFactsThatAnotherReadHasShown: a request that is new is decided by what a read for
// others has just shown, and by nothing older. One that came before, or whose id did,
// may have acted and is read by itself.
func TestFactsThatAnotherReadHasShown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		age     time.Duration
		attempt int
		shown   bool
		asked   int
	}{
		{"just shown", recentFacts, 1, true, 0},
		{"shown a while ago", recentFacts + 1, 1, true, 1},
		{"shown by a clock that was set back", -1, 1, true, 1},
		{"not shown as pending", 0, 1, false, 1},
		{"delivered again", 0, 2, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				<-time.After(time.Minute)
				cloud := &queued{fakeCloud: newFakeCloud(approval.Pending), waits: func() {}}
				at := time.Now().Add(-tt.age)
				cloud.latest = func() (approval.Facts, bool) {
					f := cloud.facts[endpoint]
					f.ReadAt = at
					return f, tt.shown
				}
				b := newBench(t, cloud.fakeCloud, byAccount)
				b.Cloud = cloud
				d := connection("1")
				d.Attempt = tt.attempt
				res, _ := b.deliver(t, d, tt.attempt)
				if res.Outcome != approval.OutcomeAccepted || cloud.asked != tt.asked {
					t.Errorf("ended %s after %d reads, want accepted after %d", res.Outcome, cloud.asked, tt.asked)
				}
				if tt.asked == 0 && !res.Decision.Facts.ReadAt.Equal(at) {
					t.Errorf("decided by facts of %v, want those of %v", res.Decision.Facts.ReadAt, at)
				}
			})
		})
	}
}
