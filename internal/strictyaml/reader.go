package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// Node is a node of a document, with its place.
type Node = yaml.Node

// The kinds of nodes.
const (
	Mapping = yaml.MappingNode
	List    = yaml.SequenceNode
	Scalar  = yaml.ScalarNode
)

// Quoted reports whether n is a scalar in quotes, so that it is a text whatever it
// looks like.
func Quoted(n *Node) bool { return n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 }

// Block reports whether n is a scalar of several lines, after | or >.
func Block(n *Node) bool { return n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 }

// At is the place of n.
func At(n *Node) Position { return Position{n.Line, n.Column} }

// Reader reads one file. It continues after an error, so that all errors are
// reported together.
type Reader struct {
	File     string // as findings name it
	Show     Show
	Findings []Finding

	source  []byte
	lines   [][]byte // of source; made by the first finding
	path    []Step   // to the node that is read
	root    *Node
	dropped int // findings beyond maxFindings
}

// NewReader returns a reader of source, which findings call file.
func NewReader(file string, source []byte) *Reader { return &Reader{File: file, source: source} }

// Show is what excerpts may show of a file.
type Show int

// What excerpts show.
const (
	ShowLines   Show = iota // the line
	ShowPairs               // a key, and its value only if the finding is about that: other parts of the line may be secret
	ShowNothing             // the whole file may be secret
)

// Step is one step of a path: a key, or an index if the key is empty.
type Step struct {
	Key   string
	Index int
}

// MaxFindings is how many findings of one file are shown.
const MaxFindings = 100

// Report adds a finding about the place at.
func (r *Reader) Report(sev Severity, at Position, code, text, hint string) {
	if len(r.Findings) >= MaxFindings {
		if sev == SeverityError {
			r.dropped++
		}
		return
	}
	at = r.within(at)
	r.Findings = append(r.Findings, Finding{
		Severity: sev, Code: code, File: r.File, Line: at.Line, Column: at.Column,
		Path: PathText(r.path), Text: text, Hint: hint, Excerpt: r.Excerpt(at),
	})
}

// Fail adds an error about n.
func (r *Reader) Fail(n *Node, code, text, hint string) {
	r.Report(SeverityError, At(n), code, text, hint)
}

// Warn adds a warning about n.
func (r *Reader) Warn(n *Node, code, text, hint string) {
	r.Report(SeverityWarning, At(n), code, text, hint)
}

// Count is the number of findings so far, those included that are not shown.
func (r *Reader) Count() int { return len(r.Findings) + r.dropped }

// FailedSince reports whether there was an error after the first n findings.
func (r *Reader) FailedSince(n int) bool {
	if r.Count() > n && r.dropped > 0 {
		return true
	}
	return slices.ContainsFunc(r.Findings[min(n, len(r.Findings)):], Finding.Fails)
}

// Adopt takes over the findings about another file, and reports whether there was no
// error among them.
func (r *Reader) Adopt(other *Reader) bool {
	r.Findings = append(r.Findings, other.Findings...)
	r.dropped += other.dropped
	return !other.FailedSince(0)
}

// All returns the findings and, if there were too many, how many are not shown.
func (r *Reader) All() []Finding {
	if r.dropped == 0 {
		return r.Findings
	}
	return append(slices.Clip(r.Findings), Finding{
		Severity: SeverityError, Code: "more", File: r.File,
		Text: "and " + Counted(r.dropped, "more error", "more errors"), Hint: "fix the errors above first",
	})
}

// SetPath sets the path that findings name.
func (r *Reader) SetPath(path ...Step) { r.path = path }

// PathText is path in the form allow[0].domain_id. A key that would steer a
// terminal is quoted.
func PathText(path []Step) string {
	var b strings.Builder
	for _, s := range path {
		if s.Key == "" {
			b.WriteString("[" + strconv.Itoa(s.Index) + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteString(".")
		}
		if strings.ContainsFunc(s.Key, func(r rune) bool { return !unicode.IsPrint(r) }) {
			b.WriteString(strconv.Quote(Cut(s.Key)))
		} else {
			b.WriteString(s.Key)
		}
	}
	return b.String()
}

func (r *Reader) push(key string, index int) { r.path = append(r.path, Step{key, index}) }
func (r *Reader) pop()                       { r.path = r.path[:len(r.path)-1] }

// Root returns the only document of the file; nil if the file is empty. It returns
// false after an error, which is reported.
func (r *Reader) Root() (n *Node, ok bool) {
	if !r.Printable() {
		return nil, false
	}
	loader, err := yaml.NewLoader(bytes.NewReader(r.source))
	if err != nil {
		r.syntax(err)
		return nil, false
	}
	var doc, second Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		return nil, true
	case err != nil:
		r.syntax(err)
		return nil, false
	}
	if len(doc.Content) == 1 {
		r.root = doc.Content[0]
	}
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.syntax(err)
		return nil, false
	default:
		r.Fail(&second, "second-document", "a second YAML document starts here", "write one document per file")
		return r.root, r.root != nil
	}
	return r.root, true
}

// syntax reports an error of the YAML parser at its place.
func (r *Reader) syntax(err error) {
	le, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		r.Report(SeverityError, Position{}, "yaml", "invalid YAML: "+err.Error(), "")
		return
	}
	text := le.Message
	if le.ContextMsg != "" {
		text = le.ContextMsg + ": " + text
	}
	r.Report(SeverityError, Position{le.Mark.Line, le.Mark.Column}, "yaml", "invalid YAML: "+text,
		"check the indentation, the brackets and the quotes")
}

// Plain reports an error and returns false if n makes use of what these files do
// not know: aliases and tags.
func (r *Reader) Plain(n *Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		r.Fail(n, "alias", "YAML aliases are not supported", "write the value out")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		r.Fail(n, "tag", "YAML tags such as "+n.Tag+" are not supported", "write the plain value")
		return false
	}
	return true
}

// Missing reports whether nothing stands for n, or null.
func Missing(n *Node) bool { return n.Kind == Scalar && n.Tag == "!!null" }

// KindOf names what n is, for people.
func KindOf(n *Node) string {
	switch {
	case n.Kind == Mapping:
		return "a mapping"
	case n.Kind == List:
		return "a list"
	case Missing(n):
		return "nothing"
	}
	return strconv.Quote(Cut(n.Value))
}

// Cut shortens s for an error.
func Cut(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// Text reads a scalar as it is written: 012 stays 012. want says what was
// expected, such as "a name".
func (r *Reader) Text(n *Node, want string) (string, bool) {
	if !r.Plain(n) {
		return "", false
	}
	if n.Kind != Scalar || n.Tag == "!!null" || n.Value == "" {
		r.wrongType(n, want, "write "+want)
		return "", false
	}
	return n.Value, true
}

func (r *Reader) wrongType(n *Node, want, hint string) {
	got := KindOf(n)
	if r.Show == ShowPairs && n.Kind == Scalar && !Missing(n) { // a secret in the wrong place, perhaps
		defer func() { r.Show = ShowPairs }()
		got, r.Show = "a value", ShowNothing
	}
	r.Fail(n, "type", "got "+got+", want "+want, hint)
}

// Choice reads one of the words.
func (r *Reader) Choice(n *Node, words []string) (string, bool) {
	want := OneOf(words)
	s, ok := r.Text(n, want)
	if !ok {
		return "", false
	}
	if slices.Contains(words, s) {
		return s, true
	}
	r.Fail(n, "choice", strconv.Quote(Cut(s))+" is not "+want, DidYouMean(s, words))
	return "", false
}

// Flag reads true or false, and none of YAML's older spellings.
func (r *Reader) Flag(n *Node) (value, ok bool) {
	s, ok := r.Text(n, "true or false")
	if !ok {
		return false, false
	}
	if s != "true" && s != "false" || Quoted(n) {
		r.Fail(n, "type", "got "+KindOf(n)+", want true or false", "write true or false, without quotes")
		return false, false
	}
	return s == "true", true
}

// Number reads a whole number from least to most.
func (r *Reader) Number(n *Node, least, most int) (int, bool) {
	s, ok := r.Text(n, "a whole number")
	if !ok {
		return 0, false
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < least || v > most || Quoted(n) {
		r.Fail(n, "type", fmt.Sprintf("got %s, want a whole number from %d to %d", KindOf(n), least, most), "write such a number, without quotes")
		return 0, false
	}
	return v, true
}

// Items calls read for each item of a list.
func (r *Reader) Items(n *Node, want string, read func(i int, item *Node)) {
	if !r.Plain(n) {
		return
	}
	if n.Kind != List {
		r.wrongType(n, want, "write "+want)
		return
	}
	for i, item := range n.Content {
		r.push("", i)
		read(i, item)
		r.pop()
	}
}

// Pairs calls read for each key of a mapping, which comes once only.
func (r *Reader) Pairs(n *Node, want string, read func(key, value *Node)) bool {
	if !r.Plain(n) {
		return false
	}
	if n.Kind != Mapping {
		r.wrongType(n, want, "write "+want)
		return false
	}
	lines := newKeyLines(n)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != Scalar {
			r.Fail(key, "type", "got "+KindOf(key)+", want a key", "write a key")
			continue
		}
		if line := lines.first(n, i); line > 0 {
			r.Fail(key, "duplicate-key", fmt.Sprintf("duplicate key %q, first on line %d", Cut(key.Value), line), "keep one of them")
			continue
		}
		r.push(key.Value, 0)
		read(key, n.Content[i+1])
		r.pop()
	}
	return true
}

// fewKeys is how many keys are compared one by one before a map is faster.
const fewKeys = 16

// keyLines finds keys that came before, in a mapping with many keys.
type keyLines map[string]int

func newKeyLines(n *Node) keyLines {
	if len(n.Content) <= 2*fewKeys {
		return nil
	}
	return make(keyLines, len(n.Content)/2)
}

// first is the line of the first key before the i-th node of n that is the same; 0 if
// there is none.
func (k keyLines) first(n *Node, i int) int {
	key := n.Content[i]
	if k != nil {
		if line, ok := k[key.Value]; ok {
			return line
		}
		k[key.Value] = key.Line
		return 0
	}
	for j := 0; j < i; j += 2 {
		if before := n.Content[j]; before.Kind == Scalar && before.Value == key.Value {
			return before.Line
		}
	}
	return 0
}
