package demo

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

// TestDeliveriesOfAQueue: requests that have to wait for a slot stay at the broker, or
// wait in the worker; they are not delivered again and again.
func TestDeliveriesOfAQueue(t *testing.T) {
	t.Parallel()
	const queued = 24
	settings := map[string]string{"cloud.rate_per_second": "100", "worker.slots": "8", "sweep.interval": "1h"}
	r := start(t, settings, func(cfg *simulator.Config) { cfg.Delays = simulator.Delays{} })
	seen := listen(t, r.server.URL())
	submit := func(n int) {
		c := r.Sim.Connect(Service, simulator.Connection{DomainID: Acme, State: "pendingAcceptance"})
		body := fmt.Appendf(nil, `{"specversion": "1.0", "id": "%d", "source": "test", "type": "vpcep.connection.requested", "data": {"target": "payments", "endpoint_id": %q}}`, n, c.ID)
		if err := r.bus.SubmitRaw(context.Background(), "payments", nil, body); err != nil {
			t.Fatal(err)
		}
	}
	for n := range queued {
		submit(n)
	}
	got := 0
	for _, err := range r.bus.Results(t.Context(), events.ResultFilter{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if got++; got == queued {
			break
		}
	}
	naks := 0
	for len(seen.msgs) > 0 {
		if m := <-seen.msgs; strings.HasPrefix(m.Subject, "$JS.ACK.VPCEP_REQUESTS.") && strings.HasPrefix(string(m.Data), "-NAK") {
			naks++
		}
	}
	if most := queued / 20; naks > most {
		t.Errorf("%d of %d requests were given back, want at most %d", naks, queued, most)
	}
}
