package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a dead letter, beside the original's own. An original header that
// the broker would act on is kept under headerOriginal.
const (
	headerReason     = "Vpcep-Deadletter-Reason"
	headerField      = "Vpcep-Deadletter-Field"
	headerText       = "Vpcep-Deadletter-Text"
	headerSubject    = "Vpcep-Deadletter-Subject"    // the original's
	headerSequence   = "Vpcep-Deadletter-Sequence"   // in VPCEP_REQUESTS
	headerDeliveries = "Vpcep-Deadletter-Deliveries" //
	headerStored     = "Vpcep-Deadletter-Stored"     // when the original was
	headerTruncated  = "Vpcep-Deadletter-Truncated"  // bytes of the original, if the body is a part of it
	headerOriginal   = "Vpcep-Original-"
	headerOurs       = "Vpcep-Deadletter-"
)

// reserve is what the broker may count of a message beside what size does.
const reserve = 512

// maxHeader is what the broker takes of headers, 64 KiB, less what their lines
// add to names and values.
const maxHeader = 56 << 10

// bury stores the message of h as a dead letter. Stored again within the hour, it
// is stored once.
func (b *Bus) bury(ctx context.Context, h *inHand, why *Rejected) error {
	msg := deadLetter(h.msg.Subject(), h.msg.Headers(), h.msg.Data(), h.meta, why)
	// The whole may be larger than a message can be: the original was nearly as
	// large already. It is in VPCEP_REQUESTS in full.
	if most := int(b.nc.MaxPayload()) - reserve; size(msg.Header, msg.Data) > most || size(msg.Header, nil) > maxHeader {
		truncate(msg, most)
	}
	id := fmt.Sprintf("deadletter-%d-%d", h.key.seq, h.key.at)
	_, err := b.js.PublishMsg(ctx, msg, jetstream.WithMsgID(id))
	return b.published(fmt.Sprintf("the dead letter of message %d", h.key.seq), err)
}

func deadLetter(subject string, header nats.Header, body []byte, meta *jetstream.MsgMetadata, why *Rejected) *nats.Msg {
	msg := nats.NewMsg(DeadLettersSubject + "." + why.Reason)
	msg.Data = body
	for name, values := range header {
		msg.Header[keptAs(name)] = values
	}
	set := func(name, value string) {
		if value != "" {
			msg.Header[name] = []string{headerValue(value)}
		}
	}
	set(headerReason, why.Reason)
	set(headerField, why.Field)
	set(headerText, why.Text)
	set(headerSubject, subject)
	set(headerSequence, strconv.FormatUint(meta.Sequence.Stream, 10))
	set(headerDeliveries, strconv.FormatUint(meta.NumDelivered, 10))
	set(headerStored, meta.Timestamp.UTC().Format(time.RFC3339Nano))
	return msg
}

// keptAs is the name under which an original's header is kept: its own, unless
// the broker or we would take it for an order.
func keptAs(name string) string {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	if strings.HasPrefix(canonical, "Nats-") || strings.HasPrefix(canonical, "Vpcep-") {
		return headerOriginal + name
	}
	return name
}

// headerValue is s without what would end a header line.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// truncate makes msg fit into most bytes: headers of the original that are too
// large go, then the body shrinks.
func truncate(msg *nats.Msg, most int) {
	msg.Header[headerTruncated] = []string{strconv.Itoa(len(msg.Data))}
	if size(msg.Header, nil) > min(maxHeader, most/2) {
		for name := range msg.Header {
			if !strings.HasPrefix(name, headerOurs) {
				delete(msg.Header, name)
			}
		}
	}
	if over := size(msg.Header, msg.Data) - most; over > 0 {
		msg.Data = msg.Data[:max(len(msg.Data)-over, 0)]
	}
}

// DeadLetter is a message that was no request, and why.
type DeadLetter struct {
	Sequence   uint64 // names it among the dead letters
	Reason     string
	Field      string
	Text       string
	Subject    string // of the original
	Original   uint64 // the sequence of the original in VPCEP_REQUESTS
	Deliveries int
	Stored     time.Time // when the original was stored
	At         time.Time // when it became a dead letter
	Truncated  int       // bytes of the original if Body is only a part of it, else 0
	Header     nats.Header
	Body       []byte
}

// ErrNoDeadLetter says that there is no dead letter with that sequence.
var ErrNoDeadLetter = errors.New("there is no such dead letter")

func newDeadLetter(seq uint64, at time.Time, header nats.Header, body []byte) DeadLetter {
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(header.Get(name), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	d := DeadLetter{
		Sequence: seq, At: at, Body: body, Header: nats.Header{},
		Reason: header.Get(headerReason), Field: header.Get(headerField), Text: header.Get(headerText),
		Subject: header.Get(headerSubject), Original: number(headerSequence),
		Deliveries: clampInt(number(headerDeliveries)), Truncated: clampInt(number(headerTruncated)),
	}
	if t, err := time.Parse(time.RFC3339Nano, header.Get(headerStored)); err == nil {
		d.Stored = t
	}
	for name, values := range header {
		switch original, kept := strings.CutPrefix(name, headerOriginal); {
		case kept:
			d.Header[original] = values
		case strings.HasPrefix(name, headerOurs), strings.HasPrefix(name, "Nats-"):
		default:
			d.Header[name] = values
		}
	}
	return d
}

// DeadLetters yields the dead letters that are stored now, oldest first. An
// error is the last thing it yields.
func (b *Bus) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for msg, err := range b.stored(ctx, DeadLettersStream, jetstream.OrderedConsumerConfig{}, false) {
			if err != nil {
				yield(DeadLetter{}, fmt.Errorf("list the dead letters: %w", err))
				return
			}
			meta, err := msg.Metadata()
			if err != nil {
				yield(DeadLetter{}, fmt.Errorf("list the dead letters: %w", err))
				return
			}
			if !yield(newDeadLetter(meta.Sequence.Stream, meta.Timestamp, msg.Headers(), msg.Data()), nil) {
				return
			}
		}
	}
}

// DeadLetter returns one dead letter.
func (b *Bus) DeadLetter(ctx context.Context, sequence uint64) (DeadLetter, error) {
	s, err := b.js.Stream(ctx, DeadLettersStream)
	if err != nil {
		return DeadLetter{}, apiError("open the stream "+DeadLettersStream, err)
	}
	raw, err := s.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", sequence, ErrNoDeadLetter)
	}
	if err != nil {
		return DeadLetter{}, apiError(fmt.Sprintf("read the dead letter %d", sequence), err)
	}
	return newDeadLetter(raw.Sequence, raw.Time, raw.Header, raw.Data), nil
}

// Replay hands the original of a dead letter in again, as it was, and removes the
// dead letter. Cut off in between and repeated within two minutes, it hands it in
// once.
func (b *Bus) Replay(ctx context.Context, sequence uint64) error {
	d, err := b.DeadLetter(ctx, sequence)
	if err != nil {
		return err
	}
	msg := &nats.Msg{Subject: d.Subject, Header: d.Header, Data: d.Body}
	if d.Truncated > 0 {
		if msg, err = b.original(ctx, d); err != nil {
			return err
		}
	}
	for name := range msg.Header {
		// The broker acts on these: the old id would make it a repeat, and an
		// old expectation would be refused.
		if strings.HasPrefix(textproto.CanonicalMIMEHeaderKey(name), "Nats-") {
			delete(msg.Header, name)
		}
	}
	if !strings.HasPrefix(msg.Subject, RequestsSubject+".") {
		return fmt.Errorf("replay the dead letter %d: its subject %.80q is no subject of requests", sequence, msg.Subject)
	}
	var opts []jetstream.PublishOpt
	id := fmt.Sprintf("replay-%d-%d", d.Sequence, d.At.UnixNano())
	if int64(size(msg.Header, msg.Data)+len(jetstream.MsgIDHeader)+len(id))+reserve <= b.nc.MaxPayload() {
		opts = append(opts, jetstream.WithMsgID(id)) // else only the message itself fits
	}
	if _, err := b.js.PublishMsg(ctx, msg, opts...); err != nil {
		return b.published(fmt.Sprintf("the original of dead letter %d", sequence), err)
	}
	return b.Drop(ctx, sequence)
}

// original reads the whole message of d from the requests.
func (b *Bus) original(ctx context.Context, d DeadLetter) (*nats.Msg, error) {
	s, err := b.js.Stream(ctx, RequestsStream)
	if err != nil {
		return nil, apiError("open the stream "+RequestsStream, err)
	}
	raw, err := s.GetMsg(ctx, d.Original)
	if err != nil {
		return nil, fmt.Errorf("replay the dead letter %d: it holds only a part, and the original cannot be read: %w", d.Sequence, err)
	}
	if !raw.Time.Equal(d.Stored) {
		return nil, fmt.Errorf("replay the dead letter %d: it holds only a part, and the original is gone", d.Sequence)
	}
	return &nats.Msg{Subject: raw.Subject, Header: raw.Header, Data: raw.Data}, nil
}

// Drop removes a dead letter.
func (b *Bus) Drop(ctx context.Context, sequence uint64) error {
	if _, err := b.DeadLetter(ctx, sequence); err != nil {
		return err
	}
	s, err := b.js.Stream(ctx, DeadLettersStream)
	if err != nil {
		return apiError("open the stream "+DeadLettersStream, err)
	}
	if err := s.DeleteMsg(ctx, sequence); err != nil {
		return apiError(fmt.Sprintf("remove the dead letter %d", sequence), err)
	}
	return nil
}
