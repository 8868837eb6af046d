//go:build failpoints

package service

import (
	"context"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/worker"
)

// installFailpoints puts the failpoints that the environment names around w's calls.
// The variables exist in binaries built with the tag failpoints only; those of
// a second point begin with FAILPOINT_B_.
//
//	FAILPOINT_AT      before-X or after-X, X one of facts, record, act, note,
//	                  confirm, create, result, publish; empty: nowhere
//	FAILPOINT_DO      kill (SIGKILL, the default), stop (SIGSTOP) or panic
//	FAILPOINT_EVENT   only for events whose id begins with this
//	FAILPOINT_ONCE    a file: fail only if it is not there, and make it first
func installFailpoints(w *worker.Worker) {
	for _, prefix := range []string{"FAILPOINT_", "FAILPOINT_B_"} {
		c := &failpoint{point: os.Getenv(prefix + "AT"), do: os.Getenv(prefix + "DO"), event: os.Getenv(prefix + "EVENT"), once: os.Getenv(prefix + "ONCE")}
		if c.point == "" {
			continue
		}
		w.Cloud = failingCloud{w.Cloud, c}
		w.Creator = failingCreator{w.Creator, c}
		w.Ledger = failingLedger{w.Ledger, c}
		w.Results = failingResults{w.Results, c}
	}
}

type failpoint struct{ point, do, event, once string }

func (c *failpoint) before(name string, r approval.Request) { c.at("before-"+name, r) }
func (c *failpoint) after(name string, r approval.Request)  { c.at("after-"+name, r) }

// at does not come back if this is the point to be killed at.
func (c *failpoint) at(point string, r approval.Request) {
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
		panic("failpoint " + point)
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // cannot fail on oneself
	default:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal may take a moment; nothing more may be done
	}
}

type failingCloud struct {
	worker.Cloud
	c *failpoint
}

func (k failingCloud) Facts(ctx context.Context, r approval.Request) (approval.Facts, error) {
	k.c.before("facts", r)
	f, err := k.Cloud.Facts(ctx, r)
	k.c.after("facts", r)
	return f, err
}

// LatestPending spares a request the read of its facts, so it is "facts" too.
func (k failingCloud) LatestPending(r approval.Request) (approval.Facts, bool) {
	f, ok := k.Cloud.LatestPending(r)
	if ok {
		k.c.before("facts", r)
		k.c.after("facts", r)
	}
	return f, ok
}

func (k failingCloud) Act(ctx context.Context, r *approval.Request, v approval.Verdict) error {
	k.c.before("act", *r)
	err := k.Cloud.Act(ctx, r, v)
	k.c.after("act", *r)
	return err
}

func (k failingCloud) Await(ctx context.Context, r approval.Request, want approval.State, actedAt time.Time) (approval.State, error) {
	k.c.before("confirm", r)
	state, err := k.Cloud.Await(ctx, r, want, actedAt)
	k.c.after("confirm", r)
	return state, err
}

type failingCreator struct {
	worker.Creator
	c *failpoint
}

func (k failingCreator) Create(ctx context.Context, r approval.Request) (approval.Created, error) {
	k.c.before("create", r)
	created, err := k.Creator.Create(ctx, r)
	k.c.after("create", r)
	return created, err
}

type failingLedger struct {
	worker.Ledger
	c *failpoint
}

// Record is "record", or "result" if the request ends with it.
func (k failingLedger) Record(ctx context.Context, e *approval.Entry) (*approval.Lock, error) {
	name := writeName(e, "record")
	k.c.before(name, e.Request)
	other, err := k.Ledger.Record(ctx, e)
	k.c.after(name, e.Request)
	return other, err
}

// Put is "note" while the request is under way and "result" at its end.
func (k failingLedger) Put(ctx context.Context, e *approval.Entry) error {
	name := writeName(e, "note")
	k.c.before(name, e.Request)
	err := k.Ledger.Put(ctx, e)
	k.c.after(name, e.Request)
	return err
}

func writeName(e *approval.Entry, name string) string {
	if e.Result != nil {
		return "result"
	}
	return name
}

type failingResults struct {
	worker.Results
	c *failpoint
}

func (k failingResults) Publish(ctx context.Context, r approval.Result) error {
	k.c.before("publish", r.Request)
	err := k.Results.Publish(ctx, r)
	k.c.after("publish", r.Request) // and before the acknowledgement
	return err
}
