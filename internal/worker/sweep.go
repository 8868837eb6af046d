package worker

import (
	"context"
	"errors"
	"fmt"
	"iter"
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
	// Pending returns every connection of t in pendingAcceptance.
	Pending(ctx context.Context, t approval.Target) ([]approval.Facts, error)
	// Accepted is Places.Accepted.
	Accepted(ctx context.Context, t approval.Target, domainID, endpointID string) (int, error)
}

// Claims tells what stands in the ledger; *ledger.Ledger provides it.
type Claims interface {
	// Get returns nil if there is no entry.
	Get(ctx context.Context, requestID string) (*approval.Entry, error)
	Claim(ctx context.Context, subject string) (approval.Claim, bool, error)
	// Held yields the claims on subjects of target whose requests ended as held or
	// ignored, and those that have not ended. An error of one is no end of the list.
	Held(ctx context.Context, target string) iter.Seq2[approval.HeldClaim, error]
	// Lease reports whether holder has name to itself for the next ttl.
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
}

// Submitter hands a request in like any event; *events.Bus provides it. The
// same request handed in twice within minutes counts once.
type Submitter interface {
	Submit(ctx context.Context, r approval.Request) error
	// Waiting returns when the oldest request was stored that nobody has taken
	// yet; the zero time if there is none.
	Waiting(ctx context.Context) (time.Time, error)
}

// Sweep looks for pending connections that no event told of, for what was held and
// would be decided otherwise now, and for what was held and is pending no more. It
// submits them as requests and never acts itself.
type Sweep struct {
	Cloud    Lister
	Claims   Claims
	Requests Submitter
	Policy   Policy
	Metrics  *metrics.Metrics
	Log      zerolog.Logger
	Now      func() time.Time
	Targets  approval.Targets
	Interval time.Duration
	Holder   string          // names this worker among the replicas
	Kick     <-chan struct{} // asks for a sweep, such as after a change of the policies

	last   atomic.Int64      // when it last looked at every target, in Unix nanoseconds
	handed map[string]handed // by request id: what was handed in and is pending still
}

// handed is when a request was handed in, and how long to leave it at that.
type handed struct {
	at    time.Time
	pause time.Duration
}

// maxErrors is how many errors of one target say it all. Those that are of one
// connection only keep none from the rest.
const maxErrors = 10

// Run sweeps when it begins, each interval, and when kicked, until ctx ends. What
// kicked it before a sweep begins is served by that sweep.
func (s *Sweep) Run(ctx context.Context) {
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	for {
		select {
		case <-s.Kick:
		default:
		}
		if err := s.Once(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn().Err(err).Msg("the sweep could not look everywhere; it comes again")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.Kick:
		}
	}
}

// Once looks at every target, if this worker has the lease. What fails for one
// target does not keep it from the others.
func (s *Sweep) Once(ctx context.Context) error {
	// The lease ends before the next tick, so that whoever is alive then has it.
	mine, err := s.Claims.Lease(ctx, "sweep", s.Holder, leaseFor(s.Interval))
	if err != nil {
		s.Metrics.Swept(false)
		return fmt.Errorf("the lease of the sweep: %w", err)
	}
	if !mine {
		return nil
	}
	heardUntil, err := s.Requests.Waiting(ctx)
	if err != nil {
		s.Metrics.Swept(false)
		return fmt.Errorf("look for requests that wait: %w", err)
	}
	if heardUntil.IsZero() {
		heardUntil = s.Now()
	}
	var errs []error
	before := s.handed
	if before == nil {
		before = map[string]handed{}
	}
	s.handed = map[string]handed{}
	for _, t := range s.Targets {
		look := s.target
		if t.Kind.Creates() {
			look = s.creations
		}
		if err := look(ctx, t, heardUntil, before); err != nil {
			errs = append(errs, fmt.Errorf("target %s: %w", t.Name, err))
		}
	}
	if len(errs) > 0 { // what was not looked at is remembered
		maps.Copy(before, s.handed)
		s.handed = before
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

// target looks at the connections of t. All events that were stored before
// heardUntil have come.
func (s *Sweep) target(ctx context.Context, t approval.Target, heardUntil time.Time, before map[string]handed) error {
	begin := s.Now()
	pending, err := s.Cloud.Pending(ctx, t)
	if err != nil {
		return fmt.Errorf("list what is pending: %w", err)
	}
	s.Metrics.PendingConnections(t.Name, len(pending))
	var told troubles
	accepted, shown := map[string]int{}, map[string]bool{}
	for _, facts := range pending {
		shown[approval.UUID(facts.EndpointID)] = true
		if told.enough() {
			continue
		}
		request, cause, err := s.missing(ctx, t, facts, heardUntil, accepted)
		if err == nil && cause != "" {
			err = s.handIn(ctx, request, cause, before[request.ID])
		}
		told.add("endpoint "+facts.EndpointID, err)
	}
	if told.enough() {
		return told.join()
	}
	for held, err := range s.Claims.Held(ctx, t.Name) {
		if err == nil && shown[held.Key] {
			continue
		}
		if err == nil {
			err = s.settledElsewhere(ctx, t, &held, begin, before)
		}
		if told.add("endpoint "+held.Key, err); told.enough() {
			break
		}
	}
	return told.join()
}

// settledElsewhere submits a connection that was held and is pending no more: a
// person settled it, or its owner deleted it. The request finds out and tells. A
// list that was read before it was held, or shortly after, says nothing of it.
func (s *Sweep) settledElsewhere(ctx context.Context, t approval.Target, held *approval.HeldClaim, listed time.Time, before map[string]handed) error {
	if listed.Sub(held.At) < eventGrace {
		return nil
	}
	entry, err := s.held(ctx, held)
	if err != nil || entry == nil || entry.Result.Outcome != approval.OutcomeHeld {
		return err
	}
	entry.Request.Target = t
	again := s.request(entry.Request, held.RequestID)
	return s.handIn(ctx, again, "settled", before[again.ID])
}

// creations submits the creations of t that were held and would be decided
// otherwise now. Nothing in the cloud shows them; the ledger's claims do.
func (s *Sweep) creations(ctx context.Context, t approval.Target, _ time.Time, before map[string]handed) error {
	var told troubles
	for held, err := range s.Claims.Held(ctx, t.Name) {
		if err == nil {
			err = s.creation(ctx, t, &held, before)
		}
		if told.add("creation "+held.Key, err); told.enough() {
			break
		}
	}
	return told.join()
}

func (s *Sweep) creation(ctx context.Context, t approval.Target, held *approval.HeldClaim, before map[string]handed) error {
	entry, err := s.held(ctx, held)
	if err != nil || entry == nil {
		return err
	}
	entry.Request.Target = t // as it is configured now, which is what the worker will judge by
	changed, err := s.changed(ctx, entry, approval.Facts{}, nil)
	if err != nil || !changed {
		return err
	}
	again := s.request(entry.Request, held.RequestID)
	return s.handIn(ctx, again, "redecide", before[again.ID])
}

// held returns the entry of the request that holds claim, if it ended as held or
// ignored. A claim whose request ended without saying so is ended first.
func (s *Sweep) held(ctx context.Context, claim *approval.HeldClaim) (*approval.Entry, error) {
	if claim.Outcome == "" && s.Now().Sub(claim.At) < stalledAfter {
		return nil, nil // under way
	}
	entry, err := s.Claims.Get(ctx, claim.RequestID)
	if err != nil {
		return nil, fmt.Errorf("read its request: %w", err)
	}
	if entry == nil || entry.Result == nil || entry.Result.Outcome != approval.OutcomeHeld && entry.Result.Outcome != approval.OutcomeIgnored {
		return nil, nil
	}
	if claim.Outcome == "" {
		now, ok, err := s.Claims.Claim(ctx, entry.Request.Subject())
		if err != nil {
			return nil, fmt.Errorf("read its claim: %w", err)
		}
		if !ok || now.RequestID != claim.RequestID {
			return nil, nil
		}
		claim.Claim = now
	}
	return entry, nil
}

// troubles are the errors of one target. The first maxErrors say it all.
type troubles struct {
	errs   []error
	inARow int
}

// add takes note of how it went with what.
func (t *troubles) add(what string, err error) {
	if err == nil {
		t.inARow = 0
		return
	}
	if len(t.errs) < maxErrors {
		t.errs = append(t.errs, fmt.Errorf("%s: %w", what, err))
	}
	if mayPass(err) {
		t.inARow++
	}
}

// enough reports whether the ledger or the bus is away: the rest would say the same.
func (t *troubles) enough() bool { return t.inARow >= maxErrors }

func (t *troubles) join() error { return errors.Join(t.errs...) }

// handIn submits a request. One that was handed in before, and is missing still,
// comes less and less often.
func (s *Sweep) handIn(ctx context.Context, r approval.Request, cause string, last handed) error {
	s.handed[r.ID] = last
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
		s.handed[r.ID] = handed{at: now, pause: maxResubmit}
		return nil
	}
	if err != nil {
		return err
	}
	s.handed[r.ID] = handed{at: now, pause: min(max(2*last.pause, s.Interval), maxResubmit)}
	s.Metrics.SweepFound(r.Target.Name, cause)
	s.Log.Info().Str("target", r.Target.Name).Str("endpoint", r.EndpointID).Str("request", r.ID).
		Str("cause", cause).Msg("the sweep handed in a connection")
	return nil
}

// missing returns the request to hand in for a pending connection and why, or
// no cause if it is in good hands, or its event may be among those that wait.
// accepted holds what was counted so far.
func (s *Sweep) missing(ctx context.Context, t approval.Target, facts approval.Facts, heardUntil time.Time, accepted map[string]int) (approval.Request, string, error) {
	told := s.request(approval.Request{Target: t, EndpointID: facts.EndpointID}, t.Name+"/"+facts.EndpointID)
	claim, ok, err := s.Claims.Claim(ctx, told.Subject())
	if err != nil {
		return told, "", fmt.Errorf("read its claim: %w", err)
	}
	if !ok {
		if !facts.CreatedAt.IsZero() && heardUntil.Sub(facts.CreatedAt) < min(eventGrace, s.Interval) {
			return told, "", nil
		}
		return told, "untold", nil
	}
	entry, err := s.Claims.Get(ctx, claim.RequestID)
	if err != nil {
		return told, "", fmt.Errorf("read its request: %w", err)
	}
	if entry == nil {
		return told, "untold", nil
	}
	entry.Request.Target = t // as it is configured now, which is what the worker will judge by
	again := s.request(entry.Request, claim.RequestID)
	age := s.Now().Sub(claim.At)
	switch {
	case claim.Outcome != "" && entry.Decision.Facts.Differs(facts):
		// It has only its id in common with what was decided.
		if age < listLag {
			return told, "", nil
		}
		return s.request(told, claim.RequestID), "untold", nil
	case claim.Settled():
		return told, "", nil // the list shows the past, or cannot tell it from another
	case claim.Outcome == "" && claim.Verdict.Acts():
		if age < stalledAfter {
			return told, "", nil
		}
		return entry.Request, "stalled", nil
	case !claim.Verdict.Acts() || claim.Outcome == approval.OutcomeHeld:
		changed, err := s.changed(ctx, entry, facts, accepted)
		if err != nil || !changed {
			return told, "", err
		}
		return again, "redecide", nil
	case age >= retryFailedAfter:
		return again, "failed", nil
	}
	return told, "", nil
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
			var err error
			if n, err = s.Cloud.Accepted(ctx, entry.Request.Target, facts.DomainID, entry.Request.EndpointID); err != nil {
				return false, fmt.Errorf("count the accepted connections: %w", err)
			}
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

// request makes r an event of the sweep. The id is made from what it follows,
// so that the same finding is the same request on every replica.
func (s *Sweep) request(r approval.Request, follows string) approval.Request {
	r.Source, r.EventID, r.Time = SweepSource, follows, s.Now().UTC()
	r.ID = approval.RequestID(r.Source, r.EventID)
	return r
}
