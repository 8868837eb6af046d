// Package worker is what happens to a request: facts, decide, record, act,
// follow, publish. Whoever wants to know opens settle and reads it.
//
// It knows the cloud, the policies, the ledger and the bus by the small
// interfaces below, and does nothing that they cannot repeat: a request that is
// delivered again goes on from what the ledger and the cloud say.
package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// Cloud knows connections and acts on them; *cloud.Client provides it. Calls
// retry passing faults themselves, and may be repeated and made at once.
type Cloud interface {
	// Facts is never older than the call. A connection that the cloud does not
	// show is no error but State Absent.
	Facts(ctx context.Context, req approval.Request) (approval.Facts, error)
	// Act returns nil once the cloud took v, which must be Accept or Reject. It
	// asks approval.Permit right before each call that it sends. An error whose
	// OutcomeUnknown is true leaves open whether any of them was carried out.
	Act(ctx context.Context, req approval.Request, v approval.Verdict) error
	// Await returns the state that the connection ended in: want, or one that
	// contradicts it and is not stale. A ctx that ends first is an error.
	Await(ctx context.Context, req approval.Request, want approval.State, actedAt time.Time) (approval.State, error)
}

// Places keeps limits; *cloud.Client and *ledger.Ledger provide its halves.
type Places interface {
	// Accepted returns how many accepted connections the account domainID, which
	// was judged, has on t, endpointID aside. If endpointID does not show, or
	// shows another account, that is an error: it cannot be counted.
	Accepted(ctx context.Context, t approval.Target, domainID, endpointID string) (int, error)
	// Reserve reports whether req's may be one of at most limit accepted
	// connections of domain on its target. Asked again it says the same, and
	// requests for one connection share its place.
	Reserve(ctx context.Context, req approval.Request, domain string, limit, counted int) (bool, error)
}

// Creator makes endpoints; *cloud.Client provides it.
type Creator interface {
	// Look returns what is there, and what of it is not among before. Where the
	// cloud has no way to look it is an error whose NoReadBack is true.
	Look(ctx context.Context, req approval.Request, before []string) (approval.Look, error)
	// Create sends the request once, after asking approval.Permit. An error whose OutcomeUnknown is true
	// leaves open whether it was carried out; any other means it was not.
	Create(ctx context.Context, req approval.Request) (approval.Created, error)
}

// Policy decides, purely; *policy.Source provides it.
type Policy interface {
	Evaluate(in *approval.Input) approval.Decision
}

// Ledger remembers; *ledger.Ledger provides it. What a method has returned
// without an error is stored.
type Ledger interface {
	// Get returns nil if there is no entry.
	Get(ctx context.Context, requestID string) (*approval.Entry, error)
	// Record keeps d unless the request is decided already, and returns the entry;
	// the claim is another request's on the same subject, if it bars this one from
	// acting.
	Record(ctx context.Context, req *approval.Request, d *approval.Decision) (*approval.Entry, *approval.Claim, error)
	// Update stores e, and sets its revision, unless it was changed since it was
	// read.
	Update(ctx context.Context, e *approval.Entry) error
	// Redecide puts d in the place of e's decision, of which nothing was done, and
	// into e, unless e was changed since it was read.
	Redecide(ctx context.Context, e *approval.Entry, d *approval.Decision) (*approval.Claim, error)
	// Note is Update, also for an entry that is not stored yet.
	Note(ctx context.Context, e *approval.Entry) error
	// TakeOver makes e's request the holder of the claim from, unless that was
	// changed since it was read.
	TakeOver(ctx context.Context, e *approval.Entry, from *approval.Claim) error
}

// Results tells the world; *events.Bus provides it. A result that was published
// before is not published again.
type Results interface {
	Publish(ctx context.Context, r approval.Result) error
}

// Limits bound how long a request may take.
type Limits struct {
	MaxAge     time.Duration // from the event until a request that meets only errors ends
	Visible    time.Duration // from the event until an endpoint that does not show is gone
	ConfirmFor time.Duration // from the act until it is unknown what came of it
	HoldSlot   time.Duration // longest wait in hand; longer ones are given back
	Settle     time.Duration // from when a creation cannot be under way any more until one that does not show is taken as not done
	FactsFor   time.Duration // age from which facts are read again before the act
}

// DefaultLimits suits the real cloud.
func DefaultLimits() Limits {
	return Limits{
		MaxAge:     24 * time.Hour,
		Visible:    2 * time.Minute,
		ConfirmFor: time.Hour,
		HoldSlot:   20 * time.Second,
		Settle:     30 * time.Second,
		FactsFor:   5 * time.Second,
	}
}

// Worker settles requests. Its fields are set once; Handle may be called at once.
type Worker struct {
	Cloud   Cloud
	Creator Creator
	Places  Places
	Policy  Policy
	Ledger  Ledger
	Results Results
	Metrics *metrics.Metrics
	Log     zerolog.Logger
	Now     func() time.Time
	Limits  Limits
	Started time.Time // when this worker began; time in which none was there does not count for MaxAge
	Shares  *Shares
	Targets approval.Targets
	Version string
}

// Handle settles one delivery. It returns nil once the result is published, an
// *IDReusedError or a *TooOldError for what can never be settled, and else a
// *LaterError.
func (w *Worker) Handle(ctx context.Context, d approval.Delivery) error {
	release, wait := w.Shares.take(d.Request.Target.Name)
	if release == nil {
		return &LaterError{After: wait, Cause: CauseBusy}
	}
	defer release()

	result, err := w.settle(ctx, &d)
	if err != nil {
		return err
	}
	w.finished(result)
	return nil
}

// settle is the story of a request: facts, decide, record, act, follow, publish.
// The caller acknowledges what settle returned without an error.
//
// Hundreds of requests wait below it at once, and what is passed by value here
// is on the stack of each.
func (w *Worker) settle(ctx context.Context, d *approval.Delivery) (*approval.Result, error) {
	entry, err := w.recall(ctx, d)
	if neverSettled(err) {
		return nil, err
	}
	if err != nil {
		entry = &approval.Entry{Request: d.Request}
	}
	watch := newStopwatch(w.Now, d, entry)
	if err == nil && entry.Result == nil {
		err = w.toItsEnd(ctx, d, entry, watch)
	}
	if err == nil {
		if err = w.Results.Publish(ctx, *entry.Result); err != nil {
			err = fmt.Errorf("publish the result: %w", err)
		}
	}
	switch {
	case err == nil:
		return entry.Result, nil
	case neverSettled(err):
		return nil, err
	}
	later := w.again(ctx, d.Attempt, err)
	w.noteWait(ctx, d, entry, later, watch)
	return nil, later
}

// toItsEnd carries a request out and writes its result into entry and the ledger.
func (w *Worker) toItsEnd(ctx context.Context, d *approval.Delivery, entry *approval.Entry, watch *stopwatch) error {
	end, err := w.carryOut(ctx, d, entry, watch)
	if err != nil {
		end, err = w.endOf(ctx, d, entry, err)
	}
	if err != nil || entry.Result != nil {
		return err
	}
	if err := w.conclude(ctx, d, entry, end, watch); err != nil {
		entry.Result = nil
		return fmt.Errorf("record the result: %w", err)
	}
	return nil
}

// recall returns what the ledger knows of a request; an empty entry if nothing.
func (w *Worker) recall(ctx context.Context, d *approval.Delivery) (*approval.Entry, error) {
	entry, err := w.Ledger.Get(ctx, d.Request.ID)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	if entry == nil {
		return &approval.Entry{Request: d.Request}, w.remembered(d)
	}
	return entry, sameSubject(entry, &d.Request)
}

// remembered is an error if the ledger may have forgotten what was done by d. The
// bus vouches for when it took the event. What the event says of its own time can
// only keep a creation from being sent, which shows nowhere that it was done before.
func (w *Worker) remembered(d *approval.Delivery) error {
	switch {
	case w.age(d) > approval.LedgerMemory:
		return &TooOldError{RequestID: d.Request.ID}
	case d.Request.Creates() && !d.Request.Time.IsZero() && w.Now().Sub(d.Request.Time) > approval.LedgerMemory:
		return &TooOldError{RequestID: d.Request.ID, Field: "time"}
	}
	return nil
}

// carryOut reads the facts, decides, records, acts and follows. It leaves in
// entry what the ledger holds, and returns how the request ended, unless entry
// has a result by then.
func (w *Worker) carryOut(ctx context.Context, d *approval.Delivery, entry *approval.Entry, watch *stopwatch) (*ending, error) {
	facts, err := w.look(ctx, d.Request)
	watch.lap(approval.StageVerify, err)
	if err != nil {
		return nil, err
	}
	if end, err := w.visible(ctx, d, entry, &facts.Facts); end != nil || err != nil {
		return end, err
	}
	other, err := w.decideOnce(ctx, d, entry, facts)
	watch.lap(approval.StageDecide, err)
	switch {
	case err != nil:
		return nil, err
	case entry.Result != nil:
		return nil, nil // another worker ended it meanwhile, and that stands
	case d.Request.Creates():
		return w.create(ctx, d, entry, other, watch)
	}
	return w.connect(ctx, d, entry, other, facts, watch)
}

// decideOnce decides a request that is not decided yet, or whose decision was made
// on another connection and of which nothing was done, and leaves in entry the
// decision that stands.
func (w *Worker) decideOnce(ctx context.Context, d *approval.Delivery, entry *approval.Entry, facts *seen) (*approval.Claim, error) {
	w.clearDoubt(entry, facts)
	decision, fresh := &entry.Decision, !entry.Decided()
	again := !fresh && entry.Undone() && !d.Request.Creates() && facts.State == approval.Pending && !entry.Decision.Facts.Same(facts.Facts)
	if again {
		return w.decideAgain(ctx, entry, facts)
	}
	if fresh {
		var err error
		if decision, err = w.decide(ctx, &d.Request, &facts.Facts); err != nil {
			return nil, fmt.Errorf("decide: %w", err)
		}
	}
	other, err := w.record(ctx, &d.Request, decision, entry)
	if err != nil {
		return nil, fmt.Errorf("record the decision: %w", err)
	}
	w.clearDoubt(entry, facts)
	if fresh && entry.Result == nil {
		w.Metrics.Decided(d.Request, entry.Decision)
	}
	return other, nil
}

// clearDoubt takes an act as not done whose connection is pending still after all
// the time in which the act could be under way and a list show the past.
func (w *Worker) clearDoubt(entry *approval.Entry, facts *seen) {
	if facts.State == approval.Pending && entry.ActedAt.IsZero() && !w.inDoubt(entry) {
		entry.SentAt = time.Time{}
	}
}

// decideAgain decides a request anew on facts, in the place of a decision of which
// nothing was done.
func (w *Worker) decideAgain(ctx context.Context, entry *approval.Entry, facts *seen) (*approval.Claim, error) {
	decision, err := w.decide(ctx, &entry.Request, &facts.Facts)
	if err != nil {
		return nil, fmt.Errorf("decide again: %w", err)
	}
	other, err := w.Ledger.Redecide(ctx, entry, decision)
	if err != nil {
		return nil, fmt.Errorf("record the new decision: %w", err)
	}
	w.Metrics.Decided(entry.Request, entry.Decision)
	return other, nil
}

// record is Ledger.Record, which finds another's entry if two events with the
// same id came at once. It leaves in entry what the ledger holds.
func (w *Worker) record(ctx context.Context, req *approval.Request, d *approval.Decision, entry *approval.Entry) (*approval.Claim, error) {
	recorded, other, err := w.Ledger.Record(ctx, req, d)
	if err != nil {
		return nil, err
	}
	if err := sameSubject(recorded, req); err != nil {
		return nil, err
	}
	*entry = *recorded
	return other, nil
}

// sameSubject reports if entry, which has the id of req, is about something else.
func sameSubject(entry *approval.Entry, req *approval.Request) error {
	if entry.Request.Subject() == req.Subject() {
		return nil
	}
	return &IDReusedError{RequestID: req.ID, First: entry.Request.Subject(), Now: req.Subject()}
}

// decide asks the policies. A rule with a limit accepts only with a place that is
// reserved; if there is none, the policies are asked again with all places taken.
func (w *Worker) decide(ctx context.Context, req *approval.Request, facts *approval.Facts) (*approval.Decision, error) {
	in := &approval.Input{Request: *req, Facts: *facts, Now: w.Now()}
	decision := judge(w.Policy, in)
	if !decision.NeedsCount {
		return &decision, nil
	}
	counted, err := w.Places.Accepted(ctx, req.Target, facts.DomainID, req.EndpointID)
	if err != nil {
		return nil, fmt.Errorf("count the accepted connections: %w", err)
	}
	in.Facts.Accepted = approval.Counted(counted)
	for decision = judge(w.Policy, in); decision.Limit > 0 && facts.State == approval.Pending; decision = judge(w.Policy, in) {
		ok, err := w.Places.Reserve(ctx, *req, facts.DomainID, decision.Limit, counted)
		if err != nil {
			return nil, fmt.Errorf("reserve a place: %w", err)
		}
		if ok {
			return &decision, nil
		}
		in.Facts.Accepted = approval.Counted(decision.Limit) // the list does not show all of them yet
	}
	return &decision, nil
}

// visible reports how a request ends whose endpoint does not show, or asks to
// look again for as long as it may still appear.
func (w *Worker) visible(ctx context.Context, d *approval.Delivery, entry *approval.Entry, facts *approval.Facts) (*ending, error) {
	if d.Request.Creates() || !entry.ActedAt.IsZero() {
		return nil, nil
	}
	switch facts.State {
	case approval.Pending, approval.Accepted, approval.Rejected:
		return nil, nil
	case approval.Failed:
		return &ending{outcome: approval.OutcomeFailed, facts: *facts, failure: connectionFailed(facts, "The cloud reports that the endpoint failed; it can only be deleted and created again")}, nil
	case approval.Absent, approval.Deleting:
		// A clock that is set ahead must not end what was hardly looked for.
		if w.age(d) >= w.Limits.Visible && lookedFor(d.Attempt) >= w.Limits.Visible/2 {
			return w.gone(ctx, entry, facts)
		}
	case approval.Creating:
	}
	// Creating precedes pendingAcceptance, and a state that is not documented is
	// never final.
	if w.overdue(d) {
		return &ending{outcome: approval.OutcomeFailed, facts: *facts, failure: &approval.Failure{
			Code: "not_pending", Text: "The connection never came to wait for acceptance.",
		}}, nil
	}
	return nil, waits(approval.StageVerify, "not_visible", growing(d.Attempt, firstLook, longestLook))
}

// The waits between looks for an endpoint that does not show.
const (
	firstLook   = time.Second
	longestLook = 15 * time.Second
)

// lookedFor is how long an endpoint has been looked for at least by this
// delivery, counted by the waits between the deliveries and not by a clock.
func lookedFor(attempt int) time.Duration {
	const enough = time.Hour
	sum, wait := time.Duration(0), firstLook
	for n := 1; n < attempt && sum < enough; n++ {
		sum += wait
		wait = min(2*wait, longestLook)
	}
	return sum
}

// gone reports the end of a request whose endpoint should show by now and does
// not, unless a second look finds it.
func (w *Worker) gone(ctx context.Context, entry *approval.Entry, facts *approval.Facts) (*ending, error) {
	state, err := w.lookAgain(ctx, entry)
	if err == nil && (state == approval.Absent || state == approval.Deleting) {
		return &ending{outcome: approval.OutcomeGone, facts: *facts}, nil
	}
	return nil, comeSoon(ctx, err)
}

// comeSoon has a request come again whose second look agrees with nothing, or met err.
func comeSoon(ctx context.Context, err error) *LaterError {
	later := waits(approval.StageVerify, "looks_differ", spread(time.Second))
	if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		later.Err = err
	}
	return later
}

// lookAgain returns the state of a connection that did not show as pending, once
// two reads agree that it is not: one look may be at a stale list, the more so
// after an act that may have been done.
func (w *Worker) lookAgain(ctx context.Context, entry *approval.Entry) (approval.State, error) {
	waiting, cancel := context.WithTimeout(ctx, w.Limits.HoldSlot)
	defer cancel()
	return w.Cloud.Await(waiting, entry.Request, approval.Pending, entry.SentAt)
}

// mostDecisions bounds how often one delivery decides a connection.
const mostDecisions = 3

// connect carries a decision on a connection out and follows the connection.
func (w *Worker) connect(ctx context.Context, d *approval.Delivery, entry *approval.Entry, other *approval.Claim, facts *seen, watch *stopwatch) (*ending, error) {
	for range mostDecisions {
		end, again, err := w.carryOutDecision(ctx, d, entry, other, facts, watch)
		if end != nil || err != nil || !again {
			return end, err
		}
		if other, err = w.decideAgain(ctx, entry, facts); err != nil {
			return nil, err
		}
	}
	return nil, waits(approval.StageDecide, "connection_changes", spread(time.Second))
}

// carryOutDecision carries the decision of entry out, once. again says that the
// connection is not the one that was judged, and nothing was done to either.
func (w *Worker) carryOutDecision(ctx context.Context, d *approval.Delivery, entry *approval.Entry, other *approval.Claim, facts *seen, watch *stopwatch) (end *ending, again bool, err error) {
	verdict := entry.Decision.Verdict
	switch {
	case verdict == approval.Ignore:
		return &ending{outcome: approval.OutcomeIgnored, facts: facts.Facts}, false, nil
	case entry.ActedAt.IsZero() && facts.State != approval.Pending:
		end, err := w.settledBefore(ctx, entry, &facts.Facts)
		return end, false, err
	case verdict == approval.Hold:
		return &ending{outcome: approval.OutcomeHeld, facts: facts.Facts}, false, nil
	}
	if end, err := w.replaced(ctx, entry, &other, facts, watch); end != nil || err != nil {
		return end, false, err
	}
	if other != nil && other.Verdict != verdict {
		return &ending{outcome: approval.OutcomeSuperseded, facts: facts.Facts}, false, nil
	}
	if entry.ActedAt.IsZero() && other == nil {
		if end, again, err := w.act(ctx, entry, facts, watch); end != nil || again || err != nil {
			return end, again, err
		}
	}
	end, err = w.follow(ctx, d, entry, other, &facts.Facts, watch)
	return end, false, err
}

// betweenLooks is the time between two looks that must agree that a connection is
// another one than that which was settled.
const betweenLooks = 5 * time.Second

// replaced deals with a connection that is pending although an act settled one with
// its endpoint id. It is another connection if the account, the number or the time
// at which it was made are not the same in two looks, and not just after the act;
// else the list shows the past. Of another one the request of *other has no say any
// more: *other becomes nil. If it was entry's own act, that connection is gone.
func (w *Worker) replaced(ctx context.Context, entry *approval.Entry, other **approval.Claim, facts *seen, watch *stopwatch) (*ending, error) {
	own := *other == nil && !entry.ActedAt.IsZero()
	if facts.State != approval.Pending || !own && (*other == nil || !(*other).Settled()) {
		return nil, nil
	}
	settled, actedAt := entry, entry.ActedAt
	if !own {
		var err error
		if settled, err = w.Ledger.Get(ctx, (*other).RequestID); err != nil {
			return nil, fmt.Errorf("read the request that settled the connection: %w", err)
		}
		if settled == nil {
			return nil, nil
		}
		actedAt = (*other).At
	}
	if !settled.Decision.Facts.Differs(facts.Facts) {
		return nil, nil
	}
	if since := w.Now().Sub(actedAt); since < lag {
		return nil, waits(approval.StageVerify, "just_settled", spread(max(lag-since, time.Second)))
	}
	if err := pause(ctx, betweenLooks); err != nil {
		return nil, err
	}
	second, err := w.look(ctx, entry.Request)
	watch.lap(approval.StageVerify, err)
	if err != nil {
		return nil, err
	}
	if second.State != approval.Pending || !second.Same(facts.Facts) {
		return nil, waits(approval.StageVerify, "looks_differ", spread(time.Second))
	}
	if own {
		return &ending{outcome: approval.OutcomeGone, facts: second.Facts}, nil
	}
	if err := w.Ledger.TakeOver(ctx, entry, *other); err != nil {
		return nil, fmt.Errorf("take the claim over: %w", err)
	}
	*facts, *other = *second, nil
	return nil, nil
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

// settledBefore is the end of a request that found its connection settled. That
// someone settled it otherwise takes a second look. If that does not show at all
// what was there just now, one of the looks was at a stale list, and the request
// comes again; what does not show for as long as visible waits is gone.
func (w *Worker) settledBefore(ctx context.Context, entry *approval.Entry, facts *approval.Facts) (*ending, error) {
	want := entry.Decision.Verdict.Goal()
	end := settledAlready(want, facts)
	if end.outcome != approval.OutcomeSuperseded {
		return end, nil
	}
	state, err := w.lookAgain(ctx, entry)
	if err != nil || state == approval.Pending || state == approval.Absent {
		return nil, comeSoon(ctx, err)
	}
	facts.State = state
	return settledAlready(want, facts), nil
}

// settledAlready is the end of a connection that was not pending any more: what
// the verdict wants is done, and what it does not want is not taken back.
func settledAlready(want approval.State, facts *approval.Facts) *ending {
	switch {
	case facts.State == want && want == approval.Accepted:
		return &ending{outcome: approval.OutcomeAccepted, facts: *facts}
	case facts.State == want && want == approval.Rejected:
		return &ending{outcome: approval.OutcomeRejected, facts: *facts}
	case !facts.Found() || facts.State == approval.Deleting:
		return &ending{outcome: approval.OutcomeGone, facts: *facts}
	}
	return &ending{outcome: approval.OutcomeSuperseded, facts: *facts}
}

// follow waits for the wanted state, in hand for a while and then given back. If
// other is set, the act is that request's, and it is not late before it is made.
func (w *Worker) follow(ctx context.Context, d *approval.Delivery, entry *approval.Entry, other *approval.Claim, facts *approval.Facts, watch *stopwatch) (*ending, error) {
	want := entry.Decision.Verdict.Goal()
	since, from := entry.ActedAt, entry.ActedAt
	if other != nil {
		since = other.At // it has acted, or is about to
		if from = since; from.Before(d.PublishedAt) {
			from = d.PublishedAt // what settled it long ago says nothing of this request's time
		}
	}
	w.Metrics.Waiting(1)
	defer w.Metrics.Waiting(-1)
	waiting, cancel := context.WithTimeout(ctx, w.Limits.HoldSlot)
	defer cancel()
	state, err := w.Cloud.Await(waiting, entry.Request, want, since)
	if err != nil && waiting.Err() != nil {
		watch.lap(approval.StageConfirm, nil)
	} else {
		watch.lap(approval.StageConfirm, err)
	}
	if state != approval.Absent || err == nil {
		facts.State = state
	}
	if err == nil {
		if state == approval.Failed {
			w.readReason(ctx, &entry.Request, facts)
		}
		return confirmed(want, facts, other == nil), nil
	}
	if waiting.Err() == nil || ctx.Err() != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	if (other == nil || other.Settled()) && w.Now().Sub(from) >= w.Limits.ConfirmFor {
		return notConfirmed(entry, facts), nil
	}
	return nil, waits(approval.StageConfirm, "not_confirmed_yet", 10*time.Second)
}

// notConfirmed is the end of a connection whose wanted state does not show in time.
func notConfirmed(entry *approval.Entry, facts *approval.Facts) *ending {
	text := "The cloud took the call, but the connection was not seen to become %s in time; look at it in the console."
	switch {
	case !entry.ActedAt.IsZero():
	case !entry.SentAt.IsZero():
		text = "The call was sent and not answered, and the connection was not seen to become %s in time; look at it in the console."
	default:
		text = "An earlier request settled this connection, and the cloud does not show it as %s; nothing was called for this one. Look at it in the console."
	}
	return &ending{outcome: approval.OutcomeUnknown, facts: *facts, failure: &approval.Failure{
		Code: "not_confirmed", Text: fmt.Sprintf(text, entry.Decision.Verdict.Goal()),
	}}
}

// confirmed is the end of a connection that was followed; acted says that the act
// was this request's.
func confirmed(want approval.State, facts *approval.Facts, acted bool) *ending {
	if facts.State != approval.Failed {
		return settledAlready(want, facts)
	}
	text := "The cloud took the call, and then the connection failed"
	if !acted {
		text = "The connection failed; nothing was called for this request"
	}
	return &ending{outcome: approval.OutcomeFailed, facts: *facts, failure: connectionFailed(facts, text)}
}

// connectionFailed is text, with the cloud's own code and reason if it gives them.
func connectionFailed(facts *approval.Facts, text string) *approval.Failure {
	f := &approval.Failure{Code: "connection_failed", Text: text + "."}
	if facts.ErrorCode != "" {
		f.Code = facts.ErrorCode
	}
	if facts.ErrorText != "" {
		f.Text = text + ": " + facts.ErrorText
	}
	return f
}

// readReason adds to facts why the connection failed. That it failed is known; a
// reason that cannot be read is left out.
func (w *Worker) readReason(ctx context.Context, req *approval.Request, facts *approval.Facts) {
	now, err := w.Cloud.Facts(ctx, *req)
	if err == nil && now.State == approval.Failed {
		facts.ErrorCode, facts.ErrorText = now.ErrorCode, now.ErrorText
	}
}
