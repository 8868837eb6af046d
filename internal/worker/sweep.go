package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
)

// SweepSource is the source of the events that the sweep makes.
const SweepSource = approval.SweepSource

// Lister lists what waits for a decision; *cloud.Client provides it.
type Lister interface {
	// Pending returns every connection of t in pendingAcceptance; with an error, some of
	// them.
	Pending(ctx context.Context, t approval.Target) ([]approval.Facts, error)
	// Accepted is Limiter.Accepted.
	Accepted(ctx context.Context, t approval.Target, domainID, endpointID string) (approval.AccountCount, error)
}

// Locks reads the ledger; *ledger.Ledger provides it.
type Locks interface {
	// Get returns nil if there is no entry.
	Get(ctx context.Context, requestID string) (*approval.Entry, error)
	// Lock returns the lock on a subject and whether there is one.
	Lock(ctx context.Context, subject string) (approval.Lock, bool, error)
	// Lease reports whether holder has name to itself for the next ttl.
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
}

// HeldResults reads the results; *events.Bus provides it.
type HeldResults interface {
	// Held calls each with the requests that ended with one of outcomes, in any order, from
	// behind a position; 0: all that are stored. It returns the position to continue from,
	// also with an error.
	Held(ctx context.Context, after uint64, each func(approval.Held), outcomes ...approval.Outcome) (last uint64, err error)
}

// Submitter publishes a request like any event; *events.Bus provides it. The same
// request submitted twice within minutes counts once.
type Submitter interface {
	Submit(ctx context.Context, r approval.Request) error
	// Waiting returns when the oldest request was stored that nobody has taken
	// yet; the zero time if there is none.
	Waiting(ctx context.Context) (time.Time, error)
}

// Sweep looks for pending connections that no event reported, for what was held and
// would be decided otherwise now, and for what was held and is pending no more. It
// submits them as requests and never acts itself.
type Sweep struct {
	Cloud      Lister
	Locks      Locks
	Results    HeldResults
	Reviews    SweptReviews
	Requests   Submitter
	Policy     Policy
	Metrics    *metrics.Metrics
	Log        zerolog.Logger
	Now        func() time.Time
	Targets    approval.Targets
	Interval   time.Duration
	InstanceID string          // names this worker among the replicas
	Trigger    <-chan struct{} // asks for a sweep, such as after a change of the policies
	// After is called after each sweep by this worker; nil: nothing is.
	After func(ctx context.Context)

	last      atomic.Int64         // when it last looked at every target, in Unix nanoseconds
	submitted map[string]submitted // by request id: what was submitted and is still pending
	held      heldIndex
}

// submitted is when a request was submitted, and how long to wait before the next time.
type submitted struct {
	at    time.Time
	pause time.Duration
}

// maxErrors is how many errors of one target say it all. Those that are of one
// connection only keep none from the rest.
const maxErrors = 10

// Run sweeps when it begins, at each interval, and when triggered, until ctx ends. A
// sweep serves all triggers that came before it began.
func (s *Sweep) Run(ctx context.Context) {
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	for {
		select {
		case <-s.Trigger:
		default:
		}
		if err := s.Once(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn().Err(err).Msg("sweep failed for some targets; it runs again at the next interval")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.Trigger:
		}
	}
}

// Once looks at every target, if this worker has the lease. What fails for one
// target does not keep it from the others.
func (s *Sweep) Once(ctx context.Context) error {
	// The lease ends before the next tick, so that any worker that is alive can take it.
	mine, err := s.Locks.Lease(ctx, "sweep", s.InstanceID, leaseFor(s.Interval))
	if err != nil {
		s.Metrics.Swept(false)
		return fmt.Errorf("acquire the lease of the sweep: %w", err)
	}
	if !mine {
		s.Metrics.WorkUnknown()
		return nil
	}
	since, err := s.Requests.Waiting(ctx)
	if err != nil {
		s.Metrics.Swept(false)
		return fmt.Errorf("read the age of the backlog: %w", err)
	}
	queue := backlog{since: since, waits: !since.IsZero()}
	if !queue.waits {
		queue.since = s.Now()
	}
	var errs []error
	before := s.submitted
	if before == nil {
		before = map[string]submitted{}
	}
	s.submitted = map[string]submitted{}
	for _, t := range s.Targets {
		look := s.target
		if t.Kind.Creates() {
			look = s.creations
		}
		if err := look(ctx, t, queue, before); err != nil {
			errs = append(errs, fmt.Errorf("target %s: %w", t.Name, err))
		}
	}
	if len(errs) > 0 { // what was not looked at is remembered
		maps.Copy(before, s.submitted)
		s.submitted = before
	}
	if s.After != nil {
		s.After(ctx)
	}
	s.Metrics.Swept(len(errs) == 0)
	s.last.Store(s.Now().UnixNano())
	return errors.Join(errs...)
}

// Last returns when this worker last swept; the zero time if it never did. It is
// safe for concurrent use.
func (s *Sweep) Last() time.Time {
	if n := s.last.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// backlog is what is known of the events that have not come.
type backlog struct {
	since time.Time // all that were stored before have come
	waits bool      // the one that was stored then waits; else none does
}

// target looks at the connections of t.
func (s *Sweep) target(ctx context.Context, t approval.Target, queue backlog, before map[string]submitted) error {
	begin := s.Now()
	pending, unlisted := s.Cloud.Pending(ctx, t)
	if unlisted != nil {
		unlisted = fmt.Errorf("list pending connections: %w", unlisted)
	}
	if unlisted != nil && len(pending) == 0 {
		return unlisted
	}
	work := metrics.Work{Pending: len(pending)}
	defer func() {
		if unlisted == nil {
			s.Metrics.WorkSeen(t.Name, work)
		}
	}()
	// What is held was recorded before the list was read, or its event is under way.
	if err := s.held.read(ctx, s.Results); err != nil {
		work.HeldUnknown = true
		return err
	}
	var failed sweepErrors
	accepted, shown := map[string]int{}, map[string]approval.Facts{}
	for _, facts := range pending {
		shown[(&approval.Request{Target: t, EndpointID: facts.EndpointID}).Subject()] = facts
		work.OldestPending = earlier(work.OldestPending, facts.CreatedAt)
		if failed.enough() {
			continue
		}
		request, cause, err := s.toSubmit(ctx, t, facts, queue, accepted, &work)
		work.HeldUnknown = work.HeldUnknown || err != nil
		if err == nil && cause != "" {
			err = s.submit(ctx, request, cause, before[request.ID])
		}
		failed.add("endpoint "+facts.EndpointID, err)
	}
	if failed.enough() || unlisted != nil { // what is not shown may be pending
		return errors.Join(failed.join(), unlisted)
	}
	for subject := range s.held.of(t.Name) {
		if _, ok := shown[subject]; ok {
			continue
		}
		failed.add(subject, s.settledElsewhere(ctx, t, subject, begin, before))
		if failed.enough() {
			return failed.join()
		}
	}
	return errors.Join(failed.join(), s.reviews(ctx, t, shown, begin, before))
}

// settledElsewhere submits a connection that was held and is pending no more: a
// person settled it, or its owner deleted it. The request finds out which. A list
// that was read before it was held, or shortly after, does not count.
func (s *Sweep) settledElsewhere(ctx context.Context, t approval.Target, subject string, listed time.Time, before map[string]submitted) error {
	if listed.Sub(s.held.targets[t.Name][subject].At) < eventGrace {
		return nil
	}
	stands, err := s.standing(ctx, t, subject)
	switch {
	case err != nil || stands.entry != nil && stands.Outcome == "": // under way
		return err
	case stands.entry == nil || stands.Outcome != approval.OutcomeHeld:
		s.held.forget(t.Name, subject)
		return nil
	}
	again := s.request(stands.entry.Request, stands.RequestID)
	return s.submit(ctx, again, "settled", before[again.ID])
}

// creations submits the creations of t that were held and would be decided
// otherwise now. Nothing in the cloud shows them; the results do.
func (s *Sweep) creations(ctx context.Context, t approval.Target, _ backlog, before map[string]submitted) error {
	begin := s.Now()
	work := metrics.Work{}
	defer func() { s.Metrics.WorkSeen(t.Name, work) }()
	if err := s.held.read(ctx, s.Results); err != nil {
		work.HeldUnknown = true
		return err
	}
	var failed sweepErrors
	for subject := range s.held.of(t.Name) {
		err := s.creation(ctx, t, subject, before, &work)
		work.HeldUnknown = work.HeldUnknown || err != nil
		failed.add(subject, err)
		if failed.enough() {
			return failed.join()
		}
	}
	return errors.Join(failed.join(), s.reviews(ctx, t, nil, begin, before))
}

func (s *Sweep) creation(ctx context.Context, t approval.Target, subject string, before map[string]submitted, work *metrics.Work) error {
	stands, err := s.standing(ctx, t, subject)
	switch {
	case err != nil || stands.entry != nil && stands.Outcome == "": // under way
		return err
	case stands.entry == nil || stands.Outcome != approval.OutcomeHeld && stands.Outcome != approval.OutcomeIgnored:
		s.held.forget(t.Name, subject)
		return nil
	}
	addHeld(work, stands.entry)
	changed, err := s.changed(ctx, stands.entry, approval.Facts{}, nil)
	if err != nil || !changed {
		return err
	}
	again := s.request(stands.entry.Request, stands.RequestID)
	return s.submit(ctx, again, "redecide", before[again.ID])
}

// sweepErrors are the errors of one target. The first maxErrors say it all.
type sweepErrors struct {
	errs        []error
	consecutive int
}

// add keeps the error that what met, if there is one.
func (e *sweepErrors) add(what string, err error) {
	if err == nil {
		e.consecutive = 0
		return
	}
	if len(e.errs) < maxErrors {
		e.errs = append(e.errs, fmt.Errorf("%s: %w", what, err))
	}
	if mayPass(err) {
		e.consecutive++
	}
}

// enough reports whether the ledger or the bus is away: the rest would say the same.
func (e *sweepErrors) enough() bool { return e.consecutive >= maxErrors }

func (e *sweepErrors) join() error { return errors.Join(e.errs...) }

// submit submits a request. One that was submitted before, and of which nothing has
// come, is submitted less and less often.
func (s *Sweep) submit(ctx context.Context, r approval.Request, cause string, last submitted) error {
	s.submitted[r.ID] = last
	now := s.Now()
	if now.Sub(last.at) < last.pause*9/10 {
		return nil
	}
	err := s.Requests.Submit(ctx, r)
	if e, ok := errors.AsType[interface {
		error
		Poison() bool
	}](err); ok && e.Poison() {
		// It crashed workers. A replay of its dead letter is the only way back.
		s.submitted[r.ID] = submitted{at: now, pause: maxResubmit}
		return nil
	}
	if err != nil {
		return err
	}
	s.submitted[r.ID] = submitted{at: now, pause: min(max(2*last.pause, s.Interval), maxResubmit)}
	s.Metrics.SweepFound(r.Target.Name, cause)
	s.Log.Info().Str("target", r.Target.Name).Str("endpoint", r.EndpointID).Str("request", r.ID).
		Str("cause", cause).Msg("sweep submitted a request")
	return nil
}

// toSubmit returns the request to submit for a pending connection and why. There is
// no cause if a request for it is under way, or if its event may be among those that
// wait. accepted holds what was counted so far.
func (s *Sweep) toSubmit(ctx context.Context, t approval.Target, facts approval.Facts, queue backlog, accepted map[string]int, work *metrics.Work) (approval.Request, string, error) {
	fresh := s.request(approval.Request{Target: t, EndpointID: facts.EndpointID}, t.Name+"/"+facts.EndpointID)
	// What is younger than an event that waits has its own event behind that one. A read of
	// the ledger for each would cost as much as the queue is long.
	if _, held := s.held.targets[t.Name][fresh.Subject()]; !held && queue.waits && facts.CreatedAt.After(queue.since) {
		return fresh, "", nil
	}
	lock, err := s.standing(ctx, t, fresh.Subject())
	entry := lock.entry
	if err != nil {
		return fresh, "", err
	}
	if lock.RequestID == "" {
		if !facts.CreatedAt.IsZero() && queue.since.Sub(facts.CreatedAt) < min(eventGrace, s.Interval) {
			return fresh, "", nil
		}
		return fresh, "missed", nil
	}
	if entry == nil {
		return fresh, "missed", nil
	}
	again := s.request(entry.Request, lock.RequestID)
	age := s.Now().Sub(lock.At)
	switch {
	case lock.Outcome != "" && entry.Decision.Facts.Differs(facts):
		// It has only its id in common with what was decided.
		if age < listLag {
			return fresh, "", nil
		}
		return s.request(fresh, lock.RequestID), "missed", nil
	case lock.Done():
		return fresh, "", nil // the list shows the past, or cannot tell it from another
	case lock.Outcome == "" && lock.Verdict.Acts():
		if age < stalledAfter {
			return fresh, "", nil
		}
		return entry.Request, "stalled", nil
	case !lock.Verdict.Acts() || lock.Outcome == approval.OutcomeHeld:
		addHeld(work, entry)
		changed, err := s.changed(ctx, entry, facts, accepted)
		if err != nil || !changed {
			return fresh, "", err
		}
		return again, "redecide", nil
	case age >= retryFailedAfter:
		return again, "failed", nil
	}
	return fresh, "", nil
}

// changed reports whether entry, which was held or ignored, would be decided
// otherwise now. What a rule with a limit would accept is counted first, else a
// connection held at the limit would be decided again by every sweep.
func (s *Sweep) changed(ctx context.Context, entry *approval.Entry, facts approval.Facts, accepted map[string]int) (bool, error) {
	in := &approval.Input{Request: entry.Request, Facts: facts, Now: s.Now()}
	d := judge(s.Policy, in)
	if d.NeedsCount {
		n, counted := accepted[facts.DomainID]
		if !counted {
			count, err := s.Cloud.Accepted(ctx, entry.Request.Target, facts.DomainID, entry.Request.EndpointID)
			if err != nil {
				return false, fmt.Errorf("count the accepted connections: %w", err)
			}
			n = count.Most()
			accepted[facts.DomainID] = n
		}
		in.Facts.Accepted = approval.Counted(n)
		d = judge(s.Policy, in)
	}
	was := entry.Decision.Verdict
	if was.Acts() { // it was held in spite of its decision
		was = approval.Hold
	}
	return d.Verdict != was, nil
}

// addHeld adds a request to the work list if it ended as held: a person has to look.
func addHeld(work *metrics.Work, entry *approval.Entry) {
	if entry.Result != nil && entry.Result.Outcome == approval.OutcomeHeld {
		work.Held++
		work.OldestHeld = earlier(work.OldestHeld, entry.Result.At)
	}
}

// earlier is the earlier of two times; one that is zero is not known.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// request makes r an event of the sweep. The id is made from what it follows,
// so that the same finding is the same request on every replica.
func (s *Sweep) request(r approval.Request, follows string) approval.Request {
	r.Source, r.EventID, r.Time = SweepSource, follows, s.Now().UTC()
	r.ID = approval.RequestID(r.Source, r.EventID)
	return r
}
