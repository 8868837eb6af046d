package ledger

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestConnectionsInHeartbeats: the counts of 1,000 targets fit into a heartbeat, come back
// with their times, and what was not read stays unknown.
func TestConnectionsInHeartbeats(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	s := storedWorker{V: format, Instance: "a", State: approval.WorkerRunning, SentAt: now}
	known := map[string]approval.Connections{}
	for n := range 1000 {
		name := fmt.Sprintf("team-%03d-orders-gateway", n)
		s.Targets = append(s.Targets, name)
		known[name] = approval.Connections{
			Pending: approval.ConnectionCount{N: 10 * n, At: now.Add(-time.Duration(n) * time.Second)}, Accepted: approval.ConnectionCount{N: n, At: now.Add(-24 * time.Hour)},
		}
	}
	known[s.Targets[1]] = approval.Connections{Pending: approval.ConnectionCount{At: now}}
	known[s.Targets[2]] = approval.Connections{}
	s.count(known)
	data, err := json.Marshal(s)
	if err != nil || len(data) > maxHeartbeat {
		t.Fatalf("%d bytes, want at most %d, %v", len(data), maxHeartbeat, err)
	}
	t.Logf("%d bytes", len(data))
	var back storedWorker
	if err := decode("worker.a", 1, data, &back); err != nil {
		t.Fatal(err)
	}
	same := func(a, b approval.Connections) bool {
		return a.Pending.N == b.Pending.N && a.Pending.At.Equal(b.Pending.At) && a.Accepted.N == b.Accepted.N && a.Accepted.At.Equal(b.Accepted.At)
	}
	if got := back.connections(); !maps.EqualFunc(got, known, same) {
		t.Errorf("%d targets come back otherwise", len(got))
	}
	if got := (&storedWorker{Targets: []string{"a"}}).connections(); got != nil {
		t.Errorf("a worker that says nothing says %v", got)
	}
}
