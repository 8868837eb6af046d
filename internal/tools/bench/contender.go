package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// The contenders other than the worker. They make the decision of the worker's own
// policies with the worker's own evaluator, so that the rest is what is compared.
// They believe the account that the event claims, call the API once, and keep no
// ledger: what is lost, doubled or forged is not their business.
const (
	kindRaw       = "raw"
	kindWatermill = "watermill"
)

// plain is a contender.
type plain struct {
	nats, api string
	slots     int
	targets   approval.Targets
	set       *policy.Set
	http      *http.Client
}

// runContender is the process of a contender. It ends with ctx.
func runContender(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(childContender, flag.ContinueOnError)
	kind := flags.String("kind", kindRaw, "raw or watermill")
	policies := flags.String("policies", "", "folder of the policies")
	n := flags.Int("targets", 1, "number of endpoint services")
	var p plain
	flags.StringVar(&p.nats, "nats", "", "URL of the broker")
	flags.StringVar(&p.api, "api", "", "URL of the API")
	flags.IntVar(&p.slots, "slots", 256, "concurrent requests")
	if err := flags.Parse(args); err != nil {
		return err
	}
	p.targets = targets(*n)
	var err error
	if p.set, err = policy.LoadDir(*policies, p.targets); err != nil {
		return err
	}
	p.http = &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: p.slots, MaxConnsPerHost: p.slots},
		Timeout:   30 * time.Second,
	}
	if *kind == kindWatermill {
		return p.runWatermill(ctx)
	}
	return p.runRaw(ctx)
}

// plainResult is what a contender publishes: the members of the worker's result
// that a reader needs.
type plainResult struct {
	SpecVersion     string     `json:"specversion"`
	ID              string     `json:"id"`
	Source          string     `json:"source"`
	Type            string     `json:"type"`
	Subject         string     `json:"subject,omitempty"`
	Time            time.Time  `json:"time"`
	DataContentType string     `json:"datacontenttype"`
	CausationID     string     `json:"causationid"`
	Data            resultData `json:"data"`
}

type resultData struct {
	Request  resultRequest  `json:"request"`
	Decision resultDecision `json:"decision"`
	Outcome  string         `json:"outcome"`
}

type resultRequest struct {
	EventID    string         `json:"event_id"`
	Source     string         `json:"source"`
	Target     string         `json:"target"`
	EndpointID string         `json:"endpoint_id,omitempty"`
	Claims     map[string]any `json:"claims,omitempty"`
}

type resultDecision struct {
	Verdict string         `json:"verdict"`
	Policy  string         `json:"policy,omitempty"`
	Rule    string         `json:"rule,omitempty"`
	Reasons []resultReason `json:"reasons"`
	Digest  string         `json:"policy_digest"`
}

type resultReason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// handle does what an event asks, and returns the result and its subject.
func (p *plain) handle(ctx context.Context, body []byte) (subject string, result []byte, err error) {
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		return "", nil, err
	}
	target, ok := p.targets.ByName(e.Data.Target)
	if !ok {
		return "", nil, fmt.Errorf("unknown target %q", e.Data.Target)
	}
	d := p.decide(&e, target)
	outcome := "held"
	if d.Verdict == approval.Accept && e.Type == typeConnection {
		if err := p.accept(ctx, target, e.Data.EndpointID); err != nil {
			return "", nil, err
		}
		outcome = accepted
	}
	sum := sha256.Sum256([]byte(e.Source + "\n" + e.ID))
	id := hex.EncodeToString(sum[:16])
	out := plainResult{
		SpecVersion: "1.0", ID: id, Source: "bench", Type: "vpcep.request." + outcome, Subject: e.Data.EndpointID,
		Time: time.Now(), DataContentType: "application/json", CausationID: e.ID,
		Data: resultData{
			Request: resultRequest{e.ID, e.Source, target.Name, e.Data.EndpointID, e.Data.Claims},
			Decision: resultDecision{
				Verdict: string(d.Verdict), Policy: d.Policy, Rule: d.Rule, Digest: d.Digest,
			},
			Outcome: outcome,
		},
	}
	for _, r := range d.Reasons {
		out.Data.Decision.Reasons = append(out.Data.Decision.Reasons, resultReason{string(r.Code), r.Text})
	}
	result, err = json.Marshal(out)
	return resultsSubject + outcome + "." + target.Name + "." + id, result, err
}

// decide evaluates the policies on what the event says.
func (p *plain) decide(e *event, target approval.Target) approval.Decision {
	in := approval.Input{
		Request: approval.Request{Source: e.Source, EventID: e.ID, Target: target, EndpointID: e.Data.EndpointID, Claims: approval.Claims(e.Data.Claims)},
		Now:     time.Now(),
	}
	if f := e.Data.FunctionGraph; f != nil {
		in.Request.Creation.FunctionGraph = &approval.FunctionGraphEndpoint{VPCID: f.VPCID, SubnetID: f.SubnetID}
	}
	if id, ok := e.Data.Claims["domain_id"].(string); ok {
		in.Facts = approval.Facts{EndpointID: e.Data.EndpointID, DomainID: id, State: approval.Pending}
	}
	return p.set.Evaluate(&in)
}

// accept makes the one call of a contender.
func (p *plain) accept(ctx context.Context, target approval.Target, endpoint string) error {
	body := fmt.Appendf(nil, `{"action":"receive","endpoints":[%q]}`, endpoint)
	url := p.api + "/v1/" + target.ProjectID + "/vpc-endpoint-services/" + target.ID + "/connections/action"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Auth-Token", token)
	answer, err := p.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("accept %s: %s", endpoint, answer.Status)
	}
	return nil
}
