package policy

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

func TestFindings(t *testing.T) {
	t.Parallel()
	fsys := folder(
		head("a")+`mode: accept-only
allow:
  - id: left
    domain_id: [`+leftUs+`, `+acme+`]
  - id: left-alone
    domain_id: `+strings.ToUpper(leftUs)+`
  - id: any
    any_domain: true
    when: facts.state == "pendingAcceptance"
  - id: nobody
    domain_id: []
  - id: twice
    domain_id: [`+acme+`, `+strings.ToUpper(acme)+`]
    region: ["cn-*", cn-north-4]
  - id: old
    domain_id: `+staging+`
    expires: 2026-01-31
otherwise: reject
`,
		head("b")+"deny: [{id: gone, domain_id: "+leftUs+"}]\n",
		head("c")+"allow: [{id: same, domain_id: ["+insight+"]}]\n",
		head("d")+"allow: [{id: again, domain_id: "+insight+"}]\n",
		head("e"),
	)
	fsys["spare.txt"] = &fstest.MapFile{Data: []byte(acme)}
	set, err := Load(fsys, demoTargets()[:2])
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range set.FindingsAt(noon()) {
		if f.Severity != strictyaml.SeverityWarning {
			t.Errorf("%s is of severity %s", f, f.Severity)
		}
		b.WriteString(f.Code + ": " + f.Long() + "\n")
	}
	golden(t, "findings.golden", b.String())
	if got, all := len(set.Findings()), len(set.FindingsAt(noon())); got != all-1 {
		t.Errorf("%d findings whatever the time, %d at noon; want one more for the entry that expired", got, all)
	}
	if got := len(set.FindingsAt(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))); got != len(set.Findings()) {
		t.Errorf("%d findings on the last day, want %d", got, len(set.Findings()))
	}
}

func TestFindingsOfAnEmptyFolder(t *testing.T) {
	t.Parallel()
	if fs := load(t).Findings(); len(fs) != 1 || fs[0].Code != "no-policy" {
		t.Errorf("findings are %v, want no-policy", fs)
	}
}

// TestWarningsWithErrors: warnings are reported although there is an error.
func TestWarningsWithErrors(t *testing.T) {
	t.Parallel()
	_, err := Load(folder(head("a")+"allow:\n  - {id: a, domain_id: []}\n  - {id: b, domain_id: x}\n"), demoTargets())
	refused, ok := errors.AsType[*strictyaml.Error](err)
	if !ok || len(refused.Findings) != 2 || refused.Findings[0].Code != "empty-list" || refused.Findings[1].Severity != strictyaml.SeverityError {
		t.Errorf("Load = %v, want the empty list and the error", err)
	}
}

// TestFindingsDoNotSteerATerminal: a key may be written with escapes.
func TestFindingsDoNotSteerATerminal(t *testing.T) {
	t.Parallel()
	set := load(t, head("a")+`deny: [{id: a, any_domain: true, claims: {"\"x\e[2J\"": []}, expires: 2026-01-01}]`)
	var b strings.Builder
	for _, f := range set.FindingsAt(noon()) {
		b.WriteString(f.Long() + "\n")
	}
	if got := b.String(); strings.Contains(got, "\x1b") || !strings.Contains(got, `claims."\"x\x1b[2J\"": the list is empty`) {
		t.Errorf("%q", got)
	}
	if got := b.String(); !strings.Contains(got, "the entry expired on 2026-01-01") || strings.Count(got, "     4 | deny:") != 2 {
		t.Errorf("without an excerpt each:\n%s", got)
	}
}
