package worker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

const neighbor = "705290f3-0d00-41f2-aedc-00000000000a" // another connection of the account

// TestConnectionsThatAreBeingCreated: while the list does not tell whether another connection
// of the account was accepted, a request that this decides waits.
func TestConnectionsThatAreBeingCreated(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		becomes approval.State
		want    approval.Outcome
	}{
		{"a person accepted it", approval.Accepted, approval.OutcomeHeld},
		{"it is new", approval.Pending, approval.OutcomeAccepted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				other := approval.Facts{EndpointID: neighbor, DomainID: acme, State: approval.Creating, MarkerID: 99}
				cloud.facts[neighbor] = other
				b := newBench(t, cloud, limited(1))
				d := connection("1")
				err := b.Handle(t.Context(), &d)
				later, ok := errors.AsType[*RetryLaterError](err)
				if !ok || later.code != "count_unclear" || later.After <= 0 || later.After > time.Minute || len(cloud.acts) > 0 {
					t.Fatalf("while it is being created: %v, acts %v", err, cloud.acts)
				}
				other.State = tt.becomes
				cloud.facts[neighbor] = other
				d.Attempt = 2
				res, _ := b.deliver(t, d, 3)
				if res.Outcome != tt.want || (len(cloud.acts) == 1) != (tt.want == approval.OutcomeAccepted) {
					t.Errorf("ended %s with acts %v, want %s", res.Outcome, cloud.acts, tt.want)
				}
			})
		})
	}
}

// TestACountIsTakenAgainBeforeTheAct: however fresh the facts are, an act that waited for its
// turn needs a count that is as fresh.
func TestACountIsTakenAgainBeforeTheAct(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		state approval.State // of another connection of the account, while the act waits
		want  approval.Outcome
		turns int
	}{
		{"nobody else", approval.Pending, approval.OutcomeAccepted, 2},
		{"a person accepts another one", approval.Accepted, approval.OutcomeHeld, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := &queued{fakeCloud: newFakeCloud(approval.Pending)}
				cloud.facts[neighbor] = approval.Facts{EndpointID: neighbor, DomainID: acme, State: approval.Pending, MarkerID: 99}
				cloud.waits = func() {
					<-time.After(4 * DefaultLimits().FactsMaxAge)
					cloud.mu.Lock()
					defer cloud.mu.Unlock()
					other := cloud.facts[neighbor]
					other.State = tt.state
					cloud.facts[neighbor] = other
				}
				cloud.latest = func() (approval.Facts, bool) { // other requests read the list all the time
					f := cloud.facts[endpoint]
					f.ReadAt = time.Now()
					return f, f.State == approval.Pending
				}
				b := newBench(t, cloud.fakeCloud, limited(1))
				b.Cloud = cloud
				res, _ := b.deliver(t, connection("1"), 3)
				if res.Outcome != tt.want || cloud.turns != tt.turns || (len(cloud.acts) == 1) != (tt.want == approval.OutcomeAccepted) {
					t.Errorf("ended %s after %d turns with acts %v, want %s after %d", res.Outcome, cloud.turns, cloud.acts, tt.want, tt.turns)
				}
			})
		})
	}
}
