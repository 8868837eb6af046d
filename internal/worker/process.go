package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// process carries a request out, one step after the other. Each step returns what
// it learned, and changes nothing that it was given. Whatever a step meets, and
// however the request ends, conclude writes it down. stored says that the ledger may
// hold something of the request; if not, and it does, process returns errStored.
//
// The caller acknowledges what process returned without an error. Hundreds of
// requests wait in the steps at the same time, so large values are passed by
// reference: what is passed by value is on the stack of each.
func (w *Worker) process(ctx context.Context, d *approval.Delivery, stored bool) (*approval.Result, error) {
	entry, err := w.recall(w.stage(ctx, "recall"), d, stored) // what the ledger knows
	t := w.newTask(d, entry, stored)
	switch {
	case err != nil:
		return nil, w.retryLater(ctx, t, entry, err)
	case entry.Result != nil:
		return w.publish(ctx, t, entry) // it ended in an earlier delivery
	}
	verified, err := w.verify(w.stage(ctx, "verify"), t, entry) // the cloud's own list; waits until it shows the endpoint
	entry = verified.entry
	if err != nil || verified.end != nil {
		return w.conclude(ctx, t, entry, verified.end, err)
	}
	for facts, n := verified.facts, 0; n < maxDecisions; n++ {
		ruling, err := w.decide(w.stage(ctx, "decide"), t, entry, facts) // pure, plus a reservation if a rule has a limit
		if err != nil || ruling.end != nil {
			return w.conclude(ctx, t, entry, ruling.end, err) // an error, or nothing to act on
		}
		recorded, err := w.record(w.stage(ctx, "record"), t, ruling, facts) // the first decision stands, unless nothing was done by it
		if err != nil {
			return w.conclude(ctx, t, recorded.entry, nil, err)
		}
		acted, err := w.act(w.stage(ctx, "act"), t, recorded, facts) // accept, reject or create; checks facts and policies again first
		if err != nil || acted.end != nil {
			return w.conclude(ctx, t, acted.entry, acted.end, err)
		}
		if !acted.redecide {
			followed, err := w.follow(w.stage(ctx, "follow"), t, acted) // until the wanted state shows
			return w.conclude(ctx, t, followed.entry, followed.end, err)
		}
		entry, facts = acted.entry, acted.facts // the endpoint id names another connection now
	}
	return w.conclude(ctx, t, entry, nil, waits(approval.StageDecide, "connection_changes", soon()))
}

// task is one delivery of a request, and where its time goes.
type task struct {
	*approval.Delivery
	stages *stages
	stored bool // the ledger was read
}

func (w *Worker) newTask(d *approval.Delivery, entry *approval.Entry, stored bool) *task {
	return &task{Delivery: d, stages: newStages(w.Now, d, entry), stored: stored}
}

// snapshot is facts and when they were read, by this worker's own clock.
type snapshot struct {
	approval.Facts
	at        time.Time
	countedAt time.Time // of Facts.Accepted, if that is known
}

// verified is what the cloud shows of a request.
type verified struct {
	entry *approval.Entry
	facts *snapshot
	end   *ending // of a request that ended by it; nil: it goes on
}

// ruling is what was decided, or what stands in the ledger.
type ruling struct {
	entry *approval.Entry // with the decision
	fresh bool            // the decision was made now and is not stored; else it is the one in the ledger
	end   *ending         // of a request that there is nothing to act on for; nil: record it and act
}

// recorded is what the ledger holds after the decision.
type recorded struct {
	entry *approval.Entry // set also with an error
	other *approval.Lock  // of another request that acts on the same subject; nil: this one may act
	noted time.Time       // since when the ledger says that the act may have been sent, which entry does not say; zero: never
}

// acted is how far a request has come.
type acted struct {
	entry    *approval.Entry // set also with an error
	other    *approval.Lock  // of another request that acts instead; nil: this one has acted
	facts    *snapshot       // the last that were seen
	end      *ending         // of a request that ended by it; nil: follow what was done
	redecide bool            // nothing was done, for the connection is not the one that was judged
	noted    time.Time       // as in recorded
	unsaved  bool            // the ledger does not say yet that the cloud took the act
	unsent   bool            // the ledger may have the note of a call that was certainly not sent
}

// followed is what came of an act.
type followed struct {
	entry *approval.Entry // set also with an error
	end   *ending
}

// ends returns a with the end of the request.
func (a acted) ends(end *ending) acted {
	a.end = end
	return a
}

// recall returns what the ledger knows of a request; an entry that is not stored
// if that is nothing, also with an error. A first delivery needs no read: that there is
// no entry shows when the first one is created.
func (w *Worker) recall(ctx context.Context, d *approval.Delivery, stored bool) (*approval.Entry, error) {
	unknown := &approval.Entry{Request: d.Request}
	if !stored && w.tooOld(d) == nil {
		return unknown, nil
	}
	entry, err := w.Ledger.Get(ctx, d.Request.ID)
	switch {
	case err != nil:
		return unknown, fmt.Errorf("read the ledger: %w", err)
	case entry == nil:
		return unknown, w.tooOld(d)
	}
	if err := sameSubject(entry, &d.Request); err != nil {
		return unknown, err
	}
	return entry, nil
}

// errStored means that the ledger holds something of a request that was taken for
// new. It has to be read first.
var errStored = errors.New("the ledger has an entry of the request")

// tooOld is an error if the ledger may have forgotten what was done by d. The
// bus vouches for when it took the event. What the event says of its own time can
// only keep a creation from being sent, which shows nowhere that it was done before.
func (w *Worker) tooOld(d *approval.Delivery) error {
	switch {
	case w.age(d) > w.Limits.LedgerMaxAge:
		return &TooOldError{RequestID: d.Request.ID, kept: w.Limits.LedgerMaxAge}
	case d.Request.Creates() && !d.Request.Time.IsZero() && w.Now().Sub(d.Request.Time) > w.Limits.LedgerMaxAge:
		return &TooOldError{RequestID: d.Request.ID, Field: "time", kept: w.Limits.LedgerMaxAge}
	}
	return nil
}

// sameSubject reports if entry, which has the id of req, is about something else.
func sameSubject(entry *approval.Entry, req *approval.Request) error {
	if entry.Request.Subject() == req.Subject() {
		return nil
	}
	return &IDReusedError{RequestID: req.ID, First: entry.Request.Subject(), Now: req.Subject()}
}

// act does what was decided, or finds that it was done or must not be done.
func (w *Worker) act(ctx context.Context, t *task, r recorded, facts *snapshot) (acted, error) {
	a := acted{entry: r.entry, other: r.other, facts: facts, noted: r.noted}
	if t.Request.Creates() {
		return w.actOnCreation(ctx, t, a)
	}
	a.unsent = !a.noted.IsZero()
	a, err := w.actOnConnection(ctx, t, a)
	if err != nil && a.unsent {
		err = &unsentError{err}
	}
	return a, err
}

// follow waits until the cloud shows what act did.
func (w *Worker) follow(ctx context.Context, t *task, a acted) (followed, error) {
	w.Metrics.Waiting(1)
	defer w.Metrics.Waiting(-1)
	waiting, cancel := context.WithTimeout(ctx, w.Limits.SlotTimeout)
	defer cancel()
	if t.Request.Creates() {
		end, err := w.followCreation(ctx, waiting, t, a)
		return followed{a.entry, end}, err
	}
	return w.followConnection(ctx, waiting, t, a)
}

// update stores a copy of entry with a change, and returns the copy; on an error,
// entry.
func (w *Worker) update(ctx context.Context, entry *approval.Entry, change func(*approval.Entry)) (*approval.Entry, error) {
	next := *entry
	change(&next)
	if err := w.Ledger.Put(ctx, &next); err != nil {
		return entry, err
	}
	return &next, nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
