package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

func newDeadLettersCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "deadletters", Short: "List, show, replay or drop dead letters"}
	c.AddCommand(
		newDeadLettersListCommand(env),
		newDeadLettersShowCommand(env),
		newDeadLettersEndCommand(env, "replay", "replayed", "Submit dead letters again, as they were, and remove them",
			`replay submits the original message again; do it once what was wrong is fixed. The
dead letter is removed. Name dead letters by their numbers, or all of a reason.`, (*events.Bus).Replay),
		newDeadLettersEndCommand(env, "drop", "dropped", "Remove dead letters for good",
			`drop removes dead letters; the original stays in the stream of requests for as long
as that keeps messages. Name dead letters by their numbers, or all of a reason.`, (*events.Bus).Drop),
	)
	return c
}

// deadLetterView is a dead letter as commands print it.
type deadLetterView struct {
	Number     uint64              `json:"number"`
	Reason     string              `json:"reason"`
	Field      string              `json:"field,omitempty"`
	Text       string              `json:"text"`
	Subject    string              `json:"subject"`
	Original   uint64              `json:"original"` // its number among the requests
	Deliveries int                 `json:"deliveries"`
	StoredAt   *time.Time          `json:"stored_at,omitempty"`
	At         *time.Time          `json:"at,omitempty"`
	Truncated  int                 `json:"truncated,omitempty"` // bytes of the original, if not all are here
	Header     map[string][]string `json:"header,omitempty"`
	Body       string              `json:"body,omitempty"`
	BodyBase64 string              `json:"body_base64,omitempty"` // if it is not text
}

func deadLetterOf(d events.DeadLetter) deadLetterView {
	return deadLetterView{
		Number: d.Sequence, Reason: d.Reason, Field: d.Field, Text: d.Text, Subject: d.Subject, Original: d.Original,
		Deliveries: d.Deliveries, StoredAt: moment(d.Stored), At: moment(d.At), Truncated: d.Truncated,
	}
}

func newDeadLettersListCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List dead letters, the oldest first"}
	f := c.Flags()
	reason := reasonFlag(c)
	limit := f.Int("limit", 50, "at most this many, the latest; 0: all")
	output := cli.OutputFlag(c)
	config.AddFlags(f, config.ClientSettings()...)
	c.RunE = withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
		views, now := []deadLetterView{}, time.Now()
		for d, err := range bus.DeadLetters(c.Context()) {
			if err != nil {
				return err
			}
			if reason.Text == "" || d.Reason == reason.Text {
				views = append(views, deadLetterOf(d))
			}
		}
		more := 0
		if *limit > 0 && len(views) > *limit {
			more = len(views) - *limit
			views = views[more:]
		}
		err := cli.Print(c, output, views, func(row cli.Row) {
			row("NUMBER", "REASON", "FIELD", "AGE", "TEXT")
			for _, v := range views {
				at := time.Time{}
				if v.At != nil {
					at = *v.At
				}
				row(strconv.FormatUint(v.Number, 10), cli.Printable(v.Reason), cli.Printable(cli.OrDash(v.Field)), cli.Age(now, at), cli.Printable(v.Text))
			}
		})
		if err == nil && more > 0 {
			_, err = fmt.Fprintf(env.Stderr, "%d older — see --limit\n", more)
		}
		return err
	})
	return c
}

// reasonFlag adds --reason.
func reasonFlag(c *cobra.Command) *cli.ChoiceFlag {
	f := &cli.ChoiceFlag{Choices: events.DeadLetterReasons(), Form: "reason"}
	c.Flags().Var(f, "reason", "only of this reason: "+strings.Join(f.Choices, ", "))
	cli.CompleteFlag(c, "reason", f.Choices)
	return f
}

func newDeadLettersShowCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "show <number>",
		Short: "Show a dead letter with its original headers and bytes",
		Args:  cobra.ExactArgs(1),
	}
	output := cli.OutputFlag(c)
	config.AddFlags(c.Flags(), config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, args []string) error {
		numbers, err := parseNumbers(args)
		if err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		return withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
			d, err := bus.DeadLetter(c.Context(), numbers[0])
			if err != nil {
				return noDeadLetter(err)
			}
			v := deadLetterOf(d)
			v.Header = d.Header
			if utf8.Valid(d.Body) {
				v.Body = string(d.Body)
			} else {
				v.BodyBase64 = base64.StdEncoding.EncodeToString(d.Body)
			}
			if output.Text != "table" {
				return cli.Print(c, output, v, nil)
			}
			_, err = io.WriteString(c.OutOrStdout(), v.details(cli.Colors(c, env, c.OutOrStdout())))
			return err
		})(c, nil)
	}
	return c
}

func (v deadLetterView) details(p cli.Palette) string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%s %s\n", p.Dim(fmt.Sprintf("%-10s", name)), cli.Printable(text))
		}
	}
	line("reason", v.Reason)
	line("field", v.Field)
	line("text", v.Text)
	line("subject", fmt.Sprintf("%s, message %d, delivered %d times", v.Subject, v.Original, v.Deliveries))
	if v.StoredAt != nil {
		line("stored", v.StoredAt.Format(time.RFC3339))
	}
	if v.At != nil {
		line("stored", v.At.Format(time.RFC3339))
	}
	for _, name := range slices.Sorted(maps.Keys(v.Header)) {
		line("header", name+": "+strings.Join(v.Header[name], ", "))
	}
	if v.Truncated > 0 {
		line("body", fmt.Sprintf("the beginning of %d bytes", v.Truncated))
	}
	if v.BodyBase64 != "" {
		line("base64", v.BodyBase64)
	}
	for text := range strings.Lines(v.Body) {
		b.WriteString("  " + cli.Printable(strings.TrimRight(text, "\r\n")) + "\n")
	}
	return b.String()
}

// noDeadLetter makes a number that is not there invalid input.
func noDeadLetter(err error) error {
	if errors.Is(err, events.ErrNoDeadLetter) {
		return cli.WithCode(cli.ExitInvalid, fmt.Errorf("%w — see: worker deadletters list", err))
	}
	return err
}

func parseNumbers(args []string) ([]uint64, error) {
	var out []uint64
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%q is not the number of a dead letter", arg)
		}
		out = append(out, n)
	}
	return out, nil
}

// newDeadLettersEndCommand is replay or drop: what they end, and how many, is
// chosen the same way.
func newDeadLettersEndCommand(env cli.Environment, name, done, short, long string, end func(*events.Bus, context.Context, uint64) error) *cobra.Command {
	c := &cobra.Command{Use: name + " [number…]", Short: short, Long: long, Args: cobra.ArbitraryArgs}
	reason := reasonFlag(c)
	all := c.Flags().Bool("all", false, "all of them")
	config.AddFlags(c.Flags(), config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, args []string) error {
		numbers, err := parseNumbers(args)
		many := *all || reason.Text != ""
		switch {
		case err != nil:
			return cli.UsageError(c.CommandPath(), err)
		case many == (len(numbers) > 0):
			return cli.UsageError(c.CommandPath(), errors.New("name dead letters either by their numbers, or by --reason or --all"))
		}
		return withBus(env, func(c *cobra.Command, _ config.Config, bus *events.Bus) error {
			if many {
				for d, err := range bus.DeadLetters(c.Context()) {
					if err != nil {
						return err
					}
					if reason.Text == "" || d.Reason == reason.Text {
						numbers = append(numbers, d.Sequence)
					}
				}
			}
			for i, n := range numbers {
				if err := end(bus, c.Context(), n); err != nil {
					return noDeadLetter(fmt.Errorf("%s %d of %d, then: %w", done, i, len(numbers), err))
				}
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s\n", done, cli.Plural(len(numbers), "dead letter", "dead letters"))
			return err
		})(c, nil)
	}
	return c
}
