package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// NoArguments is the argument check of commands that take none.
func NoArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: the command takes no arguments", args[0])
	}
	return nil
}

// ChoiceFlag is a flag that takes one of a few words.
type ChoiceFlag struct {
	Text    string
	Choices []string
	Form    string // what --help calls a value; empty: all the words
}

func (f *ChoiceFlag) String() string { return f.Text }

// Type is what --help shows for a value.
func (f *ChoiceFlag) Type() string {
	if f.Form != "" {
		return f.Form
	}
	return strings.Join(f.Choices, "|")
}

// Set implements pflag.Value.
func (f *ChoiceFlag) Set(text string) error {
	if !slices.Contains(f.Choices, text) {
		return fmt.Errorf("not one of %s%s", strings.Join(f.Choices, ", "), DidYouMean(text, f.Choices))
	}
	f.Text = text
	return nil
}

// OutputFlag adds -o to a command: a table for people unless asked otherwise.
func OutputFlag(c *cobra.Command) *ChoiceFlag {
	f := &ChoiceFlag{Text: "table", Choices: []string{"table", "json", "yaml"}}
	c.Flags().VarP(f, "output", "o", "how to print")
	CompleteFlag(c, "output", f.Choices)
	return f
}

// CompleteFlag lets the shell complete the values of a flag of c.
func CompleteFlag(c *cobra.Command, name string, values []string) {
	// It fails for a flag that c does not have, and then there is nothing to complete.
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// FormatFlag adds -o with these forms, the first by default.
func FormatFlag(c *cobra.Command, forms ...string) *ChoiceFlag {
	f := &ChoiceFlag{Text: forms[0], Choices: forms}
	c.Flags().VarP(f, "output", "o", "how to print")
	CompleteFlag(c, "output", forms)
	return f
}

// AtMost is an argument check with a sentence of its own.
func AtMost(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return fmt.Errorf("unexpected argument %q: the command takes %s", args[n], what)
		}
		return nil
	}
}

// Exactly is an argument check with a sentence of its own.
func Exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return fmt.Errorf("name %s", what)
		}
		return AtMost(n, what)(c, args)
	}
}

// TimeFlag is a flag that takes a time or a day, which begins in UTC.
type TimeFlag struct{ At time.Time }

// Type implements pflag.Value.
func (f *TimeFlag) Type() string { return "time" }

func (f *TimeFlag) String() string {
	if f.At.IsZero() {
		return ""
	}
	return f.At.Format(time.RFC3339)
}

// Set implements pflag.Value.
func (f *TimeFlag) Set(text string) error {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			f.At = at.UTC()
			return nil
		}
	}
	return errors.New("neither a time such as 2026-11-18T12:00:00Z nor a day such as 2026-11-18")
}

// Or is the time that was given, or else this one.
func (f *TimeFlag) Or(other time.Time) time.Time {
	if f.At.IsZero() {
		return other.UTC()
	}
	return f.At
}

// Duration adds a flag that takes a duration above zero, also in days.
func Duration(f *pflag.FlagSet, name string, value time.Duration, usage string) *time.Duration {
	flag := &DurationFlag{value}
	f.Var(flag, name, usage)
	return &flag.Duration
}

// Number adds a flag that takes a whole number from 0.
func Number(f *pflag.FlagSet, name string, value int, usage string) *int {
	flag := &CountFlag{approval.Counted(value)}
	f.Var(flag, name, usage)
	return &flag.N
}

// DurationFlag is a flag that takes a duration, also in days.
type DurationFlag struct{ Duration time.Duration }

// Type implements pflag.Value.
func (f *DurationFlag) Type() string { return "duration" }

func (f *DurationFlag) String() string {
	const day = 24 * time.Hour
	if f.Duration == 0 {
		return ""
	}
	if f.Duration%day == 0 {
		return fmt.Sprintf("%dd", f.Duration/day)
	}
	return ShortDuration(f.Duration)
}

// Set implements pflag.Value.
func (f *DurationFlag) Set(text string) error {
	const day, most = 24 * time.Hour, 36500
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= most {
			f.Duration = time.Duration(n) * day
			return nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d > 0 {
		f.Duration = d
		return nil
	}
	return errors.New("not a duration such as 30d, 12h or 90m")
}

// CountFlag is a flag that takes a count; without it nothing was counted.
type CountFlag struct{ approval.Count }

// Type implements pflag.Value.
func (f *CountFlag) Type() string { return "number" }

func (f *CountFlag) String() string {
	if !f.Known {
		return ""
	}
	return strconv.Itoa(f.N)
}

// Set implements pflag.Value.
func (f *CountFlag) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("not a whole number from 0")
	}
	f.Count = approval.Counted(n)
	return nil
}
