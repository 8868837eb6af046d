package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// bench is what the policy commands work with.
type bench struct {
	cfg     Config
	dirs    []string // of policies, at least one
	targets approval.Targets
}

// openBench reads the configuration and finds out about the targets: those named
// by flags, else the configured ones, else those of the tests in dirs. Without
// dirs it is policies.dir.
func openBench(c *cobra.Command, env environment, named []string, dirs ...string) (bench, error) {
	cfg, err := loadConfig(env, flagsOf(c))
	if err != nil {
		return bench{}, err
	}
	b := bench{cfg: cfg, dirs: dirs, targets: cfg.Targets}
	if len(dirs) == 0 {
		b.dirs = []string{cfg.Policies.Dir}
	}
	if len(named) > 0 {
		if b.targets, err = parseTargets(named); err != nil {
			return b, usageError(c.CommandPath(), err)
		}
		for i := range b.targets {
			b.targets[i].Region = cfg.Cloud.Region
		}
	}
	for _, dir := range b.dirs {
		if err := isFolder(dir); err != nil {
			return b, err
		}
	}
	if len(b.targets) > 0 {
		return b, nil
	}
	for _, dir := range b.dirs {
		if b.targets, err = policy.TestTargets(dir, b.targets); err != nil {
			return b, policyError(err)
		}
	}
	if len(b.targets) == 0 {
		_, err = fmt.Fprintln(env.Stderr, "no targets are known: neither a configuration nor a test beside the policies names any — name them, such as --target payments=service")
	}
	return b, err
}

// isFolder says so in plain words if dir is none.
func isFolder(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = fmt.Errorf("there is no folder %s", dir)
	case err == nil && !info.IsDir():
		err = fmt.Errorf("%s is no folder", dir)
	}
	if err != nil {
		return withCode(exitInvalid, fmt.Errorf("%w — name a folder of policies, or set policies.dir", err))
	}
	return nil
}

// load reads the policies in one of the folders.
func (b bench) load(dir string) (*policy.Set, error) {
	set, err := policy.LoadDir(dir, b.targets)
	return set, policyError(err)
}

// policyError makes what is wrong with policies or their tests end the process
// with exitInvalid.
func policyError(err error) error { return withCode(exitInvalid, err) }

// targetNames returns the names of targets, in order.
func targetNames(targets approval.Targets) []string {
	names := make([]string, 0, len(targets))
	for _, t := range targets {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return names
}

// targetFlag adds the flag that names targets by hand.
func targetFlag(c *cobra.Command) *[]string {
	return c.Flags().StringArray("target", nil, "a target in place of the configured ones: `name=kind`; repeat it for each")
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

// pick returns the target that text names, as name or as name=kind, and the
// targets with it.
func (b bench) pick(text string) (approval.Target, approval.Targets, error) {
	name, _, byHand := strings.Cut(text, "=")
	t, ok := b.targets.ByName(name)
	switch {
	case byHand:
		named, err := parseTargets([]string{text})
		if err != nil {
			return t, nil, err
		}
		if ok && t.Kind != named[0].Kind {
			return t, nil, fmt.Errorf("--target %s: %s is of kind %s — leave the kind out", text, name, t.Kind)
		}
		if ok {
			return t, b.targets, nil
		}
		named[0].Region = b.cfg.Cloud.Region
		return named[0], append(slices.Clone(b.targets), named[0]), nil
	case ok:
		return t, b.targets, nil
	}
	names := targetNames(b.targets)
	known := "no configuration and no test names any"
	if len(names) > 0 {
		known = "known are " + strings.Join(names, ", ")
	}
	return t, nil, fmt.Errorf("--target %s: there is no such target%s — %s; or say name=kind with %s", text, didYouMean(suggest(name, names)), known, kindList())
}

// formatFlag adds -o with these forms, the first by default.
func formatFlag(c *cobra.Command, forms ...string) *choiceFlag {
	f := &choiceFlag{text: forms[0], choices: forms}
	c.Flags().VarP(f, "output", "o", "how to print")
	completeFlag(c, "output", forms)
	return f
}

// atMost is an argument check with a sentence of its own.
func atMost(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return fmt.Errorf("%q is too much: the command takes %s", args[n], what)
		}
		return nil
	}
}

// exactly is an argument check with a sentence of its own.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return fmt.Errorf("name %s", what)
		}
		return atMost(n, what)(c, args)
	}
}

// writeIndented writes v as JSON for people and machines.
func writeIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write as json: %w", err)
	}
	return nil
}

// harmless makes each line of text printable.
func harmless(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(printable(strings.TrimSuffix(line, "\n")) + "\n")
	}
	return b.String()
}

// timeFlag is a flag that takes a time or a day, which begins in UTC.
type timeFlag struct{ at time.Time }

func (f *timeFlag) Type() string { return "time" }

func (f *timeFlag) String() string {
	if f.at.IsZero() {
		return ""
	}
	return f.at.Format(time.RFC3339)
}

func (f *timeFlag) Set(text string) error {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			f.at = at.UTC()
			return nil
		}
	}
	return errors.New("neither a time such as 2026-11-18T12:00:00Z nor a day such as 2026-11-18")
}

// or is the time that was given, or else this one.
func (f *timeFlag) or(other time.Time) time.Time {
	if f.at.IsZero() {
		return other.UTC()
	}
	return f.at
}

// spanFlag is a flag that takes a duration, also in days.
type spanFlag struct{ d time.Duration }

func (f *spanFlag) Type() string { return "duration" }

func (f *spanFlag) String() string {
	const day = 24 * time.Hour
	if f.d == 0 {
		return ""
	}
	if f.d%day == 0 {
		return fmt.Sprintf("%dd", f.d/day)
	}
	return shortDuration(f.d)
}

func (f *spanFlag) Set(text string) error {
	const day, most = 24 * time.Hour, 36500
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= most {
			f.d = time.Duration(n) * day
			return nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d > 0 {
		f.d = d
		return nil
	}
	return errors.New("not a duration such as 30d, 12h or 90m")
}
