package approval

import "time"

// State is the status of a connection as the cloud spells it. Values that are
// not listed here do occur; they are never final.
//
// Source: VPCEP API v1, "Querying Connections to a VPC Endpoint Service",
// response field connections[].status.
type State string

// The states that are documented.
const (
	Absent   State = "" // the list does not show the connection
	Pending  State = "pendingAcceptance"
	Creating State = "creating" // also for a moment after an accept
	Accepted State = "accepted"
	Rejected State = "rejected"
	Failed   State = "failed"
	Deleting State = "deleting"
)

// Known reports whether s is documented.
func (s State) Known() bool {
	switch s {
	case Absent, Pending, Creating, Accepted, Rejected, Failed, Deleting:
		return true
	}
	return false
}

// Facts is what the cloud itself says: of a connection, the row of the target's
// own connection list; of a creation, nothing but when it was looked at.
type Facts struct {
	EndpointID string
	MarkerID   int64  // the cloud's number of the endpoint
	DomainID   string // the account that owns the endpoint
	State      State
	CreatedAt  time.Time // zero if the cloud's form could not be read
	UpdatedAt  time.Time // likewise
	ErrorCode  string    // why State is Failed, if the cloud says so
	ErrorText  string    // likewise; printable and short
	Accepted   Count     // accepted connections of DomainID on the target, this one aside; for limits
	ReadAt     time.Time // when it was asked
}

// Count is a number that may not have been taken. The zero value is "not
// counted", which is never the same as 0.
type Count struct {
	N     int
	Known bool
}

// Counted returns n as a count that was taken.
func Counted(n int) Count { return Count{N: n, Known: true} }

// Found reports whether the cloud shows the connection.
func (f Facts) Found() bool { return f.State != Absent }
