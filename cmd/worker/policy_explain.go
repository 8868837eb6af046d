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
	"github.com/vpcep-approver/vpcep-approver/internal/submit"
)

// question is the request that explain is asked about.
type question struct {
	submit.Spec
	request        string // id in the ledger
	domain, state  string
	accepted       cli.CountFlag
	marker         int64
	now, createdAt cli.TimeFlag
}

// anyEndpoint stands for the endpoint where none is named.
const anyEndpoint = "00000000-0000-4000-8000-000000000001"

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
	f.StringVar(&q.request, "request", "", "`id` of a request in the ledger, or the beginning of it")
	f.StringVar(&q.domain, "domain-id", "", "fact: `id` of the account that owns the endpoint")
	f.StringVar(&q.state, "state", "", "fact: `state` of the connection (default pendingAcceptance if the cloud shows it)")
	f.Int64Var(&q.marker, "marker-id", 0, "fact: the cloud's `number` of the endpoint")
	f.Var(&q.accepted, "accepted", "fact: how many connections of the account are accepted, a `number` (default not counted)")
	f.Var(&q.createdAt, "created-at", "fact: `time` at which the connection was made")
	f.Var(&q.now, "now", "`time` of the decision (default now; of a recorded one, its own)")
	cli.CompleteFlag(c, "state", []string{string(approval.Pending), string(approval.Accepted), string(approval.Rejected), string(approval.Failed)})
	all := f.Bool("all", false, "show every entry, not only those that match or nearly do")
	output := cli.FormatFlag(c, "table", "json")
	config.AddFlags(f, append([]string{"policies.dir"}, config.ClientSettings()...)...)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := q.check(); err != nil {
			return cli.UsageError(c.CommandPath(), err)
		}
		bench, err := openBench(c, env, nil, args...)
		if err != nil {
			return err
		}
		var a inspect.Explained
		if q.request != "" {
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

// factual reports whether flags say what the cloud shows.
func (q *question) factual() bool {
	return q.domain != "" || q.state != "" || q.marker != 0 || q.accepted.Known || !q.createdAt.At.IsZero()
}

// check reports flags that do not go together.
func (q *question) check() error {
	factual := q.factual()
	if q.request != "" {
		factual = q.domain != "" || q.state != "" || q.marker != 0 || !q.createdAt.At.IsZero()
	}
	asked := q.Target != "" || q.EndpointID != "" || len(q.Claims) > 0
	switch {
	case q.request != "" && (factual || asked || q.File != ""):
		return errors.New("--request takes the whole request and its facts from the ledger — only --now and --accepted go with it")
	case q.request != "":
		var err error
		q.request, err = inspect.CheckID(q.request)
		return err
	case q.File != "" && asked:
		return errors.New("--file holds the whole request — leave --target, --endpoint-id and --claim out; the facts are given by flags")
	case q.File == "" && q.Target == "":
		return errors.New("no request — name its --target, give it as --file, or name one of the ledger by --request")
	}
	if q.domain != "" {
		if err := approval.ValidID(q.domain); err != nil {
			return fmt.Errorf("--domain-id: %w", err)
		}
	}
	return submit.CheckClaims(q.Claims)
}

// input is the request of the flags or of the file with the facts of the flags,
// and the targets with that of the request.
func (q *question) input(c *cobra.Command, env cli.Environment, b bench) (approval.Input, approval.Targets, error) {
	in := approval.Input{Now: q.now.Or(time.Now())}
	targets := b.targets
	if q.File == "" {
		target, all, err := b.pick(q.Target)
		switch {
		case err != nil:
			return in, nil, cli.UsageError(c.CommandPath(), err)
		case target.Kind.Creates():
			return in, nil, cli.UsageError(c.CommandPath(), fmt.Errorf("requests to %s create endpoints — give the request with its parameters as --file", target.Name))
		}
		targets, q.Target = all, target.Name
		q.EndpointID = cmp.Or(q.EndpointID, anyEndpoint)
	}
	req, err := q.Request(targets, env)
	if err != nil {
		return in, nil, cli.WithCode(cli.ExitInvalid, err)
	}
	if req.Source == submit.DefaultSource { // it came without an event around it
		req.Source, req.EventID, req.ID, req.Time = "", "", "", in.Now
	}
	in.Request = req
	if req.Creates() {
		if q.factual() {
			return in, nil, cli.UsageError(c.CommandPath(), fmt.Errorf("requests to %s create endpoints, and the cloud shows no facts of those — leave the facts out", req.Target.Name))
		}
	} else if q.factual() {
		in.Facts = approval.Facts{
			EndpointID: req.EndpointID, DomainID: approval.CanonicalID(q.domain), State: approval.State(cmp.Or(q.state, string(approval.Pending))),
			MarkerID: q.marker, Accepted: q.accepted.Count, CreatedAt: q.createdAt.At, ReadAt: in.Now,
		}
	}
	return in, targets, nil
}

// recall takes the request, its facts and its decision from the ledger. The target
// is the configured one if there is such, as in a backtest.
func (q *question) recall(c *cobra.Command, env cli.Environment, b bench) (in approval.Input, recorded *approval.Decision, err error) {
	err = withLedger(env, func(c *cobra.Command, _ config.Config, _ *events.Bus, book *ledger.Ledger) error {
		r, err := inspect.FindRecord(c.Context(), book, q.request)
		if err != nil {
			return err
		}
		in, recorded = r.Input, &r.Decision
		in.Now = q.now.Or(in.Now)
		if q.accepted.Known {
			in.Facts.Accepted = q.accepted.Count
		}
		if t, ok := b.targets.ByName(in.Request.Target.Name); ok {
			in.Request.Target = t
		}
		return nil
	})(c, nil)
	return in, recorded, err
}
