package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

const runbookURL = "https://github.com/vpcep-approver/vpcep-approver/blob/main/docs/runbook.md#"

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Record, Expr, For string
			Labels, Annotations      map[string]string
		}
	}
}

type ruleTests struct {
	RuleFiles          []string `yaml:"rule_files"`
	EvaluationInterval string   `yaml:"evaluation_interval"`
	Tests              []struct {
		Name, Interval string
		InputSeries    []map[string]string `yaml:"input_series"`
		AlertRuleTest  []struct {
			EvalTime  string           `yaml:"eval_time"`
			Alert     string           `yaml:"alertname"`
			ExpAlerts []map[string]any `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func readStrict(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestEachAlertHasItsSection: alerts, sections of the runbook and the tests of the
// rules are the same, and what the rules read exists.
func TestEachAlertHasItsSection(t *testing.T) {
	t.Parallel()
	const dir = "../../deploy/prometheus/"
	var alerts, recording ruleFile
	readStrict(t, dir+"alerts.rules.yaml", &alerts)
	readStrict(t, dir+"recording.rules.yaml", &recording)
	metrics, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := regexp.MustCompile(`\bvpcep_approver_\w+`).FindAllString(string(metrics), -1)
	for _, g := range recording.Groups {
		for _, r := range g.Rules {
			known = append(known, r.Record)
		}
	}
	var names []string
	for _, g := range append(alerts.Groups, recording.Groups...) {
		for _, r := range g.Rules {
			for _, name := range regexp.MustCompile(`\b([a-z_]+:)?vpcep_approver_[\w:]+`).FindAllString(r.Expr, -1) {
				if !slices.Contains(known, name) && !slices.Contains(known, regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")) {
					t.Errorf("%s%s reads %s, which is neither in docs/metrics.md nor recorded", r.Alert, r.Record, name)
				}
			}
			if r.Alert == "" {
				continue
			}
			if !slices.Contains(names, r.Alert) {
				names = append(names, r.Alert)
			}
			if got, want := r.Annotations["runbook_url"], runbookURL+strings.ToLower(r.Alert); got != want {
				t.Errorf("%s: the runbook is %s, want %s", r.Alert, got, want)
			}
			if r.For == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
				t.Errorf("%s needs for, summary, description and a severity, critical or warning: %+v", r.Alert, r)
			}
		}
	}
	var sections []string
	for _, s := range runbookSections(t) {
		sections = append(sections, s.name)
	}
	if diff := cmp.Diff(names, sections); diff != "" {
		t.Errorf("alerts and sections of docs/runbook.md, in their order (-alerts +sections):\n%s", diff)
	}

	var tests ruleTests
	readStrict(t, dir+"tests/alerts.test.yaml", &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, a := range test.AlertRuleTest {
			fires[a.Alert] = fires[a.Alert] || len(a.ExpAlerts) > 0
			silent[a.Alert] = silent[a.Alert] || len(a.ExpAlerts) == 0
		}
	}
	for _, name := range names {
		if !fires[name] || !silent[name] {
			t.Errorf("%s needs a test in which it fires (%t) and one in which it does not (%t)", name, fires[name], silent[name])
		}
	}
}

type runbookSection struct{ name, text string }

// runbookSections returns the sections of the runbook; the text before them is none.
func runbookSections(t *testing.T) []runbookSection {
	t.Helper()
	text, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []runbookSection
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		out = append(out, runbookSection{name, body})
	}
	return out
}

// TestTheRunbookCanBeFollowed: each section says what it must, and each command in
// it exists with its flags.
func TestTheRunbookCanBeFollowed(t *testing.T) {
	t.Parallel()
	for _, s := range runbookSections(t) {
		at := -1
		for _, heading := range []string{"**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Fix.**"} {
			next := strings.Index(s.text, heading)
			if next <= at {
				t.Errorf("%s lacks %s, or it is in the wrong place", s.name, heading)
			}
			at = next
		}
		if commands := commandsIn(s.text); len(commands) == 0 {
			t.Errorf("%s names no command", s.name)
		}
	}
	text, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := commandsIn(string(text))
	for _, line := range commands {
		if err := commandExists(line); err != nil {
			t.Errorf("docs/runbook.md: worker %s: %v", line, err)
		}
	}
	if len(commands) < 30 {
		t.Errorf("%d commands are found in the runbook: is it read right?", len(commands))
	}
	for _, wrong := range []string{"bus state", "requests list --opened", "deadletters show"} {
		if commandExists(wrong) == nil {
			t.Errorf("the check takes %q for a command", wrong)
		}
	}
}

// TestOperateNamesTheWorkersCommands: each command of docs/operate.md exists, with its
// flags, whether it is called vpcep-approver there or worker.
func TestOperateNamesTheWorkersCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(string(text), "")
	commands := commandsIn(regexp.MustCompile(`(?m)^( *|.*PASSWORD=… |.*-- /)(vpcep-approver|worker) `).ReplaceAllString(joined, "worker "))
	for _, line := range commands {
		line, _, _ = strings.Cut(line, " |") // what follows reads its output
		if err := commandExists(line); err != nil {
			t.Errorf("docs/operate.md: worker %s: %v", line, err)
		}
	}
	if len(commands) < 15 || !slices.Contains(commands, "doctor") {
		t.Errorf("%d commands are found: %q; is the text read right?", len(commands), commands)
	}
}

// commandsIn returns the command lines of the worker in code blocks and in code in
// the text.
func commandsIn(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?m)(?:^|`)worker ([a-z][^`#\n]*)").FindAllStringSubmatchIndex(text, -1) {
		inBlock := strings.Count(text[:m[0]], "```")%2 == 1
		if inBlock || text[m[0]] == '`' {
			out = append(out, strings.TrimSpace(text[m[2]:m[3]]))
		}
	}
	return out
}

// commandExists parses a command line as the worker does, and runs nothing.
func commandExists(line string) error {
	root := newRootCommand(cli.Environment{Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer), IsTerminal: func(io.Writer) bool { return false }})
	c, args, err := root.Find(strings.Fields(line))
	if err != nil {
		return err
	}
	if c.HasSubCommands() {
		return cobra.NoArgs(c, append(args, "needs a subcommand"))
	}
	if err := c.ParseFlags(args); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}
