package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const stranger = "0f7b0ec9b1d14e7fa4c0a3cb2e1b6a55"

// byAccount accepts acme, rejects the stranger and holds all others.
var byAccount = policyFunc(func(in *approval.Input) approval.Decision {
	switch in.Facts.DomainID {
	case acme:
		return approval.Decision{Verdict: approval.Accept, Policy: "p", Rule: "acme"}
	case stranger:
		return approval.Decision{Verdict: approval.Reject, Policy: "p", Rule: "stranger"}
	}
	return approval.Decision{Verdict: approval.Hold}
})

// TestActsOnlyOnTheConnectionThatWasJudged: an endpoint id belongs to another
// account, or to another connection of the same account, once the API is back. That
// connection is decided again, on its own facts.
func TestActsOnlyOnTheConnectionThatWasJudged(t *testing.T) {
	t.Parallel()
	made := time.Now().Add(-time.Hour).Truncate(time.Second)
	tests := []struct {
		name   string
		change func(f *approval.Facts)
		want   approval.Outcome
		domain string
		marker int64
	}{
		{"nothing changed", func(*approval.Facts) {}, approval.OutcomeAccepted, acme, 1},
		{"another account", func(f *approval.Facts) { f.DomainID, f.MarkerID = stranger, 2 }, approval.OutcomeRejected, stranger, 2},
		{"another account with the same number", func(f *approval.Facts) { f.DomainID = stranger }, approval.OutcomeRejected, stranger, 1},
		{"another connection of the account", func(f *approval.Facts) { f.MarkerID = 2 }, approval.OutcomeAccepted, acme, 2},
		{"made again at another time", func(f *approval.Facts) { f.CreatedAt = made.Add(time.Minute) }, approval.OutcomeAccepted, acme, 1},
		{"the time it was made does not show", func(f *approval.Facts) { f.CreatedAt = time.Time{} }, approval.OutcomeAccepted, acme, 1},
		{"an account that nobody knows", func(f *approval.Facts) { f.DomainID = "other" }, approval.OutcomeHeld, "other", 1},
		{"no account shows any more", func(f *approval.Facts) { f.DomainID = "" }, approval.OutcomeHeld, "", 1},
		{"no number shows any more", func(f *approval.Facts) { f.MarkerID = 0 }, approval.OutcomeHeld, acme, 0},
	}
	for _, tt := range tests {
		for _, within := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, within the delivery: %t", tt.name, within), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cloud := newFakeCloud(approval.Pending)
					cloud.set(func(f *approval.Facts) { f.CreatedAt = made })
					var b *bench
					down := !within
					cloud.fail = func(op string, after bool) error {
						if op == "act" && !after && down {
							return cloudError{retryable: true}
						}
						return nil
					}
					policy := byAccount
					if within { // the policies take their time, and meanwhile it changes
						late := false
						policy = func(in *approval.Input) approval.Decision {
							if !late {
								late = true
								<-time.After(2 * DefaultLimits().FactsMaxAge)
								cloud.set(tt.change)
							}
							return byAccount(in)
						}
					}
					b = newBench(t, cloud, policy)
					d := connection("1")
					if !within {
						if err := b.Handle(t.Context(), &d); err == nil {
							t.Fatal("the API is down")
						}
						<-time.After(time.Minute)
						cloud.set(tt.change)
						down, d.Attempt = false, 2
					}
					res, _ := b.deliver(t, d, 99)
					if res.Outcome != tt.want || res.Decision.Facts.DomainID != tt.domain || res.Decision.Facts.MarkerID != tt.marker {
						t.Errorf("it ended %s, decided on %+v; want %s on account %q and number %d", res.Outcome, res.Decision.Facts, tt.want, tt.domain, tt.marker)
					}
					if acts := len(cloud.acts); acts > 1 || (acts == 1) != (tt.want != approval.OutcomeHeld) {
						t.Errorf("acts %q for %s", cloud.acts, tt.want)
					}
					if tt.want != approval.OutcomeHeld && res.Decision.Verdict.Goal() != cloud.facts[endpoint].State {
						t.Errorf("decided %s, and the cloud shows %s", res.Decision.Verdict, cloud.facts[endpoint].State)
					}
					entry, err := b.ledger.Get(t.Context(), d.Request.ID)
					if err != nil || entry.Decision.Verdict != res.Decision.Verdict {
						t.Errorf("the ledger says %s, %v", entry.Decision.Verdict, err)
					}
					if claim, ok, err := b.ledger.Lock(t.Context(), d.Request.Subject()); err != nil || !ok || claim.Verdict != res.Decision.Verdict || claim.Outcome != res.Outcome {
						t.Errorf("the claim is %+v, %t, %v", claim, ok, err)
					}
				})
			})
		}
	}
}

// TestWhatCannotBeToldFromAnotherIsHeld: a connection without its account or number
// is never acted on, whatever the policies say.
func TestWhatCannotBeToldFromAnotherIsHeld(t *testing.T) {
	t.Parallel()
	for _, verdict := range []approval.Verdict{approval.Accept, approval.Reject} {
		for _, missing := range []string{"account", "number"} {
			t.Run(fmt.Sprintf("%s without %s", verdict, missing), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cloud := newFakeCloud(approval.Pending)
					cloud.set(func(f *approval.Facts) {
						if missing == "account" {
							f.DomainID = ""
						} else {
							f.MarkerID = 0
						}
					})
					b := newBench(t, cloud, always(verdict))
					res, _ := b.deliver(t, connection("1"), 9)
					if res.Outcome != approval.OutcomeHeld || res.Decision.Reasons[0].Code != approval.ReasonFactMissing || len(cloud.acts) > 0 {
						t.Errorf("it ended %s for %v after %q, want held for a missing fact", res.Outcome, res.Decision.Reasons, cloud.acts)
					}
					// Nor does the sweep take it for changed.
					bus := &fakeBus{got: map[string]approval.Request{}}
					if err := b.sweep(bus).Once(t.Context()); err != nil || len(bus.got) != 0 {
						t.Errorf("the sweep submitted %v, %v", bus.got, err)
					}
				})
			})
		}
	}
}

// TestADecisionIsCheckedAgainBeforeEveryAct: what the policies deny by the moment of
// the act, however short after the decision, is held and not done.
func TestADecisionIsCheckedAgainBeforeEveryAct(t *testing.T) {
	t.Parallel()
	connectionOf := func() approval.Delivery { return connection("1") }
	creationOf := func() approval.Delivery { return creation(functions()) }
	for _, tt := range []struct {
		name  string
		d     func() approval.Delivery
		first approval.Verdict
		later approval.Verdict
		want  approval.Outcome
		acts  int
	}{
		{"still accepted", connectionOf, approval.Accept, approval.Accept, approval.OutcomeAccepted, 1},
		{"still rejected", connectionOf, approval.Reject, approval.Reject, approval.OutcomeRejected, 1},
		{"accept denied", connectionOf, approval.Accept, approval.Reject, approval.OutcomeHeld, 0},
		{"accept held", connectionOf, approval.Accept, approval.Hold, approval.OutcomeHeld, 0},
		{"accept ignored", connectionOf, approval.Accept, approval.Ignore, approval.OutcomeHeld, 0},
		{"reject allowed", connectionOf, approval.Reject, approval.Accept, approval.OutcomeHeld, 0},
		{"creation still allowed", creationOf, approval.Accept, approval.Accept, approval.OutcomeCreated, 1},
		{"creation denied", creationOf, approval.Accept, approval.Reject, approval.OutcomeHeld, 0},
		{"creation held", creationOf, approval.Accept, approval.Hold, approval.OutcomeHeld, 0},
	} {
		for _, how := range []string{"while the act waits for its turn", "while the API is away", "while the operator must fix it", "by the time"} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cloud := newFakeCloud(approval.Pending)
					verdict, begin := tt.first, time.Now()
					b := newBench(t, cloud, policyFunc(func(in *approval.Input) approval.Decision {
						if how == "by the time" && in.Now.Sub(begin) >= 2*time.Second {
							return approval.Decision{Verdict: tt.later}
						}
						return approval.Decision{Verdict: verdict}
					}))
					switch how {
					case "while the act waits for its turn":
						b.Cloud = queueing{cloud, 2 * time.Second, func() { verdict = tt.later }}
						b.Creator = queueingCreator{cloud, 2 * time.Second, func() { verdict = tt.later }}
					case "by the time":
						b.Cloud = queueing{cloud, 2 * time.Second, func() {}}
						b.Creator = queueingCreator{cloud, 2 * time.Second, func() {}}
					default:
						cloud.fail = func(op string, after bool) error {
							if (op == "act" || op == "create") && !after && time.Since(begin) < 3*time.Second {
								verdict = tt.later
								return cloudError{retryable: true, operator: how == "while the operator must fix it"}
							}
							return nil
						}
					}
					res, _ := b.deliver(t, tt.d(), 99)
					if res.Outcome != tt.want || len(cloud.acts)+cloud.creates != tt.acts {
						t.Errorf("it ended %s (%+v) after %d deeds, want %s after %d", res.Outcome, res.Failure, len(cloud.acts)+cloud.creates, tt.want, tt.acts)
					}
					if tt.acts == 0 && (res.Failure == nil || res.Failure.Code != "decision_outdated") {
						t.Errorf("the failure is %+v, want decision_outdated", res.Failure)
					}
					if tt.acts == 0 && time.Since(begin) > time.Minute {
						t.Errorf("it took %s to find out", time.Since(begin))
					}
				})
			})
		}
	}
}

// queueing acts after a wait for its turn, in which something happens.
type queueing struct {
	*fakeCloud
	wait      time.Duration
	meanwhile func()
}

func (c queueing) Act(ctx context.Context, r *approval.Request, v approval.Verdict) error {
	<-time.After(c.wait)
	c.meanwhile()
	return c.fakeCloud.Act(ctx, r, v)
}

type queueingCreator struct {
	*fakeCloud
	wait      time.Duration
	meanwhile func()
}

func (c queueingCreator) Create(ctx context.Context, r approval.Request) (approval.Created, error) {
	<-time.After(c.wait)
	c.meanwhile()
	return c.fakeCloud.Create(ctx, r)
}

// TestALimitIsCheckedAgainBeforeTheAct: a place that was reserved does for its
// limit and for a wider one, never for a narrower one or another rule's, nor when
// others were accepted meanwhile.
func TestALimitIsCheckedAgainBeforeTheAct(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		later  policyFunc
		others int // accepted meanwhile by people
		want   approval.Outcome
	}{
		{"the same limit", limited(3), 0, approval.OutcomeAccepted},
		{"a wider limit", limited(5), 0, approval.OutcomeAccepted},
		{"no limit any more", always(approval.Accept), 0, approval.OutcomeAccepted},
		{"a narrower limit", limited(2), 0, approval.OutcomeHeld},
		{"room is left", limited(3), 2, approval.OutcomeAccepted},
		{"people have used it up", limited(3), 3, approval.OutcomeHeld},
		{"people have used more than it", limited(3), 9, approval.OutcomeHeld},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud, down := newFakeCloud(approval.Pending), true
				cloud.fail = func(op string, after bool) error {
					if op == "act" && !after && down {
						return cloudError{retryable: true}
					}
					return nil
				}
				policy := limited(3)
				b := newBench(t, cloud, policyFunc(func(in *approval.Input) approval.Decision { return policy(in) }))
				d := connection("1")
				if err := b.Handle(t.Context(), &d); err == nil {
					t.Fatal("the API is down")
				}
				<-time.After(time.Minute)
				for n := range tt.others {
					id := fmt.Sprintf("00000000-0000-0000-0000-%012d", n)
					cloud.facts[id] = approval.Facts{EndpointID: id, DomainID: acme, MarkerID: int64(n + 10), State: approval.Accepted}
				}
				policy, down, d.Attempt = tt.later, false, 2
				if res, _ := b.deliver(t, d, 99); res.Outcome != tt.want {
					t.Errorf("it ended %s (%+v), want %s", res.Outcome, res.Failure, tt.want)
				}
			})
		})
	}
	t.Run("a limit where there was none", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cloud, down := newFakeCloud(approval.Pending), true
			cloud.fail = func(op string, after bool) error {
				if op == "act" && !after && down {
					return cloudError{retryable: true}
				}
				return nil
			}
			policy := always(approval.Accept)
			b := newBench(t, cloud, policyFunc(func(in *approval.Input) approval.Decision { return policy(in) }))
			d := connection("1")
			if err := b.Handle(t.Context(), &d); err == nil {
				t.Fatal("the API is down")
			}
			policy, down, d.Attempt = limited(3), false, 2
			if res, _ := b.deliver(t, d, 99); res.Outcome != approval.OutcomeHeld || len(cloud.acts) != 0 {
				t.Errorf("it ended %s (%+v), want held: no place is reserved", res.Outcome, res.Failure)
			}
		})
	})
}

// TestOnlyOneOfTwoWorkersIsAboutToAct: a worker that lags behind another does not
// send what the other has taken up since.
func TestOnlyOneOfTwoWorkersIsAboutToAct(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		slow := b.replica()
		slow.Cloud = queueing{cloud, 4 * time.Second, func() {}}
		ended := make(chan error)
		go func() { ended <- slow.Handle(t.Context(), new(connection("1"))) }()
		<-time.After(time.Second)
		d := connection("1")
		d.Attempt = 2
		res, _ := b.deliver(t, d, 9)
		if err := <-ended; err == nil {
			t.Error("the slow worker took no note of the other")
		}
		if res.Outcome != approval.OutcomeAccepted || len(cloud.acts) != 1 {
			t.Errorf("it ended %s after %q, want accepted by one call", res.Outcome, cloud.acts)
		}
	})
}

// TestACountThatFailsIsTakenAgain: a count that cannot be taken is neither 0 nor the
// end of a request, and it is of the account that was judged.
func TestACountThatFailsIsTakenAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud, left := newFakeCloud(approval.Pending), 5
		for n := range 2 {
			id := fmt.Sprintf("00000000-0000-0000-0000-%012d", n)
			cloud.facts[id] = approval.Facts{EndpointID: id, DomainID: acme, MarkerID: int64(n + 10), State: approval.Accepted}
		}
		cloud.fail = func(op string, _ bool) error {
			if op == "count" && left > 0 {
				left--
				return errors.New("the list does not show the connection")
			}
			return nil
		}
		b := newBench(t, cloud, limited(2))
		res, _ := b.deliver(t, connection("1"), 99)
		if res.Outcome != approval.OutcomeHeld || res.Decision.Reasons[0].Code != approval.ReasonLimitReached || res.Decision.Facts.Accepted != approval.Counted(2) {
			t.Errorf("it ended %s for %v with %+v, want held at the limit", res.Outcome, res.Decision.Reasons, res.Decision.Facts.Accepted)
		}
	})
}

// TestAcceptedAlreadyWithinALimit: a connection that is accepted counts as such also
// where the rule that accepts has a limit.
func TestAcceptedAlreadyWithinALimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Accepted)
		b := newBench(t, cloud, limited(1))
		if res, _ := b.deliver(t, connection("1"), 9); res.Outcome != approval.OutcomeAccepted || len(cloud.acts) != 0 {
			t.Errorf("it ended %s after %q, want accepted with nothing called", res.Outcome, cloud.acts)
		}
	})
}

// queued is a cloud in which each act waits for its turn first, while others' reads
// go on.
type queued struct {
	*fakeCloud
	waits  func()
	latest func() (approval.Facts, bool)
	turns  int
}

func (c *queued) Act(ctx context.Context, req *approval.Request, v approval.Verdict) error {
	if c.turns++; c.turns == 1 {
		c.waits()
	}
	return c.fakeCloud.Act(ctx, req, v)
}

func (c *queued) LatestPending(approval.Request) (approval.Facts, bool) { return c.latest() }

// TestFactsAreFreshAfterTheWaitForATurn: an act that waited for the rate of its API
// longer than facts are fresh is sent only if a read shows that the connection is
// still the one that was judged.
func TestFactsAreFreshAfterTheWaitForATurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		changed bool // the identity, during the wait
		read    bool // another request reads the list meanwhile
		want    approval.Outcome
		turns   int
	}{
		{"nothing changed, and another read shows it", false, true, approval.OutcomeAccepted, 1},
		{"nothing changed, and nobody read", false, false, approval.OutcomeAccepted, 2},
		{"another account, and another read shows it", true, true, approval.OutcomeRejected, 2},
		{"another account, and nobody read", true, false, approval.OutcomeRejected, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := &queued{fakeCloud: newFakeCloud(approval.Pending)}
				cloud.waits = func() {
					<-time.After(4 * DefaultLimits().FactsMaxAge)
					if tt.changed {
						cloud.set(func(f *approval.Facts) { f.DomainID, f.MarkerID = stranger, 2 })
					}
				}
				cloud.latest = func() (approval.Facts, bool) {
					f := cloud.facts[endpoint]
					f.ReadAt = time.Now()
					return f, tt.read && f.State == approval.Pending
				}
				b := newBench(t, cloud.fakeCloud, byAccount)
				b.Cloud = cloud
				res, _ := b.deliver(t, connection("1"), 3)
				if res.Outcome != tt.want || cloud.turns != tt.turns || len(cloud.acts) != 1 {
					t.Errorf("ended %s after %d turns and acts %v, want %s after %d and one act", res.Outcome, cloud.turns, cloud.acts, tt.want, tt.turns)
				}
			})
		})
	}
}
