package worker

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// unreadEvents cannot be read while err is set, and is empty otherwise.
type unreadEvents struct{ err error }

func (u *unreadEvents) StoredRequests(_ context.Context, after uint64, _ func(approval.Request)) (uint64, error) {
	return after, u.err
}

// onePending lists one connection; with err, more are not shown.
type onePending struct{ err error }

func (p onePending) Pending(context.Context, approval.Target) ([]approval.Facts, error) {
	return []approval.Facts{{EndpointID: endpoint, DomainID: "d", MarkerID: 1, State: approval.Pending}}, p.err
}

func (onePending) Accepted(context.Context, approval.Target, string, string) (approval.AccountCount, error) {
	return approval.AccountCount{}, nil
}

// holding holds every request.
type holding struct{}

func (holding) Evaluate(*approval.Input) approval.Decision {
	return approval.Decision{Verdict: approval.Hold}
}

// TestDryRunWithoutEvents: while the events cannot be read nothing is said of a connection,
// because its claims are not known.
func TestDryRunWithoutEvents(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	events := &unreadEvents{err: errors.New("the broker is away")}
	d := DryRun{
		Cloud: onePending{}, Requests: events, Policy: holding{}, Log: zerolog.New(&log), Now: time.Now,
		Targets: approval.Targets{service()}, claimed: map[string]approval.Request{},
	}
	if err := d.Once(t.Context()); !errors.Is(err, events.err) || log.Len() > 0 {
		t.Errorf("Once without events: %v, and it said %s", err, log.String())
	}
	events.err = nil
	if err := d.Once(t.Context()); err != nil || !bytes.Contains(log.Bytes(), []byte(`"verdict":"hold"`)) {
		t.Errorf("Once with events: %v, and it said %s", err, log.String())
	}
}

// TestDryRunOfAListThatMoves says what it has seen, once, and that it is not all.
func TestDryRunOfAListThatMoves(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	moved := errors.New("the list changed")
	d := DryRun{
		Cloud: onePending{moved}, Requests: &unreadEvents{}, Policy: holding{}, Log: zerolog.New(&log), Now: time.Now,
		Targets: approval.Targets{service()}, claimed: map[string]approval.Request{},
	}
	for range 2 {
		if err := d.Once(t.Context()); !errors.Is(err, moved) {
			t.Errorf("%v, want that the list changed", err)
		}
	}
	if n := bytes.Count(log.Bytes(), []byte(`"verdict":"hold"`)); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
}
