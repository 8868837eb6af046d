package console

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// targetsView is what is known of each target.
type targetsView struct {
	Rows  []targetRow
	Since time.Time // from when results are counted
}

type targetRow struct {
	approval.Target

	Waiting int // for a review
	// What the workers have read in the cloud.
	Connections approval.Connections
	Unread      string // key of the text that says why a number is not known
	Paused      bool
	Counts      []count // of results
}

type count struct {
	Outcome string
	N       int
}

func (c *Console) targetsPage(r *http.Request, _ *visitor) (response, error) {
	paused, err := ledger.NewPauses(c.cfg.Bus).Read(r.Context())
	if err != nil {
		return response{}, err
	}
	workers, err := ledger.NewWorkers(c.cfg.Bus).List(r.Context())
	if err != nil {
		return response{}, err
	}
	known := latestReads(workers)
	waiting := map[string]int{}
	for _, item := range c.board.list("", "").Items {
		waiting[item.Request.Target.Name]++
	}
	_, ended, since := c.feed.counted()
	out := targetsView{Since: since}
	for _, t := range c.cfg.Targets {
		row := targetRow{Target: t, Waiting: waiting[t.Name], Paused: paused.Of(t.Name).Paused, Connections: known[t.Name], Unread: whyUnread(workers, t)}
		for _, o := range approval.Outcomes() {
			if n := ended[t.Name][string(o)]; n > 0 {
				row.Counts = append(row.Counts, count{string(o), n})
			}
		}
		out.Rows = append(out.Rows, row)
	}
	return response{name: "targets", title: "targets.title", data: out}, nil
}

// latestReads returns the latest that any worker has read of the connections of each target.
func latestReads(workers []approval.WorkerStatus) map[string]approval.Connections {
	out := map[string]approval.Connections{}
	for _, w := range workers {
		for target, c := range w.Connections {
			have := out[target]
			out[target] = approval.Connections{Pending: have.Pending.Newer(c.Pending), Accepted: have.Accepted.Newer(c.Accepted)}
		}
	}
	return out
}

// whyUnread returns the key of the text that says why no worker has read the connections
// of a target.
func whyUnread(workers []approval.WorkerStatus, t approval.Target) string {
	key, api := "targets.no_worker", "vpcep"
	if t.Kind == approval.Gateway {
		api = "apig"
	}
	for _, w := range workers {
		if _, ok := w.Connections[t.Name]; !ok {
			continue
		}
		key = "targets.next_sweep"
		if slices.ContainsFunc(w.Faults, func(f approval.WorkerFault) bool {
			return f.Kind == approval.FaultCredential || f.Target == t.Name || f.Target == "" && f.API == api
		}) {
			return "targets.fault"
		}
	}
	return key
}

// systemView is how the workers and the bus are.
type systemView struct {
	Workers []inspect.Worker
	Paused  string // in English, a line each; empty: nothing is
	Backlog int    // requests that are not acknowledged
	Oldest  time.Time
	Letters []inspect.DeadLetter
	More    int
	Denied  string // why dead letters cannot be listed
	Replay  bool   // whether the person may replay them
}

func (c *Console) systemPage(r *http.Request, v *visitor) (response, error) {
	ctx := r.Context()
	workers, err := ledger.NewWorkers(c.cfg.Bus).List(ctx)
	if err != nil {
		return response{}, err
	}
	paused, err := ledger.NewPauses(c.cfg.Bus).Read(ctx)
	if err != nil {
		return response{}, err
	}
	out := systemView{Workers: inspect.NewWorkers(workers), Paused: inspect.PauseText(paused, c.cfg.Now()), Replay: v.Has(policy.RoleOperator)}
	if out.Backlog, _, err = c.cfg.Bus.Unacknowledged(ctx); err != nil {
		return response{}, err
	}
	if out.Oldest, err = c.cfg.Bus.Waiting(ctx); err != nil {
		return response{}, err
	}
	letters, err := inspect.FindDeadLetters(ctx, c.cfg.Bus, "", pageSize)
	if err != nil {
		out.Denied = err.Error()
	}
	out.Letters, out.More = letters.List, letters.More
	return response{name: "system", title: "system.title", data: out}, nil
}

// replay submits the original of a dead letter again.
func (c *Console) replay(r *http.Request, v *visitor) (response, error) {
	if !v.Has(policy.RoleOperator) {
		return response{}, forbidden("error.not_operator")
	}
	r.Body = http.MaxBytesReader(nil, r.Body, maxForm)
	number, err := strconv.ParseUint(r.PostFormValue("number"), 10, 64)
	if err != nil {
		return response{}, &pageError{http.StatusBadRequest, "error.form", nil}
	}
	said := note{Kind: "good", Key: "note.replayed", Args: []any{number}}
	if err := c.cfg.Bus.Replay(r.Context(), number); err != nil {
		said = note{Kind: "bad", Key: "note.not_replay", Detail: err.Error()}
		if _, denied := errors.AsType[*events.DeniedError](err); denied {
			said.Key, said.Args = "note.replay_denied", []any{fmt.Sprintf("worker deadletters replay %d", number)}
		}
	}
	c.cfg.Log.Info().Str("person", v.Name).Uint64("dead_letter", number).Str("error", said.Detail).Msg("replay of a dead letter")
	return response{goTo: "/system?note=" + c.notes.add(v.Name, said)}, nil
}
