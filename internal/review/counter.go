package review

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// Ledger stores reviews; *ledger.Ledger provides it. What a method returned
// without an error is stored.
type Ledger interface {
	// Get returns nil if there is no entry.
	Get(ctx context.Context, requestID string) (*approval.Entry, error)
	// Lock returns which request owns subject.
	Lock(ctx context.Context, subject string) (lock approval.Lock, ok bool, err error)
	// Review returns nil if nobody can review subject.
	Review(ctx context.Context, subject string) (*approval.ReviewRecord, error)
	// PutReview stores r, and sets its revision, unless it was changed since it was
	// read, which is approval.ErrConflict.
	PutReview(ctx context.Context, r *approval.ReviewRecord) error
}

// Policies has the set in force; *policy.Source provides it.
type Policies interface {
	Current() *policy.Set
}

// Submitter publishes a request like any event; *events.Bus provides it. The same
// request submitted twice within minutes counts once.
type Submitter interface {
	Submit(ctx context.Context, r approval.Request) error
}

// Observer receives what happens; *metrics.Metrics implements it.
type Observer interface {
	Reviewed(verdict string)                          // approve or reject
	ReviewDecided(verdict string, held time.Duration) // the review decided a request that was held for so long
}

// Counter counts what people say of held requests. It never acts: a request that
// has what it needs is submitted again, and decided like any other.
type Counter struct {
	Ledger   Ledger
	Policies Policies
	Requests Submitter
	Observer Observer
	Log      zerolog.Logger
}

// RefusedError says why a review does not count. It is for the person who sent it.
type RefusedError struct {
	Code, Text string
	RequestID  string // of the request that it is about; empty: it cannot be read
	Target     string // likewise
	Reviewer   string // as the review says; not verified if the signature is not
}

func (e *RefusedError) Error() string { return "the review is refused: " + e.Text }

// The codes of RefusedError, in addition to those of InvalidError and of package policy.
const (
	refusedUnknownKey     = "unknown_key"
	refusedOtherPerson    = "other_person" // the key or the sign-in is another person's
	refusedUnknownRequest = "unknown_request"
	refusedSubject        = "wrong_subject"
	refusedNotHeld        = "not_held"
	refusedReplayed       = "replayed"
	refusedTooMany        = "too_many"
)

// reviewTries bounds how often a review is counted again that lost against another.
const reviewTries = 64

// Message is a submission as it came.
type Message struct {
	Data      []byte
	Signature string
	Target    string    // of its subject; permissions are given by subject
	RequestID string    // likewise
	StoredAt  time.Time // by the broker
	Sequence  uint64    // in the stream
}

// Handle counts a review, and submits the request again if that decides it. A review
// that does not count is a *RefusedError; any other error may pass.
func (c *Counter) Handle(ctx context.Context, in *Message) error {
	s, err := Decode(in.Data)
	if err != nil {
		return refusedBy(err, nil)
	}
	public, err := Verify(in.Signature, in.Data)
	if err != nil {
		return refusedBy(err, s)
	}
	// The broker vouches for when it came: what waited for a worker is no older for it.
	if err := s.Valid(in.StoredAt); err != nil {
		return refusedBy(err, s)
	}
	set := c.Policies.Current()
	if set.Digest() == "" {
		return errors.New("the policies are not loaded yet")
	}
	said, refused := identify(set.Reviewers(), s, public, in.StoredAt)
	if refused != nil {
		return refused
	}
	said.Sequence = in.Sequence
	entry, err := c.Ledger.Get(ctx, s.RequestID)
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if entry == nil {
		return refuse(s, refusedUnknownRequest, "the ledger has no request with this id")
	}
	if in.RequestID != s.RequestID || in.Target != entry.Request.Target.Name {
		return refuse(s, refusedSubject, "it was sent on the subject of another request or target")
	}
	for range reviewTries {
		err := c.count(ctx, set, s, entry, said)
		if !errors.Is(err, approval.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("count the review: %w", approval.ErrConflict)
}

// count adds said to the record of entry's subject.
func (c *Counter) count(ctx context.Context, set *policy.Set, s *Submission, entry *approval.Entry, said approval.Review) error {
	record, err := c.Ledger.Review(ctx, entry.Request.Subject())
	if err != nil {
		return fmt.Errorf("read the reviews: %w", err)
	}
	if record == nil || record.Request.ID != s.RequestID {
		return c.notHeld(ctx, s, entry, &said)
	}
	in := &approval.Input{Request: record.Request, Facts: record.Facts, Now: said.At, Reviews: &record.Reviews}
	if counted := record.Reviews.ByNonce(said.Nonce); counted != nil {
		// It was counted already: by a worker that was stopped before it could go on,
		// or it is a copy.
		if counted.Sequence != said.Sequence {
			return refuse(s, refusedReplayed, "this very review was counted already")
		}
		return c.decided(ctx, set, record, in)
	}
	if record.Closed != "" {
		return refuse(s, policy.RefusedDecided, "its reviews have decided the request already")
	}
	if refused := set.CheckReview(in, &said); refused != nil {
		return refuse(s, refused.Code, refused.Text)
	}
	if len(record.Reviews.Said) >= approval.MaxReviews {
		return refuse(s, refusedTooMany, fmt.Sprintf("the request has %d reviews already", approval.MaxReviews))
	}
	next := record.Add(said)
	in.Reviews = &next.Reviews
	if d := set.Evaluate(in); len(d.Review) == 0 && d.Reviews != nil {
		next.Closed = approval.ReviewDecided
		if !d.Verdict.Acts() {
			next.Closed = approval.ReviewRejected
		}
	}
	if err := c.Ledger.PutReview(ctx, &next); err != nil {
		return fmt.Errorf("write the review: %w", err)
	}
	c.Observer.Reviewed(s.Verdict)
	if next.Closed != "" {
		c.Observer.ReviewDecided(s.Verdict, said.At.Sub(record.Reviews.HeldAt))
	}
	c.Log.Info().Str("request", s.RequestID).Str("target", record.Request.Target.Name).Str("reviewer", said.Reviewer).
		Str("console", said.Console).Str("verdict", s.Verdict).Str("closed", next.Closed).Msg("counted a review")
	return c.decided(ctx, set, &next, in)
}

// notHeld returns what becomes of a review of entry, which does not wait for one. It may
// have decided the request before its worker could acknowledge it.
func (c *Counter) notHeld(ctx context.Context, s *Submission, entry *approval.Entry, said *approval.Review) error {
	stands, err := c.standing(ctx, entry.Request.Subject())
	if err != nil {
		return fmt.Errorf("read what stands: %w", err)
	}
	if stands != nil && stands.Decision.Reviews != nil {
		if old := stands.Decision.Reviews.ByNonce(said.Nonce); old != nil && old.Sequence == said.Sequence {
			return nil
		}
		return refuse(s, policy.RefusedDecided, "other reviews have decided the request already")
	}
	if entry.Result != nil && entry.Result.Outcome != approval.OutcomeHeld {
		return refuse(s, policy.RefusedDecided, "the request has ended: "+string(entry.Result.Outcome))
	}
	return refuse(s, refusedNotHeld, "the request is not among those that wait for a review")
}

// standing returns the request that owns subject; nil if none does.
func (c *Counter) standing(ctx context.Context, subject string) (*approval.Entry, error) {
	lock, ok, err := c.Ledger.Lock(ctx, subject)
	if err != nil || !ok {
		return nil, err
	}
	return c.Ledger.Get(ctx, lock.RequestID)
}

// decided submits the request of record again if its reviews decide it.
func (c *Counter) decided(ctx context.Context, set *policy.Set, record *approval.ReviewRecord, in *approval.Input) error {
	if d := set.Evaluate(in); !d.Verdict.Acts() || d.Rule != policy.RuleReview {
		return nil
	}
	if err := c.Requests.Submit(ctx, approval.ReviewedRequest(record)); err != nil {
		return fmt.Errorf("submit the reviewed request: %w", err)
	}
	return nil
}

// identify returns what is said and by whom, if the key is the person's own, or that
// of a console which vouches for them.
func identify(people *policy.Reviewers, s *Submission, public string, at time.Time) (approval.Review, *RefusedError) {
	said := approval.Review{
		Reviewer: s.Reviewer, Approve: s.Verdict == Approve, Reason: s.Reason, At: at.UTC(),
		Facts: approval.ReviewedFacts(s.Facts), Nonce: s.Nonce,
	}
	if person := people.ByKey(public); person != nil {
		if person.Name != s.Reviewer || s.SignIn != nil {
			return said, refuse(s, refusedOtherPerson, "the key is that of "+person.Name+", who may only speak for themselves")
		}
		return said, nil
	}
	console := people.Console(public)
	if console == nil {
		return said, refuse(s, refusedUnknownKey, "reviewers.yaml names nobody with this key")
	}
	person := people.ByName(s.Reviewer)
	if person == nil {
		return said, refuse(s, policy.RefusedUnknownReviewer, fmt.Sprintf("reviewers.yaml names nobody called %.80q", s.Reviewer))
	}
	if s.SignIn == nil || !SignedInAs(person, s.SignIn) {
		return said, refuse(s, refusedOtherPerson, "the console does not say that "+person.Name+" signed in there, in a way that reviewers.yaml knows")
	}
	said.Console, said.SignIn = console.Name, s.SignIn.Method
	return said, nil
}

// SignedInAs reports whether a sign-in at a console is that of person.
func SignedInAs(person *policy.Reviewer, in *SignIn) bool {
	switch in.Method {
	case "oidc":
		return person.Subject != "" && person.Issuer == in.Issuer && person.Subject == in.Subject ||
			person.Subject == "" && person.Email != "" && person.Email == in.Email
	case "proxy":
		return in.Subject != "" && (in.Subject == person.Name || in.Subject == person.Email)
	case "link":
		return in.Subject == person.Name
	}
	return false
}

func refuse(s *Submission, code, text string) *RefusedError {
	e := &RefusedError{Code: code, Text: text}
	if s != nil {
		e.RequestID, e.Reviewer = s.RequestID, s.Reviewer
	}
	return e
}

func refusedBy(err error, s *Submission) error {
	if invalid, ok := errors.AsType[*InvalidError](err); ok {
		return refuse(s, invalid.Code, invalid.Error())
	}
	return err
}
