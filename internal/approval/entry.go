package approval

import "time"

// Entry is all that the ledger holds of one request.
type Entry struct {
	Request  Request
	Decision Decision  // the first one stands
	ActedAt  time.Time // when the cloud took the decision; zero before
	Intent   *Intent   // of a creation, written before anything is sent
	Result   *Result   // once the request has ended
	Revision uint64    // of the bucket, for compare-and-set
}

// Intent is what is known of a creation before and after it is sent.
type Intent struct {
	At      time.Time // of the last send
	Sends   int       // sends whose outcome is not known to be "not done"
	Before  []string  // keys of Look before the first send
	Created *Created  // the API's answer, once there is one
}

// Claim is the standing word on a subject: on a connection, or on what a
// creation makes. Only the request that holds it may act.
type Claim struct {
	RequestID string
	Verdict   Verdict
	Digest    string    // of the policy set that decided
	Outcome   Outcome   // empty while the request is under way
	At        time.Time // of the decision, then of the outcome
	Created   *Created  // of a creation that ended
	Revision  uint64
}

// Settled reports whether c has ended in the change it asked for.
func (c Claim) Settled() bool {
	return c.Outcome == OutcomeAccepted || c.Outcome == OutcomeRejected || c.Outcome == OutcomeCreated
}

// Stands reports whether c bars other requests from acting on its subject: its
// own request is under way to a change, or has made it.
func (c Claim) Stands() bool {
	return c.Verdict.Acts() && (c.Outcome == "" || c.Settled())
}
