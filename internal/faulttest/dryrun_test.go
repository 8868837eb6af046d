package faulttest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// TestDryRun: it says what would be decided, and neither the broker nor the cloud is
// changed; a worker next to it then does everything.
func TestDryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simulator.Config{})
	w.start("setup", options{}).ready().terminate(time.Minute) //nolint:errcheck // it only makes the streams
	asked := []approval.Request{
		w.ask(w.connect("payments", partner), "accept", approval.OutcomeAccepted),
		w.ask(w.connect("payments", banned), "reject", approval.OutcomeRejected),
		w.ask(w.connect("orders", stranger), "hold", approval.OutcomeHeld),
		w.ask(w.creation("functions"), "create", approval.OutcomeCreated),
	}
	told := map[string]string{
		"accept": asked[0].EndpointID, "reject": asked[1].EndpointID, "hold": asked[2].EndpointID,
	}
	before := fmt.Sprint(w.stored(requestsStream), w.stored(resultsStream), w.stored(deadStream), w.stored("KV_vpcep-ledger"), w.stored("KV_vpcep-workers"))
	dry := w.start("dry", options{args: []string{"--dry-run"}, sweep: "1s"})
	await(t, time.Minute, "all is logged", func() bool {
		text := dry.log.String()
		for verdict, id := range told {
			if !said(text, `"endpoint":"`+id+`"`, `"verdict":"`+verdict+`"`) {
				return false
			}
		}
		return said(text, `"request":"`+asked[3].ID+`"`, `"verdict":"accept"`)
	})
	await(t, time.Minute, "it has looked several times", func() bool {
		return strings.Count(dry.log.String(), "dry run: nothing was done") > 3
	})
	if n := strings.Count(dry.log.String(), "a worker would decide so"); n != len(asked) {
		t.Errorf("%d decisions are logged for %d requests", n, len(asked))
	}
	after := fmt.Sprint(w.stored(requestsStream), w.stored(resultsStream), w.stored(deadStream), w.stored("KV_vpcep-ledger"), w.stored("KV_vpcep-workers"))
	if after != before {
		t.Errorf("the broker held %s messages before and holds %s now", before, after)
	}
	for _, effect := range []string{simulator.EffectAccept, simulator.EffectReject, simulator.EffectCreate} {
		if n := w.sim.Counters().Count(effect, ""); n != 0 {
			t.Errorf("the cloud did %s %d times", effect, n)
		}
	}
	if _, code, err := dry.terminate(time.Minute); err != nil || code != 0 {
		t.Errorf("it ended with %d, %v", code, err)
	}
	w.start("worker", options{}).ready()
	w.settled(time.Minute)
	if f := w.judge(); !f.none() {
		t.Errorf("a worker after it: %+v", f)
	}
}

// said reports whether one line of text has all parts.
func said(text string, parts ...string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}
