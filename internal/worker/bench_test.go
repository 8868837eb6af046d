package worker

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// BenchmarkHandle is one request through the story with everything in memory:
// what the worker itself costs. Run with -benchmem for bytes a request.
func BenchmarkHandle(b *testing.B) {
	for _, verdict := range []approval.Verdict{approval.Accept, approval.Hold} {
		b.Run(string(verdict), func(b *testing.B) {
			cloud := newFakeCloud(approval.Pending)
			w := newBench(b, cloud, always(verdict))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				id := "00000000-0000-0000-0000-" + strconv.Itoa(1e11+i)
				cloud.facts = map[string]approval.Facts{id: {EndpointID: id, DomainID: acme, State: approval.Pending}}
				event := strconv.Itoa(i)
				d := approval.Delivery{Attempt: 1, PublishedAt: time.Now(), Request: approval.Request{
					ID: approval.RequestID("bench", event), Source: "bench", EventID: event, Target: service(), EndpointID: id,
				}}
				b.StartTimer()
				if err := w.Handle(context.Background(), &d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
