package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// Sweep looks for pending connections that no event told of, or that wait for
// the policies to change, and hands them in as requests. It never acts itself.
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
	Kick     <-chan struct{} // asks for a sweep now, such as after a change of the policies

	handed map[string]handed // by request id: what was handed in and is pending still
}

// handed is when a request was handed in, and how long to leave it at that.
type handed struct {
	at    time.Time
	pause time.Duration
}

const (
	// tooYoung spares a connection whose event is probably on its way.
	tooYoung = 30 * time.Second
	// stalled is the time after which a decision that was not carried out is
	// taken as lost with its event.
	stalled = 10 * time.Minute
	// tryFailedAgain is the pause after which a connection that is pending
	// still, although a request for it failed, is tried anew.
	tryFailedAgain = time.Hour
	// longestPause is the longest time for which a request that was handed in,
	// and of which nothing comes, is not handed in again. It doubles up to here:
	// while the cloud takes no decisions, the requests must not pile up.
	longestPause = 6 * time.Hour
	// worthTelling is how many errors of one target say it all. Those that are of
	// one connection only keep none from the rest.
	worthTelling = 10
)

// Run sweeps at once, each interval, and when kicked, until ctx ends.
func (s *Sweep) Run(ctx context.Context) {
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	for {
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
	mine, err := s.Claims.Lease(ctx, "sweep", s.Holder, s.Interval*9/10)
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
	for _, t := range s.Targets.Connections() {
		if err := s.target(ctx, t, heardUntil, before); err != nil {
			errs = append(errs, fmt.Errorf("target %s: %w", t.Name, err))
		}
	}
	if len(errs) > 0 { // what was not looked at is remembered
		maps.Copy(before, s.handed)
		s.handed = before
	}
	s.Metrics.Swept(len(errs) == 0)
	return errors.Join(errs...)
}

// target looks at t. All events that were stored before heardUntil have come.
func (s *Sweep) target(ctx context.Context, t approval.Target, heardUntil time.Time, before map[string]handed) error {
	pending, err := s.Cloud.Pending(ctx, t)
	if err != nil {
		return fmt.Errorf("list what is pending: %w", err)
	}
	s.Metrics.PendingConnections(t.Name, len(pending))
	var errs []error
	accepted := map[string]int{}
	inARow := 0
	for _, facts := range pending {
		request, cause, err := s.missing(ctx, t, facts, heardUntil, accepted)
		if err == nil && cause != "" {
			err = s.handIn(ctx, request, cause, before[request.ID])
		}
		switch {
		case err == nil:
			inARow = 0
		case len(errs) < worthTelling:
			errs = append(errs, fmt.Errorf("endpoint %s: %w", facts.EndpointID, err))
		}
		if err != nil && mayPass(err) {
			inARow++
		}
		if inARow == worthTelling { // the ledger or the bus is away: the rest would say the same
			break
		}
	}
	return errors.Join(errs...)
}

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
		Buried() bool
	}](err); ok && e.Buried() {
		// It was given up, and whoever knows better replays its dead letter.
		s.handed[r.ID] = handed{at: now, pause: longestPause}
		return nil
	}
	if err != nil {
		return err
	}
	s.handed[r.ID] = handed{at: now, pause: min(max(2*last.pause, s.Interval), longestPause)}
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
		if !facts.CreatedAt.IsZero() && heardUntil.Sub(facts.CreatedAt) < min(tooYoung, s.Interval) {
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
	case claim.Outcome == "" && claim.Verdict.Acts():
		if age < stalled {
			return told, "", nil
		}
		return entry.Request, "stalled", nil
	case !claim.Verdict.Acts():
		changed, err := s.changed(ctx, entry, facts, accepted)
		if err != nil || !changed {
			return told, "", err
		}
		return again, "redecide", nil
	case age >= tryFailedAgain:
		return again, "failed", nil
	}
	return told, "", nil
}

// changed reports whether entry would be decided otherwise now. What a rule with
// a limit would accept is counted first, else a connection held at the limit
// would be decided again by every sweep.
func (s *Sweep) changed(ctx context.Context, entry *approval.Entry, facts approval.Facts, accepted map[string]int) (bool, error) {
	in := &approval.Input{Request: entry.Request, Facts: facts, Now: s.Now()}
	d := s.Policy.Evaluate(in)
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
		d = s.Policy.Evaluate(in)
	}
	return d.Verdict != entry.Decision.Verdict, nil
}

// request makes r an event of the sweep. The id is made from what it follows,
// so that the same finding is the same request on every replica.
func (s *Sweep) request(r approval.Request, follows string) approval.Request {
	r.Source, r.EventID, r.Time = SweepSource, follows, s.Now().UTC()
	r.ID = approval.RequestID(r.Source, r.EventID)
	return r
}
