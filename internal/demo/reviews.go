package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/console"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// reviewer is the person who reviews in the demo's console.
const reviewer = "demo-user"

// demoReviewers is reviewers.yaml of the demo.
const demoReviewers = `version: 1
reviewers:
  - {name: ` + reviewer + `, key: %s, email: demo-user@example.org, groups: [demo], roles: [reviewer, operator]}
consoles:
  - {name: demo-console, key: %s}
`

func (d *Demo) keyFile() string { return filepath.Join(d.Dir, "console.nk") }

// reviewerKeyFile has the key with which the reviewer signs in a terminal.
func (d *Demo) reviewerKeyFile() string { return filepath.Join(d.Dir, reviewer+".nk") }

// addReviews lets people decide what the policy payments holds, by a console or in a
// terminal, with keys that are made here.
func (d *Demo) addReviews() error {
	public, err := review.NewKey(d.keyFile(), "demo-console")
	if err != nil {
		return err
	}
	own, err := review.NewKey(d.reviewerKeyFile(), reviewer)
	if err != nil {
		return err
	}
	folder := filepath.Join(d.Dir, "policies")
	if err := os.WriteFile(filepath.Join(folder, policy.ReviewersFile), fmt.Appendf(nil, demoReviewers, own, public), 0o600); err != nil {
		return fmt.Errorf("the reviewers of the demo: %w", err)
	}
	file := filepath.Join(folder, "payments.yaml")
	text, err := os.ReadFile(file) //nolint:gosec // G304: the demo wrote it
	if err != nil {
		return fmt.Errorf("the policies of the demo: %w", err)
	}
	if err := os.WriteFile(file, append(text, "review: {by: [demo]}\n"...), 0o600); err != nil { //nolint:gosec // G703: likewise
		return fmt.Errorf("the policies of the demo: %w", err)
	}
	return nil
}

// serveConsole serves the console until ctx ends.
func (d *Demo) serveConsole(ctx context.Context, cfg config.Config, bus *events.Bus, log zerolog.Logger) error {
	bucket, err := bus.Bucket(ctx)
	if err != nil {
		return err
	}
	s := console.Server{Config: cfg, Bus: bus, Ledger: ledger.New(bucket, nil), Log: log, People: []string{reviewer}, OnLink: d.Output.link}
	return s.Run(ctx)
}
