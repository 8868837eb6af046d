package strictyaml

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// ByteOrderMark is allowed only at the start of a file.
const ByteOrderMark = "\ufeff"

// These are not seen, and the spelling of some languages needs them.
const (
	ZeroWidthNonJoiner = 0x200c
	ZeroWidthJoiner    = 0x200d
)

// Printable reports an error and returns false if the file is no text.
func (r *Reader) Printable() bool {
	at, what, hint := unprintable(r.source)
	if what == "" {
		return true
	}
	r.Report(SeverityError, at, "not-text", "the file holds "+what, hint)
	return false
}

// unprintable finds the first thing in source that has no place in text that
// people review: what YAML does not allow at all, for which the parser names no
// place; what the parser takes for the end of a line and an editor does not, so
// that an entry can hide in a comment; and what is not seen at all. What is left
// has one meaning of a line everywhere: it ends with a newline.
func unprintable(source []byte) (at Position, what, hint string) {
	source = bytes.TrimPrefix(source, []byte(ByteOrderMark))
	line, start := 1, 0 // start is where the line begins
	for i := 0; i < len(source); {
		if c := source[i]; c >= ' ' && c < 0x7f || c == '\t' {
			i++
			continue
		} else if c == '\n' {
			i++
			line, start = line+1, i
			continue
		}
		r, size := utf8.DecodeRune(source[i:])
		if what, hint = odd(r, size, source[i:]); what != "" {
			return Position{line, utf8.RuneCount(source[start:i]) + 1}, what, hint
		}
		i += size
	}
	return Position{}, "", ""
}

// odd tells what is wrong with r, which rest begins with.
func odd(r rune, size int, rest []byte) (what, hint string) {
	const saveAsText, endLines = "save it as UTF-8 text", "end lines with a newline"
	switch {
	case r == utf8.RuneError && size == 1:
		return "bytes that are not UTF-8", saveAsText
	case r == '\r':
		if !bytes.HasPrefix(rest, []byte("\r\n")) {
			return "a carriage return that no newline follows", endLines
		}
	case r == 0x85 || r == 0x2028 || r == 0x2029:
		return fmt.Sprintf("U+%04X, which ends a line for YAML and not for an editor", r), endLines
	case r < ' ', r >= 0x7f && r < 0xa0:
		return fmt.Sprintf("the control character U+%04X", r), saveAsText
	case unicode.Is(unicode.Cf, r) && r != ZeroWidthNonJoiner && r != ZeroWidthJoiner:
		return fmt.Sprintf("the invisible character U+%04X", r), "delete it"
	}
	return "", ""
}
