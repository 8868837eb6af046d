package ledger

import (
	"flag"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/schematest"
)

// TestHeartbeatSchema makes the schema of a heartbeat, which others read too, or
// compares it.
func TestHeartbeatSchema(t *testing.T) { // not in parallel: other tests read what it writes
	states := []approval.WorkerState{approval.WorkerRunning, approval.WorkerStopping, approval.WorkerStopped, approval.WorkerDead}
	r := schematest.Reflector{Extra: map[string]map[string]any{
		"WorkerState":  {"enum": states},
		"FaultKind":    {"enum": []approval.FaultKind{approval.FaultBreaker, approval.FaultCredential, approval.FaultOperator}},
		"storedWorker": {"required": []string{"v", "instance", "state"}}, // of one that is dead nothing else is known
	}}
	schematest.Compare(t, flag.Lookup("update").Value.String() == "true", "heartbeat", r.Document(t, "Heartbeat",
		"The value of a key worker.<instance> in the bucket vpcep-workers, which each worker writes every 2 seconds.", schematest.Of[storedWorker]()))

	now := time.Now()
	for _, s := range []storedWorker{
		{V: format, Instance: "a", State: approval.WorkerDead, SentAt: now},
		{V: format, Instance: "a", Host: "h", Version: "v1.0.0", StartedAt: now, SentAt: now, State: approval.WorkerRunning, Targets: []string{"payments"}, PolicyDigest: "sha256:0", LastSweep: now, PauseRevision: 1, Paused: []string{"payments"}, PendingConnections: [][]int{{0, 12}}, AcceptedConnections: [][]int{{}}, Faults: []storedFault{{Kind: approval.FaultBreaker, API: "vpcep"}}},
	} {
		text, err := encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := schematest.Validate(schematest.Compile(t, "heartbeat"), text); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
