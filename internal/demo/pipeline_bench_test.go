package demo

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
)

// BenchmarkPipeline is one request from its event to its published result, over
// a real NATS server and real HTTP to the simulator, 200 concurrently. The list and
// accept calls that each one took are metrics of their own.
func BenchmarkPipeline(b *testing.B) {
	for _, latency := range []time.Duration{0, 50 * time.Millisecond} {
		b.Run(fmt.Sprintf("latency=%s", latency), func(b *testing.B) {
			settings := map[string]string{"cloud.rate_per_second": "500", "worker.slots": "256", "sweep.interval": "1h"}
			r := start(b, settings, func(cfg *simulator.Config) {
				cfg.Latency, cfg.Delays = latency, simulator.Delays{}
			})
			const batch = 200
			before := r.Sim.Counters()
			sent := 0
			b.ResetTimer()
			for b.Loop() {
				for range batch {
					c := r.Sim.Connect(Service, simulator.Connection{DomainID: Acme, State: "pendingAcceptance"})
					body := fmt.Appendf(nil, `{"specversion": "1.0", "id": "%d", "source": "bench", "type": "vpcep.connection.requested", "data": {"target": "payments", "endpoint_id": %q}}`, sent, c.ID)
					if err := r.bus.SubmitRaw(context.Background(), "payments", nil, body); err != nil {
						b.Fatal(err)
					}
					sent++
				}
				r.await(b, sent)
			}
			after := r.Sim.Counters()
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "requests/s")
			b.ReportMetric(float64(after.Total("")-before.Total(""))/float64(sent), "calls/request")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// await waits until n results are published.
func (r *running) await(b *testing.B, n int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got := 0
	for _, err := range r.bus.Results(ctx, events.ResultFilter{Follow: true}) {
		if err != nil {
			b.Fatal(err)
		}
		if got++; got == n {
			return
		}
	}
	b.Fatalf("%d of %d results", got, n)
}
