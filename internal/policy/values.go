package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// sideFilePattern is the form of the name of a value file, which is in the folder of
// the policy.
const sideFilePattern = `^[A-Za-z0-9][A-Za-z0-9._-]*\.txt$`

// maxGlob is the longest pattern, in bytes.
const maxGlob = 256

// checker returns what is wrong with a value and, after a semicolon, what to do;
// an empty text if nothing is. shown is what the text calls the value.
type checker func(v, shown string) string

// values reads a list of values: one, several, or a file of them. Values are returned
// once each; canonical gives the spelling by which they are compared, nil: as written.
func (d *decoder) values(n *strictyaml.Node, check checker, canonical func(string) string) ([]string, bool) {
	if !d.Plain(n) {
		return nil, false
	}
	switch n.Kind {
	case strictyaml.List:
		return d.valueList(n, check, canonical)
	case strictyaml.Mapping:
		return d.valueFile(n, check, canonical)
	default:
		v, ok := d.value(n, check)
		return []string{v}, ok
	}
}

func (d *decoder) valueList(n *strictyaml.Node, check checker, canonical func(string) string) ([]string, bool) {
	if len(n.Content) == 0 {
		d.Warn(n, "empty-list", "the list is empty, so the entry matches nothing", "name a value or delete the entry")
		return nil, true
	}
	out := make([]string, 0, len(n.Content))
	seen := newSeen(len(n.Content), canonical)
	good := true
	d.Items(n, "a list of values", func(_ int, item *strictyaml.Node) {
		v, ok := d.value(item, check)
		switch {
		case !ok:
			good = false
		case seen.again(v):
			d.Warn(item, "duplicate-value", strconv.Quote(strictyaml.Cut(v))+" is listed twice", "delete one of them")
		default:
			out = append(out, v)
		}
	})
	return out, good
}

func (d *decoder) value(n *strictyaml.Node, check checker) (string, bool) {
	v, ok := d.Text(n, "a value")
	if !ok {
		return "", false
	}
	if wrong := badValue(v, fmt.Sprintf("%.80q", v), check); wrong != "" {
		text, hint, _ := strings.Cut(wrong, "; ")
		d.Fail(n, "value", text, hint)
		return "", false
	}
	return v, true
}

// badValue returns what is wrong with v and, after a semicolon, what to do.
func badValue(v, shown string, check checker) string {
	if isGlob(v) && len(v) > maxGlob {
		return fmt.Sprintf("a pattern has at most %d characters, this has %d; write a shorter one", maxGlob, len(v))
	}
	return check(v, shown)
}

// valueFile reads {file: NAME}.
func (d *decoder) valueFile(n *strictyaml.Node, check checker, canonical func(string) string) ([]string, bool) {
	if len(n.Content) != 2 || n.Content[0].Value != "file" {
		d.Fail(n, "type", "got a mapping, want values", "write a value, a list of values, or {file: partners.txt}")
		return nil, false
	}
	at := n.Content[1]
	name, ok := d.Text(at, "the name of a file")
	if !ok {
		return nil, false
	}
	if !regexp.MustCompile(sideFilePattern).MatchString(name) {
		d.Fail(at, "side-file", strconv.Quote(strictyaml.Cut(name))+" cannot name a value file", "put the file in the folder of the policy, with a name such as partners.txt")
		return nil, false
	}
	source, err := d.side(name)
	if err != nil {
		text := "the file " + name + " cannot be read: " + err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			text = "there is no file " + name + " in the folder of the policy"
		}
		d.Fail(at, "side-file", text, "add it or name another")
		return nil, false
	}
	return d.valueLines(at, name, source, check, canonical)
}

// emptyOnPurpose is the first line of a value file that may hold none.
const emptyOnPurpose = "# empty on purpose"

// valueLines reads a value file: one a line, # begins a comment. at is
// where the policy names it. What is no id may be a secret, by a name or a link
// that is wrong: no finding repeats it.
func (d *decoder) valueLines(at *strictyaml.Node, name string, source []byte, check checker, canonical func(string) string) ([]string, bool) {
	side := strictyaml.NewReader(d.show(name), source)
	side.Show = strictyaml.ShowNothing
	if !side.Printable() {
		d.Adopt(side)
		return nil, false
	}
	lines := bytes.Count(source, []byte("\n")) + 1
	out := make([]string, 0, lines)
	seen := newSeen(lines, canonical)
	line, marked := 0, false
	for text := range strings.SplitSeq(string(source), "\n") {
		line++
		text = strings.TrimPrefix(text, strictyaml.ByteOrderMark)
		marked = marked || line == 1 && strings.TrimSpace(text) == emptyOnPurpose
		text = uncomment(text)
		v := strings.TrimSpace(text)
		if v == "" {
			continue
		}
		shown := "a value of " + strictyaml.Counted(utf8.RuneCountInString(v), "character", "characters")
		if approval.IsID(v) {
			shown = strconv.Quote(v)
		}
		pos := strictyaml.Position{Line: line, Column: utf8.RuneCountInString(text[:strings.Index(text, v)]) + 1}
		switch wrong := badValue(v, shown, check); {
		case strings.ContainsFunc(v, unicode.IsSpace) || strings.Contains(v, ","):
			side.Report(strictyaml.SeverityError, pos, "value", "more than one value on the line", "write one value per line")
		case wrong != "":
			text, hint, _ := strings.Cut(wrong, "; ")
			if strings.Contains(v, "#") {
				hint += ", and a blank before the # of a comment"
			}
			side.Report(strictyaml.SeverityError, pos, "value", text, hint)
		case seen.again(v):
			side.Report(strictyaml.SeverityWarning, pos, "duplicate-value", shown+" is in this file twice", "delete one of them")
		default:
			out = append(out, v)
		}
	}
	good := d.Adopt(side)
	if good && len(out) == 0 && !marked {
		d.Fail(at, "empty-file", "the file "+name+" holds no value, as if it were still being written",
			"add a value, delete the entry, or write "+emptyOnPurpose+" as the first line of the file")
		return nil, false
	}
	return out, good
}

// uncomment returns line without its comment. As in YAML, # begins one at the
// start of a line or after a blank; elsewhere it is part of a value.
func uncomment(line string) string {
	for i, r := range line {
		if r != '#' {
			continue
		}
		if before, _ := utf8.DecodeLastRuneInString(line[:i]); i == 0 || unicode.IsSpace(before) {
			return line[:i]
		}
	}
	return line
}

// seen holds the values that came before.
type seen struct {
	canonical func(string) string
	values    map[string]struct{} // nil where there is only one value
}

func newSeen(n int, canonical func(string) string) *seen {
	s := &seen{canonical: canonical}
	if n > 1 {
		s.values = make(map[string]struct{}, n)
	}
	return s
}

func (s *seen) again(v string) bool {
	if s.values == nil {
		return false
	}
	if s.canonical != nil {
		v = s.canonical(v)
	}
	if _, ok := s.values[v]; ok {
		return true
	}
	s.values[v] = struct{}{}
	return false
}
