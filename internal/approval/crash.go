package approval

import (
	"errors"
	"slices"
	"time"
)

// ErrInstanceDead says that a worker's instance was declared dead by another
// worker, or sent no heartbeat for longer than its time to live. It stays dead:
// a worker that goes on does so as a new instance.
var ErrInstanceDead = errors.New("the instance of this worker is taken for dead")

// DeliveryRecord is what is recorded of a message that was delivered more than
// once, so that one that crashes workers is found. Sequence and StoredAt name the
// message.
type DeliveryRecord struct {
	Sequence uint64    // in the stream of requests
	StoredAt time.Time // in that stream; a stream that was made again counts from 1 again

	Marks           []DeliveryMark
	Panics          int       // of its handling
	RequestID       string    // if it was decoded before it crashed a worker or panicked
	Cleared         int       // strikes that it had when it was last handled in isolation without a crash
	DeadLetterAfter time.Time // when it becomes a dead letter unless a strike turns out to be none

	Revision uint64 // of the record; 0 if it is not stored
}

// DeliveryMark says that a message is in flight at an instance of a worker. It is
// removed however the handling ends, so one whose instance is dead is a strike.
type DeliveryMark struct {
	Instance string
	At       time.Time
	Isolated bool // no other crash suspect was handled by the process meanwhile
	Dead     bool // the instance is dead: this is a strike
}

// Strikes counts the marks whose instance is known to be dead.
func (r *DeliveryRecord) Strikes() int {
	n := 0
	for _, m := range r.Marks {
		if m.Dead {
			n++
		}
	}
	return n
}

// Unmark removes the marks of an instance.
func (r *DeliveryRecord) Unmark(instance string) {
	r.Marks = slices.DeleteFunc(r.Marks, func(m DeliveryMark) bool { return m.Instance == instance })
}

// Empty reports whether nothing is recorded that matters for a later delivery.
func (r *DeliveryRecord) Empty() bool { return len(r.Marks) == 0 && r.Panics == 0 }

// WorkerStatus is what a worker says of itself with each heartbeat.
type WorkerStatus struct {
	Instance     string
	Host         string
	Version      string
	StartedAt    time.Time
	SentAt       time.Time
	State        WorkerState
	Targets      []string
	InFlight     int // requests
	PolicyDigest string
	LastSweep    time.Time // zero: none yet, or another worker sweeps

	PauseRevision uint64   // of the Pauses that the worker has read
	Paused        []string // targets that are paused by it

	// Connections is what it has read of each target's list; nil: it does not say.
	Connections map[string]Connections
	Faults      []WorkerFault // what keeps it from calling the cloud now
}

// Connections is how many connections of a target a worker has read in the cloud's list.
type Connections struct {
	Pending  ConnectionCount // in pendingAcceptance
	Accepted ConnectionCount
}

// ConnectionCount is a number of connections at the time of a read.
type ConnectionCount struct {
	N  int
	At time.Time // zero: not read yet
}

// Newer returns the later of two counts.
func (c ConnectionCount) Newer(d ConnectionCount) ConnectionCount {
	if d.At.After(c.At) {
		return d
	}
	return c
}

// WorkerFault is something that keeps a worker from calling the cloud.
type WorkerFault struct {
	Kind      FaultKind
	API       string
	Operation string // of an operator's fault
	Target    string // likewise
	Code      string // the cloud's
	Text      string
}

// FaultKind is what a WorkerFault is about.
type FaultKind string

// The kinds of faults.
const (
	FaultBreaker    FaultKind = "breaker_open"       // the API does not work, and is probed
	FaultCredential FaultKind = "credential_refused" //nolint:gosec // G101: a kind; all calls have stopped until it is replaced
	FaultOperator   FaultKind = "operator"           // the cloud refuses what only the operator can fix
)

// WorkerState is what a worker does.
type WorkerState string

// The states of workers.
const (
	WorkerRunning  WorkerState = "running"
	WorkerStopping WorkerState = "stopping" // takes no more requests, and finishes those in flight
	WorkerStopped  WorkerState = "stopped"  // ended with nothing in flight
	WorkerDead     WorkerState = "dead"     // declared so by another worker
)

// Liveness is what is known of an instance.
type Liveness int

// What can be known of an instance.
const (
	InstanceUnknown Liveness = iota // it missed a heartbeat, and its time to live is not over
	InstanceAlive
	InstanceStopped // it ended with nothing in flight
	InstanceDead    // for good
)
