package cloud

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// How Await polls.
const (
	minPollInterval = time.Second
	MaxPollInterval = 15 * time.Second
	ListLag         = 30 * time.Second // after a decision, in which lists may still show the old state
)

// Await polls the connection of req until its target's list shows the state want, and
// returns that. It reads immediately and then after 1, 2, 4 s and so on up to 15 s, with
// 10 % jitter. Callers that await connections of one target share the reads.
//
// It returns another final state (Accepted, Rejected, Failed, or Absent) if two
// consecutive reads show it and the second is at least 30 s after actedAt, because lists
// may be stale. actedAt is zero if no decision was sent. Undocumented states are counted
// and never final.
//
// When ctx ends, Await returns the last state and an error that wraps ctx.Err(). The
// error is an *Error if the list is incomplete or cannot be read.
func (c *Client) Await(ctx context.Context, req approval.Request, want approval.State, actedAt time.Time) (approval.State, error) {
	ctx = forTarget(ctx, req.Target.Name)
	l, err := c.reader(&req)
	if err != nil {
		return approval.Absent, err
	}
	polls := backoff.NewExponentialBackOff(backoff.WithInitialInterval(minPollInterval), backoff.WithMaxInterval(MaxPollInterval),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.1), backoff.WithMaxElapsedTime(0))
	var last approval.State
	for reads := 0; ; reads++ {
		shown, err := l.read(ctx, req.EndpointID, needState)
		if err != nil {
			return last, c.readError(&req, "await", err)
		}
		row, _ := shown.row(req.EndpointID)
		if row.contradicted {
			return last, c.reportList(req.Target, apiOf(req.Target), "await", errContradicted)
		}
		state := approval.State(row.Status)
		if !state.Known() {
			c.observer.CloudUnknownState(req.Target.Name)
		}
		again := reads > 0 && state == last
		last = state
		if state == want && (state != approval.Absent || again) {
			return state, nil
		}
		if again && final(state) && (actedAt.IsZero() || shown.at.Sub(actedAt) >= ListLag) {
			return state, nil
		}
		if err := sleep(ctx, polls.NextBackOff()); err != nil {
			return last, c.readError(&req, "await", err)
		}
	}
}

// final reports whether a connection can stay in s forever.
func final(s approval.State) bool {
	switch s {
	case approval.Accepted, approval.Rejected, approval.Failed, approval.Absent:
		return true
	default:
		return false
	}
}
