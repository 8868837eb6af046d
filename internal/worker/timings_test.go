package worker

import (
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

// TestTimingsFitTogether: a duration that is changed alone must not break what
// another one relies on.
func TestTimingsFitTogether(t *testing.T) {
	t.Parallel()
	const ackWait = events.DefaultAckWait
	l := DefaultLimits()
	for _, r := range []struct {
		why             string
		larger, smaller time.Duration
	}{
		{"only errors end a request later than an act without a confirmation", l.MaxAge, l.ConfirmFor + actWithin},
		{"a stalled request goes on before it is too old", l.MaxAge, stalledAfter},
		{"the ledger remembers each request that may still be delivered", l.LedgerMaxAge, l.MaxAge},
		{"an endpoint is looked for several times before it is gone", l.Visible, 4 * maxLookWait},
		{"an endpoint is not gone because a list shows the past", l.Visible / 2, listLag},
		{"an act has time to show before nobody knows what came of it", l.ConfirmFor, actWithin + listLag},
		{"a wait in a slot sees a change between two reads", l.SlotTimeout, cloud.MaxPollInterval},
		{"a wait in a slot reads what was created twice", l.SlotTimeout, maxReadBackWait},
		{"a request that waits leaves its slot for less time than it holds it", l.SlotTimeout, followRetry},
		{"a target whose requests hold their slots to the end is slow", l.SlotTimeout, slowAfter},
		{"what waits for a slow target comes earlier", maxBusyWait, maxBusyWaitSlow},
		{"a creation that may be done shows before it is sent again", l.StabilizeFor + l.sendFor(), listLag},
		{"a creation has time to show before it ends unseen", l.confirmReadBack(), l.StabilizeFor},
		{"facts are fresh for less time than an act may wait for its turn", actWithin, l.FactsMaxAge},
		{"facts that another read has shown are fresh for long enough to act", l.FactsMaxAge, 2 * recentFacts},
		{"a target gets less before it is slow", slowAfter, fastBelow},
		{"a target that has handled nothing yet is not slow", slowAfter, minRetryWait},
		{"one call of an act can end before the act does", actWithin, cloud.CallTimeout},
		{"a holder of an answer tries several times to note it", answerGrace, 4 * maxNoteWait},
		{"a stalled request cannot be between two deliveries", stalledAfter, maxBusyWait*5/4 + maxRetryWait*5/4 + 2*ackWait},
		{"a stalled request has no act under way", stalledAfter, actWithin + listLag},
		{"a stalled request has no creation under way", stalledAfter, l.sendFor() + l.StabilizeFor},
		{"the request of a worker that is gone comes again before the sweep asks", eventGrace, 2 * ackWait},
		{"the message of a worker that died comes again after its instance is dead", ackWait * 2 / 3, events.HeartbeatTTL(ackWait)},
		{"a failed request is tried again later than a stalled one", retryFailedAfter, stalledAfter},
		{"a request is submitted again less often than it is tried again", maxResubmit, retryFailedAfter},
		{"the lease of the sweep ends before the next one", time.Minute, leaseFor(time.Minute)},
	} {
		if r.larger <= r.smaller {
			t.Errorf("%s: %s is not larger than %s", r.why, r.larger, r.smaller)
		}
	}
	for _, r := range []struct {
		why             string
		larger, smaller time.Duration
	}{
		{"the lists of the cloud show the past for no longer than is waited for", listLag, cloud.ListLag},
		{"what was created may show late", l.StabilizeFor, cloud.ListLag},
		{"a list may be older than the event", eventGrace, cloud.ListLag},
		{"two looks that must agree are not at the same facts", confirmLookAfter, l.FactsMaxAge},
	} {
		if r.larger < r.smaller {
			t.Errorf("%s: %s is shorter than %s", r.why, r.larger, r.smaller)
		}
	}
}
