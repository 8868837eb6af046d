package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// IDReusedError says that an event has the source and id of an earlier one about
// something else. It is neither a redelivery nor a new request, so it can
// only become a dead letter: otherwise anyone who uses an id first could block
// another producer's request.
type IDReusedError struct {
	RequestID  string
	First, Now string // subjects
}

func (e *IDReusedError) Error() string {
	return fmt.Sprintf("request %s was about %s and is now about %s: use a new id for each event of a source", e.RequestID, e.First, e.Now)
}

// TooOldError says that an event is older than what the ledger remembers, so that
// it is unknown whether it was carried out before. It can only become a dead letter.
type TooOldError struct {
	RequestID string
	Field     string // what says so: "time" of the event, or empty for when the bus took it
	kept      time.Duration
}

func (e *TooOldError) Error() string {
	return fmt.Sprintf("request %s is older than the %d days that the ledger keeps, so it may have been carried out before; send a new event if it is still wanted",
		e.RequestID, int(e.kept.Hours()/24))
}

// isInvalid reports whether err says that a request can only become a dead letter.
func isInvalid(err error) bool {
	if _, ok := errors.AsType[*IDReusedError](err); ok {
		return true
	}
	_, ok := errors.AsType[*TooOldError](err)
	return ok
}

// actError is what an accept, a reject or a creation itself met. Only such an
// error can say that a request cannot be carried out; what a read meets says
// nothing of what was done.
type actError struct{ err error }

func (e *actError) Error() string { return e.err.Error() }
func (e *actError) Unwrap() error { return e.err }

// unsentError is what a request met after it was noted in the ledger that a call is
// about to be sent, and none was.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// mayPass reports whether trying again can help. An error that does not say
// otherwise may pass, and so does what the operator can fix; what bounds the
// tries is the age of the request.
func mayPass(err error) bool {
	if _, ok := operatorFault(err); ok {
		return true
	}
	e, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err)
	return !ok || e.Retryable()
}

// maybeDone reports whether what failed with err may have been done all the same.
func maybeDone(err error) bool {
	e, ok := errors.AsType[interface {
		error
		OutcomeUnknown() bool
	}](err)
	return !ok || e.OutcomeUnknown()
}

// isGone reports whether err says that the endpoint does not exist any more.
func isGone(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Gone() bool
	}](err)
	return ok && e.Gone()
}

// isBlind reports whether err says that a creation can never be looked for.
func isBlind(err error) bool {
	e, ok := errors.AsType[interface {
		error
		NoReadBack() bool
	}](err)
	return ok && e.NoReadBack()
}

func operatorFault(err error) (approval.OperatorFault, bool) {
	e, ok := errors.AsType[interface {
		error
		OperatorFault() (approval.OperatorFault, bool)
	}](err)
	if !ok {
		return approval.OperatorFault{}, false
	}
	return e.OperatorFault()
}

func failureOf(err error) (approval.Failure, bool) {
	e, ok := errors.AsType[interface {
		error
		Failure() approval.Failure
	}](err)
	if !ok {
		return approval.Failure{}, false
	}
	return e.Failure(), true
}
