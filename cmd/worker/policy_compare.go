package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

func newPolicyDiffCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "diff [<old> <new>]",
		Short: "Show what changes between two folders of policies",
		Long: `diff compares what two folders of policies say. The order of files and entries,
comments and spelling make no difference. With --since or --records it also decides
what was recorded by both, and shows which decisions flip. Exit code 4: something
changes, or a decision is inconclusive.

Without folders it compares policies.dir with the candidates in policies.shadow_dir.`,
		Example: `  git worktree add ../main main && worker policy diff ../main/policies policies
  worker policy diff old new --since 30d`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return cli.Exactly(2, "two folders, the old one first")(c, args)
		},
	}
	output := cli.FormatFlag(c, "table", "json")
	records := recordFlags(c, "also compare decisions of the ledger made within the last `duration`, such as 30d")
	named := targetFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			cfg, err := config.Load(env, config.FlagsOf(c))
			if err != nil {
				return err
			}
			if cfg.Policies.ShadowDir == "" {
				return cli.UsageError(c.CommandPath(), errors.New("name two folders, the old one first — or set policies.shadow_dir to compare with it"))
			}
			args = []string{cfg.Policies.Dir, cfg.Policies.ShadowDir}
		}
		bench, err := openBench(c, env, *named, args...)
		if err != nil {
			return err
		}
		old, err := bench.load(args[0])
		if err != nil {
			return err
		}
		candidate, err := bench.load(args[1])
		if err != nil {
			return err
		}
		view := diffView{Changes: []workbench.Change{}}
		view.Changes = append(view.Changes, workbench.Diff(old, candidate)...)
		var hole error
		if records.since.Duration > 0 || records.file != "" {
			var flips workbench.Flips
			if flips, hole, err = backtest(c, env, records, bench, candidate, old); err != nil {
				return err
			}
			view.Flips = &flips
		}
		if err := view.write(c.OutOrStdout(), output.Text, cli.Colors(c, env, c.OutOrStdout())); err != nil {
			return err
		}
		if hole != nil {
			return hole
		}
		if len(view.Changes) > 0 || view.Flips != nil && len(view.Flips.Flips)+len(view.Flips.Inconclusive) > 0 {
			return cli.WithCode(cli.ExitDiffers, cli.ErrReported)
		}
		return nil
	}
	return c
}

// diffView is what changes from one set to another.
type diffView struct {
	Changes []workbench.Change `json:"changes"`
	Flips   *workbench.Flips   `json:"flips,omitempty"` // nil if nothing recorded was asked for
}

func (v diffView) write(w io.Writer, format string, p cli.Palette) error {
	if format == "json" {
		return cli.WriteJSON(w, v)
	}
	var text, b strings.Builder
	if err := workbench.WriteChanges(&text, v.Changes); err != nil {
		return err
	}
	for line := range strings.Lines(cli.PrintableLines(text.String())) {
		switch line = strings.TrimSuffix(line, "\n"); line[:1] {
		case "+":
			line = p.Green(line)
		case "-":
			line = p.Red(line)
		case "~":
			line = p.Yellow(line)
		}
		b.WriteString(line + "\n")
	}
	if v.Flips != nil {
		b.WriteString("\n")
		if err := writeFlips(&b, *v.Flips); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// backtest decides the records by candidate, and by current if there is one. hole
// tells which of them could not be read.
func backtest(c *cobra.Command, env cli.Environment, records *recordSource, b bench, candidate, current *policy.Set) (flips workbench.Flips, hole, err error) {
	list, hole, err := records.read(c, env)
	if err != nil {
		return flips, nil, err
	}
	flips, err = workbench.Backtest(list, candidate, current, b.targets)
	return flips, hole, err
}

// writeFlips writes a table of flips for people.
func writeFlips(w io.Writer, flips workbench.Flips) error {
	var text strings.Builder
	if err := flips.WriteText(&text); err != nil {
		return err
	}
	_, err := io.WriteString(w, cli.PrintableLines(text.String()))
	return err
}

func newPolicyBacktestCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "backtest [dir]",
		Short: "Decide recorded requests again, and show what flips",
		Long: `backtest takes decisions from the ledger and decides them by the policies in a
folder (policies.dir unless it is named), on the facts and at the time of the record.
A verdict that differs from the recorded one is a flip; with --against, one that
differs from what another folder of policies says. Exit code 4: a flip that is not
in --allow-flips, so that it serves as a gate before a merge.

A file of allowed flips has a pattern a line, # begins a comment:
  hold>accept payments partners/acme *     # from and to, target, policy and entry, account

Where a limit applies and the connections of the account were not counted when the
decision was recorded, every count is tried. If the verdict depends on it, whether it
flips is inconclusive, which fails like a flip: hold>unknown in a file of allowed flips.`,
		Example: `  worker policy backtest policies --since 30d
  worker policy backtest policies --against ../main/policies --allow-flips flips.txt
  worker policy backtest policies --records records.jsonl -o json`,
		Args: cli.AtMost(1, "one folder"),
	}
	output := cli.FormatFlag(c, "table", "json")
	records := recordFlags(c, "decisions made within the last `duration` (default 30d; of a file, all)")
	against := c.Flags().String("against", "", "compare with what the policies in this `folder` say, and not with what was recorded")
	allow := c.Flags().String("allow-flips", "", "`file` of flips that are meant")
	named := targetFlag(c)
	config.AddFlags(c.Flags(), "policies.dir")
	c.RunE = func(c *cobra.Command, args []string) error {
		view, hole, err := runBacktest(c, env, records, *against, *allow, *named, args)
		if err != nil {
			return err
		}
		if output.Text == "json" {
			err = cli.WriteJSON(c.OutOrStdout(), view)
		} else {
			err = view.write(c.OutOrStdout(), env.Stderr)
		}
		switch {
		case err != nil:
			return err
		case hole != nil:
			return hole
		case len(view.Flips.Flips)+len(view.Inconclusive) > 0:
			return cli.WithCode(cli.ExitDiffers, cli.ErrReported)
		}
		return nil
	}
	return c
}

// backtestView is what a backtest found, without the flips that are allowed.
type backtestView struct {
	workbench.Flips
	Allowed int `json:"allowed"` // flips that are
}

func runBacktest(c *cobra.Command, env cli.Environment, records *recordSource, against, allow string, named, dirs []string) (view backtestView, hole, err error) {
	if len(dirs) == 0 {
		cfg, err := config.Load(env, config.FlagsOf(c))
		if err != nil {
			return view, nil, err
		}
		dirs = []string{cfg.Policies.Dir}
	}
	if against != "" {
		dirs = append(slices.Clone(dirs), against)
	}
	bench, err := openBench(c, env, named, dirs...)
	if err != nil {
		return view, nil, err
	}
	candidate, err := bench.load(bench.dirs[0])
	if err != nil {
		return view, nil, err
	}
	var current *policy.Set
	if against != "" {
		if current, err = bench.load(against); err != nil {
			return view, nil, err
		}
	}
	var allowed workbench.AllowedFlips
	if allow != "" {
		if allowed, err = readAllowed(env, allow); err != nil {
			return view, nil, err
		}
	}
	flips, hole, err := backtest(c, env, records, bench, candidate, current)
	if err != nil {
		return view, nil, err
	}
	view.Flips = flips.Without(allowed)
	view.Allowed = len(flips.Flips) + len(flips.Inconclusive) - len(view.Flips.Flips) - len(view.Inconclusive)
	return view, hole, nil
}

func readAllowed(env cli.Environment, name string) (workbench.AllowedFlips, error) {
	data, err := env.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no file %s", name)
	}
	var allowed workbench.AllowedFlips
	if err == nil {
		if allowed, err = workbench.ReadAllowedFlips(bytes.NewReader(data)); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	if err != nil {
		return nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("--allow-flips: %w", err))
	}
	return allowed, nil
}

// write prints v for people: the table and hints.
func (v backtestView) write(out, hints io.Writer) error {
	if err := writeFlips(out, v.Flips); err != nil {
		return err
	}
	if v.Allowed > 0 {
		if _, err := fmt.Fprintf(out, "%s more, and allowed\n", cli.Plural(v.Allowed, "flip", "flips")); err != nil {
			return err
		}
	}
	hint := ""
	switch {
	case len(v.Flips.Flips) > 0:
		hint = "a flip that is meant goes into a file for --allow-flips, such as: " + cli.Printable(v.Flips.Flips[0].Key())
	case len(v.Inconclusive) > 0:
		hint = "records of decisions without a limit hold no count; list expected flips in a file for --allow-flips, such as: " + cli.Printable(v.Inconclusive[0].Key())
	case v.Total == 0:
		hint = "nothing was compared: no decision is on record for that time — see: worker requests list, and --since"
	default:
		return nil
	}
	_, err := fmt.Fprintln(hints, hint)
	return err
}
