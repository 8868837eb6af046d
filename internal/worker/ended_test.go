package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestErrorsDoNotDenyWhatWasDone: however a request meets errors at last, what
// was done, or may have been done, before is told.
func TestErrorsDoNotDenyWhatWasDone(t *testing.T) {
	t.Parallel()
	// after lets op fail with err from the moment that the first creation or act was made.
	after := func(c *fakeCloud, op string, err error) func(string, bool) error {
		return func(o string, _ bool) error {
			if o == op && c.creates+len(c.acts) > 0 {
				return err
			}
			return nil
		}
	}
	lost := func(c *fakeCloud) func(string, bool) error {
		looks := after(c, "look", cloudError{retryable: true})
		return func(op string, done bool) error {
			if op == "create" && done {
				return cloudError{retryable: true, unknown: true}
			}
			return looks(op, done)
		}
	}
	tests := []struct {
		name string
		d    approval.Delivery
		edit func(c *fakeCloud)
		want approval.Outcome
	}{
		{"the answer is lost, and until its time is up nobody can look", creation(functions()), func(c *fakeCloud) { c.fail = lost(c) }, approval.OutcomeUnknown},
		{"created, and until its time is up nobody can look", creation(functions()), func(c *fakeCloud) {
			c.fail = after(c, "look", cloudError{retryable: true})
		}, approval.OutcomeCreated},
		{"created, and the connection must not be followed", creation(insight()), func(c *fakeCloud) {
			c.lookBlind, c.connects = true, endpoint
			c.fail = after(c, "await", cloudError{})
		}, approval.OutcomeCreated},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				tt.edit(cloud)
				b := newBench(t, cloud, always(approval.Accept))
				tt.d.PublishedAt = time.Now()
				res, _ := b.deliver(t, tt.d, 1e5)
				if res.Outcome != tt.want || cloud.creates != 1 {
					t.Errorf("outcome %s (%+v) after %d creations, want %s after 1", res.Outcome, res.Failure, cloud.creates, tt.want)
				}
			})
		})
	}
}

// TestAnOldEventIsFollowedToItsEnd: a request that lay in a backlog for longer
// than any limit has its time to be confirmed once it was acted on.
func TestAnOldEventIsFollowedToItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		cloud.become = approval.Creating
		b := newBench(t, cloud, always(approval.Accept))
		d := connection("1")
		d.PublishedAt, d.Attempt = time.Now().Add(-2*b.Limits.MaxAge), 50
		time.AfterFunc(5*time.Minute, func() {
			cloud.mu.Lock()
			defer cloud.mu.Unlock()
			cloud.facts[endpoint] = approval.Facts{EndpointID: endpoint, DomainID: acme, State: approval.Accepted}
		})
		if res, _ := b.deliver(t, d, 1000); res.Outcome != approval.OutcomeAccepted {
			t.Errorf("it ended %s (%+v), want accepted", res.Outcome, res.Failure)
		}
	})
}

// TestABacklogIsNotOverdue: what waited while no worker was there has its time,
// however often it was given back untried.
func TestABacklogIsNotOverdue(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		state approval.State
	}{
		{"the first facts cannot be read", approval.Pending},
		{"the connection is not pending yet", approval.Creating},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(tt.state)
				asked := 0
				cloud.fail = func(op string, _ bool) error {
					if op == "facts" {
						if asked++; asked == 1 && tt.state == approval.Pending {
							return cloudError{retryable: true}
						}
						f := cloud.facts[endpoint]
						if asked > 1 && f.State == approval.Creating {
							f.State = approval.Pending
							cloud.facts[endpoint] = f
						}
					}
					return nil
				}
				b := newBench(t, cloud, always(approval.Accept))
				b.Started = time.Now()
				d := connection("1")
				d.PublishedAt, d.Attempt = time.Now().Add(-2*b.Limits.MaxAge), 50
				if res, _ := b.deliver(t, d, 99); res.Outcome != approval.OutcomeAccepted {
					t.Errorf("it ended %s (%+v), want accepted", res.Outcome, res.Failure)
				}
			})
		})
	}
}

// TestAnActDoesNotGoByOldFacts: an act that waited for its turn until someone
// else had settled the connection is not made.
func TestAnActDoesNotGoByOldFacts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Pending)
		b := newBench(t, cloud, always(approval.Accept))
		b.Cloud = waitingCloud{cloud}
		time.AfterFunc(5*time.Minute, func() {
			cloud.mu.Lock()
			defer cloud.mu.Unlock()
			cloud.facts[endpoint] = approval.Facts{EndpointID: endpoint, DomainID: acme, State: approval.Rejected}
		})
		if res, _ := b.deliver(t, connection("1"), 99); res.Outcome != approval.OutcomeSuperseded || len(cloud.acts) != 0 {
			t.Errorf("it ended %s after %q, want superseded and no act", res.Outcome, cloud.acts)
		}
	})
}

// waitingCloud acts after ten minutes in the line of those who wait for the rate.
type waitingCloud struct{ *fakeCloud }

func (c waitingCloud) Act(ctx context.Context, r *approval.Request, v approval.Verdict) error {
	select {
	case <-ctx.Done():
		return cloudError{retryable: true}
	case <-time.After(10 * time.Minute):
	}
	return c.fakeCloud.Act(ctx, r, v)
}
