package events

import "fmt"

// Rejected says why a message is no request that can be served, now or later. It
// becomes a dead letter.
type Rejected struct { //nolint:errname // it reads as what became of a message
	Reason string // one of DeadLetterReasons
	Field  string // the place, such as "data.endpoint_id"; empty if it is the whole
	Text   string
}

func (r *Rejected) Error() string {
	if r.Field == "" {
		return fmt.Sprintf("%s: %s", r.Reason, r.Text)
	}
	return fmt.Sprintf("%s: %s: %s", r.Reason, r.Field, r.Text)
}

// Retryable reports false: the same bytes stay what they are.
func (r *Rejected) Retryable() bool { return false }

// The reasons of dead letters, which are also the last part of their subject.
const (
	ReasonUnreadable    = "unreadable"     // no CloudEvent, or not JSON
	ReasonTooLarge      = "too_large"      // above MaxEvent
	ReasonUnknownType   = "unknown_type"   // not one of RequestTypes
	ReasonUnknownTarget = "unknown_target" // not configured, or of another kind than the type asks for
	ReasonBadID         = "bad_id"         // not the id of a cloud resource
	ReasonBadParameters = "bad_parameters" // data that is missing, unknown or out of bounds
	ReasonWrongSubject  = "wrong_subject"  // the subject it came on is for another source or target
	ReasonUnstorable    = "unstorable"     // the ledger or the results cannot hold what became of it
	ReasonIDReused      = "id_reused"      // source and id of an earlier event about something else
	ReasonTooOld        = "too_old"        // older than what the ledger remembers
	ReasonPoison        = "poison"         // its handling ended the process again and again
)

// DeadLetterReasons returns every reason.
func DeadLetterReasons() []string {
	return []string{
		ReasonUnreadable, ReasonTooLarge, ReasonUnknownType, ReasonUnknownTarget,
		ReasonBadID, ReasonBadParameters, ReasonWrongSubject, ReasonUnstorable, ReasonIDReused, ReasonTooOld, ReasonPoison,
	}
}

func reject(reason, field, format string, args ...any) *Rejected {
	return &Rejected{Reason: reason, Field: field, Text: fmt.Sprintf(format, args...)}
}
