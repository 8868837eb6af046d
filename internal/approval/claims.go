package approval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Claims is the "claims" object of an event: string, bool, nil, []any,
// map[string]any and the numbers that ClaimNumber returns.
type Claims map[string]any

// MaxClaimDepth is how many objects and lists may lie inside one another in
// claims, the whole included.
const MaxClaimDepth = 8

// UnmarshalJSON reads claims so that every reader of JSON has the same values:
// events, the ledger, records and tests.
func (c *Claims) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	exactNumbers(m)
	*c = m
	return nil
}

// exactNumbers replaces each json.Number in v, and returns v.
func exactNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return ClaimNumber(string(v))
	case map[string]any:
		for k, x := range v {
			v[k] = exactNumbers(x)
		}
	case []any:
		for i, x := range v {
			v[i] = exactNumbers(x)
		}
	}
	return v
}

// ClaimNumber returns the value of a JSON number: int64 or uint64 for a whole
// number that fits, however it is spelled, and float64 for any other number that
// it holds to the last digit. A number that none of them holds stays the text
// that it is, so that two different numbers are never the same claim. Written as
// JSON and read again, the value is the same.
func ClaimNumber(text string) any {
	d, ok := parseDecimal(text)
	if !ok {
		return text
	}
	if whole, ok := d.whole(); ok {
		if v, err := strconv.ParseInt(whole, 10, 64); err == nil {
			return v
		}
		if v, err := strconv.ParseUint(whole, 10, 64); err == nil {
			return v
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return text
	}
	if same, ok := parseDecimal(strconv.FormatFloat(f, 'e', -1, 64)); !ok || same != d {
		return text
	}
	return f
}

// decimal is a decimal number in its only form: digits without zeros at either
// end, times ten to the power of exp.
type decimal struct {
	negative bool
	digits   string // empty for zero
	exp      int
}

// maxExponent bounds the exponents that are looked at; float64 ends at 308.
const maxExponent = 100_000

// parseDecimal reads a JSON number.
func parseDecimal(text string) (decimal, bool) {
	var d decimal
	mantissa, exponent, scaled := strings.Cut(strings.ToLower(text), "e")
	if scaled {
		exp, err := strconv.Atoi(exponent)
		if err != nil || exp > maxExponent || exp < -maxExponent {
			return d, false
		}
		d.exp = exp
	}
	mantissa, d.negative = strings.CutPrefix(mantissa, "-")
	before, after, _ := strings.Cut(mantissa, ".")
	digits := before + after
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return d, false
	}
	d.exp -= len(after)
	digits = strings.TrimLeft(digits, "0")
	d.digits = strings.TrimRight(digits, "0")
	d.exp += len(digits) - len(d.digits)
	if d.digits == "" {
		return decimal{}, true
	}
	return d, true
}

// whole returns the digits of d if it is a whole number that 64 bits may hold.
func (d decimal) whole() (string, bool) {
	const most = 20 // digits of the largest uint64
	if d.exp < 0 || len(d.digits)+d.exp > most {
		return "", false
	}
	sign := ""
	if d.negative {
		sign = "-"
	}
	if d.digits == "" {
		return "0", true
	}
	return sign + d.digits + strings.Repeat("0", d.exp), true
}

// ClaimText returns the text of a plain value of a claim, by which policies
// compare it: a number or a bool in its JSON form, without an exponent. ok is
// false for objects, lists and null.
func ClaimText(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

// Values returns the claim at a path, see ParseClaimPath, a list as its values;
// none if there is no such claim or it is an object.
func (c Claims) Values(path string) []string {
	steps, err := ParseClaimPath(path)
	if err != nil {
		return nil
	}
	var at any = map[string]any(c)
	for _, name := range steps {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		if at, ok = m[name]; !ok {
			return nil
		}
	}
	list, ok := at.([]any)
	if !ok {
		list = []any{at}
	}
	var out []string
	for _, v := range list {
		if text, ok := ClaimText(v); ok {
			out = append(out, text)
		}
	}
	return out
}

// ParseClaimPath returns the names in the path of a claim. Names stand with dots
// between them, such as tags.env. A name with anything but letters, digits, "_"
// and "-" stands in double quotes, such as tags."example.com/team"; inside them
// \" and \\ stand for a quote and a backslash.
func ParseClaimPath(path string) ([]string, error) {
	var names []string
	for rest := path; ; {
		name, after, err := claimName(rest)
		if err != nil {
			return nil, fmt.Errorf("%.80q is not the path of a claim: %w", path, err)
		}
		names = append(names, name)
		if after == "" {
			return names, nil
		}
		rest = after[1:] // behind the dot
	}
}

// claimName cuts the first name off a path. after is empty or begins with a dot.
func claimName(path string) (name, after string, err error) {
	if !strings.HasPrefix(path, `"`) {
		end := strings.IndexByte(path, '.')
		if end < 0 {
			end = len(path)
		}
		name, after = path[:end], path[end:]
		if name == "" {
			return "", "", errors.New("a name is missing")
		}
		if i := strings.IndexFunc(name, func(r rune) bool { return !plainClaimName(r) }); i >= 0 {
			r := []rune(name[i:])[0]
			return "", "", fmt.Errorf("the name that %q is part of must stand in double quotes", r)
		}
		return name, after, nil
	}
	var b strings.Builder
	for i := 1; i < len(path); i++ {
		switch c := path[i]; {
		case c == '"':
			after = path[i+1:]
			if after != "" && after[0] != '.' {
				return "", "", errors.New("a dot must follow the closing quote")
			}
			return b.String(), after, nil
		case c == '\\' && i+1 < len(path) && (path[i+1] == '"' || path[i+1] == '\\'):
			i++
			b.WriteByte(path[i])
		case c == '\\':
			return "", "", errors.New(`inside quotes a backslash is written as \\`)
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("a quote is not closed")
}

func plainClaimName(r rune) bool {
	return r == '_' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// ClaimPath is the opposite of ParseClaimPath; names are quoted where they must be.
func ClaimPath(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !plainClaimName(r) }) {
			name = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
		}
		quoted[i] = name
	}
	return strings.Join(quoted, ".")
}
