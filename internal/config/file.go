package config

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// file is a configuration file while it is read.
type file struct {
	*loader
	name     string
	lines    []string
	keys     map[string]Setting // by place in the file
	sections []string           // "nats", "nats.tls"
}

// parse reads the file. Keys that are not settings, doubled keys, wrong types
// and further documents are problems, each with its place.
func (l *loader) parse(name string, data []byte) {
	f := &file{loader: l, name: name, lines: strings.Split(string(data), "\n"), keys: map[string]Setting{}, sections: []string{targetsKey}}
	for _, s := range l.rows {
		f.keys[s.key] = s
		for i, r := range s.key {
			if section := s.key[:i]; r == '.' && !slices.Contains(f.sections, section) {
				f.sections = append(f.sections, section)
			}
		}
	}
	if !utf8.Valid(data) {
		l.problem(name, "is not UTF-8 text", "")
		return
	}
	root, err := document(data)
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		l.problem(f.at(e.Mark.Line, e.Mark.Column), "not YAML: "+e.Message, "")
		return
	}
	if err != nil {
		l.problem(name, err.Error(), "")
		return
	}
	if root != nil {
		f.section("", root)
	}
}

// document returns the root of the one document in data; nil if it is empty.
func document(data []byte) (*yaml.Node, error) {
	r, err := yaml.NewLoader(strings.NewReader(string(data)))
	if err != nil {
		return nil, err
	}
	var doc, more yaml.Node
	if err := r.Load(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := r.Load(&more); err == nil {
		return nil, fmt.Errorf("holds a second document at line %d — keep one", more.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null" {
		return nil, nil
	}
	return doc.Content[0], nil
}

func (f *file) at(line, column int) string {
	if line == 0 {
		return f.name
	}
	return fmt.Sprintf("%s:%d:%d", f.name, line, column)
}

// wrong notes a problem at key, whose value is shown too if that is safe.
func (f *file) wrong(key, val *yaml.Node, at *yaml.Node, what string) {
	f.problem(f.at(at.Line, at.Column), what, f.excerpt(key, val, at))
}

// excerpt shows the line of at with a mark under it: only key and, unless nil,
// its value, so that nothing next to them is shown that may be a secret.
func (f *file) excerpt(key, val, at *yaml.Node) string {
	shown := key.Value + ": …"
	if val != nil && val.Kind == yaml.ScalarNode && val.Line == key.Line && !strings.Contains(val.Value, "\n") {
		line := []rune(f.lines[key.Line-1])
		if end := val.Column - 1 + utf8.RuneCountInString(val.Value); key.Column >= 1 && end <= len(line) {
			if val.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
				end = min(end+2, len(line))
			}
			shown = string(line[key.Column-1 : end])
		}
	}
	before := "… "
	if f.indented(key) {
		before = strings.Repeat(" ", key.Column-1)
	}
	col := len([]rune(before)) + 1
	if at == val && val != nil && val.Line == key.Line {
		col += val.Column - key.Column
	}
	number := fmt.Sprintf("%4d | ", key.Line)
	return number + before + shown + "\n" + strings.Repeat(" ", len(number)-2) + "| " + strings.Repeat(" ", col-1) + "^"
}

// indented reports whether nothing but space stands before n on its line.
func (f *file) indented(n *yaml.Node) bool {
	if n.Line < 1 || n.Line > len(f.lines) {
		return false
	}
	line := []rune(f.lines[n.Line-1])
	return n.Column-1 <= len(line) && strings.TrimSpace(string(line[:n.Column-1])) == ""
}

// section reads a mapping of settings; path is its key, empty at the top.
func (f *file) section(path string, n *yaml.Node) {
	f.pairs(n, orFile(path), func(key, val *yaml.Node) {
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		s, known := f.keys[full]
		switch {
		case full == targetsKey:
			f.targets(key, val)
		case known && s.secret:
			f.wrong(key, nil, key, fmt.Sprintf("%s is a secret and does not belong into the file — set %s or %s_FILE, and change the secret if the file was shared", full, s.vars[0], s.vars[0]))
		case known:
			f.scalar(s, key, val)
		case slices.Contains(f.sections, full):
			if val.ShortTag() != "!!null" { // "nats:" with all lines below commented out
				f.section(full, val)
			}
		default:
			f.wrong(key, nil, key, full+" is not a setting"+cli.DidYouMean(f.near(path, key.Value)))
		}
	})
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// near returns the key that was likely meant: a slip among its neighbors, or a
// setting that stands in another section.
func (f *file) near(path, key string) string {
	var candidates []string
	var elsewhere string
	for _, s := range f.rows {
		if s.secret {
			continue
		}
		if rest, ok := strings.CutPrefix(s.key, path+"."); ok || path == "" {
			if !ok {
				rest = s.key
			}
			name, _, _ := strings.Cut(rest, ".")
			candidates = append(candidates, name)
		}
		if elsewhere == "" && strings.HasSuffix(s.key, "."+key) {
			elsewhere = s.key
		}
	}
	if path == "" {
		candidates = append(candidates, targetsKey)
	}
	if near := cli.Suggest(key, candidates); near != "" {
		return strings.TrimPrefix(path+"."+near, ".")
	}
	return elsewhere
}

// pairs calls each for the pairs of the mapping n, called what.
func (f *file) pairs(n *yaml.Node, what string, each func(key, val *yaml.Node)) {
	n = resolved(n)
	if n.Kind != yaml.MappingNode {
		f.problem(f.at(n.Line, n.Column), fmt.Sprintf("%s holds keys with values, not %s", what, kindName(n)), "")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := resolved(n.Content[i]), resolved(n.Content[i+1])
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			f.problem(f.at(key.Line, key.Column), "a key is plain text here; merges (<<) are not read", "")
			continue
		}
		if line := seen[key.Value]; line > 0 {
			f.wrong(key, nil, key, fmt.Sprintf("%s is there twice, first at line %d — keep one", key.Value, line))
			continue
		}
		seen[key.Value] = key.Line
		each(key, val)
	}
}

// resolved follows an alias to what it stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func (f *file) scalar(s Setting, key, val *yaml.Node) {
	text, ok := f.plain(key, val, s.key)
	if !ok {
		return
	}
	excerpt := f.excerpt(key, val, val)
	if maskURL(text) != text {
		excerpt = f.excerpt(key, nil, key)
	}
	f.apply(s, value{text: text, source: "file", place: f.at(val.Line, val.Column)}, excerpt)
}

// plain returns the text of a scalar; what names it in a problem.
func (f *file) plain(key, val *yaml.Node, what string) (string, bool) {
	switch {
	case val.Kind != yaml.ScalarNode:
		f.wrong(key, nil, key, fmt.Sprintf("%s takes one value, not %s", what, kindName(val)))
	case val.ShortTag() == "!!null" || val.Value == "":
		f.wrong(key, nil, key, what+" has no value — give one, or delete the line")
	default:
		return val.Value, true
	}
	return "", false
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}
