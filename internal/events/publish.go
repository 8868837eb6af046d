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

// Publish stores r as the result of its decision, unless it is stored already. If
// another result is stored for the decision, which no worker wrote, Publish stores r
// as a correction after it and reports the conflict. When Publish returns nil, the
// broker has r. It is safe to repeat, and safe for concurrent use.
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
	if checkToken(r.Decision.ID) != nil || approval.ValidName(r.Request.Target.Name) != nil || r.Outcome == "" {
		return false, fmt.Errorf("publish a result: decision %.80q, target %.80q and outcome %.20q do not make a subject",
			r.Decision.ID, r.Request.Target.Name, r.Outcome)
	}
	// The shadow result comes first, so that the result itself is the last event.
	shadowConflict := false
	if r.Decision.Shadow != nil {
		if shadowConflict, err = b.publishOnce(ctx, shadowOf(r)); err != nil {
			return false, err
		}
	}
	conflict, err = b.publishOnce(ctx, r)
	return conflict || shadowConflict, err
}

// publishTries bounds the attempts while others write results of the same decision.
const publishTries = 4

// publishOnce stores r unless it is stored already. It compares the sequence of the
// last result of the decision, under any outcome; unlike the duplicate window, that
// works for as long as the stream keeps results.
func (b *Bus) publishOnce(ctx context.Context, r approval.Result) (conflict bool, err error) {
	var last uint64 // sequence of the last stored result of the decision; 0: none
	for range publishTries {
		id := r.Decision.ID
		if last > 0 {
			id += correctionSuffix
		}
		conflict, err := b.tryPublish(ctx, r, id, last)
		if err != nil || !conflict {
			return last > 0, err
		}
		stored, err := b.storedResults(ctx, r.Decision.ID)
		if err != nil {
			return false, b.publishError("the result of request "+r.Request.ID, err)
		}
		for _, raw := range stored {
			if isResult(raw, r) {
				return false, nil
			}
			last = raw.Sequence
		}
		if len(stored) > 0 {
			b.logConflict(stored[len(stored)-1], r)
		}
	}
	return false, fmt.Errorf("publish the result of request %s: others write results of its decision concurrently", r.Request.ID)
}

// tryPublish publishes r under the event id if the last result of its decision has
// the sequence last. conflict says that it has another.
func (b *Bus) tryPublish(ctx context.Context, r approval.Result, id string, last uint64) (conflict bool, err error) {
	limit := b.nc.MaxPayload() - overhead
	for {
		body, header, err := encodeResult(r, id, limit)
		if err != nil {
			return false, &InvalidEventError{Reason: ReasonUnstorable, Text: err.Error()}
		}
		msg := &nats.Msg{Subject: resultSubject(string(r.Outcome), r.Request.Target.Name, r.Decision.ID), Data: body, Header: header}
		_, err = b.publishMsg(ctx, msg, jetstream.WithExpectLastSequenceForSubject(last, resultSubject("*", "*", r.Decision.ID)))
		if hasCode(err, jetstream.JSErrCodeStreamWrongLastSequence) {
			return true, nil
		}
		if tooLarge(err) && limit > 0 {
			limit = 0 // the stream has a lower limit than the broker: leave out the claims
			continue
		}
		return false, b.publishError("the result of request "+r.Request.ID, err)
	}
}

// storedResults returns the first results that are stored for a decision, oldest
// first. Workers store one, and a correction if it is not the first.
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

// isResult reports whether a stored message has the same content as r. Times,
// durations and versions may differ: after a broker lost data, a worker publishes again.
func isResult(raw *jetstream.RawStreamMsg, r approval.Result) bool {
	stored, err := DecodeResult(raw.Header, raw.Data)
	return err == nil && raw.Subject == resultSubject(string(r.Outcome), r.Request.Target.Name, r.Decision.ID) &&
		identityOf(stored) == identityOf(r)
}

// resultIdentity holds the content that readers of a result act on.
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
		Msg("found a result of this decision that no worker wrote; publishing the true one as a correction: find out who may publish on " + ResultsSubject + ".>")
}

func resultSubject(outcome, target, decision string) string {
	return ResultsSubject + "." + outcome + "." + target + "." + decision
}

// insufficientResources is the code of a broker that has no storage left.
const insufficientResources jetstream.ErrorCode = 10023

// messageTooLarge is the code of a stream that refuses a message for its size.
const messageTooLarge jetstream.ErrorCode = 10054

func hasCode(err error, code jetstream.ErrorCode) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && refused.ErrorCode == code
}

// tooLarge reports whether the broker or the stream refused a message for its size.
func tooLarge(err error) bool {
	return errors.Is(err, nats.ErrMaxPayload) || hasCode(err, messageTooLarge)
}

// publishWithID stores msg under a message id. If the broker drops it as a duplicate,
// publishWithID compares the stored message, and unless it is the same, stores msg
// under an id that nobody can guess.
func (b *Bus) publishWithID(ctx context.Context, stream, id string, msg *nats.Msg, same func(*jetstream.RawStreamMsg) bool) (uint64, error) {
	ack, err := b.publishMsg(ctx, msg, jetstream.WithMsgID(id))
	if err != nil {
		return 0, err
	}
	if !ack.Duplicate {
		return ack.Sequence, nil
	}
	// If the message cannot be read it may be another one; storing msg twice is harmless.
	if found, err := b.message(ctx, stream, ack.Sequence); err == nil && same(found) {
		return ack.Sequence, nil
	}
	ack, err = b.publishMsg(ctx, msg, jetstream.WithMsgID(id+"-"+rand.Text()))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// publishMsg publishes msg and returns as soon as the broker denies it: a denied
// publication is not answered.
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

// publishError adds context and the next step to an error of publishing what. If no
// stream answered, it has the streams checked.
func (b *Bus) publishError(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		b.markSetupDirty()
		return fmt.Errorf("publish %s: no stream accepts it; see `worker bus status`: %w", what, err)
	}
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == insufficientResources {
		return fmt.Errorf("publish %s: the broker has reached its disk or storage limit; free some space: %w", what, err)
	}
	return fmt.Errorf("publish %s: %w", what, err)
}

// checkToken returns why s cannot be one token of a subject.
func checkToken(s string) error {
	if s == "" || len(s) > 128 {
		return fmt.Errorf("%.80q must have 1 to 128 characters", s)
	}
	for _, r := range s {
		if ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'; !ok {
			return fmt.Errorf("%.80q has the forbidden character %q", s, r)
		}
	}
	return nil
}

// requestMessage encodes r and checks that a worker would accept it. It also returns
// the request as the worker would decode it.
func requestMessage(r approval.Request) (*nats.Msg, approval.Request, error) {
	body, header, err := encodeRequest(r)
	if err != nil {
		return nil, approval.Request{}, err
	}
	msg := &nats.Msg{Subject: requestSubject(r.Source, r.Target.Name), Data: body, Header: header}
	taken, err := DecodeMessage(msg.Subject, header, body, approval.Targets{r.Target})
	if err != nil {
		return nil, approval.Request{}, fmt.Errorf("the request is invalid: %w", err)
	}
	return msg, taken, nil
}

// sameRequest reports whether a stored message is the request r, apart from its time.
func sameRequest(raw *jetstream.RawStreamMsg, r approval.Request) bool {
	stored, err := DecodeMessage(raw.Subject, raw.Header, raw.Data, approval.Targets{r.Target})
	stored.Time, stored.TraceParent = r.Time, r.TraceParent
	return err == nil && reflect.DeepEqual(stored, r)
}

// Submit publishes r as a request event, after checking that it is valid. The same
// request submitted again within two minutes is stored once. When Submit returns nil,
// the broker has the request, even if another message has used its message id. The
// error is an *InvalidEventError if r is invalid, and a *PoisonError if r is poison.
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

// IDUsedError means that a request was not stored, because the broker has another
// message with the id of its event.
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

// SubmitNew is Submit for a producer: it needs no permission but to publish requests.
// The error is an *IDUsedError if another message has the id of r's event.
func (b *Bus) SubmitNew(ctx context.Context, r approval.Request) error {
	if r.Source == approval.SweepSource {
		return invalid(ReasonWrongSubject, "source", "%s is the source of the sweep; use another", r.Source)
	}
	msg, taken, err := requestMessage(r)
	if err != nil {
		return err
	}
	// A user that may only publish cannot check this; the worker checks it, too.
	allowed, done := b.cancelOnDenial(ctx, bucketStream)
	err = b.refusePoison(allowed, taken.ID)
	done()
	if _, poison := errors.AsType[*PoisonError](err); poison {
		return err
	}
	ack, err := b.publishMsg(ctx, msg, jetstream.WithMsgID(taken.ID))
	if err != nil || !ack.Duplicate {
		return b.publishError("the request "+taken.ID, err)
	}
	allowed, done = b.cancelOnDenial(ctx, RequestsStream)
	defer done()
	stored, err := b.message(allowed, RequestsStream, ack.Sequence)
	if err == nil && sameRequest(stored, taken) {
		return nil
	}
	return &IDUsedError{RequestID: taken.ID, Sequence: ack.Sequence, Unread: err != nil}
}

// Waiting returns when the oldest request that was never delivered was stored; zero
// if there is none.
func (b *Bus) Waiting(ctx context.Context) (time.Time, error) {
	consumer, err := b.consumerInfo(ctx)
	if err != nil || consumer == nil || consumer.NumPending == 0 {
		return time.Time{}, err
	}
	stream, err := b.js.Stream(ctx, RequestsStream)
	if err != nil {
		return time.Time{}, apiError("open the stream "+RequestsStream, err)
	}
	next, err := stream.GetMsg(ctx, consumer.Delivered.Stream+1, jetstream.WithGetMsgSubject(RequestsSubject+".>"))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, nil // it was delivered, or has expired, meanwhile
	}
	if err != nil {
		return time.Time{}, apiError("read the oldest waiting request", err)
	}
	return next.Time, nil
}

// SubmitRaw publishes a message unchanged to the requests of target, as an external
// producer would.
func (b *Bus) SubmitRaw(ctx context.Context, target string, header nats.Header, body []byte) error {
	if err := approval.ValidName(target); err != nil {
		return fmt.Errorf("publish a request: %w", err)
	}
	_, err := b.publishMsg(ctx, &nats.Msg{Subject: RequestsSubject + "." + target, Data: body, Header: header})
	return b.publishError("a request", err)
}
