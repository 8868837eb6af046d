package inspect

import (
	"strconv"
	"strings"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cli"
)

// Worker is a live worker as commands print it.
type Worker struct {
	Instance     string               `json:"instance"`
	Host         string               `json:"host,omitempty"`
	Version      string               `json:"version,omitempty"`
	State        approval.WorkerState `json:"state"`
	StartedAt    time.Time            `json:"started_at"`
	SentAt       time.Time            `json:"sent_at"` // of the last heartbeat, by the clock of the worker
	InFlight     int                  `json:"in_flight"`
	Targets      []string             `json:"targets"`
	PolicyDigest string               `json:"policy_digest,omitempty"`
	LastSweep    time.Time            `json:"last_sweep_at,omitzero"` // none yet, or another worker sweeps
	Paused       []string             `json:"paused,omitempty"`       // targets on which it does nothing
	Faults       []WorkerFault        `json:"faults,omitempty"`

	// What the worker has read of each target's connections in the cloud.
	Connections map[string]Connections `json:"connections,omitempty"`
}

// Connections is how many connections a target has, as far as a worker has read it.
type Connections struct {
	Pending  Count `json:"pending,omitzero"`  // none: not read yet
	Accepted Count `json:"accepted,omitzero"` // none: not read yet
}

// Count is a number of connections.
type Count struct {
	N  int       `json:"count"`
	At time.Time `json:"at"` // of the read
}

func newConnections(known map[string]approval.Connections) map[string]Connections {
	var out map[string]Connections
	for target, c := range known {
		if out == nil {
			out = map[string]Connections{}
		}
		out[target] = Connections{Count(c.Pending), Count(c.Accepted)}
	}
	return out
}

// WorkerFault is what keeps a worker from calling the cloud.
type WorkerFault struct {
	Kind      approval.FaultKind `json:"kind"`
	API       string             `json:"api,omitempty"`
	Operation string             `json:"operation,omitempty"`
	Target    string             `json:"target,omitempty"`
	Code      string             `json:"code,omitempty"` // the cloud's
	Text      string             `json:"text,omitempty"`
}

func newWorkerFaults(faults []approval.WorkerFault) []WorkerFault {
	var out []WorkerFault
	for _, f := range faults {
		out = append(out, WorkerFault(f))
	}
	return out
}

// Workers are the live workers.
type Workers []Worker

// NewWorkers returns what the heartbeats say.
func NewWorkers(heartbeats []approval.WorkerStatus) Workers {
	out := Workers{}
	for _, w := range heartbeats {
		out = append(out, Worker{
			Instance: w.Instance, Host: w.Host, Version: w.Version, State: w.State, StartedAt: w.StartedAt, SentAt: w.SentAt,
			InFlight: w.InFlight, Targets: append([]string{}, w.Targets...), PolicyDigest: w.PolicyDigest, LastSweep: utc(w.LastSweep), Paused: w.Paused,
			Connections: newConnections(w.Connections), Faults: newWorkerFaults(w.Faults),
		})
	}
	return out
}

// Table writes the workers as the rows of a table.
func (list Workers) Table(row cli.Row, now time.Time) {
	row("INSTANCE", "HOST", "VERSION", "STATE", "SINCE", "IN FLIGHT", "TARGETS", "LAST SWEEP", "POLICIES")
	for _, w := range list {
		digest, _ := strings.CutPrefix(w.PolicyDigest, "sha256:")
		row(cli.Printable(w.Instance), cli.Printable(cli.OrDash(w.Host)), cli.Printable(cli.OrDash(w.Version)), cli.Printable(string(w.State)), cli.Age(now, w.StartedAt),
			strconv.Itoa(w.InFlight), strconv.Itoa(len(w.Targets)), cli.Age(now, w.LastSweep), cli.Printable(cli.OrDash(digest[:min(len(digest), 12)])))
	}
}
