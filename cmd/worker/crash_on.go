//go:build crashpoints

package main

import (
	"context"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// instrument puts the crash points that the environment names around w's calls.
// The variables exist in binaries built with the tag crashpoints only; those of
// a second point begin with TORTURE_B_.
//
//	TORTURE_POINT   before-X or after-X, X one of facts, record, act, note,
//	                confirm, create, result, publish; empty: nowhere
//	TORTURE_DO      kill (SIGKILL, the default), stop (SIGSTOP) or panic
//	TORTURE_EVENT   only for events whose id begins with this
//	TORTURE_ONCE    a file: fail only if it is not there, and make it first
func instrument(w *worker.Worker) {
	for _, prefix := range []string{"TORTURE_", "TORTURE_B_"} {
		c := &crash{point: os.Getenv(prefix + "POINT"), do: os.Getenv(prefix + "DO"), event: os.Getenv(prefix + "EVENT"), once: os.Getenv(prefix + "ONCE")}
		if c.point == "" {
			continue
		}
		w.Cloud = crashingCloud{w.Cloud, c}
		w.Creator = crashingCreator{w.Creator, c}
		w.Ledger = crashingLedger{w.Ledger, c}
		w.Results = crashingResults{w.Results, c}
	}
}

type crash struct{ point, do, event, once string }

func (c *crash) before(name string, r approval.Request) { c.at("before-"+name, r) }
func (c *crash) after(name string, r approval.Request)  { c.at("after-"+name, r) }

// at does not come back if this is the point to be killed at.
func (c *crash) at(point string, r approval.Request) {
	if point != c.point || !strings.HasPrefix(r.EventID, c.event) {
		return
	}
	if c.once != "" {
		f, err := os.OpenFile(c.once, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return
		}
		_ = f.Close() // only its being there counts
	}
	switch c.do {
	case "panic":
		panic("crash point " + point)
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // cannot fail on oneself
	default:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal may take a moment; nothing more may be done
	}
}

type crashingCloud struct {
	worker.Cloud
	c *crash
}

func (k crashingCloud) Facts(ctx context.Context, r approval.Request) (approval.Facts, error) {
	k.c.before("facts", r)
	f, err := k.Cloud.Facts(ctx, r)
	k.c.after("facts", r)
	return f, err
}

func (k crashingCloud) Act(ctx context.Context, r approval.Request, v approval.Verdict) error {
	k.c.before("act", r)
	err := k.Cloud.Act(ctx, r, v)
	k.c.after("act", r)
	return err
}

func (k crashingCloud) Await(ctx context.Context, r approval.Request, want approval.State, actedAt time.Time) (approval.State, error) {
	k.c.before("confirm", r)
	state, err := k.Cloud.Await(ctx, r, want, actedAt)
	k.c.after("confirm", r)
	return state, err
}

type crashingCreator struct {
	worker.Creator
	c *crash
}

func (k crashingCreator) Create(ctx context.Context, r approval.Request) (approval.Created, error) {
	k.c.before("create", r)
	created, err := k.Creator.Create(ctx, r)
	k.c.after("create", r)
	return created, err
}

type crashingLedger struct {
	worker.Ledger
	c *crash
}

func (k crashingLedger) Record(ctx context.Context, r *approval.Request, d *approval.Decision) (*approval.Entry, *approval.Claim, error) {
	k.c.before("record", *r)
	entry, other, err := k.Ledger.Record(ctx, r, d)
	k.c.after("record", *r)
	return entry, other, err
}

// Update is "note" while the request is under way and "result" at its end.
func (k crashingLedger) Update(ctx context.Context, e *approval.Entry) error {
	name := "note"
	if e.Result != nil {
		name = "result"
	}
	k.c.before(name, e.Request)
	err := k.Ledger.Update(ctx, e)
	k.c.after(name, e.Request)
	return err
}

type crashingResults struct {
	worker.Results
	c *crash
}

func (k crashingResults) Publish(ctx context.Context, r approval.Result) error {
	k.c.before("publish", r.Request)
	err := k.Results.Publish(ctx, r)
	k.c.after("publish", r.Request) // and before the acknowledgement
	return err
}
