package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// bench is what the policy commands work with.
type bench struct {
	cfg     config.Config
	dirs    []string // of policies, at least one
	targets approval.Targets
}

// openBench reads the configuration and finds out about the targets: those named
// by flags, else the configured ones, else those of the tests in dirs. Without
// dirs it is policies.dir.
func openBench(c *cobra.Command, env cli.Environment, named []string, dirs ...string) (bench, error) {
	cfg, err := config.Load(env, config.FlagsOf(c))
	if err != nil {
		return bench{}, err
	}
	b := bench{cfg: cfg, dirs: dirs, targets: cfg.Targets}
	if len(dirs) == 0 {
		b.dirs = []string{cfg.Policies.Dir}
	}
	if len(named) > 0 {
		if b.targets, err = parseTargets(named); err != nil {
			return b, cli.UsageError(c.CommandPath(), err)
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
		_, err = fmt.Fprintln(env.Stderr, "no targets are known: neither a configuration nor a test next to the policies names any — name them, such as --target payments=service")
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
		return cli.WithCode(cli.ExitInvalid, fmt.Errorf("%w — name a folder of policies, or set policies.dir", err))
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
func policyError(err error) error { return cli.WithCode(cli.ExitInvalid, err) }

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
			return nil, fmt.Errorf("--target %s: %q is not a kind of target — say name=kind with %s", text, kind, config.KindList())
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
	return t, nil, fmt.Errorf("--target %s: there is no such target%s — %s; or say name=kind with %s", text, cli.DidYouMean(name, names), known, config.KindList())
}
