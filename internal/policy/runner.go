package policy

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
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

	decision approval.Decision
}

// RuleCoverage tells how many tests an entry decided, in force or in the shadow.
type RuleCoverage struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
	List   string `json:"list"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Tests  int    `json:"tests"`
}

// RunTests loads the policies in the folder dir and runs the tests beside them,
// the files *_test.yaml. Targets that test files name are added to targets, so
// that tests run without a configuration. A policy or a test file that is wrong
// is a *LoadError.
func RunTests(dir string, targets approval.Targets) (TestReport, error) {
	snap, err := readDir(dir)
	if err != nil {
		return TestReport{}, err
	}
	return snap.runTests(dir, targets)
}

func (snap *snapshot) runTests(dir string, targets approval.Targets) (TestReport, error) {
	files, all, err := snap.readTests(dir, targets)
	if err != nil {
		return TestReport{}, err
	}
	set, err := snap.load(dir, all)
	if err != nil {
		return TestReport{}, err
	}
	var report TestReport
	for _, f := range files {
		for _, c := range f.tests {
			report.Results = append(report.Results, c.run(set, all, f.now))
		}
	}
	report.Coverage = set.coverage(report.Results)
	return report, nil
}

// TestTargets returns targets and those that the test files in the folder dir
// name, so that the other tools can load the policies without a configuration.
func TestTargets(dir string, targets approval.Targets) (approval.Targets, error) {
	snap, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	_, all, err := snap.readTests(dir, targets)
	return all, err
}

// readTests reads every test file of the folder.
func (snap *snapshot) readTests(dir string, targets approval.Targets) ([]*testFile, approval.Targets, error) {
	var files []*testFile
	var findings []Finding
	all := slices.Clone(targets)
	for _, name := range slices.Sorted(maps.Keys(snap.tests)) {
		d := &decoder{file: filepath.Join(dir, name), source: snap.tests[name]}
		f := &testFile{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		if root := d.root(); root != nil {
			readMapping(d, root, "a file of tests", testFileKeys(), f)
			all = d.addTargets(all, f)
		}
		files = append(files, f)
		findings = append(findings, d.findings...)
		for _, c := range f.tests {
			c.file, c.excerpt = d.file, d.excerpt(c.at.line, c.at.column)
		}
	}
	for _, f := range files {
		for _, c := range f.tests {
			findings = append(findings, c.wrong(all)...)
		}
	}
	sortFindings(findings)
	findings = slices.DeleteFunc(findings, func(f Finding) bool { return !f.fails() })
	if len(findings) > 0 {
		return nil, nil, &LoadError{Findings: findings}
	}
	return files, all, nil
}

// wrong returns what is wrong with the request of c as a whole.
func (c *testCase) wrong(targets approval.Targets) []Finding {
	f := Finding{Severity: SeverityError, File: c.file, Line: c.at.line, Column: c.at.column, Path: "request", Excerpt: c.excerpt}
	t, ok := targets.ByName(c.target)
	switch block := c.block(); {
	case c.target == "": // said already
		return nil
	case !ok:
		f.Code, f.Text = "unknown-target", strconv.Quote(cut(c.target))+" is no target"
		f.Mend = "name it under targets of a test file, or add it to the configuration"
	case t.Kind.Creates() && block != string(t.Kind), !t.Kind.Creates() && block != "":
		f.Code, f.Text = "parameters", "the request has parameters for "+orNothing(block)+", and its target is of kind "+string(t.Kind)
		f.Mend = "give exactly the block that goes with the target"
	default:
		return nil
	}
	return []Finding{f}
}

// ReadInput reads a request with its facts from the text of a file called name,
// in the form of a test: the keys request, facts and now. What it leaves out is as
// in tests, and the time is now. An error is a *LoadError.
func ReadInput(name string, source []byte, targets approval.Targets, now time.Time) (approval.Input, error) {
	d := &decoder{file: name, source: source}
	c := &testCase{file: name}
	if root := d.root(); root != nil {
		c.at = position{root.Line, root.Column}
		c.excerpt = d.excerpt(c.at.line, c.at.column)
		table := slices.DeleteFunc(testKeys(), func(k key[testCase]) bool { return k.name == "name" || k.name == "expect" })
		readMapping(d, root, "a request", table, c)
	}
	if findings := append(d.findings, c.wrong(targets)...); len(findings) > 0 {
		return approval.Input{}, &LoadError{Findings: findings}
	}
	return c.prepare(targets, now), nil
}

// block names the kind of target that the parameters of c are for.
func (c *testCase) block() string {
	var kinds []string
	if c.input.Request.Creation.FunctionGraph != nil {
		kinds = append(kinds, string(approval.FunctionGraph))
	}
	if c.input.Request.Creation.HSS != nil {
		kinds = append(kinds, string(approval.HSS))
	}
	if c.input.Request.Creation.DataArtsInsight != nil {
		kinds = append(kinds, string(approval.DataArtsInsight))
	}
	return strings.Join(kinds, " and ")
}

// addTargets adds the targets of a test file to all.
func (d *decoder) addTargets(all approval.Targets, f *testFile) approval.Targets {
	for i, t := range f.targets {
		old, ok := all.ByName(t.Name)
		switch {
		case !ok:
			all = append(all, t)
		case old.Kind != t.Kind:
			d.path = []step{{key: "targets"}, {index: i}}
			d.report(SeverityError, position{}, "contradiction",
				fmt.Sprintf("%s is of kind %s here and of kind %s elsewhere", t.Name, t.Kind, old.Kind), "make them the same")
			d.path = nil
		}
	}
	return all
}

// someEndpoint is the endpoint of tests that name none.
const someEndpoint = "00000000-0000-4000-8000-000000000001"

// prepare fills in what the test leaves out.
func (c *testCase) prepare(targets approval.Targets, now time.Time) approval.Input {
	in := c.input
	in.Request.Target, _ = targets.ByName(c.target)
	in.Now = now
	if !c.now.IsZero() {
		in.Now = c.now
	}
	if in.Request.Creates() {
		return in
	}
	in.Request.EndpointID = cmp.Or(in.Request.EndpointID, someEndpoint)
	if c.facts {
		in.Facts.EndpointID = cmp.Or(in.Facts.EndpointID, in.Request.EndpointID)
		in.Facts.State = cmp.Or(in.Facts.State, approval.Pending)
		in.Facts.ReadAt = in.Now
	}
	return in
}

func (c *testCase) run(set *Set, targets approval.Targets, now time.Time) TestResult {
	in := c.prepare(targets, now)
	d := set.Evaluate(&in)
	r := TestResult{File: c.file, Line: c.at.line, Name: c.name, Diff: c.expect.diff(d), decision: d}
	r.Passed = len(r.Diff) == 0
	if !r.Passed {
		var b strings.Builder
		_ = set.Explain(&in).WriteText(&b) // a strings.Builder takes everything
		r.Explain = b.String()
	}
	return r
}

// diff returns a line for each thing of d that is not as expected.
func (e *expectation) diff(d approval.Decision) []string {
	var out []string
	same := func(what, want, got string) {
		if want != got {
			out = append(out, fmt.Sprintf("%s: want %s, got %s", what, orNothing(want), orNothing(got)))
		}
	}
	same("verdict", e.verdict, string(d.Verdict))
	for what, p := range map[string]struct {
		want *string
		got  string
	}{"policy": {e.policy, d.Policy}, "rule": {e.rule, d.Rule}, "contact": {e.contact, d.Contact}} {
		if p.want != nil {
			same(what, *p.want, p.got)
		}
	}
	if e.reasons != nil {
		var got []string
		for _, r := range d.Reasons {
			got = append(got, string(r.Code))
		}
		same("reasons", strings.Join(e.reasons, ", "), strings.Join(got, ", "))
	}
	if e.limit != nil {
		same("limit", strconv.Itoa(*e.limit), strconv.Itoa(d.Limit))
	}
	if e.shadow != nil {
		got := ""
		if d.Shadow != nil {
			got = string(d.Shadow.Verdict)
		}
		same("shadow", *e.shadow, got)
	}
	slices.Sort(out)
	return out
}

// coverage counts the tests that each entry decided.
func (s *Set) coverage(results []TestResult) []RuleCoverage {
	hits := make(map[[2]string]int)
	for _, r := range results {
		hits[[2]string{r.decision.Policy, r.decision.Rule}]++
		if sh := r.decision.Shadow; sh != nil && (sh.Policy != r.decision.Policy || sh.Rule != r.decision.Rule) {
			hits[[2]string{sh.Policy, sh.Rule}]++
		}
	}
	var out []RuleCoverage
	for _, p := range s.policies {
		for _, e := range slices.Concat(p.allow, p.deny) {
			out = append(out, RuleCoverage{p.name, e.id, e.list(), p.file, e.at.line, hits[[2]string{p.name, e.id}]})
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
