package policy

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// Suite is the policies of a folder with their tests.
type Suite struct {
	Set   *Set
	Tests []Test // by file, in the order of the text
}

// Test is one test of a test file.
type Test struct {
	File   string
	Line   int
	Name   string
	Input  approval.Input    // with what the file leaves out filled in; nobody has said anything
	Said   []approval.Review // what people say of it, in the order of time
	Expect Expectation
}

// Expectation is what a test expects of a decision; what is not set may be anything.
type Expectation struct {
	Verdict string
	Policy  *string
	Rule    *string
	Contact *string
	Shadow  *string // the verdict with the shadow policies in force
	Reasons []string
	Limit   *int

	Missing   *int     // approvals; 0: a review cannot change anything
	MayReview []string // who may still review
	Refused   []string // the codes of the reviews that do not count
}

// LoadSuite reads the policies in the folder dir and their tests, the files
// *_test.yaml. Targets that test files name are added to targets, so that
// tests run without a configuration. A policy or a test file that is wrong is a
// *strictyaml.Error.
func LoadSuite(dir string, targets approval.Targets) (*Suite, error) {
	snap, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	return snap.loadSuite(dir, targets)
}

func (snap *snapshot) loadSuite(dir string, targets approval.Targets) (*Suite, error) {
	files, all, err := snap.readTests(dir, targets)
	if err != nil {
		return nil, err
	}
	set, err := snap.load(dir, all)
	if err != nil {
		return nil, err
	}
	suite := &Suite{Set: set}
	for _, f := range files {
		for _, c := range f.tests {
			in := c.prepare(all, f.now)
			said := c.reviews(&in)
			suite.Tests = append(suite.Tests, Test{File: c.file, Line: c.at.Line, Name: c.name, Input: in, Said: said, Expect: c.expect})
		}
	}
	return suite, nil
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
	var findings []strictyaml.Finding
	all := slices.Clone(targets)
	for _, name := range slices.Sorted(maps.Keys(snap.tests)) {
		r := strictyaml.NewReader(filepath.Join(dir, name), snap.tests[name])
		f := &testFile{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		if root := rootOf(r); root != nil {
			strictyaml.ReadMapping(r, root, "a test file", testFileKeys(), f)
			all = addTargets(r, all, f)
		}
		files = append(files, f)
		findings = append(findings, r.All()...)
		for _, c := range f.tests {
			c.file, c.excerpt = r.File, r.Excerpt(c.at)
		}
	}
	for _, f := range files {
		for _, c := range f.tests {
			findings = append(findings, c.wrong(all, f.now)...)
		}
	}
	strictyaml.Sort(findings)
	findings = slices.DeleteFunc(findings, func(f strictyaml.Finding) bool { return !f.Fails() })
	if len(findings) > 0 {
		return nil, nil, &strictyaml.Error{Findings: findings}
	}
	return files, all, nil
}

// wrong returns what is wrong with c as a whole. now is the time of tests that name
// none.
func (c *testCase) wrong(targets approval.Targets, now time.Time) []strictyaml.Finding {
	f := strictyaml.Finding{Severity: strictyaml.SeverityError, File: c.file, Line: c.at.Line, Column: c.at.Column, Path: "request", Excerpt: c.excerpt}
	t, ok := targets.ByName(c.target)
	switch block := c.block(); {
	case c.target == "": // reported already
		return nil
	case !ok:
		f.Code, f.Text = "unknown-target", strconv.Quote(strictyaml.Cut(c.target))+" is not a target"
		f.Hint = "name it under targets of a test file, or add it to the configuration"
	case t.Kind.Creates() && block != string(t.Kind), !t.Kind.Creates() && block != "":
		f.Code, f.Text = "parameters", "the request has parameters for "+cmp.Or(block, "nothing")+", and its target is of kind "+string(t.Kind)
		f.Hint = "give exactly the block that goes with the target"
	default:
		return c.wrongReviews(c.decidedAt(now), f)
	}
	return []strictyaml.Finding{f}
}

// decidedAt is the time of the decision. now is that of tests that name none.
func (c *testCase) decidedAt(now time.Time) time.Time {
	if c.now.IsZero() {
		return now
	}
	return c.now
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
func addTargets(r *strictyaml.Reader, all approval.Targets, f *testFile) approval.Targets {
	for i, t := range f.targets {
		old, ok := all.ByName(t.Name)
		switch {
		case !ok:
			all = append(all, t)
		case old.Kind != t.Kind:
			r.SetPath(strictyaml.Step{Key: "targets"}, strictyaml.Step{Index: i})
			r.Report(strictyaml.SeverityError, strictyaml.Position{}, "contradiction",
				fmt.Sprintf("%s is of kind %s here and of kind %s elsewhere", t.Name, t.Kind, old.Kind), "make them the same")
			r.SetPath()
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
	in.Now = c.decidedAt(now)
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
