package faulttest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/proxytest"
)

// TestPartitions is F11: the network between a worker and the broker, and
// between it and the cloud, fails in every direction, while another worker is
// not cut off.
func TestPartitions(t *testing.T) {
	t.Parallel()
	spans := []time.Duration{time.Second, 12 * time.Second}
	switch {
	case counts.full:
		spans = []time.Duration{time.Second, 5 * time.Second, 12 * time.Second, time.Minute, 10 * time.Minute}
	case !counts.ci:
		spans = spans[1:] // longer than AckWait
	}
	faults := []struct {
		name string
		do   func(p *proxytest.Proxy)
	}{
		{"cut", (*proxytest.Proxy).Cut},
		{"to the server", func(p *proxytest.Proxy) { p.Hold(proxytest.Up) }},
		{"from the server", func(p *proxytest.Proxy) { p.Hold(proxytest.Down) }},
		{"both ways", func(p *proxytest.Proxy) { p.Hold(proxytest.Up, proxytest.Down) }},
		{"slow", func(p *proxytest.Proxy) { p.Slow(300 * time.Millisecond) }},
		{"reset", (*proxytest.Proxy).Reset},
	}
	for _, peer := range []string{"broker", "cloud"} {
		t.Run(peer, func(t *testing.T) {
			t.Parallel()
			for _, tt := range faults {
				if counts.least() && tt.name != map[string]string{"broker": "from the server", "cloud": "both ways"}[peer] {
					continue
				}
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, simulator.Config{Delays: simulator.Delays{Accept: 500 * time.Millisecond}})
					w.noCreations = counts.least() // one whose answer is lost is looked for during 50 s
					var p *proxytest.Proxy
					var o options
					if peer == "broker" {
						p = proxytest.New(t, strings.TrimPrefix(w.broker.URL, "nats://"))
						o.nats = p.Addr()
					} else {
						p = proxytest.New(t, w.api)
						o.api = p.Addr()
					}
					cutOff := w.start("cut-off", o).ready()
					w.start("other", options{}).ready()
					for i, span := range spans {
						w.mixed(12, fmt.Sprintf("before-%d", i))
						tt.do(p)
						w.mixed(12, fmt.Sprintf("during-%d", i))
						pass(t.Context(), span)
						p.Heal()
						w.mixed(12, fmt.Sprintf("after-%d", i))
					}
					w.settled(2 * time.Minute)
					f := w.judge()
					if cutOff.ended() {
						f.wrong("the worker that was cut off has ended:\n%s", tail(cutOff.log.String(), 5))
					}
					table.add(t, row{Name: "F11 " + peer + " " + tt.name, Tries: len(spans), findings: f, Took: w.took()})
				})
			}
		})
	}
}
