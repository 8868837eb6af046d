package policy

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// odd is what is odd about a text that is compared with others; the zero value is
// nothing.
type odd struct{ code, text, hint string }

// oddText finds what people do not see in a text: misplaced spaces,
// and letters that look like others. ascii: such texts should be ASCII.
func oddText(s string, ascii bool) odd {
	if plainText(s) {
		return odd{}
	}
	const retype = "retype it, or copy it from its source"
	if strings.TrimSpace(s) != s {
		return odd{"stray-blank", "starts or ends with a space", "delete the space"}
	}
	if strings.Contains(s, "  ") {
		return odd{"stray-blank", "contains two spaces in a row", "delete one of them"}
	}
	for _, r := range s {
		switch {
		case r != ' ' && unicode.IsSpace(r):
			return odd{"stray-blank", fmt.Sprintf("contains U+%04X, which looks like a space but is not", r), "write a plain space, or delete it"}
		case looksASCII(r), ascii && r > unicode.MaxASCII:
			return odd{"look-alike", fmt.Sprintf("contains %q (U+%04X), which looks like another character", r, r), retype}
		}
	}
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsMark(r) }) {
		latin, other := false, rune(0)
		alike := true // every letter has a Latin twin
		for _, r := range word {
			switch {
			case unicode.Is(unicode.Latin, r):
				latin, alike = true, false
			case unicode.In(r, unicode.Cyrillic, unicode.Greek, unicode.Armenian, unicode.Cherokee, unicode.Coptic, unicode.Lisu):
				other = r
				alike = alike && strings.ContainsRune(latinTwins, r)
			default:
				alike = false
			}
		}
		if other != 0 && (latin || alike) {
			return odd{"look-alike", fmt.Sprintf("contains %q (U+%04X), which looks like a Latin letter but is not", other, other), retype}
		}
	}
	return odd{}
}

// latinTwins are letters of other scripts that look like Latin ones.
const latinTwins = "абвгеорсухѕіјһԁԛԝӏАВЕЅІЈКМНОРСТХУҮԌԚԜΑΒΕΖΗΙΚΜΝΟΡΤΥΧονρ"

// plainText reports whether s has no character but printable ASCII, and no blank
// in a place where it is not seen.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' {
			return false
		}
	}
	return true
}

// looksASCII reports whether r is written like an ASCII character, or not at all.
func looksASCII(r rune) bool {
	switch {
	case r >= 0xff01 && r <= 0xff5e, // full width
		r >= 0x1d400 && r <= 0x1d7ff,                                      // mathematical letters and digits
		r >= 0x2010 && r <= 0x2015, r == 0x2212, r == 0xfe58, r == 0xfe63, // dashes
		r >= 0x2024 && r <= 0x2026, // dots
		r == 0x2044, r == 0x2215,   // slashes
		r == 0x2217, r == 0x204e, // stars
		r == strictyaml.ZeroWidthNonJoiner, r == strictyaml.ZeroWidthJoiner, // in a value they are not needed and not seen
		r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0: // fillers
		return true
	}
	return false
}
