package worker

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// noteWait keeps in the ledger why a request is given back, if that is news, and
// logs it: the first time so that the log names every request that waits. That a
// note cannot be written changes nothing else. unsent says that the
// ledger still has the note of a call that was certainly not sent.
func (w *Worker) noteWait(ctx context.Context, t *task, entry *approval.Entry, later *RetryLaterError, unsent bool) {
	wait := waitOf(later, w.Now())
	first, noted := entry.Wait == nil, false
	news := first || entry.Wait.Code != wait.Code || entry.Wait.Stage != wait.Stage || unsent
	if news && ctx.Err() == nil && entry.Result == nil {
		t.stages.record(wait.Stage, nil)
		next := *entry
		if !first && entry.Wait.Code == wait.Code && entry.Wait.Stage == wait.Stage {
			wait.Since = entry.Wait.Since
		}
		next.Wait, next.Progress = wait, t.stages.progress(wait.Stage)
		if err := w.Ledger.Put(ctx, &next); err == nil {
			noted = true
		}
	}
	level := zerolog.DebugLevel
	if first && noted {
		level = zerolog.InfoLevel
	}
	w.Log.WithLevel(level).Str("request", t.Request.ID).Str("trace_id", t.Request.TraceID()).Str("source", t.Request.Source).Str("event", t.Request.EventID).
		Str("target", t.Request.Target.Name).Str("endpoint", t.Request.EndpointID).Int("attempt", t.Attempt).
		Str("cause", wait.Code).Str("stage", string(wait.Stage)).Float64("after_seconds", later.After.Seconds()).
		Func(func(line *zerolog.Event) {
			if o := wait.Operator; o != nil {
				line.Str("api", o.API).Str("operation", o.Operation)
			}
			if wait.RequestID != "" {
				line.Str("cloud_request", wait.RequestID)
			}
		}).
		Err(later.Err).Msg("given back")
}

// waitOf is what the ledger keeps of later.
func waitOf(later *RetryLaterError, now time.Time) *approval.Wait {
	if later.Err == nil {
		return &approval.Wait{Since: now, Stage: later.stage, Code: later.code, Text: "The request waits; nothing failed."}
	}
	wait := &approval.Wait{Since: now, Stage: approval.StageOutage, Code: codeErrors, Text: "The request met an error that may pass."}
	if f, ok := failureOf(later.Err); ok {
		wait.Code, wait.Text, wait.RequestID = f.Code, f.Text, f.RequestID
	}
	if o, ok := operatorFault(later.Err); ok {
		wait.Code, wait.Text, wait.RequestID, wait.Operator = o.Code, o.Text, o.RequestID, &o
	}
	return wait
}

// codeErrors is the code of an error that has none.
const codeErrors = "error"
