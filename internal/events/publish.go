package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Publish stores r as the result of its decision, or finds that a result of the
// decision is stored already, which is as good. When it returns nil the broker
// has the result. It may be repeated and called at once.
func (b *Bus) Publish(ctx context.Context, r approval.Result) error {
	err := b.publishResult(ctx, r)
	b.cfg.Observer.ResultPublished(err == nil)
	return err
}

func (b *Bus) publishResult(ctx context.Context, r approval.Result) error {
	if token(r.Decision.ID) != nil || approval.ValidName(r.Request.Target.Name) != nil || r.Outcome == "" {
		return fmt.Errorf("publish a result: decision %.80q, target %.80q and outcome %.20q do not make a subject",
			r.Decision.ID, r.Request.Target.Name, r.Outcome)
	}
	// First what would have been, so that with the result itself all is told.
	if r.Decision.Shadow != nil {
		if err := b.publishOnce(ctx, shadowOf(r)); err != nil {
			return err
		}
	}
	return b.publishOnce(ctx, r)
}

// publishOnce stores r unless something of its decision is stored, under any
// outcome. Unlike the duplicate window this holds for as long as the stream
// keeps results.
func (b *Bus) publishOnce(ctx context.Context, r approval.Result) error {
	body, header, err := encodeResult(r, b.nc.MaxPayload()-reserve)
	if err != nil {
		return err
	}
	msg := &nats.Msg{Subject: resultSubject(string(r.Outcome), r.Request.Target.Name, r.Decision.ID), Data: body, Header: header}
	fence := jetstream.WithExpectLastSequenceForSubject(0, resultSubject("*", "*", r.Decision.ID))
	_, err = b.js.PublishMsg(ctx, msg, fence)
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil
	}
	return b.published("the result of request "+r.Request.ID, err)
}

func resultSubject(outcome, target, decision string) string {
	return ResultsSubject + "." + outcome + "." + target + "." + decision
}

// insufficientResources is the code of a broker that may store no more.
const insufficientResources jetstream.ErrorCode = 10023

// published makes an error of publishing what readable, and has the streams
// looked at if the broker does not know one.
func (b *Bus) published(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		b.doubt()
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

// Submit publishes r as a request event, after checking that it would be taken.
// The same request submitted again within two minutes counts once. An error that
// is a *Rejected says what is wrong with r; a *BuriedError that r is poison.
func (b *Bus) Submit(ctx context.Context, r approval.Request) error {
	body, header, err := encodeRequest(r)
	if err != nil {
		return err
	}
	if _, err := DecodeRequest(header, body, approval.Targets{r.Target}); err != nil {
		return fmt.Errorf("the request would not be taken: %w", err)
	}
	id := approval.RequestID(r.Source, r.EventID)
	if err := b.refuseBuried(ctx, id); err != nil {
		return err
	}
	msg := &nats.Msg{Subject: RequestsSubject + "." + r.Target.Name, Data: body, Header: header}
	_, err = b.js.PublishMsg(ctx, msg, jetstream.WithMsgID(id))
	return b.published("the request "+id, err)
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
	_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: RequestsSubject + "." + target, Data: body, Header: header})
	return b.published("a request", err)
}
