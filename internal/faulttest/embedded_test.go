package faulttest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
)

// TestTwoProcessesOnOneFolder is F28: under load a second worker is started with the
// data folder of the first, and two at the same time after the first was killed. One
// works, each other one ends and says why, and nothing is lost.
func TestTwoProcessesOnOneFolder(t *testing.T) {
	t.Parallel()
	rounds := times(2, 2, 60)
	w := newCloudWorld(t, simulator.Config{})
	w.noCreations = counts.least()
	data, listen := filepath.Join(w.dir, "data"), freeAddress(t)
	p := w.start("first", options{data: data, nats: listen}).ready()
	password, err := broker.ReadPassword(data, broker.WorkerUser)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+listen, nats.UserInfo(broker.WorkerUser, password), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	var f findings
	refused, kills := 0, 0
	mustRefuse := func(p *process) {
		code := p.cmd.ProcessState.ExitCode()
		if code == 0 || !strings.Contains(p.log.String(), broker.ErrLocked.Error()) || !strings.Contains(p.log.String(), data) {
			f.wrong("a second worker on the folder ended with %d and said:\n%s", code, tail(p.log.String(), 3))
		}
		refused++
	}
	for i := range rounds {
		w.mixed(12, fmt.Sprintf("before-%d", i))
		if i%2 == 0 { // with an address of its own, so that only the folder is in the way
			second := w.start(fmt.Sprintf("second-%d", i), options{data: data, nats: freeAddress(t)})
			if !until(t.Context(), time.Minute, second.ended) {
				f.wrong("round %d: a second worker runs on the folder of the first", i)
				second.kill()
				continue
			}
			mustRefuse(second)
		} else {
			p.kill()
			kills++
			heirs := []*process{
				w.start(fmt.Sprintf("heir-%d", i), options{data: data, nats: listen}),
				w.start(fmt.Sprintf("other-heir-%d", i), options{data: data, nats: listen}),
			}
			await(t, 2*time.Minute, "one of two works and the other has ended", func() bool {
				if heirs[0].ended() {
					heirs[0], heirs[1] = heirs[1], heirs[0]
				}
				return heirs[1].ended() && (heirs[0].ended() || heirs[0].answers("/readyz"))
			})
			if heirs[0].ended() {
				t.Fatalf("neither of two works:\n%s\n%s", tail(heirs[0].log.String(), 5), tail(heirs[1].log.String(), 5))
			}
			mustRefuse(heirs[1])
			p = heirs[0]
		}
		w.mixed(6, fmt.Sprintf("after-%d", i))
		if p.ended() {
			f.wrong("round %d: the worker ended when another one was started on its folder", i)
		}
	}
	w.settled(time.Minute)
	f.join(w.judge())
	table.add(t, row{Name: "F28 two processes on one data folder", Tries: rounds, findings: f, Took: w.took(), Note: fmt.Sprintf("%d refused, %d kills", refused, kills)})
}
