package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

func TestHowACreationEnds(t *testing.T) {
	t.Parallel()
	times := func(n int, op string, after bool, err error) func(string, bool) error {
		return func(o string, a bool) error {
			if o == op && a == after && n > 0 {
				n--
				return err
			}
			return nil
		}
	}
	unknown := cloudError{retryable: true, unknown: true}
	throttled := cloudError{retryable: true, after: time.Second}
	tests := []struct {
		name    string
		target  approval.Target
		verdict approval.Verdict
		edit    func(c *fakeCloud)
		want    approval.Outcome
		creates int
	}{
		{"allowed", functions(), approval.Accept, nil, approval.OutcomeCreated, 1},
		{"not allowed: nothing is called", functions(), approval.Reject, nil, approval.OutcomeRefused, 0},
		{"held: nothing is called", functions(), approval.Hold, nil, approval.OutcomeHeld, 0},
		{"throttled, so surely not done", functions(), approval.Accept, func(c *fakeCloud) { c.fail = times(5, "create", false, throttled) }, approval.OutcomeCreated, 1},
		{"the answer is lost and it is there", functions(), approval.Accept, func(c *fakeCloud) { c.fail = times(1, "create", true, unknown) }, approval.OutcomeCreated, 1},
		{"the answer is lost and it is not there: sent again after looking", functions(), approval.Accept, func(c *fakeCloud) { c.fail = times(1, "create", false, unknown) }, approval.OutcomeCreated, 1},
		{"lost again and again and never there", functions(), approval.Accept, func(c *fakeCloud) { c.fail = times(99, "create", false, unknown) }, approval.OutcomeUnknown, 0},
		{"sent for the last time, and it shows late", functions(), approval.Accept, func(c *fakeCloud) {
			sends, made := 0, time.Time{}
			c.fail = func(op string, after bool) error {
				switch {
				case op == "create" && !after:
					if sends++; sends < maxSends {
						return unknown
					}
				case op == "create":
					made = time.Now()
					return unknown
				case op == "look" && !made.IsZero():
					c.endpoints = []string{"of-someone-else"}
					if time.Since(made) > 25*time.Second {
						c.endpoints = append(c.endpoints, "made-1")
					}
				}
				return nil
			}
		}, approval.OutcomeCreated, 1},
		{"the answer is lost and nobody can look", insight(), approval.Accept, func(c *fakeCloud) {
			c.lookBlind = true
			c.fail = times(1, "create", true, unknown)
		}, approval.OutcomeUnknown, 1},
		{"refused for good", functions(), approval.Accept, func(c *fakeCloud) { c.fail = times(1, "create", false, cloudError{}) }, approval.OutcomeFailed, 0},
		{"the look fails for a while", functions(), approval.Accept, func(c *fakeCloud) { c.fail = times(4, "look", false, throttled) }, approval.OutcomeCreated, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				cloud.endpoints = []string{"of-someone-else"}
				if tt.edit != nil {
					tt.edit(cloud)
				}
				b := newBench(t, cloud, always(tt.verdict))
				res, _ := b.deliver(t, creation(tt.target), 1e4)
				if res.Outcome != tt.want || cloud.creates != tt.creates {
					t.Errorf("outcome %s (%+v) with %d creations, want %s with %d", res.Outcome, res.Failure, cloud.creates, tt.want, tt.creates)
				}
			})
		})
	}
}

// TestACreationAskedForTwice: another event for the same endpoint finds what
// the first one made.
func TestACreationAskedForTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		first, _ := b.deliver(t, creation(functions()), 9)
		again := creation(functions())
		again.Request.EventID, again.Request.ID = "again", approval.RequestID("test", "again")
		second, _ := b.deliver(t, again, 9)
		if cloud.creates != 1 || second.Outcome != approval.OutcomeCreated || !second.Created.Existing {
			t.Errorf("%d creations, second %s %+v; want one creation, found by the second", cloud.creates, second.Outcome, second.Created)
		}
		if first.Created.Existing || first.Created.EndpointID != "made-1" {
			t.Errorf("first = %+v, want the endpoint that was read back", first.Created)
		}
	})
}

// stalling is a ledger whose next update takes its time.
type stalling struct {
	Ledger
	stall time.Duration
}

func (l *stalling) Put(ctx context.Context, e *approval.Entry) error {
	err := l.Ledger.Put(ctx, e)
	stall := l.stall
	l.stall = 0
	<-time.After(stall)
	return err
}

// TestALateCreationIsNotSent: a worker that was stopped after it wrote down its
// intent does not send when it wakes, for another may have sent meanwhile.
func TestALateCreationIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		late := b.replica()
		late.Ledger = &stalling{b.ledger, time.Minute}
		ended := make(chan error)
		go func() { ended <- late.Handle(t.Context(), new(creation(functions()))) }()
		<-time.After(10 * time.Second)
		second := creation(functions())
		second.Attempt = 2
		res, _ := b.deliver(t, second, 20)
		if err := <-ended; err == nil {
			t.Error("the late worker should find out that it is late")
		}
		if res.Outcome != approval.OutcomeCreated || cloud.creates != 1 {
			t.Errorf("ended %s after %d creations, want created after one", res.Outcome, cloud.creates)
		}
	})
}

// TestACreationAskedForTwiceBeforeItShows: a list that does not show yet what an
// earlier request made is no reason to make it again.
func TestACreationAskedForTwiceBeforeItShows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		b.deliver(t, creation(functions()), 9)
		shown, looks := cloud.endpoints, 0
		cloud.fail = func(op string, _ bool) error {
			if op == "look" {
				cloud.endpoints = nil
				if looks++; looks > 2 {
					cloud.endpoints = shown
				}
			}
			return nil
		}
		again := creation(functions())
		again.Request.EventID, again.Request.ID = "again", approval.RequestID("test", "again")
		second, _ := b.deliver(t, again, 9)
		if cloud.creates != 1 || second.Outcome != approval.OutcomeCreated || !second.Created.Existing {
			t.Errorf("%d creations, second %s %+v; want one creation, found by the second", cloud.creates, second.Outcome, second.Created)
		}
	})
}

// TestACreationAskedForTwiceWhereNobodyCanLook: the connection on our own target
// tells whether what the first request made is still there.
func TestACreationAskedForTwiceWhereNobodyCanLook(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		state   approval.State // of the first one's connection when the second comes
		creates int
	}{
		{"still there", approval.Accepted, 1},
		{"deleted meanwhile", approval.Absent, 2},
		{"rejected meanwhile", approval.Rejected, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Accepted)
				cloud.lookBlind, cloud.connects = true, endpoint
				b := newBench(t, cloud, always(approval.Accept))
				b.deliver(t, creation(insight()), 9)
				facts := cloud.facts[endpoint]
				facts.State = tt.state
				cloud.facts[endpoint] = facts
				again := creation(insight())
				again.Request.EventID, again.Request.ID = "again", approval.RequestID("test", "again")
				second, _ := b.deliver(t, again, 9)
				if cloud.creates != tt.creates || second.Outcome == approval.OutcomeCreated && second.Created.Existing != (tt.creates == 1) {
					t.Errorf("%d creations, the second %s %+v; want %d creations", cloud.creates, second.Outcome, second.Created, tt.creates)
				}
			})
		})
	}
}
