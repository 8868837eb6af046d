package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// StoredRequests reads the events that the broker keeps; *events.Bus provides it.
type StoredRequests interface {
	// StoredRequests calls each with the requests behind a position, oldest first, and
	// returns the position of the last one, also with an error.
	StoredRequests(ctx context.Context, after uint64, each func(approval.Request)) (last uint64, err error)
}

// DryRun says in the log what a worker would decide, and does nothing. It writes
// nothing to the broker and calls nothing that changes the cloud.
type DryRun struct {
	Cloud    Lister
	Requests StoredRequests // nil: there is no broker, and nothing is known of claims and creations
	Policy   Policy
	Log      zerolog.Logger
	Now      func() time.Time
	Targets  approval.Targets
	Interval time.Duration
	Trigger  <-chan struct{} // asks for a look, such as after a change of the policies

	after   uint64                      // the position up to which events were read
	claimed map[string]approval.Request // by subject: the latest event about a connection
	created []approval.Request          // creations, in the order of their events
	said    map[string]string           // by request id: what was said of it
}

// maxRemembered is how many events are remembered of each kind. Of more than that, those
// about connections that are not pending are forgotten, and the oldest creations.
const maxRemembered = 100_000

// Run looks when it begins, at each interval, and when triggered, until ctx ends.
func (d *DryRun) Run(ctx context.Context) {
	d.claimed, d.said = map[string]approval.Request{}, map[string]string{}
	tick := time.NewTicker(d.Interval)
	defer tick.Stop()
	for {
		if err := d.Once(ctx); err != nil && ctx.Err() == nil {
			d.Log.Warn().Err(err).Msg("not everything could be read; nothing is said about the rest until the next look")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.Trigger:
		}
	}
}

// Once says what would be decided of each pending connection and of each creation that
// was asked for, if it has not said so before. It says nothing if the events cannot be
// read: a claim that is not known is not a claim that is missing.
func (d *DryRun) Once(ctx context.Context) error {
	if err := d.read(ctx); err != nil {
		return err
	}
	var errs []error
	verdicts := map[approval.Verdict]int{}
	unread := false
	said, shown := map[string]string{}, map[string]approval.Request{}
	for _, t := range d.Targets {
		if t.Kind.Creates() {
			continue
		}
		pending, err := d.Cloud.Pending(ctx, t)
		if err != nil {
			unread = true
			errs = append(errs, fmt.Errorf("target %s: list pending connections: %w", t.Name, err))
		}
		for i := range pending {
			req := d.requestFor(t, &pending[i])
			shown[req.Subject()] = req
			errs = append(errs, d.say(ctx, &req, &pending[i], verdicts, said))
		}
	}
	for i := range d.created {
		errs = append(errs, d.say(ctx, &d.created[i], &approval.Facts{}, verdicts, said))
	}
	if unread { // what was not looked at is remembered
		for id, text := range d.said {
			if _, again := said[id]; !again {
				said[id] = text
			}
		}
	} else if len(d.claimed) > maxRemembered {
		d.claimed = shown
	}
	d.said = said
	line := d.Log.Info()
	for _, v := range approval.Verdicts() {
		line = line.Int("would_"+string(v), verdicts[v])
	}
	line.Msg("dry run: nothing was done")
	return errors.Join(errs...)
}

// read reads the events that came since it read last.
func (d *DryRun) read(ctx context.Context) error {
	if d.Requests == nil {
		return nil
	}
	var err error
	d.after, err = d.Requests.StoredRequests(ctx, d.after, func(r approval.Request) {
		if !r.Creates() {
			d.claimed[r.Subject()] = r
			return
		}
		d.created = append(d.created, r)
		if n := len(d.created); n > maxRemembered {
			d.created = slices.Clone(d.created[n-maxRemembered/2:])
		}
	})
	return err
}

// requestFor is the event about a pending connection, or what the sweep would submit.
func (d *DryRun) requestFor(t approval.Target, facts *approval.Facts) approval.Request {
	fresh := approval.Request{Source: SweepSource, EventID: facts.EndpointID, Target: t, EndpointID: facts.EndpointID}
	fresh.ID = approval.RequestID(fresh.Source, fresh.EventID)
	if asked, ok := d.claimed[fresh.Subject()]; ok {
		return asked
	}
	return fresh
}

// say logs the decision on a request, unless it is what was said before, and adds it to
// verdicts and to said.
func (d *DryRun) say(ctx context.Context, req *approval.Request, facts *approval.Facts, verdicts map[approval.Verdict]int, said map[string]string) error {
	decision, err := d.decide(ctx, req, facts)
	if err != nil {
		return fmt.Errorf("request %s: %w", req.ID, err)
	}
	verdicts[decision.Verdict]++
	var codes []string
	for _, r := range decision.Reasons {
		codes = append(codes, string(r.Code))
	}
	id := req.ID + " " + facts.DomainID + fmt.Sprint(facts.MarkerID)
	text := fmt.Sprint(decision.Verdict, decision.Policy, decision.Rule, codes)
	said[id] = text
	if d.said[id] == text {
		return nil
	}
	d.Log.Info().Str("target", req.Target.Name).Str("endpoint", req.EndpointID).Str("request", req.ID).Str("account", facts.DomainID).
		Str("verdict", string(decision.Verdict)).Str("policy", decision.Policy).Str("rule", decision.Rule).Strs("reasons", codes).
		Msg("a worker would decide so")
	return nil
}

// decide asks the policies. An accept within a limit counts the connections of the
// account, and makes no reservation.
func (d *DryRun) decide(ctx context.Context, req *approval.Request, facts *approval.Facts) (approval.Decision, error) {
	in := &approval.Input{Request: *req, Facts: *facts, Now: d.Now()}
	decision := judge(d.Policy, in)
	if !decision.NeedsCount {
		return decision, nil
	}
	n, err := d.Cloud.Accepted(ctx, req.Target, facts.DomainID, req.EndpointID)
	if err != nil {
		return decision, fmt.Errorf("count the accepted connections: %w", err)
	}
	in.Facts.Accepted = approval.Counted(n.Most())
	return judge(d.Policy, in), nil
}
