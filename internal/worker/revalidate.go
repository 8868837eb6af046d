package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

var (
	// errOutdated keeps an act from being sent that the policies would not decide any more.
	errOutdated = errors.New("the policies would decide otherwise now")
	// errAged keeps an act from being sent by facts that have aged meanwhile.
	errAged = errors.New("the facts have aged while the act waited for its turn")
)

// stands reports whether the policies still say what was decided, of these facts
// and at this time. An accept within a limit stands for as long as the place that
// was reserved for it is within the limit.
func (w *Worker) stands(entry *approval.Entry, facts *approval.Facts) bool {
	then := &entry.Decision
	now := judge(w.Policy, &approval.Input{Request: entry.Request, Facts: *facts, Now: w.Now(), Reviews: then.Reviews})
	return now.Verdict == then.Verdict && (now.Limit == 0 || then.Limit > 0 && now.Limit >= then.Limit)
}

// outdated is the end of a request that would be decided otherwise by now, and of
// which nothing was done.
func outdated(facts *approval.Facts) *ending {
	return &ending{outcome: approval.OutcomeHeld, facts: *facts, failure: &approval.Failure{
		Code: "decision_outdated",
		Text: "It could not be carried out at first, and the policies would decide it otherwise by now; nothing was done.",
	}}
}

// acceptOrReject calls the cloud. Right before, the facts are
// read again if they have aged, and must be pending still and of the connection that
// was judged; and the policies must still say what was decided, with nothing but
// the call itself in between.
func (w *Worker) acceptOrReject(ctx context.Context, t *task, a acted) (acted, error) {
	if wait := w.othersTurn(a); wait > 0 {
		return a, waits(approval.StageAct, "sent_elsewhere", jitter(wait))
	}
	for range maxLooks {
		facts, err := w.revalidate(ctx, t, a)
		if err != nil {
			return a, err
		}
		if a.facts = facts; !a.entry.Decision.Facts.Same(facts.Facts) {
			a.redecide = true
			return a, nil
		}
		s, err := w.send(ctx, t, a)
		t.stages.record(approval.StageAct, err)
		a.entry, a.unsent = s.entry, a.unsent || s.unsent
		if !errors.Is(err, errAged) {
			return w.afterSend(ctx, a, err)
		}
	}
	return a, waits(approval.StageAct, "facts_aged", soon())
}

// revalidate returns the facts for an act, read and counted again if they have aged. If
// they are not of the connection that was judged, what may have been done by the decision
// must show first.
//
// It counts first: that reads the whole list, and the facts must be young after it.
func (w *Worker) revalidate(ctx context.Context, t *task, a acted) (*snapshot, error) {
	counted, err := w.recount(ctx, t, a.entry, a.facts)
	if err != nil {
		return a.facts, err
	}
	facts, err := w.refresh(ctx, t, a.entry, counted)
	if err != nil {
		return facts, err
	}
	if !a.entry.Decision.Facts.Same(facts.Facts) && !a.entry.Undone() {
		return facts, maybeDoneWait()
	}
	return facts, nil
}

// judged returns the facts that the policies judge again right before the act: if the
// connections of the account were not counted again, the count of the decision stands.
func (a acted) judged() *snapshot {
	judged := *a.facts
	if !judged.Accepted.Known {
		judged.Accepted, judged.countedAt = a.entry.Decision.Facts.Accepted, a.entry.Decision.At
	}
	return &judged
}

// afterSend draws the conclusions from what send returned.
func (w *Worker) afterSend(ctx context.Context, a acted, err error) (acted, error) {
	switch {
	case err == nil:
		a.unsaved = true
	case errors.Is(err, errOutdated) && !a.entry.SentAt.IsZero():
		return a, maybeDoneWait()
	case errors.Is(err, errOutdated):
		return a.ends(outdated(&a.judged().Facts)), nil
	case isGone(err):
		// Only a list can tell that it is.
		if end, absent := w.confirmAbsent(ctx, a.entry, &a.facts.Facts); absent == nil {
			return a.ends(end), nil
		}
	}
	return a, err
}

// othersTurn is for how long another worker may send the act by the note that it wrote
// with the decision. It has not given the request back, or the entry would say so.
func (w *Worker) othersTurn(a acted) time.Duration {
	if !a.noted.IsZero() || a.entry.SentAt.IsZero() || a.entry.Wait != nil {
		return 0
	}
	age := w.Now().Sub(a.entry.SentAt)
	if age < 0 || age > w.Limits.FactsMaxAge { // or one of the clocks is wrong
		return 0
	}
	return w.Limits.FactsMaxAge - age + minRetryWait
}

// maybeDoneWait has a request come again whose act may have been done, and does not
// show yet.
func maybeDoneWait() *RetryLaterError {
	return waits(approval.StageConfirm, "maybe_done", jitter(listLag/4))
}

// refresh returns facts, read again if they have aged. Unless they say pending, the
// request comes again and is verified again: one read may be of a stale list.
func (w *Worker) refresh(ctx context.Context, t *task, entry *approval.Entry, facts *snapshot) (*snapshot, error) {
	if w.Now().Sub(facts.at) <= w.Limits.FactsMaxAge {
		return facts, nil
	}
	fresh, err := w.readFacts(ctx, entry.Request)
	t.stages.record(approval.StageVerify, err)
	switch {
	case err != nil:
		return facts, err
	case fresh.State != approval.Pending:
		return facts, waits(approval.StageVerify, "not_pending", soon())
	}
	if facts.Same(fresh.Facts) {
		fresh.Accepted, fresh.countedAt = facts.Accepted, facts.countedAt
	}
	return fresh, nil
}

// recount returns facts, counted again for an accept within a limit that was
// counted a while ago: people accept connections, too.
func (w *Worker) recount(ctx context.Context, t *task, entry *approval.Entry, facts *snapshot) (*snapshot, error) {
	if !w.countAged(entry, facts) {
		return facts, nil
	}
	n, err := w.Limiter.Accepted(ctx, entry.Request.Target, facts.DomainID, entry.Request.EndpointID)
	t.stages.record(approval.StageVerify, err)
	switch limit := entry.Decision.Limit; {
	case err != nil:
		return facts, fmt.Errorf("count the accepted connections: %w", err)
	case n.Accepted < limit && n.Most() >= limit:
		return facts, waits(approval.StageVerify, "count_unclear", soon())
	}
	counted := *facts
	counted.Accepted, counted.countedAt = approval.Counted(n.Accepted), w.Now()
	return &counted, nil
}

// countAged reports whether the connections of the account have to be counted again before
// entry's accept, which a rule with a limit decided.
func (w *Worker) countAged(entry *approval.Entry, facts *snapshot) bool {
	at := entry.Decision.At
	if facts.Accepted.Known {
		at = facts.countedAt
	}
	return entry.Decision.Limit > 0 && w.Now().Sub(at) > w.Limits.FactsMaxAge
}

// sent is what came of a call that accepts or rejects.
type sent struct {
	entry  *approval.Entry // set also with an error
	unsent bool            // the ledger has the note that it is sent, and it was certainly not
}

// send makes the call. The ledger holds before that it is about to be sent: a worker
// that finds only this note knows that the call may have been made. The note that was
// written with the decision counts for as long as facts do; then it is written again,
// which is refused if another worker has gone on with the request meanwhile.
func (w *Worker) send(ctx context.Context, t *task, a acted) (sent, error) {
	entry, judged := a.entry, a.judged()
	if !w.stands(entry, &judged.Facts) {
		return sent{entry: entry}, errOutdated
	}
	noted, asked, sends := entry, 0, 0
	check := func() error {
		switch {
		case !w.current(entry, judged):
			return errAged
		case !w.stands(entry, &judged.Facts):
			return errOutdated
		}
		return w.mayAct(entry.Request.Target.Name)
	}
	within := actWithin
	recent := !a.noted.IsZero() && w.Now().Sub(a.noted) <= w.Limits.FactsMaxAge
	if recent {
		within -= max(w.Now().Sub(a.noted), 0)
	}
	permit := func() (err error) {
		if err := check(); err != nil {
			return err
		}
		asked++
		switch at := w.Now(); {
		case asked > 1:
		case recent && at.Sub(a.noted) <= w.Limits.FactsMaxAge:
			next := *entry
			next.SentAt, noted = a.noted, &next
		default:
			noted, err = w.update(ctx, entry, func(e *approval.Entry) { e.SentAt, e.Progress = at, t.stages.during(approval.StageAct) })
			if err != nil {
				return fmt.Errorf("note that it is about to be sent: %w", err)
			}
			if err := check(); err != nil { // the note took time
				return err
			}
		}
		sends++
		return nil
	}
	acting, cancel := context.WithTimeout(approval.WithPermit(ctx, permit), within)
	defer cancel()
	err := w.Cloud.Act(acting, &entry.Request, entry.Decision.Verdict)
	if err == nil {
		done := *noted
		done.ActedAt, done.Wait = w.Now(), nil
		return sent{entry: &done}, nil
	}
	s := sent{entry: noted}
	if sends == 0 || !maybeDone(err) {
		s.unsent = asked > 0
		void := *noted
		void.SentAt = entry.SentAt
		s.entry = &void
	}
	return s, &actError{fmt.Errorf("%s: %w", entry.Decision.Verdict, err)}
}

// current reports whether the connection is known to be the one that was judged, and
// pending, by a read of at most Limits.FactsMaxAge ago. An act may wait longer than that
// for its turn; reads for other requests of the target count, so that this costs none.
func (w *Worker) current(entry *approval.Entry, judged *snapshot) bool {
	if w.countAged(entry, judged) {
		return false
	}
	now, most := w.Now(), max(w.Limits.FactsMaxAge, 0)
	if now.Sub(judged.at) <= most {
		return true
	}
	latest, ok := w.Cloud.LatestPending(entry.Request)
	age := now.Sub(latest.ReadAt)
	return ok && age >= 0 && age <= most && entry.Decision.Facts.Same(latest)
}
