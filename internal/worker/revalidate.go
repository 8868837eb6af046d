package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// seen is facts and when they were asked for, by this worker's own clock.
type seen struct {
	approval.Facts
	at time.Time
}

func (w *Worker) look(ctx context.Context, req approval.Request) (*seen, error) {
	at := w.Now()
	facts, err := w.Cloud.Facts(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("facts: %w", err)
	}
	return &seen{facts, at}, nil
}

// judge asks the policies. Nothing is done to a connection that could not be told
// from another one with its id.
func judge(p Policy, in *approval.Input) approval.Decision {
	d := p.Evaluate(in)
	if in.Request.Creates() || in.Facts.State != approval.Pending || in.Facts.Identified() || !d.Verdict.Acts() && !d.NeedsCount {
		return d
	}
	d.Verdict, d.Policy, d.Rule, d.Contact, d.Limit, d.NeedsCount = approval.Hold, "", "", "", 0, false
	d.Reasons = []approval.Reason{{
		Code: approval.ReasonFactMissing, Text: "The cloud does not show the account and the number of this endpoint, so nothing is done.",
	}}
	return d
}

var (
	// errOutdated keeps an act from being sent that the policies would not decide any more.
	errOutdated = errors.New("the policies would decide it otherwise by now")
	// errAged keeps an act from being sent by facts that have aged meanwhile.
	errAged = errors.New("the facts have aged while the act waited for its turn")
)

// stands reports whether the policies still say what was decided, of these facts
// and at this time. An accept within a limit stands for as long as the place that
// was reserved for it is within the limit.
func (w *Worker) stands(entry *approval.Entry, facts approval.Facts) bool {
	now := judge(w.Policy, &approval.Input{Request: entry.Request, Facts: facts, Now: w.Now()})
	then := &entry.Decision
	return now.Verdict == then.Verdict && (now.Limit == 0 || then.Limit > 0 && now.Limit >= then.Limit)
}

// outdated is the end of a request that would be decided otherwise by now, and of
// which nothing was done.
func outdated(facts approval.Facts) *ending {
	return &ending{outcome: approval.OutcomeHeld, facts: facts, failure: &approval.Failure{
		Code: "decision_outdated",
		Text: "It could not be carried out at first, and the policies would decide it otherwise by now; nothing was done.",
	}}
}

// actWithin bounds how long an act goes by the same facts while it waits for its
// turn at the cloud. It is longer than one call takes.
const actWithin = 45 * time.Second

// lag is how long a list may show the past.
const lag = 30 * time.Second

// inDoubt reports whether an act of entry that may have been done may not show yet.
func (w *Worker) inDoubt(entry *approval.Entry) bool {
	return entry.ActedAt.IsZero() && !entry.SentAt.IsZero() && w.Now().Sub(entry.SentAt) < actWithin+lag
}

// mostLooks bounds how often one delivery reads the facts again for an act.
const mostLooks = 3

// act calls the cloud and notes that it did. Right before, the facts are read
// again if they have aged, and must be pending still and of the connection that
// was judged; and the policies must still say what was decided, with nothing but
// the call itself in between. again says that it was decided anew instead.
func (w *Worker) act(ctx context.Context, entry *approval.Entry, facts *seen, watch *stopwatch) (end *ending, again bool, err error) {
	for range mostLooks {
		if w.Now().Sub(facts.at) > w.Limits.FactsFor {
			if err := w.refresh(ctx, entry, facts, watch); err != nil {
				return nil, false, err
			}
		}
		if !entry.Decision.Facts.Same(facts.Facts) {
			again, err := w.otherConnection(entry)
			return nil, again, err
		}
		if err := w.recount(ctx, entry, facts, watch); err != nil {
			return nil, false, err
		}
		judged := facts.Facts
		if !judged.Accepted.Known {
			judged.Accepted = entry.Decision.Facts.Accepted
		}
		err := w.sendAct(ctx, entry, judged, facts.at, watch)
		watch.lap(approval.StageAct, err)
		switch {
		case err == nil:
			return nil, false, nil
		case errors.Is(err, errAged):
			continue
		case errors.Is(err, errOutdated) && !entry.SentAt.IsZero():
			// It may have been sent before, and not show yet.
			return nil, false, waits(approval.StageConfirm, "maybe_done", spread(lag/4))
		case errors.Is(err, errOutdated):
			return outdated(judged), false, nil
		case isGone(err):
			// Only a list can tell that it is.
			if end, _ := w.gone(ctx, entry, &facts.Facts); end != nil {
				return end, false, nil
			}
		}
		return nil, false, err
	}
	return nil, false, waits(approval.StageAct, "facts_aged", spread(time.Second))
}

// otherConnection reports that a request must be decided anew, because its
// connection is not the one that was judged. What may have been done by the
// decision must show first.
func (w *Worker) otherConnection(entry *approval.Entry) (again bool, err error) {
	if entry.Undone() {
		return true, nil
	}
	return false, waits(approval.StageConfirm, "maybe_done", spread(lag/4))
}

// refresh reads the facts again. Unless they say pending, the request comes again
// to be looked at anew: one look may be at a stale list.
func (w *Worker) refresh(ctx context.Context, entry *approval.Entry, facts *seen, watch *stopwatch) error {
	fresh, err := w.look(ctx, entry.Request)
	watch.lap(approval.StageVerify, err)
	switch {
	case err != nil:
		return err
	case fresh.State != approval.Pending:
		return waits(approval.StageVerify, "not_pending", spread(time.Second))
	}
	*facts = *fresh
	return nil
}

// recount counts again for an accept within a limit that was decided a while ago:
// people accept connections, too.
func (w *Worker) recount(ctx context.Context, entry *approval.Entry, facts *seen, watch *stopwatch) error {
	if entry.Decision.Limit == 0 || facts.Accepted.Known || w.Now().Sub(entry.Decision.At) <= w.Limits.FactsFor {
		return nil
	}
	n, err := w.Places.Accepted(ctx, entry.Request.Target, facts.DomainID, entry.Request.EndpointID)
	watch.lap(approval.StageVerify, err)
	if err != nil {
		return fmt.Errorf("count the accepted connections: %w", err)
	}
	facts.Accepted = approval.Counted(n)
	return nil
}

// sendAct makes the call. That it is about to be sent is noted first: whoever finds
// the note and no more knows that it may have been done.
func (w *Worker) sendAct(ctx context.Context, entry *approval.Entry, judged approval.Facts, readAt time.Time, watch *stopwatch) error {
	if !w.stands(entry, judged) {
		return errOutdated
	}
	before, asked, sends := entry.SentAt, 0, 0
	permit := func() error {
		if asked++; asked == 1 {
			entry.SentAt, entry.Progress = w.Now(), watch.during(approval.StageAct)
			if err := w.Ledger.Update(ctx, entry); err != nil {
				entry.SentAt = before
				return fmt.Errorf("note that it is about to be sent: %w", err)
			}
		}
		age, most := w.Now().Sub(readAt), actWithin
		if asked > 1 { // it is repeated, and there was time to read
			most = max(w.Limits.FactsFor, 0)
		}
		switch {
		case age > most:
			return errAged
		case !w.stands(entry, judged):
			return errOutdated
		}
		sends++
		return nil
	}
	acting, cancel := context.WithTimeout(approval.WithPermit(ctx, permit), actWithin)
	defer cancel()
	err := w.Cloud.Act(acting, entry.Request, entry.Decision.Verdict)
	if err == nil {
		entry.ActedAt, entry.Wait = w.Now(), nil
		watch.lap(approval.StageAct, nil)
		entry.Progress = watch.progress(approval.StageConfirm)
		if err := w.Ledger.Update(ctx, entry); err != nil {
			return fmt.Errorf("note the act: %w", err)
		}
		return nil
	}
	if sends == 0 || !maybeDone(err) {
		watch.unsent = watch.unsent || asked > 0
		entry.SentAt = before
	}
	return &actError{fmt.Errorf("%s: %w", entry.Decision.Verdict, err)}
}
