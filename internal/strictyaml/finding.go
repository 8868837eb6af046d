// Package strictyaml reads YAML that people write and review: configuration,
// policies, tests and scripts. It takes nothing that it does not know, nothing
// twice and nothing of another type, and reports everything that is wrong with
// its place, an excerpt and a suggestion.
//
// Of YAML it reads one document of mappings, lists and scalars. Aliases, tags and
// merge keys are errors, so the cost of a file is bounded by its size.
package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity tells whether a file can be used with a finding.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"   // the file is not used
	SeverityWarning Severity = "warning" // something has no effect, or more than it seems
)

// Finding is one thing that is wrong with a file, or looks wrong.
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

// Position is a place in a file. Both numbers count from 1; zeros: the file as a whole.
type Position struct{ Line, Column int }

// Fails reports whether f keeps the file from being used.
func (f Finding) Fails() bool { return f.Severity == SeverityError }

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

// Sort puts findings in the order of the text.
func Sort(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// Error holds everything that keeps files from being used.
type Error struct {
	Findings []Finding // in the order of the text; at least one is of SeverityError
}

// Error lists every error, without the warnings, with its place, excerpt and hint.
func (e *Error) Error() string {
	lines := []string{""}
	for _, f := range e.Findings {
		if f.Fails() {
			lines = append(lines, f.Long())
		}
	}
	lines[0] = Counted(len(lines)-1, "error", "errors") + ":"
	return strings.Join(lines, "\n")
}

// Counted says "1 error" and "2 errors".
func Counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
