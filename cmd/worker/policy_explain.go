package main

import (
	"cmp"
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
	"github.com/vpcep-approver/vpcep-approver/internal/policy/workbench"
)

// question is the request that explain is asked about.
type question struct{ inspect.Question }

func newPolicyExplainCommand(env cli.Environment) *cobra.Command {
	return new(question).command(env)
}

// command is the one that asks q, as its flags say.
func (q *question) command(env cli.Environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "explain [dir]",
		Short: "Show why a request is decided as it is",
		Long: `explain decides a request by the policies in a folder (policies.dir unless it is
named) and shows what each entry of each policy of its target says of it: the first
condition that does not hold, what was seen and what is wanted, and the verdict last.
Of many entries it shows those that match, the nearest of the others, and a count;
--all shows every entry. Of what is held it shows who may review it, or why nobody can.
Nothing is asked of the cloud and nothing is done.

The request is given by flags, or by --file for creations and whatever flags cannot
say, with what the cloud would show as flags; or it is one of the ledger by
--request, with the facts and the time of its recorded decision. An entry with a limit
needs --accepted if the connections of the account were not counted.

Unless a folder is named, the verdict of policies.shadow_dir is shown as well.`,
		Example: `  worker policy explain policies --target payments --domain-id 6e9dfd51d1124e8d8498dce894923a0d --claim tags.env=prod
  worker policy explain policies --file event.json --domain-id 6e9dfd51d1124e8d8498dce894923a0d --now 2027-01-01
  worker policy explain --request 3f1c9a02`,
		Args: cli.AtMost(1, "one folder"),
	}
	f := c.Flags()
	f.StringVar(&q.Target, "target", "", "`name` of the target, or name=kind of one that is not configured")
	f.StringVar(&q.EndpointID, "endpoint-id", "", "`id` of the endpoint that wants to connect (default some endpoint)")
	f.StringArrayVar(&q.Claims, "claim", nil, "a claim about the requester, `path=value`, such as tags.env=prod")
	f.StringVar(&q.File, "file", "", "`file` with a CloudEvent or the data of one; - is stdin")
	f.StringVar(&q.Recorded, "request", "", "`id` of a request in the ledger, or the beginning of it")
	f.StringVar(&q.Domain, "domain-id", "", "fact: `id` of the account that owns the endpoint")
	f.StringVar(&q.State, "state", "", "fact: `state` of the connection (default pendingAcceptance if the cloud shows it)")
	f.Int64Var(&q.Marker, "marker-id", 0, "fact: the cloud's `number` of the endpoint")
	f.Var(&q.Accepted, "accepted", "fact: how many connections of the account are accepted, a `number` (default not counted)")
	f.Var(&q.CreatedAt, "created-at", "fact: `time` at which the connection was made")
	f.Var(&q.Now, "now", "`time` of the decision (default now; of a recorded one, its own)")
	cli.CompleteFlag(c, "state", []string{string(approval.Pending), string(approval.Accepted), string(approval.Rejected), string(approval.Failed)})
	all := f.Bool("all", false, "show every entry, not only those that match or nearly do")
	output := cli.FormatFlag(c, "table", "json")
	config.AddFlags(f, append([]string{"policies.dir"}, config.ClientSettings()...)...)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := q.Check(); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		bench, err := openBench(c, env, nil, args...)
		if err != nil {
			return err
		}
		var a inspect.Explained
		if q.Recorded != "" {
			a.Input, a.Recorded, err = q.recall(c, env, bench)
		} else {
			a.Input, bench.targets, err = q.input(c, env, bench)
		}
		if err != nil {
			return err
		}
		set, err := bench.load(bench.dirs[0])
		if err != nil {
			return err
		}
		a.Explanation = workbench.Explain(set, &a.Input)
		a.Explanation.All = *all
		if shadow := bench.cfg.Policies.ShadowDir; len(args) == 0 && shadow != "" { // as the worker decides
			candidate, err := bench.load(shadow)
			if err != nil {
				return err
			}
			a.Explanation.Decision.Shadow = candidate.Would(&a.Input)
		}
		return a.Write(c.OutOrStdout(), output.Text, cli.Colors(c, env, c.OutOrStdout()))
	}
	return c
}

// input is the request of the flags or of the file with the facts of the flags,
// and the targets with that of the request.
func (q *question) input(c *cobra.Command, env cli.Environment, b bench) (approval.Input, approval.Targets, error) {
	targets := b.targets
	if q.File == "" {
		target, all, err := b.pick(q.Target)
		switch {
		case err != nil:
			return approval.Input{}, nil, cli.UsageError(c.CommandPath(), err)
		case target.Kind.Creates():
			return approval.Input{}, nil, cli.UsageError(c.CommandPath(), fmt.Errorf("requests to %s create endpoints — give the request with its parameters as --file", target.Name))
		}
		targets, q.Target = all, target.Name
		q.EndpointID = cmp.Or(q.EndpointID, inspect.AnyEndpoint)
	}
	in, err := q.Input(targets, env, time.Now())
	if _, invalid := errors.AsType[*cli.ExitError](err); err != nil && !invalid {
		err = cli.UsageError(c.CommandPath(), err)
	}
	return in, targets, err
}

// recall takes the request, its facts and its decision from the ledger. The target
// is the configured one if there is such, as in a backtest.
func (q *question) recall(c *cobra.Command, env cli.Environment, b bench) (in approval.Input, recorded *approval.Decision, err error) {
	err = withLedger(env, func(c *cobra.Command, _ config.Config, _ *events.Bus, book *ledger.Ledger) error {
		r, err := inspect.FindRecord(c.Context(), book, q.Recorded)
		if err != nil {
			return err
		}
		in, recorded = r.Input, &r.Decision
		in.Now = q.Now.Or(in.Now)
		if q.Accepted.Known {
			in.Facts.Accepted = q.Accepted.Count
		}
		if t, ok := b.targets.ByName(in.Request.Target.Name); ok {
			in.Request.Target = t
		}
		return nil
	})(c, nil)
	return in, recorded, err
}
