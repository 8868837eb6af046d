package faulttest

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// row is one line of the table at the end.
type row struct {
	Name  string // such as "F1 SIGKILL before-act"
	Tries int
	findings
	Took time.Duration
	Note string // a figure of its own, such as the longest takeover
}

// report collects the rows of all tests.
type report struct {
	mu   sync.Mutex
	rows []row
}

// add notes a row and fails t if the checker has something against it.
func (r *report) add(t *testing.T, line row) {
	t.Helper()
	r.mu.Lock()
	r.rows = append(r.rows, line)
	r.mu.Unlock()
	if !line.none() {
		t.Errorf("%s, %d tries:%s", line.Name, line.Tries, line.findings)
	}
}

// print writes the table; rows of one name are put together.
func (r *report) print(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) == 0 {
		return
	}
	slices.SortStableFunc(r.rows, func(a, b row) int { return number(a.Name) - number(b.Name) })
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	text := "failure\ttries\tlost\tdoubled\twrong\ttime\t\n"
	for _, l := range r.rows {
		text += fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%.1f s\t%s\n", l.Name, l.Tries, len(l.Lost), len(l.Doubled), len(l.Wrong), l.Took.Seconds(), l.Note)
	}
	// A table that cannot be written is no failure of what it tells.
	_, _ = io.WriteString(out, text)
	_ = out.Flush()
}

// number is the N of a name that begins with "FN "; what has none comes last.
func number(name string) int {
	first, _, _ := strings.Cut(name, " ")
	n, err := strconv.Atoi(strings.TrimPrefix(first, "F"))
	if err != nil {
		return 1000
	}
	return n
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := &report{}
	r.add(t, row{Name: "model", Tries: 7})
	r.add(t, row{Name: "F10 rolled back", Tries: 2, Took: 1500 * time.Millisecond, Note: "found in 3 s"})
	r.add(t, row{Name: "F2 duplicates", Tries: 5000})
	var b strings.Builder
	r.print(&b)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], "F2 ") || !strings.HasPrefix(lines[2], "F10 ") || !strings.HasPrefix(lines[3], "model") {
		t.Errorf("the table is not in the order of the failures:\n%s", b.String())
	}
	if want := []string{"F10", "rolled", "back", "2", "0", "0", "0", "1.5", "s", "found", "in", "3", "s"}; !slices.Equal(strings.Fields(lines[2]), want) {
		t.Errorf("row is %q, want %q", strings.Fields(lines[2]), want)
	}
}
