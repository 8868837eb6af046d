package demo

import (
	"fmt"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// Who and what the demo is about, as the example policies know them.
const (
	Region  = "cn-north-4"
	Project = "0123456789abcdef0123456789abcdef"

	Acme     = "6e9dfd51d1124e8d8498dce894923a0d" // a partner
	Former   = "b70fde8e849b4e76a61dd8aa0ec05c81" // was one
	Staging  = "0f7b2c6a51c94d0e9a3f5be27d1c4a88" // allowed if tagged as staging
	Insight  = "5d3a8e0c47f14b7f9b21c6d0e8a4f913" // what DataArts Insight connects from
	Stranger = "a1b2c3d4e5f60718293a4b5c6d7e8f90"

	Service   = "4189d3c2-8882-4871-a3c2-d380272eed88"
	Gateway   = "eddc4d25480b4cd6b512f270a1b8b341"
	Workspace = "9d8c7b6a5f4e4d3c8b2a1f0e9d8c7b6a"

	demoFunctionsVPC = "7c9b3f7e-2d0a-4a52-9a0e-5f6d1c2b3a41"
	demoHostsVPC     = "1f2e3d4c-5b6a-4798-8a9b-0c1d2e3f4a5b"
)

// demoConfig is the configuration file of the demo; it works for `worker submit`
// and `worker watch` too while the demo stays up.
const demoConfig = `# Made by worker demo.
nats: {url: %q}
cloud:
  region: ` + Region + `
  auth: {mode: aksk}
  endpoints: {vpcep: %[2]s, apig: %[2]s, functiongraph: %[2]s, hss: %[2]s, dataartsinsight: %[2]s, iam: %[2]s}
  rate_per_second: 100
  rates: {hss: 100/s}
targets:
  - {name: payments, kind: service, id: ` + Service + `, project_id: ` + Project + `}
  - {name: orders-gateway, kind: gateway, id: ` + Gateway + `, project_id: ` + Project + `}
  - {name: functions, kind: functiongraph, project_id: ` + Project + `}
  - {name: hosts, kind: hss, project_id: ` + Project + `}
  - {name: insight, kind: dataarts-insight, project_id: ` + Project + `, workspace_id: ` + Workspace + `}
policies: {dir: %[3]q, stable_for: 100ms}
sweep: {interval: 3s}
http: {listen: 127.0.0.1:0, probes: 127.0.0.1:0}
`

// Step is one request of the demo: who asks for what, what goes wrong
// meanwhile, and how it must end.
type Step struct {
	Who   string
	fault *simulator.Fault
	Want  approval.Outcome // empty: a dead letter

	// A connection that DomainID asks target for, with claims; or a
	// creation, whose data is made from the number of the play.
	target, domain string
	claims         string
	create         func(n int) string
	raw            string // sent as it is instead
}

// Steps returns one round of the scenario. Longer demos repeat it without the
// faults.
func Steps() []Step {
	const (
		accept = "AcceptOrRejectEndpoint"
		list   = "ListServiceConnections"
	)
	id := func(prefix string) func(n int) string {
		return func(n int) string { return fmt.Sprintf("%s-0000-4000-8000-%012d", prefix, n) }
	}
	subnet, host := id("5b0e7a11"), id("71a15ecc")
	return []Step{
		{Who: "acme", target: "payments", domain: Acme, Want: approval.OutcomeAccepted},
		{Who: "a stranger", target: "payments", domain: Stranger, Want: approval.OutcomeHeld},
		{Who: "a stranger who claims to be acme", target: "payments", domain: Stranger, claims: `{"domain_id": "` + Acme + `"}`, Want: approval.OutcomeHeld},
		{Who: "one whose contract ended", target: "payments", domain: Former, Want: approval.OutcomeRejected},
		{Who: "acme, at the gateway", target: "orders-gateway", domain: Acme, Want: approval.OutcomeAccepted},
		{Who: "DataArts Insight for our service", target: "insight", Want: approval.OutcomeCreated, create: func(int) string {
			return `"dataarts_insight": {"ds_type": "DWS", "vpc_ep_server_id": "` + Service + `"}`
		}},
		{Who: "functions, and the answer is lost", target: "functions", Want: approval.OutcomeCreated, create: func(n int) string {
			return `"functiongraph": {"vpc_id": "` + demoFunctionsVPC + `", "subnet_id": "` + subnet(n) + `", "flavor": "default"}`
		}, fault: &simulator.Fault{API: simulator.FunctionGraph, Kind: "cut-after", Count: 1}},
		{Who: "staging, tagged as such", target: "payments", domain: Staging, claims: `{"tags": {"env": "staging"}, "requester": "ops@example.org"}`, Want: approval.OutcomeAccepted},
		{Who: "staging, tagged as production", target: "payments", domain: Staging, claims: `{"tags": {"env": "prod"}}`, Want: approval.OutcomeHeld},
		{
			Who: "acme, and VPCEP throttles", target: "payments", domain: Acme, Want: approval.OutcomeAccepted,
			fault: &simulator.Fault{API: simulator.VPCEP, Operation: accept, Kind: "throttle-400", Count: 1},
		},
		{Who: "servers", target: "hosts", Want: approval.OutcomeCreated, create: func(n int) string {
			return `"hss": {"host_id_list": ["` + host(n) + `"], "vpc_list": [{"vpc_id": "` + demoHostsVPC + `", "subnet_id_list": ["` + subnet(n) + `"]}]}`
		}},
		{
			Who: "acme, and the answer is lost", target: "payments", domain: Acme, Want: approval.OutcomeAccepted,
			fault: &simulator.Fault{API: simulator.VPCEP, Operation: accept, Kind: "cut-after", Count: 1},
		},
		{Who: "one whose contract ended, at the gateway", target: "orders-gateway", domain: Former, Want: approval.OutcomeRejected},
		{Who: "functions for a VPC that is not listed", target: "functions", Want: approval.OutcomeHeld, create: func(n int) string {
			return `"functiongraph": {"vpc_id": "` + subnet(n+500) + `", "subnet_id": "` + subnet(n) + `"}`
		}},
		{Who: "someone, with bytes that are no event", target: "payments", raw: `{"specversion": "1.0", "id": "1", "id": "2"`},
		{Who: "someone, with a path for an id", target: "payments", raw: `{"specversion": "1.0", "id": "trick", "source": "somewhere", "type": "vpcep.connection.requested", "data": {"target": "payments", "endpoint_id": "a/../../b"}}`},
		{
			Who: "acme, and the list fails for a while", target: "payments", domain: Acme, Want: approval.OutcomeAccepted,
			fault: &simulator.Fault{API: simulator.VPCEP, Operation: list, Kind: "server-error", Status: 503, Count: 2},
		},
		{Who: "someone, for an endpoint that is not there", target: "payments", domain: "-", Want: approval.OutcomeGone},
		{Who: "a stranger, at the gateway", target: "orders-gateway", domain: Stranger, Want: approval.OutcomeHeld},
		{Who: "functions", target: "functions", Want: approval.OutcomeCreated, create: func(n int) string {
			return `"functiongraph": {"vpc_id": "` + demoFunctionsVPC + `", "subnet_id": "` + subnet(n) + `", "flavor": "default"}`
		}},
	}
}

// Script is the simulated cloud of the demo, with a few connections that wait.
func Script() *simulator.Script {
	return &simulator.Script{
		Services: []simulator.ScriptService{{ID: Service, Name: "payments", ProjectID: Project, DomainID: Project}},
		Gateways: []simulator.ScriptGateway{{ID: Gateway, Name: "orders-gateway", ProjectID: Project, DomainID: Project}},
		Connections: []simulator.ScriptConnection{
			{Target: Service, DomainID: Acme},
			{Target: Service, DomainID: Stranger},
			{Target: Service, DomainID: Former},
			{Target: Gateway, DomainID: Acme},
		},
	}
}
