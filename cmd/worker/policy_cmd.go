package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

func newPolicyCommand(env environment) *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Works on policies"}
	c.AddCommand(newPolicyCheckCommand(env))
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

func newPolicyCheckCommand(env environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "check [dir]",
		Short: "Finds what is wrong with the policies, or looks wrong",
		Long: `check reads the policies in a folder (policies.dir unless it is named) as a worker
would and reports every finding with its place and how to mend it. Exit code 0:
a worker would load them; 3: it would not, or --strict is set and there are
warnings.

Policies name targets of the configuration. Where that is not at hand, name the
targets instead: --target payments=service --target functions=functiongraph`,
		Args: cobra.MaximumNArgs(1),
	}
	output := &choiceFlag{text: "text", choices: []string{"text", "json"}}
	c.Flags().VarP(output, "output", "o", "how to print")
	completeFlag(c, "output", output.choices)
	strict := c.Flags().Bool("strict", false, "let warnings fail too")
	named := c.Flags().StringArray("target", nil, "check against this target instead of the configured ones: `name=kind`")
	addSettings(c.Flags(), "policies")
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := loadConfig(env, flagsOf(c))
		if err != nil {
			return err
		}
		if len(*named) > 0 {
			if cfg.Targets, err = parseTargets(*named); err != nil {
				return usageError(c.CommandPath(), err)
			}
		}
		dir := cfg.Policies.Dir
		if len(args) > 0 {
			dir = args[0]
		}
		report, err := checkPolicies(dir, cfg.Targets)
		if err != nil {
			return err
		}
		if err := report.write(c.OutOrStdout(), output.text, colors(c, env, c.OutOrStdout())); err != nil {
			return err
		}
		if !report.OK || *strict && len(report.Findings) > 0 {
			return withCode(exitInvalid, errReported)
		}
		return nil
	}
	return c
}

// parseTargets reads name=kind.
func parseTargets(named []string) (approval.Targets, error) {
	var out approval.Targets
	for _, text := range named {
		name, kind, _ := strings.Cut(text, "=")
		if err := approval.ValidName(name); err != nil {
			return nil, fmt.Errorf("--target %s: %w", text, err)
		}
		if !slices.Contains(approval.TargetKinds(), approval.TargetKind(kind)) {
			return nil, fmt.Errorf("--target %s: %q is not a kind of target — say name=kind with %s", text, kind, kindList())
		}
		out = append(out, approval.Target{Name: name, Kind: approval.TargetKind(kind)})
	}
	return out, nil
}

// checkPolicies loads the policies of dir; the error says why that could not be
// tried at all.
func checkPolicies(dir string, targets approval.Targets) (checkReport, error) {
	report := checkReport{Dir: dir, Findings: []policy.Finding{}}
	set, err := policy.LoadDir(dir, targets)
	if refused, ok := errors.AsType[*policy.LoadError](err); ok {
		report.Findings = refused.Findings
		return report, nil
	}
	if err != nil {
		return report, withCode(exitInvalid, fmt.Errorf("%w — name a folder of policies, or set policies.dir", err))
	}
	report.OK = true
	report.Policies, report.Rules, report.Digest = set.Policies(), set.Rules(), set.Digest()
	report.Findings = append(report.Findings, set.Findings()...)
	return report, nil
}

// write prints r: each finding with its excerpt, and a line that sums them up.
func (r checkReport) write(w io.Writer, format string, p palette) error {
	if format == "json" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("write as json: %w", err)
		}
		_, err = fmt.Fprintln(w, string(data))
		return err
	}
	var b strings.Builder
	for _, f := range r.Findings {
		severity := p.yellow(string(f.Severity))
		if f.Severity == policy.SeverityError {
			severity = p.red(string(f.Severity))
		}
		fmt.Fprintf(&b, "%s [%s] %s\n", severity, f.Code, f.String())
		if f.Excerpt != "" {
			b.WriteString(p.dim(f.Excerpt) + "\n")
		}
	}
	if len(r.Findings) > 0 {
		b.WriteString("\n")
	}
	bad, odd := r.count(policy.SeverityError), r.count(policy.SeverityWarning)
	if r.OK {
		fmt.Fprintf(&b, "%s: %s: %s, %s, %s, %s\n", p.green("ok"), r.Dir,
			counted(r.Policies, "policy", "policies"), counted(r.Rules, "rule", "rules"), counted(odd, "warning", "warnings"), r.Digest)
	} else {
		fmt.Fprintf(&b, "%s: %s: %s, %s: a worker would not load them\n", p.red("failed"), r.Dir, counted(bad, "error", "errors"), counted(odd, "warning", "warnings"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// counted says "1 rule" and "2 rules".
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
