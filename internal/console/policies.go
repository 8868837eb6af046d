package console

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cli"
	"github.com/vpcep-approver/vpcep-approver/internal/inspect"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/submit"
)

// policiesView is what is loaded where, and how often each rule decided.
type policiesView struct {
	Digest   string // of the policies of this console
	Refused  string // why what the folder holds now could not be loaded
	Workers  []workerRow
	Findings []string // with an excerpt
	Policies []policyRow
	Since    time.Time // from when hits are counted; zero: none yet
	Question question
}

// workerRow is a worker and what it has loaded.
type workerRow struct {
	inspect.Worker

	Same bool // as this console
}

// policyRow is a policy and its rules.
type policyRow struct {
	Name, File, Owner, Mode, Otherwise string
	Targets, By                        []string
	Rules                              []ruleRow
}

type ruleRow struct {
	List, ID string
	Line     int
	Hit      hit
}

// question is a request that the policies are asked about.
type question struct {
	Asked                                  bool
	Target, Domain, Endpoint, Claims, Data string
	Targets                                []string
	Wrong                                  string // what is wrong with it, in English
	Answer                                 explanation
}

// maxRules bounds the rules that the page shows.
const maxRules = 500

func (c *Console) policiesPage(r *http.Request, _ *visitor) (response, error) {
	set := c.cfg.Policies.Current()
	out := policiesView{Digest: set.Digest(), Question: c.ask(r)}
	if c.cfg.Refused != nil {
		out.Refused = c.cfg.Refused()
	}
	for _, f := range set.Findings() {
		out.Findings = append(out.Findings, f.Long())
	}
	workers, err := ledger.NewWorkers(c.cfg.Bus).List(r.Context())
	if err != nil {
		return response{}, err
	}
	for _, w := range inspect.NewWorkers(workers) {
		out.Workers = append(out.Workers, workerRow{w, w.PolicyDigest == out.Digest})
	}
	hits, _, since := c.feed.counted()
	out.Since = since
	rules := 0
	for _, p := range set.Describe() {
		row := policyRow{Name: p.Name, File: p.File, Owner: p.Owner, Mode: string(p.Mode), Otherwise: string(p.Otherwise), Targets: p.Targets, By: p.Review["by"].Values}
		for _, e := range p.Entries {
			if rules++; rules <= maxRules {
				row.Rules = append(row.Rules, ruleRow{e.List, e.ID, e.Line, hits[p.Name+"/"+e.ID]})
			}
		}
		out.Policies = append(out.Policies, row)
	}
	return response{name: "policies", title: "policies.title", data: out}, nil
}

// ask asks the policies what the form describes, as worker policy explain does.
func (c *Console) ask(r *http.Request) question {
	query := r.URL.Query()
	q := question{
		Target: query.Get("target"), Domain: strings.TrimSpace(query.Get("domain_id")), Endpoint: strings.TrimSpace(query.Get("endpoint_id")),
		Claims: query.Get("claims"), Data: query.Get("data"), Targets: c.targetNames(),
	}
	if q.Asked = q.Target != "" || q.Data != ""; !q.Asked {
		return q
	}
	asked := inspect.Question{Domain: q.Domain, Spec: submit.Spec{Target: q.Target, EndpointID: q.Endpoint}}
	env := cli.Environment{Stdin: strings.NewReader(q.Data)}
	if strings.TrimSpace(q.Data) != "" { // it names its target
		asked.Spec = submit.Spec{File: "-"}
	}
	for line := range strings.Lines(q.Claims) {
		if line = strings.TrimSpace(line); line != "" {
			asked.Claims = append(asked.Claims, line)
		}
	}
	if err := asked.Check(); err != nil {
		q.Wrong = err.Error()
		return q
	}
	if asked.File == "" {
		asked.EndpointID = cmp.Or(asked.EndpointID, inspect.AnyEndpoint)
	}
	in, err := asked.Input(c.cfg.Targets, env, c.cfg.Now())
	if err != nil {
		q.Wrong = err.Error()
		return q
	}
	q.Answer = c.explain(&in, "")
	return q
}
