package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// countedCloud is a connectionCounter.
type countedCloud struct {
	known  map[string]approval.Connections
	broken map[string]bool
	called []string
}

func (c *countedCloud) Connections(t approval.Target) approval.Connections { return c.known[t.Name] }

func (c *countedCloud) CountAccepted(_ context.Context, t approval.Target) error {
	c.called = append(c.called, t.Name)
	if c.broken[t.Name] {
		return errors.New("the cloud failed")
	}
	known := c.known[t.Name]
	known.Accepted = approval.ConnectionCount{N: 1, At: time.Now()}
	c.known[t.Name] = known
	return nil
}

// sweep reads the pending connections of targets, and counts.
func (c *countedCloud) sweep(a *acceptedCount, targets ...approval.Target) string {
	<-time.After(time.Minute)
	for _, t := range targets {
		known := c.known[t.Name]
		known.Pending = approval.ConnectionCount{At: time.Now()}
		c.known[t.Name] = known
		<-time.After(time.Millisecond)
	}
	c.called = nil
	a.afterSweep()
	synctest.Wait()
	return strings.Join(c.called, " ")
}

// TestAcceptedConnectionsAreCounted: those of each target once it was swept, and then again after each
// sweep; of many targets those whose count is the oldest.
func TestAcceptedConnectionsAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quiet := approval.Target{Name: "quiet", Kind: approval.Service}
		broken := approval.Target{Name: "broken", Kind: approval.Gateway}
		c := &countedCloud{known: map[string]approval.Connections{}, broken: map[string]bool{"broken": true}}
		a := acceptedCount{cloud: c, log: zerolog.Nop(), targets: approval.Targets{quiet, {Name: "functions", Kind: approval.FunctionGraph}, broken}, swept: make(chan struct{}, 1), tried: map[string]time.Time{}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go a.run(ctx)
		for _, tt := range []struct {
			name  string
			swept []approval.Target
			want  string
		}{
			{"before anything could be read", nil, ""},
			{"one could be read", []approval.Target{quiet}, "quiet"},
			{"nothing could be read", nil, ""},
			{"both could be read", []approval.Target{quiet, broken}, "broken quiet"},
			{"the one that failed is not tried before the other", []approval.Target{broken, quiet}, "quiet broken"},
		} {
			if got := c.sweep(&a, tt.swept...); got != tt.want {
				t.Errorf("%s: counted %q, want %q", tt.name, got, tt.want)
			}
		}
		if got := c.known["broken"].Accepted; !got.At.IsZero() {
			t.Errorf("the target whose count failed has %+v", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		const n = 240
		var targets approval.Targets
		for i := range n {
			targets = append(targets, approval.Target{Name: fmt.Sprint("t", i), Kind: approval.Service})
		}
		c := &countedCloud{known: map[string]approval.Connections{}, broken: map[string]bool{"t0": true, "t7": true}}
		a := acceptedCount{cloud: c, log: zerolog.Nop(), targets: targets, swept: make(chan struct{}, 1), tried: map[string]time.Time{}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go a.run(ctx)
		seen := map[string]bool{}
		for range countWithin {
			if c.sweep(&a, targets...); len(c.called) != n/countWithin {
				t.Errorf("%d were counted after a sweep, want %d", len(c.called), n/countWithin)
			}
			for _, name := range c.called {
				seen[name] = true
			}
		}
		if len(seen) != n {
			t.Errorf("%d were counted within %d sweeps, want all %d", len(seen), countWithin, n)
		}
	})
}
