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

// Headers that a dead letter has in addition to the original's. An original header
// that the broker or a client would act on is kept under headerOriginal. One that
// cannot be published unchanged is kept percent-encoded under headerEncoded.
const (
	headerReason     = "Vpcep-Deadletter-Reason"
	headerField      = "Vpcep-Deadletter-Field"
	headerText       = "Vpcep-Deadletter-Text"
	headerSubject    = "Vpcep-Deadletter-Subject"    // the original's
	headerSequence   = "Vpcep-Deadletter-Sequence"   // in VPCEP_REQUESTS
	headerDeliveries = "Vpcep-Deadletter-Deliveries" //
	headerStored     = "Vpcep-Deadletter-Stored"     // when the original was
	headerTruncated  = "Vpcep-Deadletter-Truncated"  // bytes of the original, if the body is only a part
	headerRequest    = "Vpcep-Deadletter-Request"    // id of the request, if it is poison
	headerOriginal   = "Vpcep-Original-"
	headerEncoded    = "Vpcep-Encoded-"
	headerOurs       = "Vpcep-Deadletter-"
)

// overhead bounds what the broker counts of a message in addition to wireSize.
const overhead = 512

// maxHeader is the broker's limit of headers, in bytes.
const maxHeader = 64<<10 - overhead

// wireSize returns the size of the headers of msg, and of all of it, as published.
func wireSize(msg *nats.Msg) (header, all int) {
	all = (&nats.Msg{Header: msg.Header, Data: msg.Data}).Size()
	return all - len(msg.Data), all
}

// storeDeadLetter stores the message of d as a dead letter. Repeated within an hour, it
// stores it once.
func (b *Bus) storeDeadLetter(ctx context.Context, d *delivery, why *InvalidEventError) error {
	msg := deadLetter(d.msg.Subject, d.msg.Header, d.msg.Data, d.meta, why)
	request := ""
	if why.Reason == ReasonPoison {
		request = cmp.Or(d.request, d.record.RequestID)
	}
	if request != "" {
		msg.Header[headerRequest] = []string{request}
	}
	// With its headers it may exceed the broker's limit. The full original stays in
	// VPCEP_REQUESTS.
	limit := int(b.nc.MaxPayload()) - overhead
	if header, all := wireSize(msg); all > limit || header > maxHeader {
		truncate(msg, limit)
	}
	id := deadLetterID(d.key.seq, d.key.at)
	same := func(raw *jetstream.RawStreamMsg) bool {
		return raw.Header.Get(headerSequence) == msg.Header.Get(headerSequence) && raw.Header.Get(headerStored) == msg.Header.Get(headerStored)
	}
	stored, err := b.publishWithID(ctx, DeadLettersStream, id, msg, same)
	if tooLarge(err) { // the stream has a lower limit than the broker
		truncate(msg, MaxEvent)
		stored, err = b.publishWithID(ctx, DeadLettersStream, id, msg, same)
	}
	if err != nil || request == "" {
		return b.publishError(fmt.Sprintf("the dead letter of message %d", d.key.seq), err)
	}
	return b.records.SetPoison(ctx, request, stored)
}

// deadLetterID returns the message id of the dead letter of a message.
func deadLetterID(sequence uint64, at int64) string {
	return fmt.Sprintf("deadletter-%d-%d", sequence, at)
}

// replayID returns the message id of a replay.
func replayID(d DeadLetter) string {
	return fmt.Sprintf("replay-%d-%d", d.Sequence, d.At.UnixNano())
}

func deadLetter(subject string, header nats.Header, body []byte, meta *nats.MsgMetadata, why *InvalidEventError) *nats.Msg {
	msg := nats.NewMsg(DeadLettersSubject + "." + why.Reason)
	msg.Data = body
	for name, values := range header {
		name, values = keepHeader(name, values)
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

// keepHeader returns how an original's header is kept: unchanged, unless the broker, the
// client library or this package would act on it, or it would be altered in transit.
func keepHeader(name string, values []string) (string, []string) {
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

// originalHeader is the reverse of keepHeader; false if name is not of the original.
func originalHeader(name string, values []string) (string, []string, bool) {
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

// sendable reports whether the client library publishes a header of that name. Other
// clients and the broker are less strict.
func sendable(name string) bool {
	for _, r := range name {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`"()/,:;<=>?@[\]{}`, r) {
			return false
		}
	}
	return name != ""
}

// alteredInTransit reports whether the client library would alter a header's value.
func alteredInTransit(value string) bool {
	return strings.ContainsAny(value, "\r\n") || textproto.TrimString(value) != value
}

// headerValue replaces the control characters of s, which would end a header line.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// truncate makes msg fit into limit bytes: it removes headers of the original if they
// are too large, then shortens the body.
func truncate(msg *nats.Msg, limit int) {
	if msg.Header.Get(headerTruncated) == "" {
		msg.Header[headerTruncated] = []string{strconv.Itoa(len(msg.Data))}
	}
	if header, _ := wireSize(msg); header > min(maxHeader, limit/2) {
		for name := range msg.Header {
			if !strings.HasPrefix(name, headerOurs) {
				delete(msg.Header, name)
			}
		}
	}
	if _, all := wireSize(msg); all > limit {
		msg.Data = msg.Data[:max(len(msg.Data)-(all-limit), 0)]
	}
}

// DeadLetter is a message that could not be served as a request, and why.
type DeadLetter struct {
	Sequence   uint64 // in VPCEP_DEADLETTERS; its number in commands
	Reason     string
	Field      string
	Text       string
	Subject    string // of the original
	Original   uint64 // the sequence of the original in VPCEP_REQUESTS
	Deliveries int
	Stored     time.Time // when the original was stored
	At         time.Time // when it was dead-lettered
	Truncated  int       // bytes of the original if Body is only a part of it, else 0
	RequestID  string    // of poison that could be decoded; else empty
	Header     nats.Header
	Body       []byte
}

// ErrNoDeadLetter means that no dead letter has that sequence.
var ErrNoDeadLetter = errors.New("no such dead letter")

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
		if name, values, ok := originalHeader(name, values); ok {
			d.Header[name] = values
		}
	}
	return d
}

// DeadLetters yields the stored dead letters, oldest first. An error is the last item.
func (b *Bus) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return b.deadLetters(ctx, false)
}

// FollowDeadLetters yields the stored dead letters and new ones, until ctx ends.
func (b *Bus) FollowDeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return b.deadLetters(ctx, true)
}

func (b *Bus) deadLetters(ctx context.Context, follow bool) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for msg, err := range b.read(ctx, readOptions{stream: DeadLettersStream, follow: follow}) {
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
func (b *Bus) DeadLetter(ctx context.Context, sequence uint64) (d DeadLetter, err error) {
	err = b.orDenied(ctx, func(ctx context.Context) error {
		d, err = b.deadLetter(ctx, sequence)
		return err
	}, DeadLettersStream)
	return d, err
}

func (b *Bus) deadLetter(ctx context.Context, sequence uint64) (DeadLetter, error) {
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

// Replay publishes the original of a dead letter again, without headers that the client
// library cannot publish, and removes the dead letter and its poison record. Interrupted
// and repeated within two minutes, it publishes the original once. What the broker denies
// is a *DeniedError.
func (b *Bus) Replay(ctx context.Context, sequence uint64) error {
	err := b.orDenied(ctx, func(ctx context.Context) error { return b.replay(ctx, sequence) }, DeadLettersStream, RequestsStream, bucketStream)
	if denied, ok := err.(*DeniedError); ok { //nolint:errorlint // one that is wrapped says what it is about
		return fmt.Errorf("replay the dead letter %d: %w", sequence, denied)
	}
	return err
}

func (b *Bus) replay(ctx context.Context, sequence uint64) error {
	d, err := b.deadLetter(ctx, sequence)
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
		// The broker acts on Nats- headers: the old id would make it a duplicate, and
		// an old expectation would be refused.
		if !sendable(name) || strings.HasPrefix(textproto.CanonicalMIMEHeaderKey(name), "Nats-") {
			delete(msg.Header, name)
		}
	}
	if !strings.HasPrefix(msg.Subject, RequestsSubject+".") {
		return fmt.Errorf("replay the dead letter %d: its subject %.80q is not a subject of requests", sequence, msg.Subject)
	}
	if d.RequestID != "" {
		if err := b.records.SetPoison(ctx, d.RequestID, 0); err != nil {
			return fmt.Errorf("replay the dead letter %d: %w", sequence, err)
		}
	}
	id := replayID(d)
	if _, all := wireSize(msg); int64(all+len(jetstream.MsgIDHeader)+len(id))+overhead <= b.nc.MaxPayload() {
		subject, body := msg.Subject, msg.Data
		_, err = b.publishWithID(ctx, RequestsStream, id, msg, func(raw *jetstream.RawStreamMsg) bool {
			return raw.Subject == subject && bytes.Equal(raw.Data, body) && sameHeaders(raw.Header, msg.Header)
		})
	} else { // too large with a message id
		_, err = b.publishMsg(ctx, msg)
	}
	if _, denied := errors.AsType[*DeniedError](err); denied && strings.HasPrefix(msg.Subject, SweepSubject) {
		return fmt.Errorf("replay the dead letter %d: only workers may publish requests of the sweep; drop it, and the sweep submits it again while its connection is pending: %w", sequence, err)
	}
	if err != nil {
		return b.publishError(fmt.Sprintf("the original of dead letter %d", sequence), err)
	}
	if err := b.drop(ctx, sequence); err != nil {
		return fmt.Errorf("the original of dead letter %d is submitted, but the dead letter is still there: %w", sequence, err)
	}
	return nil
}

// sameHeaders compares the headers, except those that the broker acts on.
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
		return nil, fmt.Errorf("replay the dead letter %d: it is truncated, and reading the original failed: %w", d.Sequence, err)
	}
	if !raw.Time.Equal(d.Stored) {
		return nil, fmt.Errorf("replay the dead letter %d: it is truncated, and the original has expired", d.Sequence)
	}
	return &nats.Msg{Subject: raw.Subject, Header: raw.Header, Data: raw.Data}, nil
}

// Drop removes a dead letter.
func (b *Bus) Drop(ctx context.Context, sequence uint64) error {
	return b.orDenied(ctx, func(ctx context.Context) error { return b.drop(ctx, sequence) }, DeadLettersStream)
}

func (b *Bus) drop(ctx context.Context, sequence uint64) error {
	if _, err := b.deadLetter(ctx, sequence); err != nil {
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
