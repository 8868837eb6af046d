package strictyaml

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxExcerpt is the most characters of a line that an excerpt shows.
const maxExcerpt = 100

// split returns the lines of the file. They are found when they are first needed:
// most files have no finding.
func (r *Reader) split() [][]byte {
	if r.lines == nil {
		r.lines = bytes.Split(r.source, []byte("\n"))
	}
	return r.lines
}

// Line is the n-th line of the file; nil if there is no such.
func (r *Reader) Line(n int) []byte {
	if n < 1 || n > len(r.split()) {
		return nil
	}
	return r.lines[n-1]
}

// Excerpt shows the line of at with a caret under it, as far as r may show it.
func (r *Reader) Excerpt(at Position) string {
	if at.Line < 1 || at.Line > len(r.split()) {
		return ""
	}
	switch r.Show {
	case ShowLines:
		return Excerpt(r.Line(at.Line), at)
	case ShowPairs:
		return r.pairExcerpt(at)
	case ShowNothing:
	}
	return ""
}

// within is at, or the end of the file if at is behind it: where the last line
// does not end, the parser may count one more.
func (r *Reader) within(at Position) Position {
	n := len(r.split())
	if at.Line <= n {
		return at
	}
	return Position{n, utf8.RuneCount(bytes.TrimPrefix(r.lines[n-1], []byte(ByteOrderMark))) + 1}
}

// Excerpt shows a line of a file with a caret under the column of at. A long line is
// cut around it.
func Excerpt(line []byte, at Position) string {
	runes := printed(line)
	caret := min(max(at.Column, 1), len(runes)+1) - 1
	if from := caret - maxExcerpt/2; from > 0 && len(runes) > maxExcerpt {
		runes = append([]rune("…"), runes[from:]...)
		caret = caret - from + 1
	}
	if len(runes) > maxExcerpt {
		runes = append(runes[:maxExcerpt:maxExcerpt], '…')
	}
	return framed(at.Line, string(runes), caret)
}

// printed is line without what would steer a terminal.
func printed(line []byte) []rune {
	text := strings.ToValidUTF8(string(line), " ")
	text = strings.TrimSuffix(strings.TrimPrefix(text, ByteOrderMark), "\r")
	return []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' ' // one for one, so that the caret stays under its place
		}
		return r
	}, text))
}

func framed(line int, text string, caret int) string {
	return fmt.Sprintf("%6d | %s\n       | %s^", line, text, strings.Repeat(" ", caret))
}

// pairExcerpt shows the pair of a mapping that at is in: the key, and the value only
// if at is where a scalar value begins. What is next to them may be a secret.
func (r *Reader) pairExcerpt(at Position) string {
	if r.root == nil {
		return ""
	}
	key, value := pairAt(r.root, at)
	if key == nil || key.Line != at.Line {
		return ""
	}
	line := printed(r.Line(key.Line))
	before, caret := "… ", 2
	if from := key.Column - 1; from <= len(line) && strings.TrimSpace(string(line[:from])) == "" {
		before, caret = strings.Repeat(" ", from), from
	}
	shown := string(printed([]byte(key.Value))) + ": …"
	if value != nil && value.Kind == Scalar && value.Line == key.Line && !strings.Contains(value.Value, "\n") {
		end := value.Column - 1 + utf8.RuneCountInString(value.Value)
		if Quoted(value) {
			end += 2
		}
		if end = min(end, len(line)); key.Column-1 <= end {
			shown = string(line[key.Column-1 : end])
			caret += value.Column - key.Column
		}
	}
	return framed(key.Line, before+shown, caret)
}

// pairAt returns the innermost pair that at is a place of; value is nil unless at is
// where it begins.
func pairAt(n *Node, at Position) (key, value *Node) {
	begins := func(n *Node) bool { return n.Line == at.Line && n.Column == at.Column }
	for i := 0; n.Kind == Mapping && i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if begins(k) {
			return k, nil
		}
		if key, value = pairAt(v, at); key != nil {
			return key, value
		}
		if begins(v) {
			return k, v
		}
		if v.Kind == List && slices.ContainsFunc(v.Content, begins) {
			return k, nil
		}
	}
	if n.Kind == List {
		for _, item := range n.Content {
			if key, value = pairAt(item, at); key != nil {
				return key, value
			}
		}
	}
	return nil, nil
}
