package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

// away makes the ledger fail for d from the moment that the cloud has made an
// endpoint, or refused to.
func away(b *bench, d time.Duration, op string) {
	since := time.Time{}
	old := b.cloud.fail
	b.cloud.fail = func(o string, after bool) error {
		var err error
		if old != nil {
			err = old(o, after)
		}
		if o == op && since.IsZero() && (after || err != nil) {
			since = time.Now()
		}
		return err
	}
	b.ledger.Inject(func(ledgertest.Op, string) ledgertest.Fault {
		if !since.IsZero() && time.Since(since) < d {
			return ledgertest.Fault{Err: errors.New("the broker is away")}
		}
		return ledgertest.Fault{}
	})
}

// TestTheAnswerToACreationIsKept: what the cloud answered while the broker was away
// is written when it is back, also where nobody could look for it, and although the
// request is delivered to another worker as soon as the broker is back.
func TestTheAnswerToACreationIsKept(t *testing.T) {
	t.Parallel()
	for _, target := range []approval.Target{functions(), insight()} {
		for _, d := range []time.Duration{8 * time.Second, 10 * time.Minute} {
			for _, elsewhere := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, away for %s, delivered elsewhere: %t", target.Name, d, elsewhere), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						cloud := newFakeCloud(approval.Accepted)
						cloud.lookBlind, cloud.connects = target.Kind == approval.DataArtsInsight, endpoint
						b := newBench(t, cloud, always(approval.Accept))
						var log bytes.Buffer
						b.Log = zerolog.New(&log)
						away(b, d, "create")
						first := make(chan error, 1)
						go func() { first <- b.Handle(t.Context(), new(creation(target))) }()
						<-time.After(d)
						if elsewhere {
							again := bench{Worker: b.replica(), cloud: cloud, ledger: b.ledger, results: b.results}
							again.Log = zerolog.Nop()
							second := creation(target)
							second.Attempt = 2
							again.deliver(t, second, 99)
						}
						err := <-first
						if err != nil && !elsewhere {
							t.Fatalf("Handle: %v", err)
						}
						res, want := b.results.got[creation(target).Request.ID], endpoint
						if elsewhere && !cloud.lookBlind {
							want = "made-1" // which the other worker has found
						}
						if res.Outcome != approval.OutcomeCreated || res.Created == nil || res.Created.EndpointID != want || cloud.creates != 1 {
							t.Errorf("it ended %s (%+v) with %+v after %d creations, want created with %s", res.Outcome, res.Failure, res.Created, cloud.creates, want)
						}
						if text := log.String(); !strings.Contains(text, endpoint) || !strings.Contains(text, "cannot be written to the ledger") {
							t.Errorf("the log does not say that the answer was kept:\n%s", text)
						}
					})
				})
			}
		}
	}
}

// TestARefusedCreationIsNotTakenForSent: that nothing was done is written when the
// broker is back, and the creation is sent again.
func TestARefusedCreationIsNotTakenForSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud, refused := newFakeCloud(approval.Accepted), false
		cloud.lookBlind, cloud.connects = true, endpoint
		cloud.fail = func(op string, after bool) error {
			if op == "create" && !after && !refused {
				refused = true
				return cloudError{operator: true}
			}
			return nil
		}
		b := newBench(t, cloud, always(approval.Accept))
		away(b, time.Minute, "create")
		if res, _ := b.deliver(t, creation(insight()), 99); res.Outcome != approval.OutcomeCreated || cloud.creates != 1 {
			t.Errorf("it ended %s (%+v) after %d creations, want created", res.Outcome, res.Failure, cloud.creates)
		}
	})
}

// TestAStoppingWorkerSaysWhatItCouldNotWrite: a process that must end while the
// broker is away leaves the answer in its log.
func TestAStoppingWorkerSaysWhatItCouldNotWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newFakeCloud(approval.Accepted)
		cloud.lookBlind, cloud.connects = true, endpoint
		b := newBench(t, cloud, always(approval.Accept))
		var log bytes.Buffer
		b.Log = zerolog.New(&log)
		away(b, time.Hour, "create")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := b.Handle(ctx, new(creation(insight()))); err == nil {
			t.Fatal("the answer is not written")
		}
		if text := log.String(); !strings.Contains(text, endpoint) || !strings.Contains(text, `"level":"error"`) {
			t.Errorf("the log does not hold the id:\n%s", text)
		}
	})
}

// TestWhatIsThereIsNotMadeAgain: a creation of which the ledger knows nothing, and
// whose endpoint is there, is told as created before.
func TestWhatIsThereIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		there   []string
		verdict approval.Verdict
		want    approval.Outcome
		creates int
	}{
		{"the endpoint is there", []string{"made-before"}, approval.Accept, approval.OutcomeCreated, 0},
		{"only another's is", []string{"of-someone-else"}, approval.Accept, approval.OutcomeCreated, 1},
		{"it is there and not allowed", []string{"made-before"}, approval.Reject, approval.OutcomeRefused, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				cloud.endpoints = tt.there
				b := newBench(t, cloud, always(tt.verdict))
				d := creation(functions())
				d.Request.Time = time.Now().Add(-300 * 24 * time.Hour)
				res, _ := b.deliver(t, d, 99)
				if res.Outcome != tt.want || cloud.creates != tt.creates {
					t.Fatalf("it ended %s after %d creations, want %s after %d", res.Outcome, cloud.creates, tt.want, tt.creates)
				}
				if res.Created != nil && res.Created.Existing != (tt.creates == 0) {
					t.Errorf("told as existing: %t", res.Created.Existing)
				}
			})
		})
	}
}

// TestAnEventOlderThanTheLedgerIsNotCarriedOut: what the ledger may have forgotten
// is laid aside; what it remembers is not. What an event says of its own time counts
// only against a creation.
func TestAnEventOlderThanTheLedgerIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	old := approval.LedgerMemory + day
	for _, tt := range []struct {
		name      string
		d         approval.Delivery
		published time.Duration // ago
		says      time.Duration // ago; 0: nothing
		known     bool
		tooOld    bool
		memory    time.Duration // 0: the default
	}{
		{"a creation of today", creation(functions()), 0, 0, false, false, 0},
		{"a creation from before a ledger that forgets sooner", creation(functions()), 0, 101 * day, false, true, 100 * day},
		{"a creation of last year", creation(functions()), 0, approval.LedgerMemory - day, false, false, 0},
		{"a creation that says it is older", creation(functions()), 0, old, false, true, 0},
		{"a creation that was stored so long ago", creation(functions()), old, 0, false, true, 0},
		{"a creation that was stored so long ago and says it is new", creation(functions()), old, time.Second, false, true, 0},
		{"a connection that says it is older", connection("1"), 0, old, false, false, 0},
		{"a connection that was stored so long ago", connection("1"), old, 0, false, true, 0},
		{"an old creation that the ledger knows", creation(functions()), old, old, true, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newFakeCloud(approval.Pending)
				b := newBench(t, cloud, always(approval.Accept))
				b.Started = time.Now()
				if tt.memory > 0 {
					b.Limits.LedgerMaxAge = tt.memory
				}
				d := tt.d
				d.PublishedAt = time.Now().Add(-tt.published)
				if tt.says > 0 {
					d.Request.Time = time.Now().Add(-tt.says)
				}
				if tt.known {
					if _, _, err := ledgertest.Record(t.Context(), b.ledger, &d.Request, &approval.Decision{Verdict: approval.Accept}); err != nil {
						t.Fatal(err)
					}
				}
				err := b.Handle(t.Context(), &d)
				if _, is := errors.AsType[*TooOldError](err); is != tt.tooOld {
					t.Errorf("Handle = %v, want it laid aside: %t", err, tt.tooOld)
				}
				if did := len(cloud.acts) + cloud.creates; (did == 0) != tt.tooOld {
					t.Errorf("did %d things", did)
				}
			})
		})
	}
}
