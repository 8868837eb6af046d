// Package jsonappend writes JSON objects that have the same members each time, without
// reflection. What it writes is what github.com/go-json-experiment/json writes with
// Deterministic; a value that needs more care is left to that library.
package jsonappend

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Writer is JSON that is being written. The zero value is empty. Members with a zero value are
// left out, unless a method says otherwise.
type Writer struct {
	b    []byte
	left bool // a value was met that only the library writes
}

// New returns a Writer with room for size bytes.
func New(size int) Writer { return Writer{b: make([]byte, 0, size)} }

// Bytes returns what was written; ok is false if the library has to write it, which also says
// what is wrong with it.
func (w *Writer) Bytes() (b []byte, ok bool) { return w.b, !w.left }

// Raw writes text as it is.
func (w *Writer) Raw(text string) { w.b = append(w.b, text...) }

// Name writes the name of a member, which needs no escapes.
func (w *Writer) Name(name string) {
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

// Open begins an object.
func (w *Writer) Open() { w.b = append(w.b, '{') }

// Close ends an object. What follows it in another is behind a comma.
func (w *Writer) Close() { w.end('}') }

// Comma separates a value from the next.
func (w *Writer) Comma() { w.b = append(w.b, ',') }

// end replaces the comma behind the last member.
func (w *Writer) end(c byte) {
	if n := len(w.b) - 1; w.b[n] == ',' {
		w.b[n] = c
	} else {
		w.b = append(w.b, c)
	}
}

// Object writes a member that is an object, also an empty one.
func (w *Writer) Object(name string, members func()) {
	w.Name(name)
	w.Open()
	members()
	w.Close()
	w.Comma()
}

// Struct is Object without empty objects.
func (w *Writer) Struct(name string, members func()) {
	before := len(w.b)
	w.Name(name)
	w.Open()
	first := len(w.b)
	members()
	if len(w.b) == first {
		w.b = w.b[:before]
		return
	}
	w.Close()
	w.Comma()
}

// Array writes a member that is a list of n elements.
func (w *Writer) Array(name string, n int, element func(i int)) {
	w.Name(name)
	w.b = append(w.b, '[')
	for i := range n {
		element(i)
		w.Comma()
	}
	w.end(']')
	w.Comma()
}

// String writes a member.
func (w *Writer) String(name, v string) {
	if v != "" {
		w.AnyString(name, v)
	}
}

// AnyString writes a member that may be empty.
func (w *Writer) AnyString(name, v string) {
	w.Name(name)
	w.quote(v)
	w.Comma()
}

// Int writes a member.
func (w *Writer) Int(name string, v int64) {
	if v != 0 {
		w.AnyInt(name, v)
	}
}

// AnyInt writes a member that may be zero.
func (w *Writer) AnyInt(name string, v int64) {
	w.Name(name)
	w.b = strconv.AppendInt(w.b, v, 10)
	w.Comma()
}

// Bool writes a member.
func (w *Writer) Bool(name string, v bool) {
	if v {
		w.AnyBool(name, v)
	}
}

// AnyBool writes a member that may be false.
func (w *Writer) AnyBool(name string, v bool) {
	w.Name(name)
	w.b = strconv.AppendBool(w.b, v)
	w.Comma()
}

// Time writes a member.
func (w *Writer) Time(name string, t time.Time) {
	if t.IsZero() {
		return
	}
	_, offset := t.Zone()
	if year := t.Year(); year < 0 || year > 9999 || offset%60 != 0 || offset <= -24*3600 || offset >= 24*3600 {
		w.left = true
		return
	}
	w.Name(name)
	w.b = append(w.b, '"')
	w.b = t.AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
	w.Comma()
}

// Value writes v by the library, for a member that is rarely there.
func (w *Writer) Value(name string, v any, opts ...json.Options) {
	data, err := json.Marshal(v, json.Deterministic(true), json.JoinOptions(opts...))
	if err != nil {
		w.left = true
		return
	}
	w.Name(name)
	w.b = append(w.b, data...)
	w.Comma()
}

// Map writes a member whose values are those that encoding/json reads, and whole numbers.
func (w *Writer) Map(name string, m map[string]any) {
	if m != nil {
		w.Name(name)
		w.mapping(m)
		w.Comma()
	}
}

// Floats writes a member.
func Floats[K ~string](w *Writer, name string, m map[K]float64) {
	if m == nil {
		return
	}
	w.Name(name)
	w.Open()
	var room [8]K
	for _, k := range sorted(m, room[:0]) {
		w.quote(string(k))
		w.b = append(w.b, ':')
		w.float(m[k])
		w.Comma()
	}
	w.Close()
	w.Comma()
}

func sorted[K ~string, V any](m map[K]V, into []K) []K {
	for k := range m {
		into = append(into, k)
	}
	slices.Sort(into)
	return into
}

func (w *Writer) mapping(m map[string]any) {
	w.Open()
	var room [8]string
	for _, k := range sorted(m, room[:0]) {
		w.quote(k)
		w.b = append(w.b, ':')
		w.any(m[k])
		w.Comma()
	}
	w.Close()
}

func (w *Writer) any(v any) {
	switch v := v.(type) {
	case nil:
		w.Raw("null")
	case string:
		w.quote(v)
	case bool:
		w.b = strconv.AppendBool(w.b, v)
	case int64:
		w.b = strconv.AppendInt(w.b, v, 10)
	case uint64:
		w.b = strconv.AppendUint(w.b, v, 10)
	case float64:
		w.float(v)
	case []any:
		w.b = append(w.b, '[')
		for _, x := range v {
			w.any(x)
			w.Comma()
		}
		w.end(']')
	case map[string]any:
		w.mapping(v)
	default:
		w.left = true
	}
}

// float writes f as ECMAScript does: with an exponent only where that is shorter.
func (w *Writer) float(f float64) {
	size := math.Abs(f)
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		w.left = true
	case f == 0 || size >= 1e-6 && size < 1e21:
		w.b = strconv.AppendFloat(w.b, f, 'f', -1, 64)
	default:
		w.b = strconv.AppendFloat(w.b, f, 'e', -1, 64)
		// An exponent has at least two digits here, and one there.
		if n := len(w.b); w.b[n-4] == 'e' && w.b[n-2] == '0' {
			w.b = append(w.b[:n-2], w.b[n-1])
		}
	}
}

// quote writes s as a string.
func (w *Writer) quote(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			var err error
			if w.b, err = jsontext.AppendQuote(w.b, s); err != nil {
				w.left = true
			}
			return
		}
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, s...)
	w.b = append(w.b, '"')
}
