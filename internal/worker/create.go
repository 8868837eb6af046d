package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// actOnCreation carries the decision to create out. What was sent and not
// answered is looked for before anything is sent again; where nobody can look, it
// ends as unknown.
func (w *Worker) actOnCreation(ctx context.Context, t *task, a acted) (acted, error) {
	if a.other != nil && !a.other.Done() {
		if err := w.resumeStalled(ctx, t, a.other); err != nil {
			return a, err
		}
		return a, waits(approval.StageAct, "made_by_another", jitter(otherRetry))
	}
	if answered(a.entry) {
		return a, nil
	}
	a, err := w.create(ctx, t, a)
	t.stages.record(approval.StageAct, err)
	return a, err
}

// answered reports whether the API has answered to the creation of entry.
func answered(entry *approval.Entry) bool { return entry.Intent != nil && entry.Intent.Created != nil }

// resumeStalled goes on with the request that holds a lock if nothing was done
// about it for long: its event may be lost, and it would block all others forever.
func (w *Worker) resumeStalled(ctx context.Context, t *task, holder *approval.Lock) error {
	entry, err := w.Ledger.Get(ctx, holder.RequestID)
	if err != nil {
		return fmt.Errorf("read the request that holds the lock: %w", err)
	}
	if entry == nil || entry.Result != nil {
		return nil
	}
	last := holder.At
	if entry.Intent != nil {
		last = entry.Intent.At
	}
	if w.Now().Sub(last) < stalledAfter {
		return nil
	}
	its := *t.Delivery
	its.Request = entry.Request
	result, err := w.process(ctx, &its, true)
	if err != nil {
		return fmt.Errorf("go on with request %s, which holds the lock: %w", holder.RequestID, err)
	}
	w.finished(result)
	return nil
}

// create makes the endpoint unless it is there. Without an end and an error the
// entry that it returns has the answer.
func (w *Worker) create(ctx context.Context, t *task, a acted) (acted, error) {
	var before []string
	sent := a.entry.Intent != nil && a.entry.Intent.Sends > 0
	if sent {
		before = a.entry.Intent.Before
	}
	look, err := w.Creator.Look(ctx, a.entry.Request, before)
	blind := err != nil && isBlind(err)
	if err != nil && !blind {
		return a, fmt.Errorf("look for the endpoint: %w", err)
	}
	there, found, err := w.reuseExisting(ctx, a, look, blind)
	if err != nil {
		return a, err
	}
	if found {
		return a.ends(&ending{outcome: approval.OutcomeCreated, created: &there, facts: approval.Facts{State: there.State}}), nil
	}
	if a.other != nil && a.other.Done() && w.Now().Sub(a.other.At) < w.Limits.StabilizeFor {
		// What another request made just now may not show yet.
		return a, waits(approval.StageAct, "just_made", jitter(w.Limits.StabilizeFor/4))
	}
	if sent {
		a, err = w.reconcile(ctx, t, a, look, blind)
		if err != nil || a.end != nil || answered(a.entry) {
			return a, err
		}
	}
	facts := approval.Facts{ReadAt: w.Now()}
	if !w.stands(a.entry, &facts) {
		return a.ends(outdated(&facts)), nil
	}
	if a.other != nil { // only one of those who found it gone may make it again
		if err := w.Ledger.Steal(ctx, a.entry, a.other); err != nil {
			return a, fmt.Errorf("steal the lock: %w", err)
		}
	}
	return w.sendOnce(ctx, t, a, look.Keys)
}

// alive reports whether there is an endpoint that can be used, or may be.
func alive(c *approval.Created) bool {
	if c == nil {
		return false
	}
	switch c.State {
	case approval.Failed, approval.Rejected, approval.Deleting:
		return false
	default:
		return true
	}
}

// reconcile deals with a creation that was sent and has no answer: what shows is
// what it made, and becomes the answer. Without an end, an answer and an error it
// was certainly not done.
func (w *Worker) reconcile(ctx context.Context, t *task, a acted, look approval.Look, blind bool) (acted, error) {
	var err error
	intent := *a.entry.Intent
	switch age := w.Now().Sub(intent.At); {
	case look.Created != nil:
		a.entry, err = w.noteCreated(ctx, t, a.entry, *look.Created)
		return a, err
	case blind && intent.MissedAt.IsZero():
		intent.MissedAt = w.Now()
		if a.entry, err = w.noteIntent(ctx, t, a.entry, intent); err != nil {
			return a, err
		}
		return a, waits(approval.StageAct, "answer_missing", jitter(answerGrace))
	case blind && w.Now().Sub(intent.MissedAt) < answerGrace:
		return a, waits(approval.StageAct, "answer_missing", jitter(answerGrace/4))
	case !blind && age < w.Limits.sendFor()+w.Limits.StabilizeFor:
		return a, waits(approval.StageAct, "answer_missing", jitter(w.Limits.StabilizeFor/4))
	case blind || look.Partial || intent.Sends >= maxSends:
		return a.ends(&ending{outcome: approval.OutcomeUnknown, failure: unanswered(&a.entry.Request)}), nil
	}
	return a, nil
}

// sendOnce notes that a creation is about to be sent, sends it, and notes what
// came of it. keys is what was there before.
func (w *Worker) sendOnce(ctx context.Context, t *task, a acted, keys []string) (acted, error) {
	if err := w.mayAct(a.entry.Request.Target.Name); err != nil {
		return a, err
	}
	intent := approval.Intent{Before: keys}
	if a.entry.Intent != nil && a.entry.Intent.Sends > 0 {
		intent = *a.entry.Intent
	}
	intent.At, intent.MissedAt = w.Now(), time.Time{}
	intent.Sends++
	var err error
	if a.entry, err = w.noteIntent(ctx, t, a.entry, intent); err != nil {
		return a, err
	}
	late := w.Now().Sub(intent.At)
	if late > w.Limits.FactsMaxAge {
		// This worker was stopped in between, and another may have taken over:
		// the note that nothing was sent says so.
		if a.entry, err = w.noteUnsent(ctx, t, a.entry); err != nil {
			return a, err
		}
		return a, waits(approval.StageAct, "late", soon())
	}
	facts, sent, denied := approval.Facts{ReadAt: w.Now()}, false, false
	permit := func() error {
		err := w.mayAct(a.entry.Request.Target.Name)
		if err == nil && !w.stands(a.entry, &facts) {
			err = errOutdated
		}
		sent, denied = sent || err == nil, denied || err != nil
		return err
	}
	// A worker that takes over waits for StabilizeFor from when this send cannot be
	// under way any more, for a list may show that moment late.
	sending, cancel := context.WithTimeout(approval.WithPermit(ctx, permit), w.Limits.sendFor()-max(late, 0))
	defer cancel()
	created, err := w.Creator.Create(sending, a.entry.Request)
	t.stages.record(approval.StageAct, err)
	switch {
	case err == nil:
		a.entry, err = w.noteCreated(ctx, t, a.entry, created)
		return a, err
	case denied && !sent || !maybeDone(err):
		var notNoted error
		if a.entry, notNoted = w.noteUnsent(ctx, t, a.entry); notNoted != nil {
			return a, errors.Join(err, notNoted)
		}
		if errors.Is(err, errOutdated) {
			return a.ends(outdated(&facts)), nil
		}
		return a, &actError{fmt.Errorf("create: %w", err)}
	}
	// Retrying means looking first, whatever the error itself thinks of it.
	return a, &RetryLaterError{After: jitter(w.Limits.StabilizeFor / 4), Cause: CauseRetry, Err: fmt.Errorf("create: %w", err)}
}

// reuseExisting returns what is there already: made by an earlier request for the
// same endpoint, or by anyone if this request has sent nothing.
func (w *Worker) reuseExisting(ctx context.Context, a acted, look approval.Look, blind bool) (there approval.Created, found bool, err error) {
	if a.other != nil && a.other.Created != nil {
		if there, found, err = w.madeByOther(ctx, a, look, blind); found || err != nil {
			return there, found, err
		}
	}
	sent := a.entry.Intent != nil && a.entry.Intent.Sends > 0
	if sent || blind || !alive(look.Existing) {
		return approval.Created{}, false, nil
	}
	there = *look.Existing
	there.Existing = true
	return there, true, nil
}

// madeByOther returns what the request that holds the lock made, unless it is gone.
// Where the product has no way to look, the connection on our own target shows it;
// otherwise the ledger is the only source.
func (w *Worker) madeByOther(ctx context.Context, a acted, look approval.Look, blind bool) (made approval.Created, found bool, err error) {
	made = *a.other.Created
	made.Existing = true
	if !blind {
		found = made.EndpointID == "" && len(look.Keys) > 0 || slices.Contains(look.Keys, made.EndpointID)
		return made, found, nil
	}
	connection, ours := w.connectionOf(a.entry.Request, made)
	if !ours {
		return made, true, nil
	}
	facts, err := w.Cloud.Facts(ctx, connection)
	if err != nil {
		return made, false, fmt.Errorf("look for the endpoint: %w", err)
	}
	switch facts.State {
	case approval.Absent, approval.Deleting, approval.Failed, approval.Rejected:
		return made, false, nil
	default:
	}
	made.State = facts.State
	return made, true, nil
}

func (w *Worker) noteIntent(ctx context.Context, t *task, entry *approval.Entry, intent approval.Intent) (*approval.Entry, error) {
	next, err := w.update(ctx, entry, func(e *approval.Entry) { e.Intent, e.Progress = &intent, t.stages.progress(approval.StageAct) })
	if err != nil {
		return entry, fmt.Errorf("note the intent: %w", err)
	}
	return next, nil
}

// noteCreated notes what the cloud answered to the creation of entry.
func (w *Worker) noteCreated(ctx context.Context, t *task, entry *approval.Entry, created approval.Created) (*approval.Entry, error) {
	at := w.Now()
	return w.noteAnswer(ctx, entry, &created, func(e *approval.Entry) {
		e.Intent.Created, e.ActedAt, e.Wait = &created, at, nil
		e.Progress = t.stages.progress(approval.StageConfirm)
	})
}

// noteUnsent notes that the last creation of entry was certainly not done.
func (w *Worker) noteUnsent(ctx context.Context, t *task, entry *approval.Entry) (*approval.Entry, error) {
	sends := entry.Intent.Sends - 1
	return w.noteAnswer(ctx, entry, nil, func(e *approval.Entry) {
		e.Intent.Sends, e.Progress = sends, t.stages.progress(approval.StageAct)
	})
}

// noteAnswer writes what came of a creation into the ledger, again and again until
// it is there or ctx ends: the cloud does not say it a second time. If another
// worker changed the entry meanwhile, answer is put into what that left, unless it
// has sent again or ended the request. It returns what the ledger holds, also with
// an error.
func (w *Worker) noteAnswer(ctx context.Context, entry *approval.Entry, created *approval.Created, answer func(*approval.Entry)) (*approval.Entry, error) {
	at := entry.Intent.At
	line := func(l *zerolog.Event) *zerolog.Event {
		l = l.Str("request", entry.Request.ID).Str("trace_id", entry.Request.TraceID()).Str("target", entry.Request.Target.Name)
		if created != nil {
			l = l.Str("created_endpoint", created.EndpointID).Str("created_id", created.ID).Str("created_domain", created.Domain)
		}
		return l
	}
	for wait, logged := minNoteWait, false; ; wait = min(2*wait, maxNoteWait) {
		next, err := w.update(ctx, entry, func(e *approval.Entry) {
			intent := *e.Intent
			e.Intent = &intent
			answer(e)
		})
		if err == nil {
			if logged {
				line(w.Log.Info()).Msg("the answer to a creation is in the ledger now")
			}
			return next, nil
		}
		if !logged {
			logged = true
			line(w.Log.Warn()).Err(err).Msg("the answer to a creation cannot be written to the ledger; it is kept and written when the broker is back")
		}
		if err := pause(ctx, wait); err != nil {
			line(w.Log.Error()).Err(err).Msg("the worker stops before the answer to a creation could be written to the ledger")
			return entry, fmt.Errorf("note the answer: %w", err)
		}
		current, readErr := w.Ledger.Get(ctx, entry.Request.ID)
		switch {
		case readErr != nil || current == nil || current.Revision == entry.Revision:
			continue
		case current.Result != nil || current.Intent == nil || !current.Intent.At.Equal(at) || current.Intent.Created != nil:
			return current, w.overtaken(current, created) // it was written after all, or another worker has gone on
		}
		entry = current
	}
}

// overtaken is an error unless current says what was to be noted.
func (w *Worker) overtaken(current *approval.Entry, created *approval.Created) error {
	if current.Result == nil && current.Intent != nil && current.Intent.Created != nil {
		return nil
	}
	if created != nil {
		w.Log.Error().Str("request", current.Request.ID).Str("trace_id", current.Request.TraceID()).Str("created_endpoint", created.EndpointID).Str("created_id", created.ID).
			Msg("another worker went on with the request before the answer to its creation could be written")
	}
	return waits(approval.StageAct, "overtaken", soon())
}

// followCreation waits until the endpoint shows, where it can show: among the
// connections of a target of ours, or in the product's own read-back.
func (w *Worker) followCreation(ctx, waiting context.Context, t *task, a acted) (*ending, error) {
	created := *a.entry.Intent.Created
	connection, ours := w.connectionOf(a.entry.Request, created)
	var why *approval.Failure
	var err error
	if ours {
		created.State, err = w.Cloud.Await(waiting, connection, approval.Accepted, time.Time{})
	} else {
		created, why, err = w.readBack(waiting, a.entry, created)
	}
	recordConfirm(waiting, t, err)
	end := &ending{outcome: approval.OutcomeCreated, created: &created, facts: approval.Facts{State: created.State}}
	switch {
	case err == nil && ours && created.State != approval.Accepted:
		end.outcome = confirmed(approval.Accepted, &approval.Facts{State: created.State}, true).outcome
		end.failure = notConnected(created.State, nil)
		return end, nil
	case err == nil && broken(created.State):
		end.outcome, end.failure = approval.OutcomeFailed, notConnected(created.State, why)
		return end, nil
	case err == nil:
		return end, nil
	case ctx.Err() != nil || waiting.Err() == nil:
		return nil, fmt.Errorf("follow: %w", err)
	case w.Now().Sub(a.entry.ActedAt) < w.confirmCreated(a.entry):
		return nil, waits(approval.StageConfirm, "not_confirmed_yet", followRetry)
	}
	if created.State == approval.Deleting {
		end.outcome, end.failure = approval.OutcomeFailed, notConnected(created.State, nil)
		return end, nil
	}
	// The API answered that it is done; that it cannot be seen is reported, not judged.
	return end, nil
}

// broken reports whether an endpoint in state s connects nothing.
func broken(s approval.State) bool { return s == approval.Failed || s == approval.Rejected }

// notConnected says that an endpoint was created and is of no use. why is what the
// cloud says of it, if it says anything.
func notConnected(s approval.State, why *approval.Failure) *approval.Failure {
	f := approval.Failure{Code: "not_connected", Text: fmt.Sprintf("The endpoint was created, but its connection ended %q.", s)}
	if why != nil {
		if why.Code != "" {
			f.Code = why.Code
		}
		if why.Text != "" {
			f.Text = strings.TrimSuffix(f.Text, ".") + ": " + why.Text
		}
	}
	return &f
}

// confirmCreated is how long a created endpoint is followed. One that must be
// approved by our own rules has its own request, which may be held for long.
func (w *Worker) confirmCreated(entry *approval.Entry) time.Duration {
	if _, ours := w.connectionOf(entry.Request, *entry.Intent.Created); ours {
		return w.Limits.ConfirmFor
	}
	return w.Limits.confirmReadBack()
}

// connectionOf returns the request that names the connection which created made
// on one of our own targets, if it did.
func (w *Worker) connectionOf(req approval.Request, created approval.Created) (approval.Request, bool) {
	if req.Creation.DataArtsInsight == nil || created.EndpointID == "" {
		return approval.Request{}, false
	}
	service := req.Creation.DataArtsInsight.ServiceID()
	for _, t := range w.Targets.Connections() {
		if t.Kind == approval.Service && t.ID == service || t.Kind == approval.Gateway && t.ServiceID == service {
			return approval.Request{ID: req.ID, Target: t, EndpointID: created.EndpointID}, true
		}
	}
	return approval.Request{}, false
}

// readBack looks until the product shows what it created in a state that is final,
// and returns created with what it shows. Where nobody can look, the answer of the
// API is all there is. why is what the cloud says of a state that is a failure.
func (w *Worker) readBack(ctx context.Context, entry *approval.Entry, created approval.Created) (_ approval.Created, why *approval.Failure, err error) {
	for wait := minLookWait; ; wait = min(2*wait, maxReadBackWait) {
		look, err := w.Creator.Look(ctx, entry.Request, entry.Intent.Before)
		switch {
		case err != nil && isBlind(err) || created.Existing:
			return created, nil, nil
		case err != nil:
			return created, nil, err
		case look.Created != nil:
			if created.EndpointID == "" {
				created.EndpointID = look.Created.EndpointID
			}
			created.State = look.Created.State
			if created.State == "" || created.State == approval.Accepted || broken(created.State) {
				return created, look.Failure, nil
			}
		}
		if err := pause(ctx, wait); err != nil {
			return created, nil, err
		}
	}
}

// unanswered says what an operator should check after an answer was lost.
func unanswered(r *approval.Request) *approval.Failure {
	text := "The answer to the creation was lost and cannot be read back. Check "
	switch r.Target.Kind {
	case approval.FunctionGraph:
		text += "the VPC endpoints of the project for one in this VPC and subnet"
	case approval.HSS:
		text += "the endpoint state of these servers in HSS"
	default:
		text += "the connections of the endpoint service for a new one of DataArts Insight"
	}
	return &approval.Failure{Code: "answer_lost", Text: text + ", then send a new request if it is not there."}
}
