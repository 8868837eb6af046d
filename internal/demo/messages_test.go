package demo

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// TestMessagesOfARequest bounds what a request costs the broker: the messages that
// it stores, and the requests that the worker waits for.
func TestMessagesOfARequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		domain     string
		stored     int
		roundTrips int
	}{
		{"accepted", Acme, 4, 4},
		{"held", Stranger, 2, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			settings := map[string]string{"cloud.rate_per_second": "500", "sweep.interval": "1h"}
			r := start(t, settings, func(cfg *simulator.Config) { cfg.Delays = simulator.Delays{} })
			again := time.NewTicker(50 * time.Millisecond)
			defer again.Stop()
			for swept := false; !swept && t.Context().Err() == nil; <-again.C { // at the start
				_, metrics := r.get(t, "/metrics")
				swept = strings.Contains(metrics, `vpcep_approver_sweeps_total{result="ok"} 1`)
			}
			seen := listen(t, r.server.URL())
			c := r.Sim.Connect(Service, simulator.Connection{DomainID: tt.domain, State: "pendingAcceptance"})
			body := fmt.Appendf(nil, `{"specversion": "1.0", "id": "1", "source": "test", "type": "vpcep.connection.requested", "data": {"target": "payments", "endpoint_id": %q}}`, c.ID)
			if err := r.bus.SubmitRaw(context.Background(), "payments", nil, body); err != nil {
				t.Fatal(err)
			}
			seen.untilAcknowledged(t)
			stored, roundTrips := seen.stored, seen.roundTrips
			if len(stored) > tt.stored || len(roundTrips) > tt.roundTrips {
				t.Errorf("%d messages are stored, want %d:\n%s\n%d round trips, want %d:\n%s", len(stored), tt.stored,
					strings.Join(stored, "\n"), len(roundTrips), tt.roundTrips, strings.Join(roundTrips, "\n"))
			}
		})
	}
}

// listener hears what the worker publishes for requests.
type listener struct {
	msgs               chan *nats.Msg
	stored, roundTrips []string
}

func listen(t *testing.T, url string) *listener {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	l := &listener{msgs: make(chan *nats.Msg, 1<<16)}
	if _, err := nc.ChanSubscribe(">", l.msgs); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return l
}

// untilAcknowledged collects what is heard until a request is acknowledged.
func (l *listener) untilAcknowledged(t *testing.T) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		var m *nats.Msg
		select {
		case m = <-l.msgs:
		case <-late:
			t.Fatal("the request is not acknowledged")
		}
		if strings.HasSuffix(m.Subject, ".pause") {
			continue // the worker reads it every few seconds, whatever there is to do
		}
		subject := func(prefix string) bool { return strings.HasPrefix(m.Subject, prefix) }
		stored := subject("$KV.vpcep-ledger.") || subject("vpcep.results.")
		acknowledges := subject("$JS.ACK.VPCEP_REQUESTS.")
		if stored {
			l.stored = append(l.stored, m.Subject)
		}
		reads := subject("$JS.API.DIRECT.GET.") || subject("$JS.API.STREAM.MSG.GET.")
		if m.Reply != "" && (stored || reads || acknowledges) {
			l.roundTrips = append(l.roundTrips, m.Subject)
		}
		if acknowledges {
			return
		}
	}
}
