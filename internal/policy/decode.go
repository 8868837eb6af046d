package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// decoder reads one file of YAML, strictly: it takes nothing that it does not
// know, nothing twice and nothing of another type. It continues after an error, so
// that all errors are reported together.
type decoder struct {
	file     string // as findings name it
	source   []byte
	lines    [][]byte // of source; made by the first finding
	path     []step   // to the node that is read
	findings []Finding
	dropped  int // findings beyond maxFindings
	keys     *keys
	compiler *compiler
	side     func(name string) ([]byte, error) // reads a value file
	show     func(name string) string          // how findings name a file
	targets  approval.Targets
	private  bool // no finding shows a line of the file
}

// step is one step of a path: a key, or an index if the key is empty.
type step struct {
	key   string
	index int
}

// maxFindings is how many findings of one file are shown.
const maxFindings = 100

// report adds a finding about the place at.
func (d *decoder) report(sev Severity, at position, code, text, hint string) {
	if len(d.findings) >= maxFindings {
		if sev == SeverityError {
			d.dropped++
		}
		return
	}
	at = d.within(at)
	f := Finding{
		Severity: sev, Code: code, File: d.file, Line: at.line, Column: at.column,
		Path: d.where(), Text: text, Hint: hint, Excerpt: d.excerpt(at.line, at.column),
	}
	d.findings = append(d.findings, f)
}

// split returns the lines of the file.
func (d *decoder) split() [][]byte {
	if d.lines == nil {
		d.lines = bytes.Split(d.source, []byte("\n"))
	}
	return d.lines
}

// line is the n-th line of the file; nil if there is no such.
func (d *decoder) line(n int) []byte {
	if n < 1 || n > len(d.split()) {
		return nil
	}
	return d.lines[n-1]
}

// excerpt shows a line of the file.
func (d *decoder) excerpt(line, column int) string {
	if d.private || line < 1 || line > len(d.split()) {
		return ""
	}
	return excerpt(d.line(line), line, column)
}

// within is at, or the end of the file if at is behind it: where the last line
// does not end, the parser may count one more.
func (d *decoder) within(at position) position {
	n := len(d.split())
	if at.line <= n {
		return at
	}
	return position{n, utf8.RuneCount(bytes.TrimPrefix(d.lines[n-1], []byte(byteOrderMark))) + 1}
}

// errorsSince reports whether there was an error after the first n findings,
// those that were dropped included.
func (d *decoder) errorsSince(n int) bool {
	if len(d.findings)+d.dropped > n && d.dropped > 0 {
		return true
	}
	return slices.ContainsFunc(d.findings[min(n, len(d.findings)):], Finding.fails)
}

// fail adds an error about n.
func (d *decoder) fail(n *yaml.Node, code, text, hint string) {
	d.report(SeverityError, position{n.Line, n.Column}, code, text, hint)
}

// warn adds a warning about n.
func (d *decoder) warn(n *yaml.Node, code, text, hint string) {
	d.report(SeverityWarning, position{n.Line, n.Column}, code, text, hint)
}

// where is the path in the form allow[0].domain_id. A key that would steer a
// terminal is quoted.
func (d *decoder) where() string {
	var b strings.Builder
	for _, s := range d.path {
		if s.key == "" {
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteString(".")
		}
		if strings.ContainsFunc(s.key, func(r rune) bool { return !unicode.IsPrint(r) }) {
			b.WriteString(strconv.Quote(cut(s.key)))
		} else {
			b.WriteString(s.key)
		}
	}
	return b.String()
}

func (d *decoder) push(key string, index int) { d.path = append(d.path, step{key, index}) }
func (d *decoder) pop()                       { d.path = d.path[:len(d.path)-1] }

// root returns the only document of the file, or nil after an error.
func (d *decoder) root() *yaml.Node {
	if !d.printable() {
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(d.source))
	if err != nil {
		d.report(SeverityError, position{}, "yaml", "invalid YAML: "+err.Error(), "")
		return nil
	}
	var doc yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		d.report(SeverityError, position{}, "empty-file", "the file is empty", "write a policy into it or delete it")
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	var second yaml.Node
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.syntax(err)
	default:
		d.fail(&second, "second-document", "a second YAML document starts here", "write one policy per file")
	}
	if len(doc.Content) != 1 {
		d.report(SeverityError, position{}, "empty-file", "the file is empty", "write a policy into it or delete it")
		return nil
	}
	return doc.Content[0]
}

// syntax reports an error of the YAML parser at its place.
func (d *decoder) syntax(err error) {
	le, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		d.report(SeverityError, position{}, "yaml", "invalid YAML: "+err.Error(), "")
		return
	}
	text := le.Message
	if le.ContextMsg != "" {
		text = le.ContextMsg + ": " + text
	}
	d.report(SeverityError, position{le.Mark.Line, le.Mark.Column}, "yaml", "invalid YAML: "+text,
		"check the indentation, the brackets and the quotes")
}

// printable reports an error and returns false if the file is no text.
func (d *decoder) printable() bool {
	at, what, hint := unprintable(d.source)
	if what == "" {
		return true
	}
	d.report(SeverityError, at, "not-text", "the file holds "+what, hint)
	return false
}

// unprintable finds the first thing in source that has no place in text that
// people review: what YAML does not allow at all, for which the parser names no
// place; what the parser takes for the end of a line and an editor does not, so
// that an entry can hide in a comment; and what is not seen at all. What is left
// has one meaning of a line everywhere: it ends with a newline.
func unprintable(source []byte) (at position, what, hint string) {
	const saveAsText, endLines = "save it as UTF-8 text", "end lines with a newline"
	at = position{1, 1}
	source = bytes.TrimPrefix(source, []byte(byteOrderMark))
	for rest := source; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			return at, "bytes that are not UTF-8", saveAsText
		case r == '\r' && !bytes.HasPrefix(rest, []byte("\r\n")):
			return at, "a carriage return that no newline follows", endLines
		case r == 0x85 || r == 0x2028 || r == 0x2029:
			return at, fmt.Sprintf("U+%04X, which ends a line for YAML and not for an editor", r), endLines
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r >= 0x7f && r < 0xa0:
			return at, fmt.Sprintf("the control character U+%04X", r), saveAsText
		case unicode.Is(unicode.Cf, r) && r != zeroWidthNonJoiner && r != zeroWidthJoiner:
			return at, fmt.Sprintf("the invisible character U+%04X", r), "delete it"
		}
		at.column++
		if r == '\n' {
			at = position{at.line + 1, 1}
		}
		rest = rest[size:]
	}
	return position{}, "", ""
}

// byteOrderMark is allowed only at the start of a file.
const byteOrderMark = "\ufeff"

// These are not seen either, and the spelling of some languages needs them.
const (
	zeroWidthNonJoiner = 0x200c
	zeroWidthJoiner    = 0x200d
)

// plain reports an error and returns false if n makes use of what these files do
// not know: aliases and tags.
func (d *decoder) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.fail(n, "alias", "YAML aliases are not supported", "write the value out, or move long lists to a file: {file: partners.txt}")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		d.fail(n, "tag", "YAML tags such as "+n.Tag+" are not supported", "write the plain value")
		return false
	}
	return true
}

// kindOf names what n is, for people.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return strconv.Quote(cut(n.Value))
}

// cut shortens s for an error.
func cut(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// text reads a scalar as it is written: 012 stays 012. want says what was
// expected, such as "a name".
func (d *decoder) text(n *yaml.Node, want string) (string, bool) {
	if !d.plain(n) {
		return "", false
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "" {
		d.fail(n, "type", "got "+kindOf(n)+", want "+want, "write "+want)
		return "", false
	}
	return n.Value, true
}

// name reads a valid name.
func (d *decoder) name(n *yaml.Node) (string, bool) {
	s, ok := d.text(n, "a name")
	if !ok {
		return "", false
	}
	if err := approval.ValidName(s); err != nil {
		d.fail(n, "name", err.Error(), "it becomes a metric label, so write it in that form")
		return "", false
	}
	return s, true
}

// choice reads one of the words.
func (d *decoder) choice(n *yaml.Node, words []string) (string, bool) {
	want := oneOf(words)
	s, ok := d.text(n, want)
	if !ok {
		return "", false
	}
	if slices.Contains(words, s) {
		return s, true
	}
	d.fail(n, "choice", strconv.Quote(cut(s))+" is not "+want, closest(s, words))
	return "", false
}

// flag reads true or false, and none of YAML's older spellings.
func (d *decoder) flag(n *yaml.Node) (value, ok bool) {
	s, ok := d.text(n, "true or false")
	if !ok {
		return false, false
	}
	if s != "true" && s != "false" || n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		d.fail(n, "type", "got "+kindOf(n)+", want true or false", "write true or false, without quotes")
		return false, false
	}
	return s == "true", true
}

// count reads a whole number of at least 1.
func (d *decoder) count(n *yaml.Node) (int, bool) {
	s, ok := d.text(n, "a whole number")
	if !ok {
		return 0, false
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < 1 || v > 1_000_000 || n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		d.fail(n, "type", "got "+kindOf(n)+", want a whole number from 1 to 1000000", "write such a number, without quotes")
		return 0, false
	}
	return v, true
}

// items calls read for each item of a list.
func (d *decoder) items(n *yaml.Node, want string, read func(i int, item *yaml.Node)) {
	if !d.plain(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "type", "got "+kindOf(n)+", want "+want, "write "+want)
		return
	}
	for i, item := range n.Content {
		d.push("", i)
		read(i, item)
		d.pop()
	}
}

// pairs calls read for each key of a mapping, which comes once only.
func (d *decoder) pairs(n *yaml.Node, want string, read func(key, value *yaml.Node)) bool {
	if !d.plain(n) {
		return false
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, "type", "got "+kindOf(n)+", want "+want, "write "+want)
		return false
	}
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			d.fail(key, "type", "got "+kindOf(key)+", want a key", "write a key")
			continue
		}
		if line, twice := lines[key.Value]; twice {
			d.fail(key, "duplicate-key", fmt.Sprintf("duplicate key %q, first on line %d", cut(key.Value), line), "keep one of them")
			continue
		}
		lines[key.Value] = key.Line
		d.push(key.Value, 0)
		read(key, n.Content[i+1])
		d.pop()
	}
	return true
}

// key is one key of a mapping: how it is read, and its description for docs and
// editors.
type key[T any] struct {
	name string
	doc  string
	form form
	must bool
	only string // "allow" or "deny", if it is for such entries only
	read func(d *decoder, n *yaml.Node, into *T)
}

// form is how a value looks: in words, and as a JSON Schema.
type form struct {
	words  string
	schema map[string]any
}

// readMapping reads n into into by table and reports keys that are unknown or
// missing.
func readMapping[T any](d *decoder, n *yaml.Node, want string, table []key[T], into *T) {
	var seen uint64
	ok := d.pairs(n, want, func(k, v *yaml.Node) {
		for i := range table {
			if table[i].name == k.Value {
				seen |= 1 << i
				table[i].read(d, v, into)
				return
			}
		}
		d.pop() // the finding is about the mapping, not about what is below the key
		defer d.push(k.Value, 0)
		names := make([]string, 0, len(table))
		for i := range table {
			names = append(names, table[i].name)
		}
		hint := suggest(k.Value, names)
		if k.Value == "<<" {
			hint = "YAML merge keys are not supported: write the values out"
		}
		d.fail(k, "unknown-key", fmt.Sprintf("unknown key %q", cut(k.Value)), hint)
	})
	if !ok {
		return
	}
	for i := range table {
		if table[i].must && seen&(1<<i) == 0 {
			d.fail(n, "missing-key", fmt.Sprintf("missing key %q", table[i].name), "add "+table[i].name+": "+table[i].form.words)
		}
	}
}

// oneOf joins words with "or".
func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// suggest names the word that s was perhaps meant to be, or else all of them.
func suggest(s string, words []string) string {
	if hint := closest(s, words); hint != "" || len(words) == 0 {
		return hint
	}
	return "write " + oneOf(words)
}

// closest names the word that s was perhaps meant to be.
func closest(s string, words []string) string {
	best, least := "", 3
	for _, w := range words {
		if d := distance(strings.ToLower(s), w); d < least && d < len(w) {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// distance is how many characters must be inserted, deleted or replaced to make
// b of a; texts that are too long to be meant are far apart.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diag+cost)
		}
	}
	return row[len(b)]
}
