// Package policy reads allow-lists written in YAML and decides requests by
// them. Load turns files into a Set, strictly, and reports every error with its
// place. Evaluate is pure. The worker, its sweep and every tool decide by it.
//
// The language is described in docs/policy.md.
package policy

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// Set is all policies of a folder, ready to decide. It does not change and is safe
// for concurrent use. The zero value holds every request.
type Set struct {
	digest   string
	policies []*policy // by name
	scopes   map[string]*scope
	fixed    fixed
	rules    int
	findings []strictyaml.Finding
	// reviewers is nil if the folder has no reviewers.yaml.
	reviewers *Reviewers
}

// Digest identifies the files that s was made of: "sha256:" and 64 hexadecimal
// digits. It is empty if s was never loaded.
func (s *Set) Digest() string {
	if s == nil {
		return ""
	}
	return s.digest
}

// Reviewers returns who may review what s holds; it has nobody if the folder has no
// reviewers.yaml.
func (s *Set) Reviewers() *Reviewers {
	if s == nil {
		return nil
	}
	return s.reviewers
}

// Rules is the number of entries, allow and deny together.
func (s *Set) Rules() int {
	if s == nil {
		return 0
	}
	return s.rules
}

// HasShadow reports whether a policy of s is in mode shadow.
func (s *Set) HasShadow() bool {
	return s != nil && slices.ContainsFunc(s.policies, func(p *policy) bool { return p.mode == approval.Shadow })
}

// Names returns every pair of policy and entry that a decision of s can name,
// including a policy alone and neither.
func (s *Set) Names() [][2]string {
	names := [][2]string{{}}
	if s == nil {
		return names
	}
	for _, p := range s.policies {
		names = append(names, [2]string{p.name, ""})
		if p.review != nil {
			names = append(names, [2]string{p.name, RuleReview}, [2]string{"", RuleReview})
		}
		for _, e := range slices.Concat(p.allow, p.deny) {
			names = append(names, [2]string{p.name, e.id})
		}
	}
	return names
}

// Policies is the number of policies.
func (s *Set) Policies() int {
	if s == nil {
		return 0
	}
	return len(s.policies)
}

// Findings returns the warnings about s, in the order of the text.
func (s *Set) Findings() []strictyaml.Finding {
	if s == nil {
		return nil
	}
	return slices.Clone(s.findings)
}

// Load reads the policies in the folder fsys, for these targets: the files
// *.yaml except *_test.yaml, and the value files that they name. Folders in it are
// not read.
//
// If a file is wrong, there is no set, and the error is a *strictyaml.Error with every
// error and the warnings found so far. Another error means that the folder could not
// be read.
func Load(fsys fs.FS, targets approval.Targets) (*Set, error) {
	snap, err := readFolder(fsys)
	if err != nil {
		return nil, fmt.Errorf("read the folder: %w", err)
	}
	return snap.load("", targets)
}

// LoadDir is Load of a folder on disk, read as the worker reads it. Findings name
// the files with the folder.
func LoadDir(dir string, targets approval.Targets) (*Set, error) {
	snap, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	return snap.load(dir, targets)
}

// load makes a set of snap; dir stands before file names in findings.
func (snap *snapshot) load(dir string, targets approval.Targets) (*Set, error) {
	l := &loading{snap: snap, dir: dir, targets: targets, used: make(map[string]bool), keys: newKeys(), compiler: &compiler{}, sources: make(map[string]*strictyaml.Reader)}
	l.findings = snap.left(dir)
	for _, name := range slices.Sorted(maps.Keys(snap.files)) {
		if path.Ext(name) != ".yaml" {
			continue
		}
		l.used[name] = true
		if name == ReviewersFile {
			l.reviewersFile(name)
		} else {
			l.file(name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(snap.tests)) {
		l.test(name)
	}
	l.unique()
	l.admitted()
	l.reviews()
	strictyaml.Sort(l.findings)
	if slices.ContainsFunc(l.findings, strictyaml.Finding.Fails) {
		return nil, &strictyaml.Error{Findings: l.findings}
	}
	s := l.set()
	l.lint(s)
	strictyaml.Sort(l.findings)
	s.findings = l.findings
	return s, nil
}

// loading is the work of making one set.
type loading struct {
	snap     *snapshot
	dir      string
	targets  approval.Targets
	used     map[string]bool // files that are part of the set
	keys     *keys
	compiler *compiler
	sources  map[string]*strictyaml.Reader // for excerpts
	policies []*policy
	people   *Reviewers // nil: there is no reviewers.yaml
	findings []strictyaml.Finding
}

// show returns how findings name a file.
func (l *loading) show(name string) string { return filepath.Join(l.dir, name) }

// side returns a value file.
func (l *loading) side(name string) ([]byte, error) {
	source, ok := l.snap.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	l.used[name] = true
	return source, nil
}

// file reads one policy.
func (l *loading) file(name string) {
	d := &decoder{
		Reader: strictyaml.NewReader(l.show(name), l.snap.files[name]), keys: l.keys, compiler: l.compiler, targets: l.targets, side: l.side, show: l.show,
	}
	p := &policy{base: name, file: d.File, mode: approval.Enforce, otherwise: approval.Hold}
	if root := rootOf(d.Reader); root != nil {
		strictyaml.ReadMapping(d, root, "a policy", l.keys.policy, p)
		d.check(p)
	}
	l.findings = append(l.findings, d.All()...)
	l.policies = append(l.policies, p)
}

// test reports a file that has the name of a test file and is not one. It may be
// a policy, which would not be read.
func (l *loading) test(name string) {
	r := strictyaml.NewReader(l.show(name), l.snap.tests[name])
	if root := rootOf(r); root != nil {
		tests, other := false, ""
		for i := 0; root.Kind == strictyaml.Mapping && i+1 < len(root.Content); i += 2 {
			switch name := root.Content[i].Value; {
			case name == "tests":
				tests = true
			case name != "version" && name != "targets" && slices.ContainsFunc(l.keys.policy, func(k key[policy]) bool { return k.Name == name }):
				other = name
			}
		}
		const hint = "add the key tests; if this is a policy, rename the file"
		switch {
		case other != "":
			r.Fail(root, "file-name", "the file name is that of a test file, but "+other+" is a key of policies", hint)
		case !tests:
			r.Fail(root, "file-name", "the file name is that of a test file, but the file has no tests", hint)
		}
	}
	l.findings = append(l.findings, r.All()...)
}

// unique reports policies of the same name.
func (l *loading) unique() {
	first := make(map[string]*policy)
	for _, p := range l.policies {
		other, twice := first[p.name]
		if p.name == "" || !twice {
			first[p.name] = p
			continue
		}
		l.findings = append(l.findings, l.finding(p, p.at, strictyaml.Finding{
			Severity: strictyaml.SeverityError, Code: "duplicate-policy", Path: "policy",
			Text: fmt.Sprintf("duplicate policy name %q, first used in %s on line %d", p.name, other.file, other.at.Line),
			Hint: "give each policy its own name",
		}))
	}
}

// admitted reports policies that name a target which does not admit them. The set
// is not loaded then. Otherwise anyone who can write to the folder could decide for
// the targets of others.
func (l *loading) admitted() {
	for _, p := range l.policies {
		if p.name == "" {
			continue // reported already
		}
		for _, name := range p.targets {
			t, _ := l.targets.ByName(name)
			if admits(t, p.name) {
				continue
			}
			l.findings = append(l.findings, l.finding(p, p.at, strictyaml.Finding{
				Severity: strictyaml.SeverityError, Code: "not-admitted", Path: "policy",
				Text: fmt.Sprintf("the target %s does not admit the policy %s: the configuration admits %s", name, p.name, strings.ReplaceAll(t.Policies, ",", ", ")),
				Hint: "name another target, or add the policy to policies of the target " + name,
			}))
		}
	}
}

// admits reports whether the policy called name may decide for t.
func admits(t approval.Target, name string) bool {
	if t.Policies == "" {
		return true
	}
	for pattern := range strings.SplitSeq(t.Policies, ",") {
		if MatchGlob(pattern, name) {
			return true
		}
	}
	return false
}

// finding adds the place at in the file of p to f.
func (l *loading) finding(p *policy, at strictyaml.Position, f strictyaml.Finding) strictyaml.Finding {
	f.File, f.Line, f.Column = p.file, at.Line, at.Column
	if l.sources[p.base] == nil {
		l.sources[p.base] = strictyaml.NewReader(p.file, l.snap.files[p.base])
	}
	f.Excerpt = l.sources[p.base].Excerpt(at)
	return f
}

// set builds the set of policies without errors.
func (l *loading) set() *Set {
	s := &Set{
		digest: l.snap.digest(slices.Collect(maps.Keys(l.used))), policies: l.policies, reviewers: l.people,
		scopes: make(map[string]*scope), fixed: newFixed(),
	}
	slices.SortFunc(s.policies, func(a, b *policy) int { return cmp.Compare(a.name, b.name) })
	for _, p := range s.policies {
		for _, t := range p.targets {
			if s.scopes[t] == nil {
				s.scopes[t] = &scope{}
			}
			if p.mode == approval.Shadow {
				s.scopes[t].shadow = &view{}
			}
		}
	}
	reasons := &reasonTable{}
	allowed := []approval.Reason{{Code: approval.ReasonAllowed, Text: "A rule allows this request."}}
	for _, p := range s.policies {
		entries := slices.Concat(p.allow, p.deny)
		slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
		for _, e := range entries {
			e.order = s.rules
			s.rules++
			e.matched = allowed
			if e.deny {
				e.matched = e.objection()
				if p.mode == approval.AcceptOnly {
					e.softened = slices.Concat(e.matched, s.fixed.switchedOff)
				}
				continue
			}
			for _, c := range e.conds {
				reasons.enter(c)
			}
		}
		for _, t := range p.targets {
			s.scopes[t].add(p, entries, &s.fixed)
		}
	}
	for _, sc := range s.scopes {
		for _, v := range []*view{sc.live, sc.shadow} {
			if v != nil {
				v.reasonTable = reasons
				v.deny.seal()
				v.allow.seal()
			}
		}
	}
	return s
}

// add makes p part of sc; policies come by name and entries in their order.
func (sc *scope) add(p *policy, entries []*entry, fix *fixed) {
	if sc.shadow != nil {
		sc.shadow.add(p, entries, fix)
	}
	if p.mode == approval.Shadow {
		return
	}
	if sc.live == nil {
		sc.live = &view{}
	}
	sc.live.add(p, entries, fix)
}

// add makes p part of v. A shadow policy is in force there like any other.
func (v *view) add(p *policy, entries []*entry, fix *fixed) {
	for _, e := range entries {
		if e.deny {
			v.deny.add(e)
		} else {
			v.allow.add(e)
		}
	}
	if p.review != nil {
		rule := *p.review
		rule.Policy, rule.MayReject = p.name, p.mode != approval.AcceptOnly
		v.reviews = append(v.reviews, rule)
	}
	verdict, reasons := p.otherwise, fix.notAllowed
	if verdict == approval.Reject && p.mode == approval.AcceptOnly {
		verdict, reasons = approval.Hold, slices.Concat(fix.notAllowed, fix.switchedOff)
	}
	switch {
	case v.verdict == "" || strictness(verdict) > strictness(v.verdict):
		v.otherwise, v.verdict, v.reasons = p.name, verdict, slices.Clip(reasons)
	case verdict == v.verdict && verdict != approval.Reject:
		v.otherwise, v.reasons = "", fix.notAllowed // several policies give this verdict
	}
}

// strictness orders the verdicts for requests that no entry matches.
func strictness(v approval.Verdict) int {
	switch v {
	case approval.Reject:
		return 3
	case approval.Hold:
		return 2
	case approval.Ignore, approval.Accept:
	}
	return 1
}
