package worker

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

// TestWhatCannotBeReadWaits: a request whose entry or claim is damaged, or of a
// newer worker, comes again until it can be read; nothing is done meanwhile.
func TestWhatCannotBeReadWaits(t *testing.T) {
	t.Parallel()
	d := connection("1")
	for _, key := range []string{ledgertest.RequestKey(d.Request.ID), "lock." + d.Request.Subject()} {
		for _, damaged := range []string{"", "{", `{"v":2}`, `[]`} {
			t.Run(key+" is "+damaged, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
					d := connection("1")
					if _, _, err := ledgertest.Record(t.Context(), b.ledger, &d.Request, new(b.Policy.Evaluate(&approval.Input{Request: d.Request, Now: b.Now()}))); err != nil {
						t.Fatal(err)
					}
					good, err := b.ledger.Store.Get(t.Context(), key)
					if err != nil {
						t.Fatal(err)
					}
					b.ledger.PutRaw(key, []byte(damaged))
					for ; d.Attempt <= 20; d.Attempt++ {
						err := b.Handle(t.Context(), &d)
						later, ok := errors.AsType[*RetryLaterError](err)
						if !ok || later.After <= 0 {
							t.Fatalf("Handle: %v, want it later", err)
						}
						if bad, ok := errors.AsType[*ledger.UnreadableError](err); !ok || bad.Key != key {
							t.Fatalf("Handle: %v, which does not name %s", err, key)
						}
					}
					if len(b.cloud.acts) > 0 || len(b.results.got) > 0 {
						t.Errorf("did %v and published %v without a record that can be read", b.cloud.acts, b.results.got)
					}
					b.ledger.PutRaw(key, good.Value())
					if res, _ := b.deliver(t, d, 99); res.Outcome != approval.OutcomeAccepted || len(b.cloud.acts) != 1 {
						t.Errorf("once it was fixed it ended %s with %v", res.Outcome, b.cloud.acts)
					}
				})
			})
		}
	}
}

// TestAResultThatTheBrokerRefuses: what cannot be published, such as for its
// size, is not done: it comes again, and nothing is done twice for it.
func TestAResultThatTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newFakeCloud(approval.Pending), always(approval.Accept))
		b.results.fail = errors.New("nats: maximum payload exceeded")
		d := connection("1")
		for ; d.Attempt <= 20; d.Attempt++ {
			err := b.Handle(t.Context(), &d)
			if _, ok := errors.AsType[*RetryLaterError](err); !ok || !errors.Is(err, b.results.fail) {
				t.Fatalf("Handle: %v, want it later, for %v", err, b.results.fail)
			}
		}
		b.results.fail = nil
		if res, _ := b.deliver(t, d, 99); res.Outcome != approval.OutcomeAccepted || len(b.cloud.acts) != 1 {
			t.Errorf("it ended %s with %v, want one accept", res.Outcome, b.cloud.acts)
		}
	})
}
