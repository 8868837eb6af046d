package worker

import (
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// Limits bound how long a request may take. Those that the configuration sets have
// the defaults of DefaultLimits.
type Limits struct {
	// MaxAge is from the event until a request that meets only errors ends. It is
	// longer than ConfirmFor and stalledAfter.
	MaxAge time.Duration
	// Visible is from the event until an endpoint that is not listed is gone. It is
	// longer than listLag, and than several waits of maxLookWait.
	Visible time.Duration
	// ConfirmFor is from the act until it is unknown what came of it. It is longer
	// than an act may be under way and not show: actWithin and listLag.
	ConfirmFor time.Duration
	// SlotTimeout is the longest wait in a slot; longer ones are given back. It is
	// longer than the time between two reads of a list.
	SlotTimeout time.Duration
	// StabilizeFor is from when a creation cannot be under way any more until one
	// that is not listed is taken as not done. It is not shorter than listLag.
	StabilizeFor time.Duration
	// FactsMaxAge is the age from which facts are read again before the act. It is
	// far shorter than actWithin, which is for what waits for its turn already.
	FactsMaxAge time.Duration
	// LedgerMaxAge is how long the ledger remembers a request.
	LedgerMaxAge time.Duration
}

// DefaultLimits suits the real cloud.
func DefaultLimits() Limits {
	return Limits{
		MaxAge:       24 * time.Hour,
		Visible:      2 * time.Minute,
		ConfirmFor:   time.Hour,
		SlotTimeout:  20 * time.Second,
		StabilizeFor: 30 * time.Second,
		FactsMaxAge:  5 * time.Second,
		LedgerMaxAge: approval.LedgerMemory,
	}
}

// sendFor is how long after its intent was noted a creation may be under way.
func (l Limits) sendFor() time.Duration { return l.StabilizeFor * 2 / 3 }

// confirmReadBack is how long a created endpoint is looked for in the product that
// made it, which needs nobody's approval.
func (l Limits) confirmReadBack() time.Duration { return min(l.ConfirmFor, 4*l.StabilizeFor) }

// Every other duration of the worker, why it is as it is, and what it must be larger
// than. TestTimingsFitTogether checks the relations.
const (
	// listLag is how long a list may show the past. It is that of the package cloud.
	listLag = 30 * time.Second
	// actWithin bounds how long an act waits for its turn at the cloud, its calls
	// included. It is longer than one call takes.
	actWithin = 45 * time.Second
	// recentFacts is how old the facts of a request may be that another's read has shown
	// before it came. It is far shorter than FactsMaxAge, up to which they hold for an act.
	recentFacts = time.Second
	// noteActedAfter is how long after an act the ledger is told that the cloud took it,
	// unless the wanted state shows before: just before the list is read for the second
	// time. It is shorter than SlotTimeout; a worker that dies before acts again, which
	// changes nothing.
	noteActedAfter = 900 * time.Millisecond
	// confirmLookAfter is the time between two looks that must agree that a connection
	// is another one than that which was settled. It is not shorter than FactsMaxAge.
	confirmLookAfter = 5 * time.Second
	// answerGrace is how long, after an answer was found missing, the worker that has
	// it may still record it, where the product has no read-back. It is longer than maxNoteWait several times.
	answerGrace = 15 * time.Second
	// The waits between tries to note an answer in the ledger.
	minNoteWait = 250 * time.Millisecond
	maxNoteWait = 2 * time.Second

	// The waits between looks for an endpoint that is not listed. The second bounds
	// how late an approval begins, so it is well below Visible.
	minLookWait = time.Second
	maxLookWait = 15 * time.Second
	// maxReadBackWait is the longest wait between two looks for what was created. Two
	// of them fit into SlotTimeout.
	maxReadBackWait = 10 * time.Second

	// The waits after an error. The second bounds how long a request waits after the
	// cloud works again.
	minRetryWait = time.Second
	maxRetryWait = 30 * time.Second
	// otherRetry is when a request comes again that waits for another one.
	otherRetry = 2 * time.Second
	// followRetry is when a request comes again whose wanted state does not show. It
	// leaves its slot to others for a while, so it is shorter than SlotTimeout.
	followRetry = 10 * time.Second

	// The waits of requests that find no slot. Each try costs the broker a
	// delivery, so a long queue retries seldom.
	minBusyWait = 50 * time.Millisecond
	maxBusyWait = 2 * time.Minute
	// maxBusyWaitSlow is the longest wait for a slow target: it may recover soon, and
	// what waits for it should come then.
	maxBusyWaitSlow = 30 * time.Second
	// retryFor is how long requests without a slot are told to retry, so that those behind
	// them get through, after the last of those was served.
	retryFor = 10 * time.Second
	// fastBelow is the mean handling time below which a target is fast. It is well below
	// slowAfter, so that a target that becomes slow gets less before others have to wait long.
	fastBelow = slowAfter / 2
	// slowAfter is the mean handling time from which a target is slow. It is shorter
	// than SlotTimeout, which handling takes while nothing gets confirmed.
	slowAfter = 10 * time.Second

	// eventGrace spares a connection from the sweep whose event is probably on its
	// way. It is not shorter than listLag, and longer than AckWait, in which a worker
	// may have it that has stopped.
	eventGrace = 30 * time.Second
	// stalledAfter is the time after which a decision that was not carried out is
	// taken as lost with its event. It is longer than any wait between two deliveries.
	stalledAfter = 10 * time.Minute
	// retryFailedAfter is the pause after which a connection that is pending still,
	// although a request for it failed, is tried again. It is longer than stalledAfter.
	retryFailedAfter = time.Hour
	// maxResubmit is the longest time for which a request that was submitted, and of
	// which nothing comes, is not submitted again. It doubles up to here: while the
	// cloud takes no decisions, the requests must not pile up. It is longer than
	// retryFailedAfter.
	maxResubmit = 6 * time.Hour
)

// soon is when a request comes again that only has to look again.
func soon() time.Duration { return jitter(minRetryWait) }

// leaseFor is how long one worker has the sweep. It ends before the next tick, so
// that any worker that is alive can take it.
func leaseFor(interval time.Duration) time.Duration { return interval * 9 / 10 }

// The bounds on what one delivery, or one request, may try.
const (
	maxDecisions = 3 // of a connection, in one delivery
	maxLooks     = 3 // at the facts before an act, in one delivery
	// maxSends bounds how often a creation is sent: each time only after looking for
	// the one before, and finding nothing, for as long as Limits.StabilizeFor.
	maxSends = 3
	// minAttempts is how often a request is tried however old it was when it was
	// first delivered: a worker may have been away for longer than any limit.
	minAttempts = 5
)
