package approval

import (
	"errors"
	"time"
)

// ErrConflict says that someone else changed what was to be written to the ledger.
// Nothing was written; read it again and go on from there.
var ErrConflict = errors.New("the ledger was changed by another worker meanwhile")

// LedgerMemory is how long the ledger keeps what it holds of a request by default. It is
// longer than anything is stored that could come again.
const LedgerMemory = 400 * 24 * time.Hour

// Entry is all that the ledger holds of one request.
type Entry struct {
	Request  Request
	Decision Decision  // has no ID until the request is decided; replaced only while nothing was done
	SentAt   time.Time // since when accept or reject may have been sent, unless it was certainly not done; zero: nothing was done
	ActedAt  time.Time // when the cloud took the decision; zero before
	Intent   *Intent   // of a creation, written before anything is sent
	Progress Progress
	Wait     *Wait   // why it was given back last; nil if it never was, or has ended
	Result   *Result // once the request has ended
	Revision uint64  // of the bucket, for compare-and-set; 0: not stored yet
}

// Decided reports whether e has a decision.
func (e *Entry) Decided() bool { return e.Decision.ID != "" }

// Undone reports whether certainly nothing was done by the decision of e, so that
// another may take its place.
func (e *Entry) Undone() bool {
	return e.Result == nil && e.SentAt.IsZero() && e.ActedAt.IsZero() &&
		(e.Intent == nil || e.Intent.Sends == 0 && e.Intent.Created == nil)
}

// Progress is where the time of a request went, over all its deliveries.
type Progress struct {
	Seconds map[Stage]float64
	Until   time.Time // up to when Seconds counts; zero: nothing is known
	Next    Stage     // to which the time since Until belongs
}

// Wait is why a request was given back.
type Wait struct {
	Since     time.Time // when it was first given back for this
	Stage     Stage     // of the request
	Code      string    // the cloud's error code, or one of ours in snake_case
	Text      string
	RequestID string         // the cloud's id of the call, to quote to support
	Operator  *OperatorFault // if only the operator can fix it
}

// Intent is what is known of a creation before and after it is sent.
type Intent struct {
	At       time.Time // of the last send
	Sends    int       // sends whose outcome is not known to be "not done"
	Before   []string  // keys of Look before the first send
	MissedAt time.Time // when the answer was found missing where nobody can look; the worker that has it may still record it
	Created  *Created  // the API's answer, once there is one
}

// Lock says which request owns a subject: a connection, or what a creation makes.
// Only that request may act. A request that acts on nothing has no lock.
type Lock struct {
	RequestID string
	Verdict   Verdict
	Digest    string    // of the policy set that decided
	Outcome   Outcome   // empty while the request is under way
	At        time.Time // of the decision, then of the outcome
	Created   *Created  // of a creation that ended
	Revision  uint64
}

// Done reports whether the owner of l has ended in the change it asked for.
func (l Lock) Done() bool {
	return l.Outcome == OutcomeAccepted || l.Outcome == OutcomeRejected || l.Outcome == OutcomeCreated
}

// Blocks reports whether l keeps other requests from acting on its subject: its
// own request is under way to a change, or has made it.
func (l Lock) Blocks() bool {
	return l.Verdict.Acts() && (l.Outcome == "" || l.Done())
}

// Held is a request that ended as held or ignored, as the results show it.
type Held struct {
	RequestID string
	Subject   string
	Target    string // name
	Outcome   Outcome
	At        time.Time
}
