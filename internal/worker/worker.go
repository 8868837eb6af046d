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
	// Act returns nil once the cloud took v, which must be Accept or Reject.
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
	// cloud has no way to look it is an error that is not retryable.
	Look(ctx context.Context, req approval.Request, before []string) (approval.Look, error)
	// Create sends the request once. An error whose OutcomeUnknown is true
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
	// Record keeps d unless an earlier decision on the request stands, and
	// returns the one that stands; the claim is another request's on the same
	// subject, if it bars this one from acting.
	Record(ctx context.Context, req *approval.Request, d *approval.Decision) (*approval.Entry, *approval.Claim, error)
	// Update stores e, and sets its revision, unless it was changed since it was
	// read.
	Update(ctx context.Context, e *approval.Entry) error
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
	MaxAge     time.Duration // from the event until a request that meets only errors fails
	Visible    time.Duration // from the event until an endpoint that does not show is gone
	ConfirmFor time.Duration // from the act until a state that does not show is a failure
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

// IDReusedError says that an event has the source and id of an earlier one about
// something else. Neither a repeat nor a request of its own, it can only be laid
// aside: else whoever comes first with an id could keep another's request out.
type IDReusedError struct {
	RequestID  string
	First, Now string // subjects
}

func (e *IDReusedError) Error() string {
	return fmt.Sprintf("request %s was about %s and is now about %s: source and id of an event must not be used again", e.RequestID, e.First, e.Now)
}

// Handle settles one delivery. It returns nil once the result is published, an
// *IDReusedError for what can never be settled, and else a *LaterError.
func (w *Worker) Handle(ctx context.Context, d approval.Delivery) error {
	release, wait := w.Shares.take(d.Request.Target.Name)
	if release == nil {
		return &LaterError{After: wait, Cause: CauseBusy}
	}
	defer release()

	watch := newStopwatch(w.Now, &d)
	result, err := w.settle(ctx, &d, watch)
	if reused, ok := errors.AsType[*IDReusedError](err); ok {
		return reused
	}
	if err != nil {
		later := w.again(ctx, d.Attempt, err)
		w.Log.Debug().Str("request", d.Request.ID).Str("target", d.Request.Target.Name).Int("attempt", d.Attempt).
			Float64("after_seconds", later.After.Seconds()).Err(err).Msg("given back")
		return later
	}
	w.finished(result)
	return nil
}

// settle is the story of a request: facts, decide, record, act, follow, publish.
// The caller acknowledges what settle returned without an error.
//
// Hundreds of requests wait below it at once, and what is passed by value here
// is on the stack of each.
func (w *Worker) settle(ctx context.Context, d *approval.Delivery, watch *stopwatch) (*approval.Result, error) {
	entry, err := w.recall(ctx, d)
	if err != nil {
		return nil, err
	}
	if entry.Result == nil {
		end, err := w.carryOut(ctx, d, entry, watch)
		if err != nil {
			end, err = w.endOf(ctx, d, entry, err)
		}
		if err != nil {
			return nil, err
		}
		if entry.Result == nil {
			if err := w.conclude(ctx, d, entry, end, watch); err != nil {
				return nil, fmt.Errorf("record the result: %w", err)
			}
		}
	}
	if err := w.Results.Publish(ctx, *entry.Result); err != nil {
		return nil, fmt.Errorf("publish the result: %w", err)
	}
	return entry.Result, nil
}

// recall returns what the ledger knows of a request; an empty entry if nothing.
func (w *Worker) recall(ctx context.Context, d *approval.Delivery) (*approval.Entry, error) {
	entry, err := w.Ledger.Get(ctx, d.Request.ID)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	if entry == nil {
		return &approval.Entry{}, nil
	}
	return entry, sameSubject(entry, &d.Request)
}

// carryOut reads the facts, decides, records, acts and follows. It leaves in
// entry what the ledger holds, and returns how the request ended, unless entry
// has a result by then.
func (w *Worker) carryOut(ctx context.Context, d *approval.Delivery, entry *approval.Entry, watch *stopwatch) (*ending, error) {
	facts, err := w.Cloud.Facts(ctx, d.Request)
	watch.lap(approval.StageVerify)
	if err != nil {
		return nil, fmt.Errorf("facts: %w", err)
	}
	if end, err := w.visible(ctx, d, entry, &facts); end != nil || err != nil {
		return end, err
	}
	other, err := w.decideOnce(ctx, d, entry, &facts)
	watch.lap(approval.StageDecide)
	switch {
	case err != nil:
		return nil, err
	case entry.Result != nil:
		return nil, nil // another worker ended it meanwhile, and that stands
	case d.Request.Creates():
		return w.create(ctx, d, entry, other, watch)
	}
	return w.connect(ctx, entry, other, &facts, watch)
}

// decideOnce decides a request that is not decided yet, and leaves in entry the
// decision that stands.
func (w *Worker) decideOnce(ctx context.Context, d *approval.Delivery, entry *approval.Entry, facts *approval.Facts) (*approval.Claim, error) {
	decision, fresh := &entry.Decision, entry.Decision.ID == ""
	if fresh {
		var err error
		if decision, err = w.decide(ctx, &d.Request, facts); err != nil {
			return nil, fmt.Errorf("decide: %w", err)
		}
	}
	other, err := w.record(ctx, &d.Request, decision, entry)
	if err != nil {
		return nil, fmt.Errorf("record the decision: %w", err)
	}
	if fresh && entry.Result == nil {
		w.Metrics.Decided(d.Request, entry.Decision)
	}
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
	decision := w.Policy.Evaluate(in)
	if !decision.NeedsCount || facts.State != approval.Pending {
		return &decision, nil
	}
	counted, err := w.Places.Accepted(ctx, req.Target, facts.DomainID, req.EndpointID)
	if err != nil {
		return nil, fmt.Errorf("count the accepted connections: %w", err)
	}
	in.Facts.Accepted = approval.Counted(counted)
	for decision = w.Policy.Evaluate(in); decision.Limit > 0; decision = w.Policy.Evaluate(in) {
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
			return w.gone(ctx, &d.Request, facts)
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
	return nil, &LaterError{After: growing(d.Attempt, firstLook, longestLook), Cause: CauseRetry}
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
func (w *Worker) gone(ctx context.Context, req *approval.Request, facts *approval.Facts) (*ending, error) {
	state, err := w.lookAgain(ctx, req)
	if err == nil && (state == approval.Absent || state == approval.Deleting) {
		return &ending{outcome: approval.OutcomeGone, facts: *facts}, nil
	}
	return nil, &LaterError{After: spread(time.Second), Cause: CauseRetry, Err: err}
}

// lookAgain returns the state of a connection that did not show as pending, once
// two reads agree that it is not: one look may be at a stale list.
func (w *Worker) lookAgain(ctx context.Context, req *approval.Request) (approval.State, error) {
	waiting, cancel := context.WithTimeout(ctx, w.Limits.HoldSlot)
	defer cancel()
	return w.Cloud.Await(waiting, *req, approval.Pending, time.Time{})
}

// connect carries a decision on a connection out and follows the connection.
func (w *Worker) connect(ctx context.Context, entry *approval.Entry, other *approval.Claim, facts *approval.Facts, watch *stopwatch) (*ending, error) {
	verdict := entry.Decision.Verdict
	want := verdict.Goal()
	switch {
	case verdict == approval.Ignore:
		return &ending{outcome: approval.OutcomeIgnored, facts: *facts}, nil
	case entry.ActedAt.IsZero() && facts.State != approval.Pending:
		return w.settledBefore(ctx, &entry.Request, want, facts)
	case verdict == approval.Hold:
		return &ending{outcome: approval.OutcomeHeld, facts: *facts}, nil
	case other != nil && other.Verdict != verdict:
		return &ending{outcome: approval.OutcomeSuperseded, facts: *facts}, nil
	}

	if entry.ActedAt.IsZero() && other == nil {
		if end := w.outdated(entry, facts); end != nil {
			return end, nil
		}
		err := w.act(ctx, entry, facts)
		watch.lap(approval.StageAct)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", verdict, err)
		}
	}
	return w.follow(ctx, entry, other, facts, want, watch)
}

// settledBefore is the end of a request that found its connection settled. That
// someone settled it otherwise takes a second look. If that does not show at all
// what was there just now, one of the looks was at a stale list, and the request
// comes again; what does not show for as long as visible waits is gone.
func (w *Worker) settledBefore(ctx context.Context, req *approval.Request, want approval.State, facts *approval.Facts) (*ending, error) {
	end := settledAlready(want, facts)
	if end.outcome != approval.OutcomeSuperseded {
		return end, nil
	}
	state, err := w.lookAgain(ctx, req)
	if err != nil || state == approval.Pending || state == approval.Absent {
		return nil, &LaterError{After: spread(time.Second), Cause: CauseRetry, Err: err}
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

// actWithin bounds how long an act goes by the same facts. It is longer than one
// call takes.
const actWithin = 45 * time.Second

// act calls the cloud and notes that it did. A worker that was stopped in
// between may be late, so facts that have aged are read again; unless they still
// say pending, nothing is done and the request comes again to be looked at anew:
// one look may be at a stale list.
func (w *Worker) act(ctx context.Context, entry *approval.Entry, facts *approval.Facts) error {
	if w.Now().Sub(facts.ReadAt) > w.Limits.FactsFor {
		facts, err := w.Cloud.Facts(ctx, entry.Request)
		if err != nil {
			return fmt.Errorf("facts: %w", err)
		}
		if facts.State != approval.Pending {
			return &LaterError{After: spread(time.Second), Cause: CauseRetry}
		}
	}
	// The facts age while the act waits for its turn, or the process is stopped.
	acting, cancel := context.WithTimeout(ctx, actWithin)
	defer cancel()
	if err := w.Cloud.Act(acting, entry.Request, entry.Decision.Verdict); err != nil {
		return err
	}
	entry.ActedAt = w.Now()
	if err := w.Ledger.Update(ctx, entry); err != nil {
		return fmt.Errorf("note the act: %w", err)
	}
	return nil
}

// follow waits for the wanted state, in hand for a while and then given back. If
// other is set, the act is that request's, and it is not late before it is made.
func (w *Worker) follow(ctx context.Context, entry *approval.Entry, other *approval.Claim, facts *approval.Facts, want approval.State, watch *stopwatch) (*ending, error) {
	since := entry.ActedAt
	if other != nil {
		since = other.At // it has acted, or is about to
	}
	w.Metrics.Waiting(1)
	defer w.Metrics.Waiting(-1)
	waiting, cancel := context.WithTimeout(ctx, w.Limits.HoldSlot)
	defer cancel()
	state, err := w.Cloud.Await(waiting, entry.Request, want, since)
	watch.lap(approval.StageConfirm)
	facts.State = state
	if err == nil {
		if state == approval.Failed {
			w.readReason(ctx, &entry.Request, facts)
		}
		return confirmed(want, facts), nil
	}
	if waiting.Err() == nil || ctx.Err() != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	if (other == nil || other.Settled()) && w.Now().Sub(since) >= w.Limits.ConfirmFor {
		return &ending{outcome: approval.OutcomeFailed, facts: *facts, failure: notConfirmed(want)}, nil
	}
	return nil, &LaterError{After: 10 * time.Second, Cause: CauseRetry}
}

func notConfirmed(want approval.State) *approval.Failure {
	return &approval.Failure{
		Code: "not_confirmed",
		Text: fmt.Sprintf("The cloud took the call, but the connection did not become %s in time; look at it in the console.", want),
	}
}

// confirmed is the end of a connection that was followed.
func confirmed(want approval.State, facts *approval.Facts) *ending {
	if facts.State == approval.Failed {
		return &ending{outcome: approval.OutcomeFailed, facts: *facts, failure: connectionFailed(facts, "The cloud took the call, and then the connection failed")}
	}
	return settledAlready(want, facts)
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
