package events

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a dead letter, beside the original's own. An original header that
// someone would act on is kept under headerOriginal, and one that could not be
// published as it is, by name or value, percent-encoded under headerEncoded.
const (
	headerReason     = "Vpcep-Deadletter-Reason"
	headerField      = "Vpcep-Deadletter-Field"
	headerText       = "Vpcep-Deadletter-Text"
	headerSubject    = "Vpcep-Deadletter-Subject"    // the original's
	headerSequence   = "Vpcep-Deadletter-Sequence"   // in VPCEP_REQUESTS
	headerDeliveries = "Vpcep-Deadletter-Deliveries" //
	headerStored     = "Vpcep-Deadletter-Stored"     // when the original was
	headerTruncated  = "Vpcep-Deadletter-Truncated"  // bytes of the original, if the body is a part of it
	headerRequest    = "Vpcep-Deadletter-Request"    // its id, if it is poison
	headerOriginal   = "Vpcep-Original-"
	headerEncoded    = "Vpcep-Encoded-"
	headerOurs       = "Vpcep-Deadletter-"
)

// reserve is what the broker may count of a message beside what size does.
const reserve = 512

// maxHeader is what the broker takes of headers, in bytes.
const maxHeader = 64<<10 - reserve

// wireSize is what the headers of msg, and all of it, count as published, in bytes.
func wireSize(msg *nats.Msg) (header, all int) {
	all = (&nats.Msg{Header: msg.Header, Data: msg.Data}).Size()
	return all - len(msg.Data), all
}

// storeDeadLetter stores the message of h as a dead letter. Stored again within
// the hour, it is stored once.
func (b *Bus) storeDeadLetter(ctx context.Context, d *delivery, why *InvalidEventError) error {
	msg := deadLetter(d.msg.Subject, d.msg.Header, d.msg.Data, d.meta, why)
	request := ""
	if why.Reason == ReasonPoison {
		request = cmp.Or(d.request, d.record.RequestID)
	}
	if request != "" {
		msg.Header[headerRequest] = []string{request}
	}
	// The whole may be larger than a message can be: the original was nearly as
	// large already. It is in VPCEP_REQUESTS in full.
	most := int(b.nc.MaxPayload()) - reserve
	if header, all := wireSize(msg); all > most || header > maxHeader {
		truncate(msg, most)
	}
	id := deadLetterID(d.key.seq, d.key.at)
	same := func(raw *jetstream.RawStreamMsg) bool {
		return raw.Header.Get(headerSequence) == msg.Header.Get(headerSequence) && raw.Header.Get(headerStored) == msg.Header.Get(headerStored)
	}
	stored, err := b.publishWithID(ctx, DeadLettersStream, id, msg, same)
	if tooLarge(err) { // the stream takes less than the broker
		truncate(msg, MaxEvent)
		stored, err = b.publishWithID(ctx, DeadLettersStream, id, msg, same)
	}
	if err != nil || request == "" {
		return b.publishError(fmt.Sprintf("the dead letter of message %d", d.key.seq), err)
	}
	return b.records.SetPoison(ctx, request, stored)
}

// deadLetterID is the message id of the dead letter of a message.
func deadLetterID(sequence uint64, at int64) string {
	return fmt.Sprintf("deadletter-%d-%d", sequence, at)
}

// replayID is the message id of a replay.
func replayID(d DeadLetter) string {
	return fmt.Sprintf("replay-%d-%d", d.Sequence, d.At.UnixNano())
}

func deadLetter(subject string, header nats.Header, body []byte, meta *nats.MsgMetadata, why *InvalidEventError) *nats.Msg {
	msg := nats.NewMsg(DeadLettersSubject + "." + why.Reason)
	msg.Data = body
	for name, values := range header {
		name, values = kept(name, values)
		msg.Header[name] = values
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

// kept is how an original's header is kept: as it is, unless the broker, the
// client library or we would take it for an order, or it would not arrive so.
func kept(name string, values []string) (string, []string) {
	if !sendable(name) || slices.ContainsFunc(values, alteredInTransit) {
		encoded := make([]string, len(values))
		for i, v := range values {
			encoded[i] = url.QueryEscape(v)
		}
		return headerEncoded + url.QueryEscape(name), encoded
	}
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	if strings.HasPrefix(canonical, "Nats-") || strings.HasPrefix(canonical, "Vpcep-") ||
		canonical == "Status" || canonical == "Description" {
		return headerOriginal + name, values
	}
	return name, values
}

// original is what kept was given; false if name is none of the original's.
func original(name string, values []string) (string, []string, bool) {
	if rest, ok := strings.CutPrefix(name, headerOriginal); ok {
		return rest, values, true
	}
	if rest, ok := strings.CutPrefix(name, headerEncoded); ok {
		decoded, err := url.QueryUnescape(rest)
		out := make([]string, len(values))
		for i, v := range values {
			var broken error
			out[i], broken = url.QueryUnescape(v)
			err = errors.Join(err, broken)
		}
		return decoded, out, err == nil
	}
	return name, values, !strings.HasPrefix(name, headerOurs) && !strings.HasPrefix(name, "Nats-")
}

// sendable reports whether the client library publishes a header of that name.
// Others, and the broker, are less strict.
func sendable(name string) bool {
	for _, r := range name {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`"()/,:;<=>?@[\]{}`, r) {
			return false
		}
	}
	return name != ""
}

// alteredInTransit reports whether the client library would alter a value.
func alteredInTransit(value string) bool {
	return strings.ContainsAny(value, "\r\n") || textproto.TrimString(value) != value
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
	if msg.Header.Get(headerTruncated) == "" {
		msg.Header[headerTruncated] = []string{strconv.Itoa(len(msg.Data))}
	}
	if header, _ := wireSize(msg); header > min(maxHeader, most/2) {
		for name := range msg.Header {
			if !strings.HasPrefix(name, headerOurs) {
				delete(msg.Header, name)
			}
		}
	}
	if _, all := wireSize(msg); all > most {
		msg.Data = msg.Data[:max(len(msg.Data)-(all-most), 0)]
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
	RequestID  string    // if it is poison, and could be decoded
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
		RequestID: header.Get(headerRequest),
	}
	if t, err := time.Parse(time.RFC3339Nano, header.Get(headerStored)); err == nil {
		d.Stored = t
	}
	for name, values := range header {
		if name, values, ok := original(name, values); ok {
			d.Header[name] = values
		}
	}
	return d
}

// DeadLetters yields the dead letters that are stored now, oldest first. An
// error is the last thing it yields.
func (b *Bus) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return b.deadLetters(ctx, false)
}

// FollowDeadLetters yields the dead letters that are stored now and those to
// come, until ctx ends.
func (b *Bus) FollowDeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return b.deadLetters(ctx, true)
}

func (b *Bus) deadLetters(ctx context.Context, follow bool) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for msg, err := range b.read(ctx, reading{stream: DeadLettersStream, follow: follow}) {
			if err != nil {
				yield(DeadLetter{}, fmt.Errorf("list the dead letters: %w", err))
				return
			}
			if !yield(newDeadLetter(msg.sequence, msg.at, msg.Header, msg.Data), nil) {
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

// Replay hands the original of a dead letter in again, as it was but for headers
// that the client library cannot publish, and removes the dead letter; what was
// poison is none any more. Cut off in between and repeated within two minutes, it
// hands it in once.
func (b *Bus) Replay(ctx context.Context, sequence uint64) error {
	d, err := b.DeadLetter(ctx, sequence)
	if err != nil {
		return err
	}
	msg := &nats.Msg{Subject: d.Subject, Header: d.Header, Data: d.Body}
	if d.Truncated > 0 {
		if msg, err = b.originalOf(ctx, d); err != nil {
			return err
		}
	}
	for name := range msg.Header {
		// The broker acts on these: the old id would make it a repeat, and an
		// old expectation would be refused.
		if !sendable(name) || strings.HasPrefix(textproto.CanonicalMIMEHeaderKey(name), "Nats-") {
			delete(msg.Header, name)
		}
	}
	if !strings.HasPrefix(msg.Subject, RequestsSubject+".") {
		return fmt.Errorf("replay the dead letter %d: its subject %.80q is no subject of requests", sequence, msg.Subject)
	}
	if d.RequestID != "" {
		if err := b.records.SetPoison(ctx, d.RequestID, 0); err != nil {
			return fmt.Errorf("replay the dead letter %d: %w", sequence, err)
		}
	}
	id := replayID(d)
	if _, all := wireSize(msg); int64(all+len(jetstream.MsgIDHeader)+len(id))+reserve <= b.nc.MaxPayload() {
		subject, body := msg.Subject, msg.Data
		_, err = b.publishWithID(ctx, RequestsStream, id, msg, func(raw *jetstream.RawStreamMsg) bool {
			return raw.Subject == subject && bytes.Equal(raw.Data, body) && sameHeaders(raw.Header, msg.Header)
		})
	} else { // only the message itself fits
		_, err = b.publishMsg(ctx, msg)
	}
	if _, denied := errors.AsType[*DeniedError](err); denied && strings.HasPrefix(msg.Subject, SweepSubject) {
		return fmt.Errorf("replay the dead letter %d: only workers publish what the sweep finds; drop it, and the sweep submits it again while its connection is pending: %w", sequence, err)
	}
	if err != nil {
		return b.publishError(fmt.Sprintf("the original of dead letter %d", sequence), err)
	}
	return b.Drop(ctx, sequence)
}

// sameHeaders compares all headers but those that the broker acts on.
func sameHeaders(a, b nats.Header) bool {
	plain := func(h nats.Header) nats.Header {
		h = maps.Clone(h)
		maps.DeleteFunc(h, func(name string, _ []string) bool { return strings.HasPrefix(name, "Nats-") })
		return h
	}
	return maps.EqualFunc(plain(a), plain(b), slices.Equal)
}

// originalOf reads the whole message of d from the requests.
func (b *Bus) originalOf(ctx context.Context, d DeadLetter) (*nats.Msg, error) {
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
