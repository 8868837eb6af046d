package workbench

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// CheckReport is what Check found.
type CheckReport struct {
	Dir      string               `json:"dir"`
	OK       bool                 `json:"ok"` // whether a worker would load them
	Policies int                  `json:"policies"`
	Rules    int                  `json:"rules"`
	Digest   string               `json:"digest,omitempty"`
	Findings []strictyaml.Finding `json:"findings"`
	Shadow   *CheckReport         `json:"shadow,omitempty"` // of the candidate policies, if there are any
}

// Fails reports whether a worker would not load the policies or, if strict, there
// is anything to say of them.
func (r CheckReport) Fails(strict bool) bool {
	return !r.OK || strict && len(r.Findings) > 0 || r.Shadow != nil && r.Shadow.Fails(strict)
}

// count returns how many findings have a severity.
func (r CheckReport) count(s strictyaml.Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Check loads the policies of dir and looks for what has expired at now. more adds
// findings about a set that loads. The error says why the check could not be made.
func Check(dir string, targets approval.Targets, now time.Time, more func(*policy.Set, approval.Targets) ([]strictyaml.Finding, error)) (CheckReport, error) {
	report := CheckReport{Dir: dir, Findings: []strictyaml.Finding{}}
	set, err := policy.LoadDir(dir, targets)
	if refused, ok := errors.AsType[*strictyaml.Error](err); ok {
		report.Findings = refused.Findings
		return report, nil
	}
	if err != nil {
		return report, cli.WithCode(cli.ExitInvalid, fmt.Errorf("%w — name a folder of policies, or set policies.dir", err))
	}
	report.OK = true
	report.Policies, report.Rules, report.Digest = set.Policies(), set.Rules(), set.Digest()
	others, err := more(set, targets)
	if err != nil {
		return report, err
	}
	report.Findings = append(append(report.Findings, set.FindingsAt(now)...), others...)
	return report, nil
}

// Write prints r: each finding with its excerpt, and a line that sums them up.
func (r CheckReport) Write(w io.Writer, format string, p cli.Palette) error {
	switch format {
	case "json":
		return cli.WriteJSON(w, r)
	case "sarif":
		findings := r.Findings
		if r.Shadow != nil {
			findings = slices.Concat(findings, r.Shadow.Findings)
		}
		return WriteSARIF(w, findings)
	}
	if _, err := io.WriteString(w, r.text(p)); err != nil || r.Shadow == nil {
		return err
	}
	_, err := io.WriteString(w, "\nthe candidates of policies.shadow_dir:\n"+r.Shadow.text(p))
	return err
}

// text is r for people.
func (r CheckReport) text(p cli.Palette) string {
	var b strings.Builder
	for _, f := range r.Findings {
		severity := p.Yellow(string(f.Severity))
		if f.Severity == strictyaml.SeverityError {
			severity = p.Red(string(f.Severity))
		}
		fmt.Fprintf(&b, "%s [%s] %s\n", severity, f.Code, f.String())
		if f.Excerpt != "" {
			b.WriteString(p.Dim(f.Excerpt) + "\n")
		}
	}
	if len(r.Findings) > 0 {
		b.WriteString("\n")
	}
	bad, odd := r.count(strictyaml.SeverityError), r.count(strictyaml.SeverityWarning)
	if r.OK {
		fmt.Fprintf(&b, "%s: %s: %s, %s, %s, %s\n", p.Green("ok"), r.Dir,
			cli.Plural(r.Policies, "policy", "policies"), cli.Plural(r.Rules, "rule", "rules"), cli.Plural(odd, "warning", "warnings"), r.Digest)
	} else {
		fmt.Fprintf(&b, "%s: %s: %s, %s: a worker would not load them\n", p.Red("failed"), r.Dir, cli.Plural(bad, "error", "errors"), cli.Plural(odd, "warning", "warnings"))
	}
	return b.String()
}
