package events

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/cloudevent"
)

// The types of events about reviews.
const (
	TypeReviewSubmitted = "vpcep.review.submitted"
	TypeReviewRefused   = "vpcep.review.refused"
)

// signatureHeader holds the signature of a review's data.
const signatureHeader = "Vpcep-Signature"

const (
	reviewBatch   = 64 // of a pull
	reviewRetry   = time.Second
	reviewPullFor = 5 * time.Second
)

// ReviewMessage is a review as it came.
type ReviewMessage struct {
	Data      []byte // exactly what was signed
	Signature string
	Target    string // of the subject
	RequestID string // likewise
	Sequence  uint64
	StoredAt  time.Time
}

// ReviewRefusal says why a review does not count.
type ReviewRefusal struct {
	RequestID string    `json:"request_id"`
	Target    string    `json:"target"`
	Reviewer  string    `json:"reviewer,omitzero"` // as the review says; verified if the signature was
	Code      string    `json:"code"`
	Text      string    `json:"text"`
	Sequence  uint64    `json:"sequence"` // of the review in VPCEP_REVIEWS
	At        time.Time `json:"at"`
}

// SubmitReview publishes a signed review of a request to target.
func (b *Bus) SubmitReview(ctx context.Context, target, requestID string, data []byte, signature string) (sequence uint64, err error) {
	for _, s := range []string{target, requestID} {
		if err := checkToken(s); err != nil {
			return 0, err
		}
	}
	id := "review-" + approval.RequestID(requestID, string(data))
	msg := &nats.Msg{
		Subject: ReviewsSubmittedSubject + "." + target + "." + requestID, Data: data,
		Header: nats.Header{
			"ce-specversion": {"1.0"}, "ce-id": {id}, "ce-source": {"vpcep-approver/reviews"}, "ce-type": {TypeReviewSubmitted},
			"ce-time": {time.Now().UTC().Format(time.RFC3339Nano)}, "content-type": {"application/json"}, signatureHeader: {signature},
		},
	}
	ack, err := b.publishMsg(ctx, msg)
	if err != nil {
		return 0, b.publishError("the review of request "+requestID, err)
	}
	return ack.Sequence, nil
}

// ConsumeReviews passes each review to handle, one at a time, until ctx ends. What
// handle returns as a refusal is published; another error has the review come again.
func (b *Bus) ConsumeReviews(ctx context.Context, handle func(context.Context, *ReviewMessage) (*ReviewRefusal, error)) {
	said := ""
	for ctx.Err() == nil {
		if err := b.pullReviews(ctx, handle); err != nil && ctx.Err() == nil {
			if b.nc.IsConnected() && err.Error() != said {
				said = err.Error()
				b.cfg.Log.Warn().Err(err).Msg("no reviews can be taken; trying again")
			}
			select {
			case <-ctx.Done():
			case <-time.After(reviewRetry):
			}
		}
	}
}

func (b *Bus) pullReviews(ctx context.Context, handle func(context.Context, *ReviewMessage) (*ReviewRefusal, error)) error {
	consumer, err := b.js.Consumer(ctx, ReviewsStream, ReviewsConsumerName)
	if err != nil {
		return apiError("bind the consumer "+ReviewsConsumerName, err)
	}
	for ctx.Err() == nil {
		if err := b.pullReviewBatch(ctx, consumer, handle); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bus) pullReviewBatch(ctx context.Context, consumer jetstream.Consumer, handle func(context.Context, *ReviewMessage) (*ReviewRefusal, error)) error {
	waiting, cancel := context.WithTimeout(ctx, reviewPullFor)
	defer cancel()
	batch, err := consumer.Fetch(reviewBatch, jetstream.FetchContext(waiting))
	if err != nil {
		return fmt.Errorf("pull reviews: %w", err)
	}
	for msg := range batch.Messages() {
		b.handleReview(ctx, msg, handle)
	}
	if err := batch.Error(); err != nil && waiting.Err() == nil {
		return fmt.Errorf("pull reviews: %w", err)
	}
	return nil
}

// handleReview settles one review. It is acknowledged once it is counted, or its
// refusal is stored.
func (b *Bus) handleReview(ctx context.Context, msg jetstream.Msg, handle func(context.Context, *ReviewMessage) (*ReviewRefusal, error)) {
	if ctx.Err() != nil {
		_ = msg.Nak() // else it comes again after AckWait
		return
	}
	// AckWait begins again here, and what a stalled worker has not written when it ends
	// is left to the next: else both could settle the review, each in its own way.
	_ = msg.InProgress() // one that is lost makes AckWait shorter
	own, cancel := context.WithTimeout(ctx, b.cfg.AckWait*4/5)
	defer cancel()
	in, refusal, err := decodeReview(msg)
	if err == nil && refusal == nil {
		refusal, err = handle(own, in)
	}
	if err == nil && refusal != nil {
		refusal.Sequence, refusal.At = in.Sequence, time.Now().UTC()
		err = b.refuseReview(own, in, refusal)
	}
	if err != nil {
		if ctx.Err() == nil {
			b.cfg.Log.Warn().Uint64("stream_sequence", in.Sequence).Err(err).Msg("a review could not be counted; it comes again")
		}
		_ = msg.NakWithDelay(reviewRetry)
		return
	}
	_ = msg.Ack() // one that is lost has the review come again, which changes nothing
}

// decodeReview reads what a review says of itself outside of its data.
func decodeReview(msg jetstream.Msg) (*ReviewMessage, *ReviewRefusal, error) {
	in := &ReviewMessage{Data: msg.Data(), Signature: msg.Headers().Get(signatureHeader)}
	meta, err := msg.Metadata()
	if err != nil {
		return in, nil, fmt.Errorf("read a review: %w", err)
	}
	in.Sequence, in.StoredAt = meta.Sequence.Stream, meta.Timestamp
	parts := strings.Split(strings.TrimPrefix(msg.Subject(), ReviewsSubmittedSubject+"."), ".")
	unreadable := func(format string, args ...any) (*ReviewMessage, *ReviewRefusal, error) {
		return in, &ReviewRefusal{RequestID: in.RequestID, Target: in.Target, Code: "unreadable", Text: fmt.Sprintf(format, args...)}, nil
	}
	if len(parts) != 2 {
		return unreadable("the subject must be %s.<target>.<request id>", ReviewsSubmittedSubject)
	}
	in.Target, in.RequestID = parts[0], parts[1]
	if n := messageSize(msg.Headers(), msg.Data()); n > MaxEvent {
		return unreadable("the review has %d bytes; at most %d are allowed", n, MaxEvent)
	}
	e, err := cloudevent.Parse(msg.Headers(), msg.Data())
	if err != nil {
		return unreadable("it is no CloudEvent: %v", err)
	}
	switch {
	case e.Type != TypeReviewSubmitted:
		return unreadable("the type %.100q is not %s", e.Type, TypeReviewSubmitted)
	case msg.Headers().Get("ce-specversion") == "":
		return unreadable("a review must be in binary mode: its data is what is signed")
	case len(msg.Headers().Values(signatureHeader)) != 1:
		return unreadable("the header %s must be there once", signatureHeader)
	}
	return in, nil, nil
}

// refuseReview publishes why a review does not count. Redelivered, it is published once.
func (b *Bus) refuseReview(ctx context.Context, in *ReviewMessage, why *ReviewRefusal) error {
	data, err := json.Marshal(why, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("write a refusal: %w", err)
	}
	target, request := in.Target, in.RequestID
	if approval.ValidName(target) != nil {
		target = "unknown"
	}
	if _, err := hex.DecodeString(request); err != nil || checkToken(request) != nil {
		request = "unknown"
	}
	id := "refused-" + strconv.FormatUint(in.Sequence, 10) + "-" + strconv.FormatInt(in.StoredAt.UnixNano(), 36)
	body, header, err := cloudevent.Event{
		ID: id, Source: "vpcep-approver", Type: TypeReviewRefused, Subject: request, Time: why.At, Data: jsontext.Value(data),
	}.Encode()
	if err != nil {
		return fmt.Errorf("write a refusal: %w", err)
	}
	msg := &nats.Msg{Subject: ReviewsRefusedSubject + "." + target + "." + request, Data: body, Header: header}
	if _, err := b.publishMsg(ctx, msg, jetstream.WithMsgID(id)); err != nil {
		return b.publishError("the refusal of a review", err)
	}
	b.cfg.Log.Warn().Str("request", in.RequestID).Str("target", in.Target).Str("reviewer", why.Reviewer).Str("code", why.Code).
		Str("text", why.Text).Uint64("stream_sequence", in.Sequence).Msg("refused a review")
	return nil
}

// RefusedReviews yields the refusals that are stored after a sequence, and new ones
// until ctx ends; of one request if requestID is set.
func (b *Bus) RefusedReviews(ctx context.Context, requestID string, after uint64) iter.Seq2[ReviewRefusal, error] {
	subject := ReviewsRefusedSubject + ".>"
	if requestID != "" {
		subject = ReviewsRefusedSubject + ".*." + requestID
	}
	return func(yield func(ReviewRefusal, error) bool) {
		for m, err := range b.read(ctx, readOptions{stream: ReviewsStream, subjects: []string{subject}, from: after + 1, follow: true}) {
			var out ReviewRefusal
			if err == nil {
				out, err = decodeRefusal(m)
			}
			if !yield(out, err) {
				return
			}
		}
	}
}

func decodeRefusal(m message) (ReviewRefusal, error) {
	e, err := cloudevent.Parse(m.Header, m.Data)
	if err != nil {
		return ReviewRefusal{}, fmt.Errorf("read the refusal %d: %w", m.sequence, err)
	}
	var out ReviewRefusal
	if err := json.Unmarshal(e.Data, &out); err != nil {
		return ReviewRefusal{}, fmt.Errorf("read the refusal %d: %w", m.sequence, err)
	}
	return out, nil
}
