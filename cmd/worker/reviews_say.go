package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/config"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// reviewLife is how long a review that was signed here is valid.
const reviewLife = 10 * time.Minute

// newReviewsSayCommand is approve or reject.
func newReviewsSayCommand(env cli.Environment, verdict string) *cobra.Command {
	c := &cobra.Command{
		Use:   verdict + " <request>…",
		Short: map[string]string{review.Approve: "Approve", review.Reject: "Reject"}[verdict] + " requests that wait for a review",
		Long: `The review is signed with your key and says what you saw: the account, the endpoint and
its number, or the parameters of a creation. If they have changed, it does not count.`,
		Args: cobra.MinimumNArgs(1),
	}
	f := c.Flags()
	reason := f.String("reason", "", "why; it is recorded and told to the requester (required)")
	key := f.String("key", "", "`file` with your seed, see: worker reviews keygen (required)")
	name := f.String("name", "", "your `name` in reviewers.yaml (default as the key file says)")
	wait := f.Bool("wait", false, "wait until the review is counted, and for the result if it decides the request")
	timeout := cli.Duration(f, "timeout", time.Minute, "how long to wait")
	config.AddFlags(f, config.ClientSettings()...)
	c.RunE = func(c *cobra.Command, args []string) error {
		seed, who, err := signer(*key, *name, *reason)
		if err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		return withLedger(env, func(c *cobra.Command, _ config.Config, bus *events.Bus, book *ledger.Ledger) error {
			var failed error
			for _, arg := range args { // one that is decided meanwhile does not keep the others
				record, err := inspect.FindReview(c.Context(), book, arg)
				if err == nil {
					s := review.New(record.Request.ID, verdict, *reason, who, review.Facts(record.ToReview()), time.Now(), reviewLife)
					err = say(c, env, bus, book, record, s, seed, *wait, *timeout)
				}
				failed = errors.Join(failed, err)
			}
			return failed
		})(c, nil)
	}
	return c
}

// signer returns the seed and whose it is.
func signer(key, name, reason string) ([]byte, string, error) {
	if reason == "" {
		return nil, "", errors.New("say why, with --reason")
	}
	if key == "" {
		return nil, "", errors.New("name the file of your key, with --key")
	}
	seed, who, err := review.ReadKey(key)
	if err != nil {
		return nil, "", err
	}
	if who = cmp.Or(name, who); who == "" {
		return nil, "", errors.New("the key file does not say whose key it is; say so with --name")
	}
	return seed, who, nil
}

// say signs and submits s, and waits for what becomes of it if asked to.
func say(c *cobra.Command, env cli.Environment, bus *events.Bus, book *ledger.Ledger, record *approval.ReviewRecord, s *review.Submission, seed []byte, wait bool, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	submitted, err := inspect.SubmitReview(ctx, bus, book, record.Request, s, seed)
	if err != nil {
		return err
	}
	if !wait {
		_, err = fmt.Fprintf(c.OutOrStdout(), "submitted: %s %s\n", s.Verdict, s.RequestID)
		return err
	}
	end, err := submitted.End(ctx)
	if err != nil {
		if expired(c.Context(), ctx) {
			return fmt.Errorf("the review of %s was submitted, and nothing was heard of it within %s; is a worker running? see: worker status", s.RequestID, timeout)
		}
		return err
	}
	switch {
	case end.Refused != nil:
		return cli.WithCode(cli.ExitFailed, fmt.Errorf("the review of %s is refused: %s: %s", s.RequestID, end.Refused.Code, end.Refused.Text))
	case end.Result != nil:
		_, err = fmt.Fprintln(c.OutOrStdout(), inspect.Line(*end.Result, cli.Colors(c, env, c.OutOrStdout())))
	default:
		_, err = fmt.Fprintf(c.OutOrStdout(), "counted: %s %s; more is needed, see: worker reviews show %s\n", s.Verdict, s.RequestID, s.RequestID[:12])
	}
	return err
}
