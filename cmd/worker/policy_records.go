package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

// recordSource says where recorded decisions are taken from.
type recordSource struct {
	since cli.DurationFlag
	file  string // "-": stdin; empty: the ledger
}

const defaultSince = 30 * 24 * time.Hour

// recordFlags adds the flags of a source of records to c.
func recordFlags(c *cobra.Command, since string) *recordSource {
	s := &recordSource{}
	f := c.Flags()
	f.Var(&s.since, "since", since)
	f.StringVar(&s.file, "records", "", "take the decisions from this `file` of worker policy records, and not from the ledger; - is stdin")
	config.AddFlags(f, config.ClientSettings()...)
	return s
}

// read returns the records, and an error for what of them could not be read.
func (s *recordSource) read(c *cobra.Command, env cli.Environment) (records iter.Seq2[workbench.Record, error], hole, err error) {
	if s.file != "" {
		var data []byte
		name := s.file
		if name == "-" {
			name = "stdin"
			data, err = io.ReadAll(env.Stdin)
		} else {
			data, err = env.ReadFile(s.file)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there is no file %s", s.file)
		}
		if err != nil {
			return nil, nil, cli.WithCode(cli.ExitInvalid, fmt.Errorf("--records: %w", err))
		}
		var after time.Time
		if s.since.Duration > 0 {
			after = time.Now().Add(-s.since.Duration)
		}
		return func(yield func(workbench.Record, error) bool) {
			for r, err := range inspect.ReadRecords(name, data) {
				if err == nil && r.Input.Now.Before(after) {
					continue
				}
				if !yield(r, cli.WithCode(cli.ExitInvalid, err)) {
					return
				}
			}
		}, nil, nil
	}
	since := s.since.Duration
	if since == 0 {
		since = defaultSince
	}
	list, hole, err := recorded(c, env, time.Now().Add(-since))
	return func(yield func(workbench.Record, error) bool) {
		for _, e := range list {
			if !yield(workbench.RecordOf(e), nil) {
				return
			}
		}
	}, hole, err
}

// recorded reads the decisions since then from the ledger; hole tells what could
// not be read.
func recorded(c *cobra.Command, env cli.Environment, since time.Time) (list []approval.Entry, hole, err error) {
	err = withLedger(env, func(c *cobra.Command, _ config.Config, bus *events.Bus, book *ledger.Ledger) (err error) {
		list, hole, err = inspect.FindDecided(c.Context(), bus, book, since)
		return err
	})(c, nil)
	return list, hole, err
}

func newPolicyRecordsCommand(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "records",
		Short: "Print recorded decisions, for backtests elsewhere",
		Long: `records prints the decisions in the ledger with all that they rest on, one JSON
object a line in the form of the data of result events, the latest change first. A
backtest can then run where the broker cannot be reached, such as in the checks of a
merge request. The lines hold what requesters claimed: treat the file as you treat
the ledger.`,
		Example: `  worker policy records --since 30d > records.jsonl
  worker policy backtest policies --records records.jsonl`,
	}
	since := &cli.DurationFlag{Duration: defaultSince}
	c.Flags().Var(since, "since", "decisions made within the last `duration`")
	config.AddFlags(c.Flags(), config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		list, hole, err := recorded(c, env, time.Now().Add(-since.Duration))
		if err != nil {
			return err
		}
		if err := inspect.WriteRecords(c.OutOrStdout(), list); err != nil {
			return err
		}
		return hole
	}
	return c
}
