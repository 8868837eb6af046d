package events

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Publish stores r as the result of its decision, or finds that it is stored
// already. If another result stands in its place, which no worker wrote, r is
// stored as a correction behind it and the conflict is reported. When Publish
// returns nil the broker has r. It may be repeated and is safe for concurrent use.
func (b *Bus) Publish(ctx context.Context, r approval.Result) error {
	conflict, err := b.publishResult(ctx, r)
	switch {
	case err != nil:
		b.cfg.Observer.ResultPublished(PublishError)
	case conflict:
		b.cfg.Observer.ResultPublished(PublishConflict)
	default:
		b.cfg.Observer.ResultPublished(PublishOK)
	}
	return err
}

func (b *Bus) publishResult(ctx context.Context, r approval.Result) (conflict bool, err error) {
	if token(r.Decision.ID) != nil || approval.ValidName(r.Request.Target.Name) != nil || r.Outcome == "" {
		return false, fmt.Errorf("publish a result: decision %.80q, target %.80q and outcome %.20q do not make a subject",
			r.Decision.ID, r.Request.Target.Name, r.Outcome)
	}
	// First what would have been, so that with the result itself all is told.
	shadowConflict := false
	if r.Decision.Shadow != nil {
		if shadowConflict, err = b.publishOnce(ctx, shadowOf(r)); err != nil {
			return false, err
		}
	}
	conflict, err = b.publishOnce(ctx, r)
	return conflict || shadowConflict, err
}

// publishTries bounds how often a result is offered while others write results of
// the same decision.
const publishTries = 4

// publishOnce stores r unless it is stored already. The fence is the sequence of
// the last result of the decision, under any outcome; unlike the duplicate window
// it holds for as long as the stream keeps results.
func (b *Bus) publishOnce(ctx context.Context, r approval.Result) (conflict bool, err error) {
	var last uint64 // of what stands for the decision; 0: nothing does
	for range publishTries {
		id := r.Decision.ID
		if last > 0 {
			id += correctionSuffix
		}
		refused, err := b.tryPublish(ctx, r, id, last)
		if err != nil || !refused {
			return last > 0, err
		}
		stands, err := b.storedResults(ctx, r.Decision.ID)
		if err != nil {
			return false, b.publishError("the result of request "+r.Request.ID, err)
		}
		for _, raw := range stands {
			if isResult(raw, r) {
				return false, nil
			}
			last = raw.Sequence
		}
		if len(stands) > 0 {
			b.logConflict(stands[len(stands)-1], r)
		}
	}
	return false, fmt.Errorf("publish the result of request %s: others write results of its decision at the same time", r.Request.ID)
}

// tryPublish publishes r under the event id if the last result of its decision
// has the sequence last. refused says that it has not.
func (b *Bus) tryPublish(ctx context.Context, r approval.Result, id string, last uint64) (refused bool, err error) {
	most := b.nc.MaxPayload() - reserve
	for {
		body, header, err := encodeResult(r, id, most)
		if err != nil {
			return false, &InvalidEventError{Reason: ReasonUnstorable, Text: err.Error()}
		}
		msg := &nats.Msg{Subject: resultSubject(string(r.Outcome), r.Request.Target.Name, r.Decision.ID), Data: body, Header: header}
		_, err = b.publishMsg(ctx, msg, jetstream.WithExpectLastSequenceForSubject(last, resultSubject("*", "*", r.Decision.ID)))
		if hasCode(err, jetstream.JSErrCodeStreamWrongLastSequence) {
			return true, nil
		}
		if tooLarge(err) && most > 0 {
			most = 0 // the stream takes less than the broker: without claims
			continue
		}
		return false, b.publishError("the result of request "+r.Request.ID, err)
	}
}

// storedResults returns what is stored for a decision, oldest first. It ends after a
// few: workers store one, and a correction if it is not the first.
func (b *Bus) storedResults(ctx context.Context, decision string) ([]*jetstream.RawStreamMsg, error) {
	const enough = 16
	stream, err := b.js.Stream(ctx, ResultsStream)
	if err != nil {
		return nil, err
	}
	var out []*jetstream.RawStreamMsg
	for next := uint64(1); len(out) < enough; next = out[len(out)-1].Sequence + 1 {
		raw, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(resultSubject("*", "*", decision)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

// isResult reports whether a stored message says what r says. Times, durations
// and versions may differ: a broker that lost data makes a worker say it again.
func isResult(raw *jetstream.RawStreamMsg, r approval.Result) bool {
	stored, err := DecodeResult(raw.Header, raw.Data)
	return err == nil && raw.Subject == resultSubject(string(r.Outcome), r.Request.Target.Name, r.Decision.ID) &&
		identityOf(stored) == identityOf(r)
}

// resultIdentity is what readers of a result act on.
type resultIdentity struct {
	request, source, event, target, subject string
	decision, policy, rule, domain          string
	verdict                                 approval.Verdict
	outcome                                 approval.Outcome
	failure, created, instance              string
}

func identityOf(r approval.Result) resultIdentity {
	e := resultIdentity{
		request: r.Request.ID, source: r.Request.Source, event: r.Request.EventID,
		target: r.Request.Target.Name, subject: r.Request.Subject(),
		decision: r.Decision.ID, policy: r.Decision.Policy, rule: r.Decision.Rule, domain: r.Decision.Facts.DomainID,
		verdict: r.Decision.Verdict, outcome: r.Outcome,
	}
	if r.Failure != nil {
		e.failure = r.Failure.Code
	}
	if r.Created != nil {
		e.created, e.instance = r.Created.EndpointID, r.Created.ID
	}
	return e
}

func (b *Bus) logConflict(raw *jetstream.RawStreamMsg, r approval.Result) {
	b.cfg.Log.Error().Str("request", r.Request.ID).Str("target", r.Request.Target.Name).Str("outcome", string(r.Outcome)).
		Uint64("stored_sequence", raw.Sequence).Str("stored_subject", raw.Subject).
		Msg("another result stands for this decision, which no worker wrote; the true one is published as a correction: find out who may publish on " + ResultsSubject + ".>")
}

func resultSubject(outcome, target, decision string) string {
	return ResultsSubject + "." + outcome + "." + target + "." + decision
}

// insufficientResources is the code of a broker that may store no more.
const insufficientResources jetstream.ErrorCode = 10023

// messageTooLarge is the code of a stream that takes no message of that size.
const messageTooLarge jetstream.ErrorCode = 10054

func hasCode(err error, code jetstream.ErrorCode) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && refused.ErrorCode == code
}

// tooLarge reports whether err says that a message is larger than the broker, or
// its stream, takes.
func tooLarge(err error) bool {
	return errors.Is(err, nats.ErrMaxPayload) || hasCode(err, messageTooLarge)
}

// publishWithID stores msg under a message id. A broker that has a message with
// that id drops msg and says so: then it is looked at, and unless it is the same,
// msg is stored under an id that nobody can guess.
func (b *Bus) publishWithID(ctx context.Context, stream, id string, msg *nats.Msg, same func(*jetstream.RawStreamMsg) bool) (uint64, error) {
	ack, err := b.publishMsg(ctx, msg, jetstream.WithMsgID(id))
	if err != nil {
		return 0, err
	}
	if !ack.Duplicate {
		return ack.Sequence, nil
	}
	// What cannot be read may be another: stored twice does no harm.
	if found, err := b.message(ctx, stream, ack.Sequence); err == nil && same(found) {
		return ack.Sequence, nil
	}
	ack, err = b.publishMsg(ctx, msg, jetstream.WithMsgID(id+"-"+rand.Text()))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// publishMsg publishes msg and ends as soon as the broker denies it: a denied
// publication has no answer.
func (b *Bus) publishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (ack *jetstream.PubAck, err error) {
	err = b.abortOnDenial(ctx, msg.Subject, func(ctx context.Context) error {
		ack, err = b.js.PublishMsg(ctx, msg, opts...)
		return err
	})
	return ack, err
}

// message returns one stored message.
func (b *Bus) message(ctx context.Context, stream string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	return s.GetMsg(ctx, sequence)
}

// publishError makes an error of publishing what readable, and has the streams
// looked at if the broker does not know one.
func (b *Bus) publishError(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		b.markSetupDirty()
		return fmt.Errorf("publish %s: no stream takes it; see `worker bus status`: %w", what, err)
	}
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == insufficientResources {
		return fmt.Errorf("publish %s: the broker's disk, or its limit, is full; make room there: %w", what, err)
	}
	return fmt.Errorf("publish %s: %w", what, err)
}

// token reports why s cannot be one token of a subject.
func token(s string) error {
	if s == "" || len(s) > 128 {
		return fmt.Errorf("%.80q has not 1 to 128 characters", s)
	}
	for _, r := range s {
		if ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'; !ok {
			return fmt.Errorf("%.80q holds %q", s, r)
		}
	}
	return nil
}

// requestMessage is r as a message, after a check that it would be taken. The
// request that it returns is what a worker would make of it.
func requestMessage(r approval.Request) (*nats.Msg, approval.Request, error) {
	body, header, err := encodeRequest(r)
	if err != nil {
		return nil, approval.Request{}, err
	}
	msg := &nats.Msg{Subject: requestSubject(r.Source, r.Target.Name), Data: body, Header: header}
	taken, err := DecodeMessage(msg.Subject, header, body, approval.Targets{r.Target})
	if err != nil {
		return nil, approval.Request{}, fmt.Errorf("the request would not be taken: %w", err)
	}
	return msg, taken, nil
}

// sameRequest reports whether a stored message asks what r asks. When it was made
// does not matter.
func sameRequest(raw *jetstream.RawStreamMsg, r approval.Request) bool {
	stored, err := DecodeMessage(raw.Subject, raw.Header, raw.Data, approval.Targets{r.Target})
	stored.Time, stored.TraceParent = r.Time, r.TraceParent
	return err == nil && reflect.DeepEqual(stored, r)
}

// Submit publishes r as a request event, after checking that it would be taken.
// The same request submitted again within two minutes counts once. When it
// returns nil the broker has the request, whoever used its message id before. An
// error that is an *InvalidEventError says what is wrong with r; a *PoisonError that r is
// poison.
func (b *Bus) Submit(ctx context.Context, r approval.Request) error {
	msg, taken, err := requestMessage(r)
	if err != nil {
		return err
	}
	if err := b.refusePoison(ctx, taken.ID); err != nil {
		return err
	}
	_, err = b.publishWithID(ctx, RequestsStream, taken.ID, msg, func(raw *jetstream.RawStreamMsg) bool { return sameRequest(raw, taken) })
	return b.publishError("the request "+taken.ID, err)
}

// IDUsedError says that a request was not stored, because the broker has another
// message under the id of its event.
type IDUsedError struct {
	RequestID string
	Sequence  uint64 // of the stored message in RequestsStream
	Unread    bool   // the stored message could not be read; it may be the same
}

func (e *IDUsedError) Error() string {
	if e.Unread {
		return fmt.Sprintf("id already used (sequence %d), and the stored message cannot be read: the request %s may be the same or another; use a new id to be sure", e.Sequence, e.RequestID)
	}
	return fmt.Sprintf("id already used (sequence %d): the request %s is not stored, another message has its id; use a new id", e.Sequence, e.RequestID)
}

// SubmitNew is Submit for a producer: it needs no right but to publish requests.
// An *IDUsedError says that another message has the id of r's event.
func (b *Bus) SubmitNew(ctx context.Context, r approval.Request) error {
	if r.Source == approval.SweepSource {
		return invalid(ReasonWrongSubject, "source", "%s is the source of the sweep; use another", r.Source)
	}
	msg, taken, err := requestMessage(r)
	if err != nil {
		return err
	}
	// Who may only publish cannot know this, and the worker finds it out itself.
	allowed, done := b.cancelOnDenial(ctx)
	err = b.refusePoison(allowed, taken.ID)
	done()
	if _, poison := errors.AsType[*PoisonError](err); poison {
		return err
	}
	ack, err := b.publishMsg(ctx, msg, jetstream.WithMsgID(taken.ID))
	if err != nil || !ack.Duplicate {
		return b.publishError("the request "+taken.ID, err)
	}
	allowed, done = b.cancelOnDenial(ctx)
	defer done()
	stored, err := b.message(allowed, RequestsStream, ack.Sequence)
	if err == nil && sameRequest(stored, taken) {
		return nil
	}
	return &IDUsedError{RequestID: taken.ID, Sequence: ack.Sequence, Unread: err != nil}
}

// Waiting returns when the oldest request was stored that was never delivered;
// the zero time if there is none.
func (b *Bus) Waiting(ctx context.Context) (time.Time, error) {
	consumer, err := b.consumerInfo(ctx)
	if err != nil || consumer == nil || consumer.NumPending == 0 {
		return time.Time{}, err
	}
	stream, err := b.js.Stream(ctx, RequestsStream)
	if err != nil {
		return time.Time{}, apiError("look at the stream "+RequestsStream, err)
	}
	next, err := stream.GetMsg(ctx, consumer.Delivered.Stream+1, jetstream.WithGetMsgSubject(RequestsSubject+".>"))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, nil // it was delivered, or has expired, meanwhile
	}
	if err != nil {
		return time.Time{}, apiError("read the oldest request that waits", err)
	}
	return next.Time, nil
}

// SubmitRaw publishes a message as it is to the requests of target, as an
// outside producer would.
func (b *Bus) SubmitRaw(ctx context.Context, target string, header nats.Header, body []byte) error {
	if err := approval.ValidName(target); err != nil {
		return fmt.Errorf("publish a request: %w", err)
	}
	_, err := b.publishMsg(ctx, &nats.Msg{Subject: RequestsSubject + "." + target, Data: body, Header: header})
	return b.publishError("a request", err)
}
