package worker

import (
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// decisionFor is how long a recorded decision is carried out without asking the
// policies again. It stands for as long as a request takes when all goes well; an
// API that was away for hours must not have an accept done that has been denied
// since.
const decisionFor = 10 * time.Minute

// outdated returns the end of a request that was decided long ago, of which
// nothing was done, and which would be decided otherwise now: it is held. Nil if
// its decision is to be carried out.
func (w *Worker) outdated(entry *approval.Entry, facts *approval.Facts) *ending {
	recorded := &entry.Decision
	if w.Now().Sub(recorded.At) < decisionFor {
		return nil
	}
	judged := *facts
	judged.Accepted = recorded.Facts.Accepted
	now := w.Policy.Evaluate(&approval.Input{Request: entry.Request, Facts: judged, Now: w.Now()})
	if now.Verdict == recorded.Verdict {
		return nil
	}
	return &ending{outcome: approval.OutcomeHeld, facts: judged, failure: &approval.Failure{
		Code: "decision_outdated",
		Text: "It could not be carried out for long, and the policies would decide it otherwise by now; nothing was done.",
	}}
}
