package events

import (
	"context"
	"fmt"
)

// InvalidEventError says why a message can never be served as a request. The message
// becomes a dead letter.
type InvalidEventError struct {
	Reason string // one of DeadLetterReasons
	Field  string // the place, such as "data.endpoint_id"; empty if it is the whole
	Text   string
}

func (e *InvalidEventError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s: %s", e.Reason, e.Text)
	}
	return fmt.Sprintf("%s: %s: %s", e.Reason, e.Field, e.Text)
}

// Retryable reports false: the same bytes are always invalid.
func (e *InvalidEventError) Retryable() bool { return false }

// The reasons of dead letters, which are also the last part of their subject.
const (
	ReasonUnreadable    = "unreadable"     // not a CloudEvent, or not JSON
	ReasonTooLarge      = "too_large"      // above MaxEvent
	ReasonUnknownType   = "unknown_type"   // not one of RequestTypes
	ReasonUnknownTarget = "unknown_target" // not configured, or of another kind than the type asks for
	ReasonBadID         = "bad_id"         // not the id of a cloud resource
	ReasonBadParameters = "bad_parameters" // data that is missing, unknown or out of bounds
	ReasonWrongSubject  = "wrong_subject"  // its subject is for another source or target
	ReasonUnstorable    = "unstorable"     // its entry or its result is too large to store
	ReasonIDReused      = "id_reused"      // source and id of an earlier, different event
	ReasonTooOld        = "too_old"        // older than what the ledger remembers
	ReasonPoison        = "poison"         // its handling crashed workers repeatedly
)

// DeadLetterReasons returns every reason.
func DeadLetterReasons() []string {
	return []string{
		ReasonUnreadable, ReasonTooLarge, ReasonUnknownType, ReasonUnknownTarget,
		ReasonBadID, ReasonBadParameters, ReasonWrongSubject, ReasonUnstorable, ReasonIDReused, ReasonTooOld, ReasonPoison,
	}
}

func invalid(reason, field, format string, args ...any) *InvalidEventError {
	return &InvalidEventError{Reason: reason, Field: field, Text: fmt.Sprintf(format, args...)}
}

// PoisonError means that a request was not submitted because it was dead-lettered as
// poison: it would crash workers again.
type PoisonError struct {
	RequestID  string
	DeadLetter uint64 // its sequence, which names it
}

func (e *PoisonError) Error() string {
	return fmt.Sprintf("request %s was not submitted: its handling crashed workers; once that is fixed, run: worker deadletters replay %d",
		e.RequestID, e.DeadLetter)
}

// Retryable reports false: only a replay of the dead letter helps.
func (e *PoisonError) Retryable() bool { return false }

// Poison reports true. The sweep does not report such an error: only an operator can
// change it.
func (e *PoisonError) Poison() bool { return true }

// refusePoison returns a *PoisonError if the request is poison.
func (b *Bus) refusePoison(ctx context.Context, requestID string) error {
	deadLetter, err := b.records.Poison(ctx, requestID)
	if err != nil {
		return fmt.Errorf("check whether the request %s is poison: %w", requestID, err)
	}
	if deadLetter > 0 {
		return &PoisonError{RequestID: requestID, DeadLetter: deadLetter}
	}
	return nil
}
