package faulttest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// The things and accounts of all tests here.
const (
	project   = "5dd3c0b24cdc4d31952c49589182a89d"
	service   = "4189d3c2-8882-4871-a3c2-d380272eed88"
	gateway   = "e5a1c9d0-31f7-4f0c-9c0e-6f1f2f3a4b5c"
	foreign   = "90bd1b5a-2c3f-4f5e-8a44-0d5b2f6f7a81" // an endpoint service of someone else
	workspace = "0ba6e278cb80555a8b3b1c9f4a5d6e7f"
	region    = "cn-north-4"

	partner  = "7b1fd0a2c4e64d3f9a5b8c7d6e0f1a2b" // allowed
	banned   = "c80fde8e849b4e76a61dd8aa0ec05c82" // denied
	stranger = "0f7b0ec9b1d14e7fa4c0a3cb2e1b6a55" // neither
)

func targets() approval.Targets {
	return approval.Targets{
		{Name: "payments", Kind: approval.Service, ID: service, ProjectID: project, Region: region},
		{Name: "orders", Kind: approval.Gateway, ID: gateway, ProjectID: project, Region: region},
		{Name: "functions", Kind: approval.FunctionGraph, ProjectID: project, Region: region},
		{Name: "hosts", Kind: approval.HSS, ProjectID: project, Region: region},
		{Name: "insight", Kind: approval.DataArtsInsight, ProjectID: project, WorkspaceID: workspace, Region: region},
	}
}

// policies are the files that are in force unless a test says otherwise: the
// partner is accepted, the banned are rejected, all others are held.
func policies() map[string]string {
	return map[string]string{
		"connections.yaml": `version: 1
policy: connections
owner: faulttest
targets: [payments, orders]
allow:
  - id: partner
    domain_id: [` + partner + `]
deny:
  - id: banned
    domain_id: [` + banned + `]
    reason: The contract has ended.
    contact: faulttest@example.org
otherwise: hold
`,
		"creations.yaml": `version: 1
policy: creations
owner: faulttest
targets: [functions, hosts]
allow:
  - id: ours
    vpc_id: ["aaaaaaaa-*"]
otherwise: hold
`,
		"insight.yaml": `version: 1
policy: insight
owner: faulttest
targets: [insight]
allow:
  - id: warehouse
    vpc_ep_server_id: [` + foreign + `]
otherwise: hold
`,
	}
}

// loadPolicies makes a set of files.
func loadPolicies(t testing.TB, files map[string]string) *policy.Set {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := policy.Load(fsys, targets())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// ground is the simulated cloud and what the test knows of it.
type ground struct {
	sim *simulator.Simulator

	mu       sync.Mutex
	made     int
	asked    []asked
	truths   map[string]truth
	subjects map[string]string // by the key of an effect
}

func newGround(cfg simulator.Config) *ground {
	sim := simulator.New(cfg)
	sim.AddService(simulator.Service{ID: service, Name: "payments", ProjectID: project, ApprovalEnabled: true})
	sim.AddService(simulator.Service{ID: foreign, Name: "warehouse", ProjectID: strings.Repeat("f", 32)})
	sim.AddGateway(simulator.Gateway{ID: gateway, ProjectID: project})
	return &ground{sim: sim, truths: map[string]truth{}, subjects: map[string]string{}}
}

// number returns a new number, for ids.
func (g *ground) number() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.made++
	return g.made
}

func uuid(prefix string, n int) string { return fmt.Sprintf("%s-0000-4000-8000-%012x", prefix, n) }

// know notes what is true of r's subject, and how the cloud names it.
func (g *ground) know(r approval.Request, key string, t truth) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.truths[r.Subject()] = t
	g.subjects[key] = r.Subject()
}

// truthOf is what the policies of all tests make of a domain.
func truthOf(domain string) truth {
	return truth{Domain: domain, Allowed: domain == partner, Denied: domain == banned}
}

// reidentify makes another endpoint of the one with this id, and notes what is true
// from now on, by what is true of an account.
func (g *ground) reidentify(r approval.Request, to simulator.Identity, of func(domain string) truth) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sim.Reidentify(r.EndpointID, to)
	was := g.truths[r.Subject()]
	now := was
	if to.DomainID != "" {
		now = of(to.DomainID)
	}
	now.Former = append(slices.Clone(was.Former), formerTruth{Until: time.Now(), Truth: truth{Domain: was.Domain, Allowed: was.Allowed, Denied: was.Denied}})
	g.truths[r.Subject()] = now
}

// connect makes a connection of domain on target that waits for a decision, and
// returns a request about it that is not an event yet.
func (g *ground) connect(target, domain string) approval.Request {
	return g.connectAs(target, simulator.Connection{DomainID: domain, State: simulator.PendingAcceptance})
}

// connectAs is connect with a say in everything.
func (g *ground) connectAs(target string, c simulator.Connection) approval.Request {
	t, _ := targets().ByName(target)
	if c.ID == "" {
		c.ID = uuid("e0000000", g.number())
	}
	g.sim.Connect(t.ID, c)
	r := approval.Request{Target: t, EndpointID: c.ID}
	g.know(r, c.ID, truthOf(c.DomainID))
	return r
}

// creation returns a request for a new endpoint of target that is allowed.
func (g *ground) creation(target string) approval.Request {
	t, _ := targets().ByName(target)
	n := g.number()
	vpc, subnet, host := uuid("aaaaaaaa", n), uuid("bbbbbbbb", n), uuid("cccccccc", n)
	r := approval.Request{Target: t}
	var key string
	switch t.Kind {
	case approval.FunctionGraph:
		r.Creation.FunctionGraph = &approval.FunctionGraphEndpoint{VPCID: vpc, SubnetID: subnet}
		key = project + "/" + vpc + "/" + subnet
	case approval.HSS:
		r.Creation.HSS = &approval.HSSEndpoints{HostIDs: []string{host}, VPCs: []approval.HSSVPC{{VPCID: vpc, SubnetIDs: []string{subnet}}}}
		key = project + "/" + vpc + "/" + host
	default:
		kinds := []string{"MySQL", "DWS", "PostgreSQL", "OpenGauss", "Doris", "HIVE", "ClickHouse", "API"}
		kind := kinds[n%len(kinds)]
		r.Creation.DataArtsInsight = &approval.DataArtsInsightEndpoint{DSType: kind, ServerID: foreign}
		key = project + "/" + workspace + "/" + kind + "/" + foreign
	}
	g.know(r, key, truth{Allowed: true})
	return r
}

// source is where the events of all tests come from.
const source = "faulttest"

// event makes r the event with this id and notes that it was asked.
func (g *ground) event(r approval.Request, eventID string, outcomes ...approval.Outcome) approval.Request {
	r.Source, r.EventID, r.Time = source, eventID, time.Now().UTC()
	r.ID = approval.RequestID(source, eventID)
	g.note(asked{RequestID: r.ID, Subject: r.Subject(), Mark: eventID, Outcomes: outcomes})
	return r
}

func (g *ground) note(a asked) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, a)
}

// history is what the test asked and what the cloud says it did.
func (g *ground) history() history {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := history{Asked: slices.Clone(g.asked), Truths: maps.Clone(g.truths), Entries: map[string][]version{}}
	for _, e := range g.sim.Counters().Effects {
		did := map[string]approval.Verdict{
			simulator.EffectAccept: approval.Accept, simulator.EffectReject: approval.Reject, simulator.EffectCreate: approval.Accept,
		}[e.Kind]
		subject, ok := g.subjects[e.Key]
		if !ok {
			subject = "unknown " + e.Key
		}
		h.Effects = append(h.Effects, effect{At: e.At, Subject: subject, Did: did})
	}
	return h
}

// stored is how an entry lies in the bucket, as far as the checker looks at it.
// It is written down here again so that the ledger does not judge itself.
type stored struct {
	V        int `json:"v"`
	Request  approval.Request
	Decision approval.Decision
	ActedAt  time.Time
	Result   *struct{ Outcome approval.Outcome }
}

func decodeVersion(data []byte, at time.Time) (version, error) {
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return version{}, fmt.Errorf("an entry of the ledger: %w", err)
	}
	e := approval.Entry{Request: s.Request, Decision: s.Decision, ActedAt: s.ActedAt}
	if s.Result != nil {
		e.Result = &approval.Result{Outcome: s.Result.Outcome}
	}
	return version{At: at, Entry: e}, nil
}
