package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

func TestHowAConnectionEnds(t *testing.T) {
	t.Parallel()
	passing := func(op string, times int) func(string, bool) error {
		return func(o string, after bool) error {
			if o == op && !after && times > 0 {
				times--
				return cloudError{retryable: true}
			}
			return nil
		}
	}
	afterTheDeed := func(op string, times int, err error) func(string, bool) error {
		return func(o string, after bool) error {
			if o == op && after && times > 0 {
				times--
				return err
			}
			return nil
		}
	}
	tests := []struct {
		name    string
		state   approval.State
		verdict approval.Verdict
		edit    func(c *fakeCloud)
		want    approval.Outcome
		acts    []approval.Verdict
	}{
		{"allowed", approval.Pending, approval.Accept, nil, approval.OutcomeAccepted, []approval.Verdict{approval.Accept}},
		{"denied", approval.Pending, approval.Reject, nil, approval.OutcomeRejected, []approval.Verdict{approval.Reject}},
		{"held: nothing is called", approval.Pending, approval.Hold, nil, approval.OutcomeHeld, nil},
		{"ignored: nothing is called", approval.Pending, approval.Ignore, nil, approval.OutcomeIgnored, nil},
		{"accepted already: nothing is called", approval.Accepted, approval.Accept, nil, approval.OutcomeAccepted, nil},
		{"rejected already: nothing is called", approval.Rejected, approval.Reject, nil, approval.OutcomeRejected, nil},
		{"an accepted one is never taken away", approval.Accepted, approval.Reject, nil, approval.OutcomeSuperseded, nil},
		{"a rejected one is not accepted behind someone's back", approval.Rejected, approval.Accept, nil, approval.OutcomeSuperseded, nil},
		{"settled by someone while we would hold", approval.Accepted, approval.Hold, nil, approval.OutcomeSuperseded, nil},
		{"failed in the cloud", approval.Failed, approval.Accept, nil, approval.OutcomeFailed, nil},
		{"never visible", approval.Absent, approval.Accept, nil, approval.OutcomeGone, nil},
		{"being deleted", approval.Deleting, approval.Accept, nil, approval.OutcomeGone, nil},
		{"a state nobody knows never ends as decided", "thawing", approval.Accept, nil, approval.OutcomeFailed, nil},
		{"facts fail for a while", approval.Pending, approval.Accept, func(c *fakeCloud) { c.fail = passing("facts", 7) }, approval.OutcomeAccepted, []approval.Verdict{approval.Accept}},
		{"the act fails for a while", approval.Pending, approval.Reject, func(c *fakeCloud) { c.fail = passing("act", 7) }, approval.OutcomeRejected, []approval.Verdict{approval.Reject}},
		{"the answer of the act is lost", approval.Pending, approval.Accept, func(c *fakeCloud) {
			c.fail = afterTheDeed("act", 1, cloudError{retryable: true, unknown: true})
		}, approval.OutcomeAccepted, []approval.Verdict{approval.Accept}},
		{"the cloud refuses for good", approval.Pending, approval.Accept, func(c *fakeCloud) {
			c.fail = func(op string, _ bool) error {
				if op == "act" {
					return cloudError{}
				}
				return nil
			}
		}, approval.OutcomeFailed, nil},
		{"errors only, and never a rejection of it", approval.Pending, approval.Reject, func(c *fakeCloud) { c.fail = passing("facts", 1e6) }, approval.OutcomeHeld, nil},
		{"it vanished when we acted", approval.Pending, approval.Accept, func(c *fakeCloud) {
			c.fail = func(op string, _ bool) error {
				if op == "act" {
					delete(c.facts, endpoint)
					return cloudError{gone: true}
				}
				return nil
			}
		}, approval.OutcomeGone, nil},
		{"someone settled it otherwise after our act", approval.Pending, approval.Accept, func(c *fakeCloud) { c.become = approval.Rejected }, approval.OutcomeSuperseded, []approval.Verdict{approval.Accept}},
		{"it failed after our act", approval.Pending, approval.Accept, func(c *fakeCloud) { c.become = approval.Failed }, approval.OutcomeFailed, []approval.Verdict{approval.Accept}},
		{"it never got there", approval.Pending, approval.Accept, func(c *fakeCloud) { c.become = approval.Creating }, approval.OutcomeUnknown, []approval.Verdict{approval.Accept}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(tt.state)
				if tt.edit != nil {
					tt.edit(cloud)
				}
				b := newBench(t, cloud, always(tt.verdict))
				res, _ := b.deliver(t, connection("1"), 1e5)
				if res.Outcome != tt.want || !slices.Equal(cloud.acts, tt.acts) {
					t.Errorf("outcome %s (%+v), acts %q; want %s, %q", res.Outcome, res.Failure, cloud.acts, tt.want, tt.acts)
				}
			})
		})
	}
}

// TestTheFirstDecisionStands: an act whose answer is lost is looked for before
// anything else is made of the request, and what the policies say by then is
// neither done by the same request nor written in the place of the first decision.
func TestTheFirstDecisionStands(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		done bool // the act was carried out, and shows half a minute later
		want approval.Outcome
	}{
		{"not carried out", false, approval.OutcomeHeld},
		{"carried out, and the list shows the past", true, approval.OutcomeAccepted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				lost := true
				cloud.fail = func(op string, after bool) error {
					if op == "act" && !after && lost {
						lost = false
						return errors.New("cut")
					}
					return nil
				}
				verdict := approval.Accept
				b := newBench(t, cloud, policyFunc(func(*approval.Input) approval.Decision { return approval.Decision{Verdict: verdict} }))
				d := connection("1")
				if err := b.Handle(t.Context(), &d); err == nil {
					t.Fatal("the first delivery should have met the cut")
				}
				if tt.done {
					time.AfterFunc(25*time.Second, func() { cloud.set(func(f *approval.Facts) { f.State = approval.Accepted }) })
				}
				verdict = approval.Reject // the policies change in between
				d.Attempt = 2
				res, _ := b.deliver(t, d, 99)
				if res.Outcome != tt.want || res.Decision.Verdict != approval.Accept || len(cloud.acts) != 0 {
					t.Errorf("got %s by %s after %d more acts, want %s by the decision that was recorded first", res.Outcome, res.Decision.Verdict, len(cloud.acts), tt.want)
				}
			})
		})
	}
}

// TestALateLookIsNotTheLastWord: facts that have aged are read again before the
// act, and what that one look shows besides pending ends nothing.
func TestALateLookIsNotTheLastWord(t *testing.T) {
	t.Parallel()
	for _, state := range []approval.State{approval.Absent, approval.Creating, approval.Deleting, "switchingPool"} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud, looks := newFakeCloud(approval.Pending), 0
				cloud.fail = func(op string, _ bool) error {
					if op == "facts" {
						f := cloud.facts[endpoint]
						f.State = approval.Pending
						if looks++; looks == 2 {
							f.State = state
						}
						cloud.facts[endpoint] = f
					}
					return nil
				}
				b := newBench(t, cloud, always(approval.Accept))
				b.Limits.FactsMaxAge = -1 // each look has aged before the act
				res, tries := b.deliver(t, connection("1"), 9)
				if res.Outcome != approval.OutcomeAccepted || tries != 2 || len(cloud.acts) != 1 {
					t.Errorf("ended %s after %d deliveries and %d acts, want accepted after 2 and 1", res.Outcome, tries, len(cloud.acts))
				}
			})
		})
	}
}

// forgetful is a cloud whose list shows the past, in which the connection was
// not there yet, to the first who awaits it.
type forgetful struct {
	*fakeCloud
	awaited bool
}

func (c *forgetful) Await(ctx context.Context, req approval.Request, want approval.State, actedAt time.Time) (approval.State, error) {
	if !c.awaited {
		c.awaited = true
		return approval.Absent, nil
	}
	return c.fakeCloud.Await(ctx, req, want, actedAt)
}

// TestWhatWasThereIsNotGoneAtOnce: a connection that a person settled, and that
// stale lists do not show on a second look, is looked for as long as any other.
func TestWhatWasThereIsNotGoneAtOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		deleted bool
		want    approval.Outcome
		after   time.Duration
	}{
		{"it is there", false, approval.OutcomeSuperseded, time.Second},
		{"it is gone", true, approval.OutcomeGone, DefaultLimits().Visible},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Accepted)
				b := newBench(t, cloud, always(approval.Reject))
				b.Cloud = &forgetful{fakeCloud: cloud}
				begin, d := time.Now(), connection("1")
				err := b.Handle(t.Context(), &d)
				later, ok := errors.AsType[*RetryLaterError](err)
				if !ok {
					t.Fatalf("Handle = %v, want to come again", err)
				}
				if tt.deleted {
					cloud.facts = nil
				}
				<-time.After(later.After)
				d.Attempt = 2
				res, _ := b.deliver(t, d, 99)
				if took := time.Since(begin); res.Outcome != tt.want || took < tt.after || len(cloud.acts) > 0 {
					t.Errorf("ended %s after %s and acts %q, want %s after %s or more, without an act", res.Outcome, took, cloud.acts, tt.want, tt.after)
				}
			})
		})
	}
}

// TestAResultStands: a worker that lags behind another finds the request ended,
// and does not end it once more by what it sees then.
func TestAResultStands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		var b *bench
		overtaken := false
		b = newBench(t, cloud, policyFunc(func(*approval.Input) approval.Decision {
			if !overtaken {
				overtaken = true
				if err := b.replica().Handle(t.Context(), new(connection("1"))); err != nil {
					t.Errorf("the quicker worker: %v", err)
				}
				cloud.mu.Lock()
				delete(cloud.facts, endpoint) // and then its owner deletes the endpoint
				cloud.mu.Unlock()
			}
			return approval.Decision{Verdict: approval.Accept, Policy: "p", Rule: "r"}
		}))
		b.Limits.SlotTimeout = time.Minute // it would see that in one delivery
		res, _ := b.deliver(t, connection("1"), 9)
		entry, err := b.ledger.Get(t.Context(), res.Request.ID)
		if err != nil {
			t.Fatal(err)
		}
		if res.Outcome != approval.OutcomeAccepted || entry.Result.Outcome != approval.OutcomeAccepted {
			t.Errorf("told %s, the ledger says %s; want accepted, which was first", res.Outcome, entry.Result.Outcome)
		}
	})
}

// TestAnOldDecisionIsNotCarriedOutAgainstThePolicies: after an API was away for
// hours, what the policies deny by now is held, and what they still say is done.
func TestAnOldDecisionIsNotCarriedOutAgainstThePolicies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		request approval.Delivery
		later   approval.Verdict
		want    approval.Outcome
		acts    int
	}{
		{"still allowed", connection("1"), approval.Accept, approval.OutcomeAccepted, 1},
		{"denied meanwhile", connection("1"), approval.Reject, approval.OutcomeHeld, 0},
		{"held meanwhile", connection("1"), approval.Hold, approval.OutcomeHeld, 0},
		{"a creation that is still allowed", creation(functions()), approval.Accept, approval.OutcomeCreated, 1},
		{"a creation that is denied meanwhile", creation(functions()), approval.Reject, approval.OutcomeHeld, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				down := true
				cloud.fail = func(op string, after bool) error {
					if down && !after && (op == "act" || op == "look") {
						return cloudError{retryable: true}
					}
					return nil
				}
				verdict := approval.Accept
				b := newBench(t, cloud, policyFunc(func(*approval.Input) approval.Decision { return approval.Decision{Verdict: verdict} }))
				d := tt.request
				d.PublishedAt = time.Now()
				if err := b.Handle(t.Context(), &d); err == nil {
					t.Fatal("the API is down")
				}
				<-time.After(3 * time.Hour)
				down, verdict = false, tt.later
				d.Attempt = 2
				res, _ := b.deliver(t, d, 20)
				if res.Outcome != tt.want || len(cloud.acts)+cloud.creates != tt.acts {
					t.Errorf("ended %s (%+v) after %d deeds, want %s after %d", res.Outcome, res.Failure, len(cloud.acts)+cloud.creates, tt.want, tt.acts)
				}
			})
		})
	}
}

// TestTwoRequestsForOneConnection: whatever the second one is decided, it does
// not act against the first.
func TestTwoRequestsForOneConnection(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		second approval.Verdict
		want   approval.Outcome
	}{
		{"the same verdict", approval.Accept, approval.OutcomeAccepted},
		{"the contrary verdict", approval.Reject, approval.OutcomeSuperseded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				cloud.stay = true
				verdict := approval.Accept
				b := newBench(t, cloud, policyFunc(func(*approval.Input) approval.Decision { return approval.Decision{Verdict: verdict} }))
				if err := b.Handle(t.Context(), new(connection("1"))); err == nil {
					t.Fatal("the first is not confirmed yet, so it must come again")
				}
				verdict = tt.second
				second := connection("2")
				_ = b.Handle(t.Context(), &second)
				cloud.mu.Lock()
				cloud.facts[endpoint] = approval.Facts{EndpointID: endpoint, DomainID: acme, MarkerID: 1, State: approval.Accepted}
				cloud.mu.Unlock()
				second.Attempt = 2
				res, _ := b.deliver(t, second, 50)
				if res.Outcome != tt.want {
					t.Errorf("the second ended %s, want %s", res.Outcome, tt.want)
				}
				if want := []approval.Verdict{approval.Accept}; !slices.Equal(cloud.acts, want) {
					t.Errorf("acts %q, want %q", cloud.acts, want)
				}
			})
		})
	}
}

// TestASecondRequestWaitsAsLongAsTheFirst: what contradicts an act of half a
// minute ago may be a stale list, whichever worker acted.
func TestASecondRequestWaitsAsLongAsTheFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		cloud.stay = true
		b := newBench(t, cloud, always(approval.Accept))
		if err := b.Handle(t.Context(), new(connection("1"))); err == nil {
			t.Fatal("the first is not confirmed yet, so it must come again")
		}
		looks := 0
		cloud.fail = func(op string, _ bool) error {
			if op == "await" {
				f := cloud.facts[endpoint]
				f.State = approval.Absent
				if looks++; looks > 2 {
					f.State = approval.Accepted
				}
				cloud.facts[endpoint] = f
			}
			return nil
		}
		if res, _ := b.deliver(t, connection("2"), 9); res.Outcome != approval.OutcomeAccepted {
			t.Errorf("the second ended %s, want accepted", res.Outcome)
		}
	})
}

// TestALedgerThatFails: whatever the ledger does, before the deed or after it,
// the act is done once and has its record.
func TestALedgerThatFails(t *testing.T) {
	t.Parallel()
	for _, op := range []ledgertest.Op{ledgertest.Read, ledgertest.Write} {
		for _, prefix := range []string{"request.", "lock."} {
			for _, after := range []bool{false, true} {
				for skip := range 4 {
					name := fmt.Sprintf("%s of %s number %d, after the deed: %v", op, prefix, skip+1, after)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							cloud := newFakeCloud(approval.Pending)
							b := newBench(t, cloud, always(approval.Accept))
							seen, peeking := 0, false
							b.ledger.Inject(func(o ledgertest.Op, key string) ledgertest.Fault {
								if peeking || o != op || !strings.HasPrefix(key, prefix) {
									return ledgertest.Fault{}
								}
								if seen++; seen != skip+1 {
									return ledgertest.Fault{}
								}
								return ledgertest.Fault{Err: errors.New("the broker is away"), After: after}
							})
							recorded := false
							cloud.fail = func(op string, after bool) error {
								if op == "act" && !after {
									peeking = true
									defer func() { peeking = false }()
									entry, _ := b.ledger.Get(t.Context(), connection("1").Request.ID)
									recorded = entry != nil
								}
								return nil
							}
							res, n := b.deliver(t, connection("1"), 99)
							if res.Outcome != approval.OutcomeAccepted || len(cloud.acts) != 1 || !recorded {
								t.Errorf("%s with acts %q after %d deliveries, recorded before: %v; want accepted by one recorded act",
									res.Outcome, cloud.acts, n, recorded)
							}
						})
					})
				}
			}
		}
	}
}

// TestAResultIsToldOnce: while it cannot be published the request is not done,
// and what is delivered again after it was published changes nothing.
func TestAResultIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		b.results.fail = errors.New("the stream is full")
		d := connection("1")
		for d.Attempt = 1; d.Attempt <= 3; d.Attempt++ {
			if err := b.Handle(t.Context(), &d); err == nil {
				t.Fatal("a request without a published result must not be settled")
			}
		}
		b.results.fail = nil
		first, _ := b.deliver(t, d, 9)
		d.Attempt = 9
		second, _ := b.deliver(t, d, 9)
		if len(cloud.acts) != 1 || !first.At.Equal(second.At) {
			t.Errorf("acts %q, results at %s and %s; want one act and one result", cloud.acts, first.At, second.At)
		}
	})
}

// TestAnIDUsedTwiceAtOnce: of two events with one id about different things, only
// the first to be recorded is carried out, also where neither saw the other.
func TestAnIDUsedTwiceAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		other := connection("1")
		other.Request.EndpointID = "00000000-0000-0000-0000-000000000001"
		cloud.facts[other.Request.EndpointID] = approval.Facts{EndpointID: other.Request.EndpointID, DomainID: acme, State: approval.Pending}
		between := true
		cloud.fail = func(op string, _ bool) error {
			if op == "facts" && between { // after the first has looked into the ledger
				between = false
				if _, _, err := ledgertest.Record(t.Context(), b.ledger, &other.Request, &approval.Decision{Verdict: approval.Accept}); err != nil {
					t.Error(err)
				}
			}
			return nil
		}
		err := b.Handle(t.Context(), new(connection("1")))
		if _, ok := errors.AsType[*IDReusedError](err); !ok || len(cloud.acts) != 0 || len(b.results.got) != 0 {
			t.Errorf("Handle = %v after acts %q and results %v, want it laid aside", err, cloud.acts, b.results.got)
		}
	})
}

// TestAnIDUsedAgain: an event with the id of another about something else is
// neither taken for a repeat nor carried out.
func TestAnIDUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		b.deliver(t, connection("1"), 9)
		other := connection("1")
		other.Request.EndpointID = "00000000-0000-0000-0000-000000000001"
		cloud.facts[other.Request.EndpointID] = approval.Facts{EndpointID: other.Request.EndpointID, State: approval.Pending}
		err := b.Handle(t.Context(), &other)
		if _, ok := errors.AsType[*IDReusedError](err); !ok || len(cloud.acts) != 1 {
			t.Errorf("Handle = %v after acts %q, want it laid aside", err, cloud.acts)
		}
	})
}

// TestAStoppingWorkerGivesUpNothing: what ends because the process ends is not
// a failure of the request.
func TestAStoppingWorkerGivesUpNothing(t *testing.T) {
	t.Parallel()
	cloud := newFakeCloud(approval.Pending)
	ctx, cancel := context.WithCancel(t.Context())
	cloud.fail = func(op string, _ bool) error {
		if op == "act" {
			cancel()
			return context.Canceled
		}
		return nil
	}
	b := newBench(t, cloud, always(approval.Accept))
	d := connection("1")
	d.Attempt, d.PublishedAt = 99, time.Now().Add(-100*time.Hour)
	err := b.Handle(ctx, &d)
	if later, ok := errors.AsType[*RetryLaterError](err); !ok || later.After != 0 {
		t.Errorf("Handle = %v, want to be given back immediately", err)
	}
	if len(b.results.got) != 0 {
		t.Errorf("results %v, want none", b.results.got)
	}
}
