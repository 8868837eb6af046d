package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Severity tells whether the policies can be loaded with a finding.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"   // the set is not loaded
	SeverityWarning Severity = "warning" // something has no effect, or more than it seems
)

// Finding is one thing that is wrong with the policies, or looks wrong.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"` // stable, in kebab-case
	File     string   `json:"file"`
	Line     int      `json:"line,omitzero"`   // from 1; 0 if it is about the file as a whole
	Column   int      `json:"column,omitzero"` // in characters, from 1
	Path     string   `json:"path,omitzero"`   // such as allow[0].domain_id
	Text     string   `json:"text"`            // what is wrong
	Hint     string   `json:"hint,omitzero"`   // what to do about it
	Excerpt  string   `json:"-"`               // the line with a caret under the place; empty if there is none
}

// fails reports whether f keeps the policies from being loaded.
func (f Finding) fails() bool { return f.Severity == SeverityError }

// counted says "1 error" and "2 errors".
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// String is f on one line: file:line:column: path: text; hint.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Text)
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	return b.String()
}

// Long is f with the excerpt below it.
func (f Finding) Long() string {
	if f.Excerpt == "" {
		return f.String()
	}
	return f.String() + "\n" + f.Excerpt
}

// sortFindings puts findings in the order of the text.
func sortFindings(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// LoadError holds everything that keeps the policies from being loaded.
type LoadError struct {
	Findings []Finding // in the order of the text; at least one is of SeverityError
}

// Error lists every error, without the warnings, with its place, excerpt and hint.
func (e *LoadError) Error() string {
	lines := []string{""}
	for _, f := range e.Findings {
		if f.fails() {
			lines = append(lines, f.Long())
		}
	}
	lines[0] = counted(len(lines)-1, "error", "errors") + ":"
	return strings.Join(lines, "\n")
}

// maxExcerpt is the most characters of a line that an excerpt shows.
const maxExcerpt = 100

// excerpt shows a line of a file with a caret under column, cut around it if
// the line is long.
func excerpt(source []byte, line, column int) string {
	text := strings.ToValidUTF8(string(source), " ")
	text = strings.TrimSuffix(strings.TrimPrefix(text, byteOrderMark), "\r")
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' ' // one for one, so that the caret stays under its place
		}
		return r
	}, text))
	at := min(max(column, 1), len(runes)+1) - 1
	if from := at - maxExcerpt/2; from > 0 && len(runes) > maxExcerpt {
		runes = append([]rune("…"), runes[from:]...)
		at = at - from + 1
	}
	if len(runes) > maxExcerpt {
		runes = append(runes[:maxExcerpt:maxExcerpt], '…')
	}
	return fmt.Sprintf("%6d | %s\n       | %s^", line, string(runes), strings.Repeat(" ", at))
}
