package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// The names in requests, configuration and API agree because all of them are made here.
const (
	project   = "0123456789abcdef0123456789abcdef"
	region    = "cn-north-4"
	functions = "functions" // the target whose requests no rule allows
	domains   = 10          // accounts that connections belong to, in turn
	source    = "//bench.example.org/requests"

	requestsStream  = "VPCEP_REQUESTS"
	resultsStream   = "VPCEP_RESULTS"
	requestsSubject = "vpcep.requests."
	resultsSubject  = "vpcep.results."
	consumerName    = "vpcep-approver"
	ledgerBucket    = "vpcep-ledger"

	typeConnection = "vpcep.connection.requested"
	typeCreation   = "vpcep.endpoint.requested"
)

func serviceName(i int) string { return fmt.Sprintf("service-%d", i) }
func serviceID(i int) string   { return fmt.Sprintf("4189d3c2-8882-4871-a3c2-%012x", i) }
func endpointID(i int) string  { return fmt.Sprintf("705290f3-0d00-41f2-aedc-%012x", i) }
func domainID(i int) string    { return fmt.Sprintf("6e9dfd51d1124e8d8498%012x", i) }

// targets returns n endpoint services and the place for functions.
func targets(n int) approval.Targets {
	out := approval.Targets{{Name: functions, Kind: approval.FunctionGraph, ProjectID: project, Region: region}}
	for i := range n {
		out = append(out, approval.Target{Name: serviceName(i), Kind: approval.Service, ID: serviceID(i), ProjectID: project, Region: region})
	}
	return out
}

// event is a request event as JSON, in structured mode.
type event struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Data        eventData `json:"data"`
}

type eventData struct {
	Target        string          `json:"target"`
	EndpointID    string          `json:"endpoint_id,omitempty"`
	FunctionGraph *functionParams `json:"functiongraph,omitempty"`
	Claims        map[string]any  `json:"claims,omitempty"`
}

type functionParams struct {
	VPCID    string `json:"vpc_id"`
	SubnetID string `json:"subnet_id"`
}

// subject returns where the event is published.
func (e *event) subject() string { return requestsSubject + e.Data.Target }

// connectionEvent asks to decide connection n of one of the targets.
func connectionEvent(n, targets int) *event {
	return &event{
		SpecVersion: "1.0", ID: fmt.Sprintf("connection-%d", n), Source: source, Type: typeConnection,
		Data: eventData{
			Target: serviceName(n % targets), EndpointID: endpointID(n),
			Claims: map[string]any{"domain_id": domainID(n % domains), "requester": "alice@example.org", "tags": map[string]any{"env": "prod"}},
		},
	}
}

// creationEvent asks for an endpoint that no rule allows: it is held without a call.
func creationEvent(n int) *event {
	return &event{
		SpecVersion: "1.0", ID: fmt.Sprintf("creation-%d", n), Source: source, Type: typeCreation,
		Data: eventData{
			Target: functions,
			FunctionGraph: &functionParams{
				VPCID:    fmt.Sprintf("0f7b3f3e-3a0f-4a8e-9f5c-%012x", n),
				SubnetID: "5c1f4c0a-7a64-4a3e-8f6b-2f7f0a9f4f11",
			},
			Claims: map[string]any{"requester": "alice@example.org", "tags": map[string]any{"env": "prod"}},
		},
	}
}

func (e *event) encode() []byte {
	data, err := json.Marshal(e)
	if err != nil {
		panic(err) // it is made of strings
	}
	return data
}

// writePolicies writes rules that allow all accounts but one: skip, or none if that is 0.
// With limit, an account may have so many connections.
func writePolicies(dir string, services, skip, limit int) error {
	var names []string
	for i := range services {
		names = append(names, serviceName(i))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\npolicy: partners\nowner: bench\ntargets: [%s]\nallow:\n", strings.Join(names, ", "))
	within := ""
	if limit > 0 {
		within = fmt.Sprintf(", limit: %d", limit)
	}
	for i := range domains {
		if i != skip || skip == 0 {
			fmt.Fprintf(&b, "  - {id: partner-%d, domain_id: %s%s}\n", i, domainID(i), within)
		}
	}
	place := "version: 1\npolicy: functions\nowner: bench\ntargets: [functions]\nallow:\n" +
		"  - {id: network, vpc_id: 7c9b3f7e-2d0a-4a52-9a0e-5f6d1c2b3a41}\n"
	for name, text := range map[string]string{"partners.yaml": b.String(), "functions.yaml": place} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
