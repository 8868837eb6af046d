package cloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// CodeListIncomplete is Error.Code of a list that is incomplete or contradicts itself.
// No decision may rest on it.
const CodeListIncomplete = "list_incomplete"

// textIncomplete is the Error.Text for CodeListIncomplete.
const textIncomplete = "the list is incomplete or contradicts itself, so nothing is decided from it"

const (
	maxField = 256     // bytes of a string in a row
	usualRow = 256     // bytes of a row; there is room for as many as a page may have
	maxRows  = 200_000 // rows of all pages of a list
)

// incompleteError says why a list is incomplete. The API works, so the call does not
// repeat the request.
type incompleteError struct {
	why   string
	moved bool // its pages are good and do not fit together, as when rows came or went meanwhile
}

func (e *incompleteError) Error() string { return e.why }

func incomplete(format string, args ...any) error {
	return &incompleteError{why: fmt.Sprintf(format, args...)}
}

// moved is incomplete for pages that do not fit together.
func moved(format string, args ...any) error {
	return &incompleteError{why: fmt.Sprintf(format, args...), moved: true}
}

// isMoved reports whether err says that the pages of a list do not fit together.
func isMoved(err error) bool {
	e, ok := errors.AsType[*incompleteError](err)
	return ok && e.moved
}

// isIncomplete reports whether err says that a list is incomplete.
func isIncomplete(err error) bool {
	if _, ok := errors.AsType[*incompleteError](err); ok {
		return true
	}
	e, ok := asError(err)
	return ok && e.Code == CodeListIncomplete
}

// errUnexpectedJSON is the error for a response that may not be from the API.
var errUnexpectedJSON = errors.New("unexpected JSON")

// decodeError returns the error for a list that cannot be decoded. A truncated response
// is not from the API; one with a duplicate member or other malformed JSON is an
// incomplete list.
func decodeError(err error) error {
	switch _, known := errors.AsType[*incompleteError](err); {
	case known:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errUnexpectedJSON
	case errors.Is(err, jsontext.ErrDuplicateName):
		return incomplete("duplicate JSON member")
	}
	return incomplete("malformed JSON")
}

// object reads a JSON object and calls read for each member in known; read must consume
// the value. Other members are skipped. A name that differs from a known one only in
// case, dashes or underscores is an error, because JSON readers disagree about it.
func object(dec *jsontext.Decoder, known []string, read func(name string) error) error {
	if dec.PeekKind() != '{' {
		return wrongKind(dec, "an object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		quoted, err := dec.ReadValue()
		if err != nil {
			return err
		}
		name, ok := oneOf(known, quoted)
		switch {
		case ok:
			err = read(name)
		case alike(known, name):
			return incomplete("misspelled JSON member %.40q", name)
		default:
			err = dec.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// oneOf returns the string that quoted spells, and whether it is one of known. A name without an
// escape, as all are, is not made again for each row.
func oneOf(known []string, quoted jsontext.Value) (name string, ok bool) {
	plain := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(plain, '\\') >= 0 {
		plain, _ = jsontext.AppendUnquote(nil, quoted) // which is valid
	}
	for _, k := range known {
		if string(plain) == k {
			return k, true
		}
	}
	return string(plain), false
}

// alike reports whether name differs from one of known in spelling only.
func alike(known []string, name string) bool {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			name = folded(name) // which may turn it into ASCII
			break
		}
	}
	return slices.ContainsFunc(known, func(k string) bool { return spelledAlike(k, name) })
}

// spelledAlike compares two names without case, dashes and underscores. It allocates
// nothing, because every unknown member of every row is compared.
func spelledAlike(a, b string) bool {
	i, j := 0, 0
	for {
		for i < len(a) && (a[i] == '_' || a[i] == '-') {
			i++
		}
		for j < len(b) && (b[j] == '_' || b[j] == '-') {
			j++
		}
		if i == len(a) || j == len(b) {
			return i == len(a) && j == len(b)
		}
		if lower(a[i]) != lower(b[j]) {
			return false
		}
		i, j = i+1, j+1
	}
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func folded(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(name, "_", ""), "-", ""))
}

// wrongKind returns the error for a value of another kind than want.
func wrongKind(dec *jsontext.Decoder, want string) error {
	if kind := dec.PeekKind(); kind != 0 {
		return incomplete("unexpected JSON %s instead of %s", kind, want)
	}
	_, err := dec.ReadToken() // returns the syntax error that PeekKind found
	return err
}

// array reads a JSON array, or null as an empty one, and calls read for each of at most
// limit items.
func array(dec *jsontext.Decoder, limit int, read func() error) (there bool, err error) {
	switch dec.PeekKind() {
	case 'n':
		_, err := dec.ReadToken()
		return false, err
	case '[':
	default:
		return false, wrongKind(dec, "an array")
	}
	if _, err := dec.ReadToken(); err != nil {
		return true, err
	}
	for n := 0; dec.PeekKind() != ']'; n++ {
		if n == limit && dec.PeekKind() != 0 {
			return true, incomplete("more than %d rows", limit)
		}
		if err := read(); err != nil {
			return true, err
		}
	}
	_, err = dec.ReadToken()
	return true, err
}

// text reads a string, or null as an empty one.
func text(dec *jsontext.Decoder, to *string) error {
	switch dec.PeekKind() {
	case 'n':
	case '"':
	default:
		return wrongKind(dec, "a string")
	}
	token, err := dec.ReadToken()
	if err != nil {
		return err
	}
	*to = ""
	if token.Kind() == '"' {
		*to = token.String()
	}
	if len(*to) > maxField {
		return incomplete("a string of %d bytes instead of a short one", len(*to))
	}
	return nil
}

// count reads the total number of rows.
func count(dec *jsontext.Decoder) (int, error) {
	value, err := dec.ReadValue()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	switch {
	case err != nil:
		return 0, incomplete("invalid total number of rows %.20q", string(value))
	case n < 0:
		return 0, incomplete("negative total number of rows %d", n)
	case n > maxRows:
		return 0, incomplete("a total of %d rows is more than the maximum of %d", n, maxRows)
	}
	return int(n), nil
}

// decodeList returns a decode function that reads a page of a list into out: at most
// limit rows from the member rows, and the total number of rows from the member total.
// total is empty for a list that is documented without one.
func decodeList[T any](out *page[T], rows, total string, limit int, row func(*jsontext.Decoder) (T, error)) func(http.Header, []byte) error {
	return func(_ http.Header, body []byte) error {
		*out = page[T]{rows: make([]T, 0, min(limit, len(body)/usualRow)), total: -1} // without the result of an earlier attempt
		there, known := false, []string{rows}
		if total != "" {
			known = append(known, total)
		}
		err := document(body, func(dec *jsontext.Decoder) error {
			return object(dec, known, func(name string) (err error) {
				if name == total {
					out.total, err = count(dec)
					return err
				}
				there, err = array(dec, limit, func() error {
					r, err := row(dec)
					if err != nil {
						return err
					}
					out.rows = append(out.rows, r)
					return nil
				})
				return err
			})
		})
		switch {
		case err != nil:
			return err
		case !there && out.total < 0:
			return errors.New("required members are missing")
		case !there && out.total > 0:
			return incomplete("the rows are missing")
		case total != "" && out.total < 0:
			return incomplete("the total number of rows is missing")
		}
		return nil
	}
}

// decoders are kept for what they have allocated to find members that occur twice.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }} //nolint:gochecknoglobals // a cache

// document reads body, which must be a single JSON object.
func document(body []byte, read func(*jsontext.Decoder) error) error {
	dec := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(dec)
	dec.Reset(bytes.NewBuffer(body))
	if dec.PeekKind() != '{' {
		return errUnexpectedJSON
	}
	if err := read(dec); err != nil {
		return decodeError(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return incomplete("data after the JSON object")
	}
	return nil
}

// reason returns the failure in a row: the first entry that is not empty, sanitized for
// terminals and logs. An unknown form is not an error, because nothing depends on it.
func reason(value jsontext.Value) (code, message string) {
	var entries []struct {
		Code    string `json:"error_code"`
		Message string `json:"error_message"`
	}
	if json.Unmarshal(value, &entries) != nil {
		return "", ""
	}
	for _, e := range entries {
		if code, message = plain(e.Code), readable(e.Message); code != "" || message != "" {
			return code, message
		}
	}
	return "", ""
}

// maxReadable is the maximum length of a message of the cloud, in characters.
const maxReadable = 200

// readable returns s on one line, without control characters.
func readable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if runes := []rune(strings.TrimSpace(clean)); len(runes) > maxReadable {
		return string(runes[:maxReadable]) + "…"
	}
	return strings.TrimSpace(clean)
}
