// Package cloudevent is the codec of CloudEvents 1.0 over NATS messages. It reads
// both content modes of the NATS binding and writes structured mode. It knows
// nothing of JetStream.
package cloudevent

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vpcep-approver/vpcep-approver/internal/jsonappend"
)

const (
	// maxDepth bounds the nesting of an event's JSON.
	maxDepth = 24
	// maxAttribute bounds id, source and subject, in bytes.
	maxAttribute = 1024
	// maxTime bounds a time, in bytes; digits after the ninth of a fraction are dropped.
	maxTime = 64

	structuredType = "application/cloudevents+json"
	binaryPrefix   = "ce-"
)

// Event is a CloudEvent 1.0 whose data is JSON.
type Event struct {
	ID, Source, Type string
	Subject          string
	Time             time.Time         // zero if absent
	Extensions       map[string]string // nil if there are none
	Data             jsontext.Value    // nil if absent
}

// Error says why a message is not a CloudEvent.
type Error struct {
	Field string // the attribute or header; empty: the whole event
	Text  string
}

func (e *Error) Error() string {
	if e.Field == "" {
		return e.Text
	}
	return e.Field + ": " + e.Text
}

func invalid(field, format string, args ...any) *Error {
	return &Error{Field: field, Text: fmt.Sprintf(format, args...)}
}

// Parse reads a message in either content mode of the NATS binding. It is in
// structured mode if its Content-Type says so, or if it has no ce-specversion. Any
// error is an *Error.
//
// Source: CloudEvents 1.0.2 and NATS Protocol Binding 1.0.3-wip of July 2026:
// header names are compared without regard to case, values are percent-encoded.
func Parse(header map[string][]string, body []byte) (Event, error) {
	attributes, contentType, err := attributeHeaders(header)
	if err != nil {
		return Event{}, err
	}
	_, binary := attributes["specversion"]
	if strings.HasPrefix(strings.ToLower(contentType), "application/cloudevents") {
		if binary {
			return Event{}, invalid("header ce-specversion", "the event is in structured mode by its Content-Type and in binary mode by this header; it can be only one")
		}
		if err := isJSON(contentType, structuredType); err != nil {
			return Event{}, invalid("header content-type", "%v", err)
		}
	}
	if binary {
		return parseBinary(attributes, contentType, body)
	}
	return parseStructured(body)
}

// attributeHeaders returns the decoded ce- headers by the names of their
// attributes, and the Content-Type.
func attributeHeaders(header map[string][]string) (map[string]string, string, error) {
	attributes := map[string]string{}
	var contentType string
	var typed bool
	for _, name := range slices.Sorted(maps.Keys(header)) {
		lower := strings.ToLower(name)
		attribute, isAttribute := strings.CutPrefix(lower, binaryPrefix)
		if !isAttribute && lower != "content-type" {
			continue
		}
		_, twice := attributes[attribute]
		if len(header[name]) != 1 || isAttribute && twice || !isAttribute && typed {
			return nil, "", invalid("header "+lower, "it is there more than once; two readers could see two events")
		}
		value := header[name][0]
		if !isAttribute {
			contentType, typed = value, true
			continue
		}
		decoded, err := url.PathUnescape(value)
		if err != nil {
			return nil, "", invalid("header "+lower, "its percent-encoding is broken: %v", err)
		}
		attributes[attribute] = decoded
	}
	return attributes, contentType, nil
}

func parseBinary(attributes map[string]string, contentType string, body []byte) (Event, error) {
	e := builder{values: attributes, place: "header ce-"}
	for _, t := range []string{contentType, attributes["datacontenttype"]} {
		if err := isJSON(t, ""); err != nil {
			return Event{}, invalid("header ce-datacontenttype", "%v", err)
		}
	}
	if body = withoutBOM(body); len(body) > 0 {
		if err := wellFormed(body, "data"); err != nil {
			return Event{}, err
		}
		e.data = body
	}
	return e.event()
}

// withoutBOM is text without the byte order mark that some editors and libraries
// write before UTF-8. RFC 8259, section 8.1, lets a reader ignore it.
func withoutBOM(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\uFEFF")) }

// member is a member of an event's JSON object.
type member struct {
	name  string
	value jsontext.Value
}

// decoders are kept for what they have allocated to find members that occur twice.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }} //nolint:gochecknoglobals // a cache

// members returns the members of the JSON object body, by name, after the same checks
// as wellFormed makes, in one pass.
func members(body []byte) ([]member, error) {
	out := make([]member, 0, 8)
	d := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(d)
	d.Reset(bytes.NewBuffer(body))
	if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
		return nil, notAnObject(body)
	}
	for d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			return nil, notAnObject(body)
		}
		name := token.String()
		value, err := d.ReadValue()
		if err != nil || deeperThan(value, maxDepth-1) {
			return nil, notAnObject(body)
		}
		out = append(out, member{name, value})
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, notAnObject(body)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, notAnObject(body)
	}
	slices.SortFunc(out, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// notAnObject says why body is not a JSON object.
func notAnObject(body []byte) error {
	if err := wellFormed(body, ""); err != nil {
		return err
	}
	return invalid("", "the event is not a JSON object")
}

// deeperThan reports whether more than most objects and lists lie inside one another in
// value, which is valid JSON.
func deeperThan(value jsontext.Value, most int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			if depth++; depth > most {
				return true
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}

func parseStructured(body []byte) (Event, error) {
	all, err := members(withoutBOM(body))
	if err != nil {
		return Event{}, err
	}
	e := builder{values: make(map[string]string, len(all))}
	for _, m := range all {
		name, value := m.name, m.value
		switch name {
		case "data":
			e.data = value
			continue
		case "data_base64":
			if value.Kind() == 'n' {
				continue // as of any attribute, null says that it is absent
			}
			if e.data != nil && e.data.Kind() != 'n' { // "data" comes before it in the order of names
				return Event{}, invalid(name, "the event has data and data_base64; it can have only one")
			}
			data, err := fromBase64(value)
			if err != nil {
				return Event{}, err
			}
			e.data = data
			continue
		}
		lower, err := attributeName(name, all)
		if err != nil {
			return Event{}, err
		}
		if kind := value.Kind(); isCore(name) && kind != '"' && kind != 'n' {
			return Event{}, invalid(name, "it must be a JSON string")
		}
		text, present, err := attributeValue(name, value)
		if err != nil {
			return Event{}, err
		}
		if present {
			e.values[lower] = text
		}
	}
	if err := isJSON(e.values["datacontenttype"], ""); err != nil {
		return Event{}, invalid("datacontenttype", "%v", err)
	}
	return e.event()
}

// attributeName is name in lower case, which is how binary mode knows it. The
// specification asks for lower case, and many producers write extensions in
// camel case. What a reader that ignores case could take for another member is
// refused.
func attributeName(name string, all []member) (string, error) {
	lower := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, name)
	if lower == name {
		return name, nil
	}
	twice := slices.ContainsFunc(all, func(m member) bool {
		return m.name != name && (m.name == lower || strings.EqualFold(m.name, name))
	})
	if twice || isCore(lower) || lower == "data" || lower == "data_base64" {
		return "", invalid(Shorten(name), "it differs from another member only in case; two readers could see two events")
	}
	return lower, nil
}

func fromBase64(value jsontext.Value) (jsontext.Value, error) {
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return nil, invalid("data_base64", "it is not a string")
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, invalid("data_base64", "it is not base64: %v", err)
	}
	data = withoutBOM(data)
	return data, wellFormed(data, "data_base64")
}

// isCore reports whether an attribute is of the specification itself. An id that is a number for
// one reader and a string for the next would be two identities of one event.
func isCore(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		return true
	}
	return false
}

// attributeValue returns a JSON value as the string that it is in binary mode;
// present is false for null, which stands for an absent attribute.
func attributeValue(name string, value jsontext.Value) (text string, present bool, err error) {
	switch value.Kind() {
	case 'n':
		return "", false, nil
	case '"':
		unquoted := value[1 : len(value)-1]
		if bytes.IndexByte(unquoted, '\\') >= 0 {
			unquoted, err = jsontext.AppendUnquote(nil, value)
		}
		text = string(unquoted)
	case 't', 'f':
		text = string(value)
	case '0':
		// The specification has 32 bits; many producers send more.
		if _, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			_, err = strconv.ParseUint(string(value), 10, 64)
		}
		text = string(value)
	default:
		err = errors.New("it is an object or a list")
	}
	if err != nil {
		return "", false, invalid(name, "it must be a string, a bool or an integer of at most 64 bits")
	}
	return text, true, nil
}

// wellFormed reports why data is not exactly one JSON value of bounded depth and
// without repeated members.
func wellFormed(data []byte, field string) error {
	d := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(d)
	d.Reset(bytes.NewBuffer(data))
	for {
		_, err := d.ReadToken()
		if d.StackDepth() > maxDepth {
			return invalid(field, "the JSON is nested deeper than %d", maxDepth)
		}
		if errors.Is(err, io.EOF) {
			return invalid(field, "there is no JSON")
		}
		if err != nil {
			return invalid(field, "%s", JSONError(err))
		}
		if d.StackDepth() == 0 {
			break
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return invalid(field, "unexpected data after the JSON at byte %d", d.InputOffset())
	}
	return nil
}

// JSONError describes an error of the JSON decoder: what is wrong and where,
// without quoting the input at length.
func JSONError(err error) string {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Sprintf("it is not JSON at byte %d, within %.100q: %v", e.ByteOffset, e.JSONPointer, e.Err)
	}
	return fmt.Sprintf("it is not JSON: %.200v", err)
}

// isJSON reports why contentType is not want, or, if that is empty, not JSON. An
// empty contentType is JSON.
func isJSON(contentType, want string) error {
	if contentType == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("%.100q is not a media type", contentType)
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8") {
		return fmt.Errorf("%.100q is not UTF-8", contentType)
	}
	if want != "" && media != want || !strings.HasSuffix(media, "/json") && !strings.HasSuffix(media, "+json") {
		return fmt.Errorf("%.100q is not %s", contentType, cmp.Or(want, "JSON"))
	}
	return nil
}

// rfc3339 is the grammar of RFC 3339, section 5.6. time.Parse takes more: fractions
// after a comma, hours of one digit, offsets of 24 hours.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// parseTime reads a time of RFC 3339 that can be written in UTC again: what is
// within the years 0 to 9999 in its own zone may be outside of them in UTC.
func parseTime(s string) (time.Time, error) {
	if len(s) > maxTime || !rfc3339.MatchString(s) {
		return time.Time{}, fmt.Errorf("%.60q is not a time as in 2026-11-21T08:00:00Z", s)
	}
	t, err := time.Parse(time.RFC3339Nano, strings.ToUpper(s))
	if err != nil {
		return time.Time{}, fmt.Errorf("%.60q is not a time as in 2026-11-21T08:00:00Z", s)
	}
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%.60q is outside of the years 0 to 9999 in UTC", s)
	}
	return t, nil
}

// builder checks attributes and builds the event from them.
type builder struct {
	values map[string]string
	data   jsontext.Value
	place  string // before an attribute's name in errors
}

func (b builder) event() (Event, error) {
	e := Event{Data: b.data}
	var room [16]string // for the names of most events
	names := room[:0]
	for name := range b.values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := b.check(name); err != nil {
			return Event{}, err
		}
	}
	for name, value := range b.values {
		switch name {
		case "id":
			e.ID = value
		case "source":
			e.Source = value
		case "type":
			e.Type = value
		case "subject":
			e.Subject = value
		case "time":
			var err error
			if e.Time, err = parseTime(value); err != nil {
				return Event{}, invalid(b.place+"time", "%v", err)
			}
		case "specversion", "datacontenttype", "dataschema":
		default:
			if e.Extensions == nil {
				e.Extensions = map[string]string{}
			}
			e.Extensions[name] = value
		}
	}
	if v := b.values["specversion"]; v != "1.0" {
		return Event{}, invalid(b.place+"specversion", "it is %.20q, not \"1.0\"", v)
	}
	for _, name := range []string{"id", "source", "type"} {
		if b.values[name] == "" {
			return Event{}, invalid(b.place+name, "it is missing or empty")
		}
	}
	if _, err := url.Parse(e.Source); err != nil {
		return Event{}, invalid(b.place+"source", "it is not a URI reference")
	}
	return e, nil
}

// check applies the rules of all attributes to the attribute name.
func (b builder) check(name string) error {
	value := b.values[name]
	for _, r := range name {
		if ok := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'; !ok {
			return invalid(b.place+Shorten(name), "the name of an attribute may hold only a-z and 0-9")
		}
	}
	if name == "" {
		return invalid(b.place, "an attribute has no name")
	}
	if len(value) > maxAttribute && (name == "id" || name == "source" || name == "subject" || name == "type") {
		return invalid(b.place+name, "it has %d bytes, more than the %d that are allowed", len(value), maxAttribute)
	}
	if !utf8.ValidString(value) {
		return invalid(b.place+Shorten(name), "it is not UTF-8")
	}
	for _, r := range value {
		if r < 0x20 || r >= 0x7f && r <= 0x9f || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
			return invalid(b.place+Shorten(name), "it holds the control character or noncharacter %U", r)
		}
	}
	return nil
}

// Shorten cuts a name from outside to a length that fits into an error.
func Shorten(name string) string {
	if len(name) > 40 {
		return strings.ToValidUTF8(name[:40], "") + "…"
	}
	return name
}

// Encode returns e as a message in structured mode. The same event always has the
// same JSON.
func (e Event) Encode() (body []byte, header map[string][]string, err error) {
	return EncodeWith(e, e.Data)
}

// wire is an event in structured mode, with data of a type that encoders know in advance.
type wire[T any] struct {
	SpecVersion     string            `json:"specversion"`
	ID              string            `json:"id"`
	Source          string            `json:"source"`
	Type            string            `json:"type"`
	Subject         string            `json:"subject,omitzero"`
	Time            time.Time         `json:"time,omitzero"`
	DataContentType string            `json:"datacontenttype"`
	Data            T                 `json:"data"`
	Extensions      map[string]string `json:",embed"`
}

// EncodeWith is Encode of e with data, which is written as JSON in the same pass.
func EncodeWith[T any](e Event, data T) (body []byte, header map[string][]string, err error) {
	w := wire[T]{"1.0", e.ID, e.Source, e.Type, e.Subject, e.Time, "application/json", data, e.Extensions}
	body, err = json.Marshal(&w, json.Deterministic(true))
	if err != nil {
		return nil, nil, fmt.Errorf("encode the event %.100q: %w", e.ID, err)
	}
	return body, structuredHeader(), nil
}

// Append is EncodeWith that appends to w, for data that writes itself.
func Append(w *jsonappend.Writer, e Event, data func()) (header map[string][]string) {
	w.Open()
	w.AnyString("specversion", "1.0")
	w.AnyString("id", e.ID)
	w.AnyString("source", e.Source)
	w.AnyString("type", e.Type)
	w.String("subject", e.Subject)
	w.Time("time", e.Time)
	w.AnyString("datacontenttype", "application/json")
	w.Name("data")
	data()
	w.Comma()
	for _, name := range slices.Sorted(maps.Keys(e.Extensions)) {
		w.AnyString(name, e.Extensions[name])
	}
	w.Close()
	return structuredHeader()
}

func structuredHeader() map[string][]string {
	return map[string][]string{"Content-Type": {structuredType + "; charset=UTF-8"}}
}
