package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
	"github.com/vpcep-approver/vpcep-approver/internal/service"
)

func newPolicyCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check, test, explain and compare policies",
		Long: `policy works on allow-lists before they go live. All of it decides by the very
function that the worker decides by, and none of it calls the cloud.

Policies name targets of the configuration. Where no configuration has targets,
those that the tests next to the policies name are used, so that all of this works
in a fresh clone; --target name=kind names them by hand.`,
		Example: `  worker policy new partners --target payments=service
  worker policy check policies
  worker policy test policies --coverage --min 100
  worker policy explain policies --target payments --domain-id 6e9dfd51d1124e8d8498dce894923a0d
  worker policy backtest policies --since 30d`,
	}
	c.AddCommand(
		newPolicyBacktestCommand(env),
		newPolicyCheckCommand(env),
		newPolicyDiffCommand(env),
		newPolicyExplainCommand(env),
		newPolicyNewCommand(env),
		newPolicyRecordsCommand(env),
		newPolicySchemaCommand(),
		newPolicyTestCommand(env),
	)
	return c
}

// checkReport is what policy check found.
type checkReport struct {
	Dir      string           `json:"dir"`
	OK       bool             `json:"ok"` // whether a worker would load them
	Policies int              `json:"policies"`
	Rules    int              `json:"rules"`
	Digest   string           `json:"digest,omitempty"`
	Findings []policy.Finding `json:"findings"`
	Shadow   *checkReport     `json:"shadow,omitempty"` // of the candidate policies, if there are any
}

// fails reports whether a worker would not load the policies or, if strict, there
// is anything to say of them.
func (r checkReport) fails(strict bool) bool {
	return !r.OK || strict && len(r.Findings) > 0 || r.Shadow != nil && r.Shadow.fails(strict)
}

// count returns how many findings have a severity.
func (r checkReport) count(s policy.Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

func newPolicyCheckCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "check [dir]",
		Short: "Find errors and likely mistakes in policies",
		Long: `check reads the policies in a folder (policies.dir unless it is named) as a worker
would and reports every finding with its place, its code and a hint. Exit
code 0: a worker would load them; 3: it would not, or --strict is set and there
are warnings. Unless a folder is named, those of policies.shadow_dir are read too.

Policies name targets of the configuration. Where no configuration has targets,
those that the tests next to the policies name are used; or name them:
--target payments=service --target functions=functiongraph`,
		Example: `  worker policy check policies
  worker policy check policies --strict -o sarif > policies.sarif
  worker policy check policies --strict --now 2027-01-01   # what will have expired by then`,
		Args: cli.AtMost(1, "one folder"),
	}
	output := cli.FormatFlag(c, "table", "json", "sarif")
	strict := c.Flags().Bool("strict", false, "let warnings fail too")
	at := &cli.TimeFlag{}
	c.Flags().Var(at, "now", "find what has expired at this `time` (default now)")
	named := targetFlag(c)
	config.AddFlags(c.Flags(), "policies.dir")
	c.RunE = func(c *cobra.Command, args []string) error {
		bench, err := openBench(c, env, *named, args...)
		if err != nil {
			return err
		}
		report, err := checkPoliciesAt(bench.dirs[0], bench.targets, at.Or(time.Now()))
		if err != nil {
			return err
		}
		if shadow := bench.cfg.Policies.ShadowDir; len(args) == 0 && shadow != "" {
			candidates, err := checkPoliciesAt(shadow, bench.targets, at.Or(time.Now()))
			if err != nil {
				return fmt.Errorf("policies.shadow_dir: %w", err)
			}
			report.Shadow = &candidates
		}
		if err := report.write(c.OutOrStdout(), output.Text, cli.Colors(c, env, c.OutOrStdout())); err != nil {
			return err
		}
		if report.fails(*strict) {
			return cli.WithCode(cli.ExitInvalid, cli.ErrReported)
		}
		return nil
	}
	return c
}

// checkPolicies is checkPoliciesAt this moment.
func checkPolicies(dir string, targets approval.Targets) (checkReport, error) {
	return checkPoliciesAt(dir, targets, time.Now())
}

// checkPoliciesAt loads the policies of dir and looks for what has expired at that
// time; the error says why that could not be tried at all.
func checkPoliciesAt(dir string, targets approval.Targets, now time.Time) (checkReport, error) {
	report := checkReport{Dir: dir, Findings: []policy.Finding{}}
	set, err := policy.LoadDir(dir, targets)
	if refused, ok := errors.AsType[*policy.LoadError](err); ok {
		report.Findings = refused.Findings
		return report, nil
	}
	if err != nil {
		return report, cli.WithCode(cli.ExitInvalid, fmt.Errorf("%w — name a folder of policies, or set policies.dir", err))
	}
	report.OK = true
	report.Policies, report.Rules, report.Digest = set.Policies(), set.Rules(), set.Digest()
	examples, err := service.ExampleFindings(set, targets)
	if err != nil {
		return report, err
	}
	report.Findings = append(append(report.Findings, set.FindingsAt(now)...), examples...)
	return report, nil
}

// write prints r: each finding with its excerpt, and a line that sums them up.
func (r checkReport) write(w io.Writer, format string, p cli.Palette) error {
	switch format {
	case "json":
		return cli.WriteJSON(w, r)
	case "sarif":
		findings := r.Findings
		if r.Shadow != nil {
			findings = slices.Concat(findings, r.Shadow.Findings)
		}
		return workbench.WriteSARIF(w, findings)
	}
	if _, err := io.WriteString(w, r.text(p)); err != nil || r.Shadow == nil {
		return err
	}
	_, err := io.WriteString(w, "\nthe candidates of policies.shadow_dir:\n"+r.Shadow.text(p))
	return err
}

// text is r for people.
func (r checkReport) text(p cli.Palette) string {
	var b strings.Builder
	for _, f := range r.Findings {
		severity := p.Yellow(string(f.Severity))
		if f.Severity == policy.SeverityError {
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
	bad, odd := r.count(policy.SeverityError), r.count(policy.SeverityWarning)
	if r.OK {
		fmt.Fprintf(&b, "%s: %s: %s, %s, %s, %s\n", p.Green("ok"), r.Dir,
			cli.Plural(r.Policies, "policy", "policies"), cli.Plural(r.Rules, "rule", "rules"), cli.Plural(odd, "warning", "warnings"), r.Digest)
	} else {
		fmt.Fprintf(&b, "%s: %s: %s, %s: a worker would not load them\n", p.Red("failed"), r.Dir, cli.Plural(bad, "error", "errors"), cli.Plural(odd, "warning", "warnings"))
	}
	return b.String()
}
