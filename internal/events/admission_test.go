package events

import (
	"testing"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// slotless has slots for some targets only, and many requests that wait for one.
type slotless struct {
	can     map[string]bool
	refused int
}

func (*slotless) Open()                     {}
func (*slotless) Close()                    {}
func (s *slotless) Refuse()                 { s.refused++ }
func (*slotless) Waiting() int              { return 1 << 20 }
func (*slotless) Left() <-chan struct{}     { return nil }
func (s *slotless) CanRun(name string) bool { return s.can[name] }

// TestNothingIsPulledThatCannotRun: while requests wait for slots, those behind them stay
// at the broker, unless one of them could run.
func TestNothingIsPulledThatCannotRun(t *testing.T) {
	t.Parallel()
	admission := &slotless{can: map[string]bool{}}
	b := connect(t, natstest.Start(t), func(c *Config) { c.Admission = admission })
	submit := func(id, target string) {
		t.Helper()
		r := connection(id)
		r.Target, _ = b.cfg.Targets.ByName(target)
		if err := b.Submit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, target := range targets() {
		if target.Kind == approval.Service || target.Kind == approval.Gateway {
			names = append(names, target.Name)
		}
	}
	if len(names) < 2 {
		t.Fatalf("two targets with connections are needed, there are %q", names)
	}
	busy, idle := names[0], names[1]
	c := &consumeLoop{Bus: b}
	submit("1", busy)
	submit("2", busy)
	if c.runnable(t.Context()) {
		t.Error("no target has a slot")
	}
	admission.can[idle] = true
	if c.runnable(t.Context()) {
		t.Errorf("only requests for %s wait, which has no slot", busy)
	}
	submit("3", idle)
	if !c.runnable(t.Context()) {
		t.Errorf("a request for %s waits, which has a slot", idle)
	}
	if n := c.room(t.Context()); n != b.cfg.Slots || admission.refused != 1 {
		t.Errorf("%d are pulled, and those that wait were told to retry %d times; want all and once", n, admission.refused)
	}
	admission.can[idle] = false
	if n := c.room(t.Context()); n != 0 {
		t.Errorf("%d are pulled, want none: no request was given back", n)
	}
	consumer, err := b.js.Consumer(t.Context(), RequestsStream, ConsumerName)
	if err != nil {
		t.Fatal(err)
	}
	given, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := given.NakWithDelay(time.Hour); err != nil {
		t.Fatal(err)
	}
	c.pulledAnyway = time.Time{}
	if n := c.room(t.Context()); n != 1 {
		t.Errorf("%d are pulled, want one, which may have been given back before", n)
	}
	if n := c.room(t.Context()); n != 0 {
		t.Errorf("%d are pulled again, want none", n)
	}
}
