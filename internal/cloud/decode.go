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
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// CodeListIncomplete is Error.Code of a list that does not show all that it
// should, or contradicts itself. Nothing may be concluded from it.
const CodeListIncomplete = "list_incomplete"

// textIncomplete is Error.Text of the same.
const textIncomplete = "the list does not show all that it should, so nothing is concluded from it"

const (
	maxField = 256     // bytes of a text in a row
	maxRows  = 100_000 // rows of a list, over all of its pages
)

// incompleteError says why an answer does not show what it should. The API works,
// so the same page is not asked for again within the call.
type incompleteError struct{ why string }

func (e *incompleteError) Error() string { return e.why }

func incomplete(format string, args ...any) error {
	return &incompleteError{fmt.Sprintf(format, args...)}
}

// isIncomplete reports whether err says that a list is incomplete.
func isIncomplete(err error) bool {
	if _, ok := errors.AsType[*incompleteError](err); ok {
		return true
	}
	e, ok := asError(err)
	return ok && e.Code == CodeListIncomplete
}

// errNotExpected is an answer that some other program may have given.
var errUnexpectedJSON = errors.New("it is not the JSON that was expected")

// strictly turns an error of decoding into what it means for a reader of lists: an
// answer that breaks off is not one of the API; one that names a member twice, or is
// malformed otherwise, is one that nothing may be concluded from.
func decodeError(err error) error {
	switch _, known := errors.AsType[*incompleteError](err); {
	case known:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errUnexpectedJSON
	case errors.Is(err, jsontext.ErrDuplicateName):
		return incomplete("it names a member twice")
	}
	return incomplete("it holds malformed JSON")
}

// object reads a JSON object and hands each member that is in known to read, which
// must consume its value. Members that are not known are skipped. A name that
// differs from a known one only in case, dashes or underscores is refused: readers
// disagree on what it means.
func object(dec *jsontext.Decoder, known []string, read func(name string) error) error {
	if dec.PeekKind() != '{' {
		return wrongKind(dec, "an object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		switch {
		case slices.Contains(known, name):
			err = read(name)
		case slices.ContainsFunc(known, func(k string) bool { return folded(k) == folded(name) }):
			return incomplete("it spells a member %.40q", name)
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

func folded(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

// wrongKind is the error for a value that is not what was expected.
func wrongKind(dec *jsontext.Decoder, want string) error {
	if kind := dec.PeekKind(); kind != 0 {
		return incomplete("there is a JSON %s where %s should be", kind, want)
	}
	_, err := dec.ReadToken() // the syntax error that PeekKind has met
	return err
}

// array reads a JSON array, or null as an empty one, and calls read for each item,
// at most limit times.
func array(dec *jsontext.Decoder, limit int, read func() error) (there bool, err error) {
	switch dec.PeekKind() {
	case 'n':
		_, err := dec.ReadToken()
		return false, err
	case '[':
	default:
		return false, wrongKind(dec, "a list")
	}
	if _, err := dec.ReadToken(); err != nil {
		return true, err
	}
	for n := 0; dec.PeekKind() != ']'; n++ {
		if n == limit && dec.PeekKind() != 0 {
			return true, incomplete("it holds more than the %d rows that may be in it", limit)
		}
		if err := read(); err != nil {
			return true, err
		}
	}
	_, err = dec.ReadToken()
	return true, err
}

// text reads a string, or null as none.
func text(dec *jsontext.Decoder, to *string) error {
	switch dec.PeekKind() {
	case 'n':
	case '"':
	default:
		return wrongKind(dec, "a text")
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
		return incomplete("it holds a text of %d bytes where an id or a word should be", len(*to))
	}
	return nil
}

// count reads a number of rows.
func count(dec *jsontext.Decoder) (int, error) {
	value, err := dec.ReadValue()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	switch {
	case err != nil:
		return 0, incomplete("its number of rows is %.20q", string(value))
	case n < 0:
		return 0, incomplete("its number of rows is %d", n)
	case n > maxRows:
		return 0, incomplete("it has %d rows, more than the %d that are read", n, maxRows)
	}
	return int(n), nil
}

// list returns an answer function that reads a page of a list into out: rows at
// the member named rows, at most limit of them, and the number of all rows at the
// member named total. A list that is documented without one has no name for it.
func decodeList[T any](out *page[T], rows, total string, limit int, row func(*jsontext.Decoder) (T, error)) func(http.Header, []byte) error {
	return func(_ http.Header, body []byte) error {
		*out = page[T]{total: -1} // an earlier try may have left something
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
			return errors.New("it lacks what it must hold")
		case !there && out.total > 0:
			return incomplete("it holds no rows")
		case total != "" && out.total < 0:
			return incomplete("it does not say how many rows there are")
		}
		return nil
	}
}

// document reads body, which must hold one JSON value and nothing else.
func document(body []byte, read func(*jsontext.Decoder) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	if dec.PeekKind() != '{' {
		return errUnexpectedJSON
	}
	if err := read(dec); err != nil {
		return decodeError(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return incomplete("something follows its JSON")
	}
	return nil
}

// reason is what a row says of its failure: the first entry of a list that says
// something, made fit for a terminal and a log. It decides nothing, so a form that
// is not known is no error.
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

// maxReadable is the longest text of the cloud that is taken over, in characters.
const maxReadable = 200

// readable returns s on one line, without what a terminal would act on.
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
