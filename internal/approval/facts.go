package approval

import (
	"errors"
	"time"
)

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

// AccountCount is how many connections an account has on a target.
type AccountCount struct {
	Accepted int
	Creating int       // accepted just now, or so new that they wait for nothing yet: a list does not tell which
	At       time.Time // when the read began
	// State returns what the list shows of a connection of the account, so that one that is
	// known otherwise is not counted twice; nil: that is not known.
	State func(endpointID string) State
}

// Most is how many connections may be accepted.
func (c AccountCount) Most() int { return c.Accepted + c.Creating }

// ErrCountUnclear says that a limit may or may not be reached: connections of the account
// are being created, which a list shows after an accept and also before one.
var ErrCountUnclear = errors.New("connections of the account are being created, and it does not show yet whether they were accepted")

// Found reports whether the cloud shows the connection.
func (f Facts) Found() bool { return f.State != Absent }

// Identified reports whether f names a connection so that it can be distinguished
// from another with the same endpoint id: by its account and the cloud's number.
func (f Facts) Identified() bool { return f.DomainID != "" && f.MarkerID != 0 }

// Same reports whether f and g are certainly of the same connection. What is not
// known of either is never equal, but for the time at which it was made.
func (f Facts) Same(g Facts) bool {
	return f.Identified() && f.DomainID == g.DomainID && f.MarkerID == g.MarkerID &&
		!madeApart(f, g)
}

// Differs reports whether f and g are certainly of two connections: something
// that is known of both is not the same.
func (f Facts) Differs(g Facts) bool {
	return f.DomainID != "" && g.DomainID != "" && f.DomainID != g.DomainID ||
		f.MarkerID != 0 && g.MarkerID != 0 && f.MarkerID != g.MarkerID ||
		madeApart(f, g)
}

// madeApart reports whether f and g are known to be made at different times. Not
// every version of the lists shows fractions of a second.
func madeApart(f, g Facts) bool {
	return !f.CreatedAt.IsZero() && !g.CreatedAt.IsZero() &&
		!f.CreatedAt.Truncate(time.Second).Equal(g.CreatedAt.Truncate(time.Second))
}
