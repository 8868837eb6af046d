package approval

import "time"

// Outcome is how a request ended.
type Outcome string

// The outcomes.
const (
	OutcomeAccepted   Outcome = "accepted"
	OutcomeRejected   Outcome = "rejected"
	OutcomeCreated    Outcome = "created"
	OutcomeRefused    Outcome = "refused" // a creation that is not allowed; nothing was called
	OutcomeHeld       Outcome = "held"
	OutcomeIgnored    Outcome = "ignored"
	OutcomeGone       Outcome = "gone"       // the endpoint vanished
	OutcomeSuperseded Outcome = "superseded" // someone else settled it otherwise
	OutcomeUnknown    Outcome = "unknown"    // an act whose effect could not be read back in time
	OutcomeFailed     Outcome = "failed"
)

// Outcomes returns every outcome.
func Outcomes() []Outcome {
	return []Outcome{
		OutcomeAccepted, OutcomeRejected, OutcomeCreated, OutcomeRefused, OutcomeHeld,
		OutcomeIgnored, OutcomeGone, OutcomeSuperseded, OutcomeUnknown, OutcomeFailed,
	}
}

// Stage is a part of the way of a request.
type Stage string

// The stages, in their order.
const (
	StageQueued  Stage = "queued"  // from when the bus took the event until a worker first took it
	StageVerify  Stage = "verify"  // reading the facts
	StageDecide  Stage = "decide"  // judging and recording
	StageAct     Stage = "act"     // calling the cloud
	StageConfirm Stage = "confirm" // waiting for the wanted state
	StageOutage  Stage = "outage"  // calls that failed, and the waits after them
)

// Stages returns every stage in order.
func Stages() []Stage {
	return []Stage{StageQueued, StageVerify, StageDecide, StageAct, StageConfirm, StageOutage}
}

// Failure is an error in a form fit for the requester and for support. It holds
// no secret, and of the cloud's own words only the reason that a connection list
// gives for a failed endpoint.
type Failure struct {
	Code      string // the cloud's error code, or one of ours in snake_case
	Text      string
	RequestID string // the cloud's id of the call, to quote to support
}

// OperatorFault is what only the operator can fix: a missing permission, a used
// up quota, a target that does not exist in the project. Errors that stand for
// one have the method OperatorFault() (OperatorFault, bool) and may pass.
type OperatorFault struct {
	API, Operation string
	Code, Text     string
	RequestID      string // the cloud's id of the call, to quote to support
}

// Created is what a creation returned, as far as the API returns anything.
type Created struct {
	ID         string   // DataArts Insight: the connected instance
	EndpointID string   // the VPC endpoint, if the API or a read-back shows it
	Addresses  []string // FunctionGraph: IP addresses
	Domain     string   // FunctionGraph: domain name
	State      State    // the status of the endpoint, if a read-back shows it
	Existing   bool     // it was there before; nothing was called
}

// Look is what a creation's read-back shows.
type Look struct {
	Keys    []string // everything there now that such a creation could have made
	Created *Created // what is there beyond the keys known before; nil if nothing is
	Failure *Failure // why Created failed, if the cloud says so
	// Partial says that something beyond the keys known before is there, but not
	// all that the creation asks for: sending it again would make the rest twice.
	Partial bool
	// Existing is what is there and has exactly these parameters, by anyone and at any time; nil if nothing
	// does, or if that is unknown.
	Existing *Created
}

// Result is how a request ended; there is exactly one for each request.
type Result struct {
	Request    Request
	Decision   Decision
	Outcome    Outcome
	State      State // the cloud's last status of the connection
	Failure    *Failure
	Created    *Created
	Attempts   int               // deliveries it took, the last included
	Reversible bool              // whether the outcome can still be reversed in the cloud
	Seconds    map[Stage]float64 // of the whole request, over all deliveries
	Version    string            // of the worker
	At         time.Time

	ClaimsDropped bool // read from an event that was too large with the claims
}
