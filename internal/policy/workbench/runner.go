package workbench

import (
	"encoding/xml"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// TestReport is what the tests of a folder of policies showed.
type TestReport struct {
	Results  []TestResult   `json:"tests"`    // by file, in the order of the text
	Coverage []RuleCoverage `json:"coverage"` // by policy and rule
}

// TestResult is one test.
type TestResult struct {
	File    string   `json:"file"`
	Line    int      `json:"line"`
	Name    string   `json:"name"`
	Passed  bool     `json:"passed"`
	Diff    []string `json:"diff,omitempty"`    // a line for each thing that is not as expected
	Explain string   `json:"explain,omitempty"` // why it was decided so; of failed tests

	Decision approval.Decision `json:"-"`
}

// RuleCoverage tells how many tests an entry decided, in force or as shadow policies.
type RuleCoverage struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
	List   string `json:"list"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Tests  int    `json:"tests"`
}

// RunTests loads the policies in the folder dir and runs their tests,
// as policy.LoadSuite reads them.
func RunTests(dir string, targets approval.Targets) (TestReport, error) {
	suite, err := policy.LoadSuite(dir, targets)
	if err != nil {
		return TestReport{}, err
	}
	return Run(suite), nil
}

// Run runs the tests of suite.
func Run(suite *policy.Suite) TestReport {
	var report TestReport
	for _, t := range suite.Tests {
		report.Results = append(report.Results, run(suite.Set, &t))
	}
	report.Coverage = coverage(suite.Set, report.Results)
	return report
}

func run(set *policy.Set, t *policy.Test) TestResult {
	in, refused := take(set, t)
	state := set.Review(&in)
	d := state.Decision
	r := TestResult{File: t.File, Line: t.Line, Name: t.Name, Decision: d}
	r.Diff = append(unexpected(&t.Expect, d), unexpectedReviews(&t.Expect, &state, refused)...)
	r.Passed = len(r.Diff) == 0
	if !r.Passed {
		var b strings.Builder
		_ = Explain(set, &in).WriteText(&b) // a strings.Builder takes everything
		r.Explain = b.String()
	}
	return r
}

// unexpected returns a line for each thing of d that is not as expected.
func unexpected(e *policy.Expectation, d approval.Decision) []string {
	var out []string
	same := func(what, want, got string) {
		if want != got {
			out = append(out, fmt.Sprintf("%s: want %s, got %s", what, orNothing(want), orNothing(got)))
		}
	}
	same("verdict", e.Verdict, string(d.Verdict))
	for what, p := range map[string]struct {
		want *string
		got  string
	}{"policy": {e.Policy, d.Policy}, "rule": {e.Rule, d.Rule}, "contact": {e.Contact, d.Contact}} {
		if p.want != nil {
			same(what, *p.want, p.got)
		}
	}
	if e.Reasons != nil {
		var got []string
		for _, r := range d.Reasons {
			got = append(got, string(r.Code))
		}
		same("reasons", strings.Join(e.Reasons, ", "), strings.Join(got, ", "))
	}
	if e.Limit != nil {
		same("limit", strconv.Itoa(*e.Limit), strconv.Itoa(d.Limit))
	}
	if e.Shadow != nil {
		got := ""
		if d.Shadow != nil {
			got = string(d.Shadow.Verdict)
		}
		same("shadow", *e.Shadow, got)
	}
	slices.Sort(out)
	return out
}

// coverage counts the tests that each entry decided.
func coverage(s *policy.Set, results []TestResult) []RuleCoverage {
	hits := make(map[[2]string]int)
	for _, r := range results {
		hits[[2]string{r.Decision.Policy, r.Decision.Rule}]++
		if sh := r.Decision.Shadow; sh != nil && (sh.Policy != r.Decision.Policy || sh.Rule != r.Decision.Rule) {
			hits[[2]string{sh.Policy, sh.Rule}]++
		}
	}
	var out []RuleCoverage
	for _, p := range s.Describe() {
		for _, e := range p.Entries {
			out = append(out, RuleCoverage{p.Name, e.ID, e.List, p.File, e.Line, hits[[2]string{p.Name, e.ID}]})
		}
	}
	return out
}

// Failed is the number of tests that failed.
func (r TestReport) Failed() int {
	n := 0
	for _, t := range r.Results {
		if !t.Passed {
			n++
		}
	}
	return n
}

// Covered is the share of entries that decided a test, from 0 to 1; 1 if there
// are no entries.
func (r TestReport) Covered() float64 {
	if len(r.Coverage) == 0 {
		return 1
	}
	n := 0
	for _, c := range r.Coverage {
		if c.Tests > 0 {
			n++
		}
	}
	return float64(n) / float64(len(r.Coverage))
}

// WriteText writes what failed and a summary; with coverage also which entries
// no test decided.
func (r TestReport) WriteText(w io.Writer, coverage bool) error {
	var b strings.Builder
	for _, t := range r.Results {
		if t.Passed {
			continue
		}
		fmt.Fprintf(&b, "FAIL %s:%d: %s\n", t.File, t.Line, t.Name)
		for _, d := range t.Diff {
			fmt.Fprintf(&b, "     %s\n", d)
		}
		for line := range strings.Lines(t.Explain) {
			fmt.Fprintf(&b, "     | %s", line)
		}
	}
	fmt.Fprintf(&b, "%s, %d failed\n", counted(len(r.Results), "test", "tests"), r.Failed())
	if coverage {
		fmt.Fprintf(&b, "%.0f %% of %s decided a test\n", 100*r.Covered(), counted(len(r.Coverage), "entry", "entries"))
		for _, c := range r.Coverage {
			if c.Tests == 0 {
				fmt.Fprintf(&b, "not tested: %s:%d: %s %s/%s\n", c.File, c.Line, c.List, c.Policy, c.Rule)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes r as JSON.
func (r TestReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes r in the XML of JUnit, which CI systems read.
func (r TestReport) WriteJUnit(w io.Writer) error {
	var out junitSuites
	for _, t := range r.Results {
		if n := len(out.Suites); n == 0 || out.Suites[n-1].Name != t.File {
			out.Suites = append(out.Suites, junitSuite{Name: t.File})
		}
		s := &out.Suites[len(out.Suites)-1]
		c := junitCase{Name: t.Name, Class: strings.TrimSuffix(filepath.Base(t.File), ".yaml"), File: t.File, Line: t.Line}
		s.Tests++
		if !t.Passed {
			s.Failures++
			c.Failure = &junitFailure{strings.Join(t.Diff, "; "), t.Explain}
		}
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(out); err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// counted says "1 test" and "2 tests".
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
