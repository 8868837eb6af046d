package ledger_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events/broker"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The embedded server leaves workers that wait for their next item.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*ipQueue).pop"),
	)
}

func TestBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	var n atomic.Int64
	ledgertest.Suite(t, func(*testing.T) *ledger.Ledger {
		return ledger.New(s.Bucket(fmt.Sprintf("ledger-%d", n.Add(1))), nil)
	})
}

func TestFake(t *testing.T) {
	t.Parallel()
	ledgertest.Suite(t, func(*testing.T) *ledger.Ledger { return ledgertest.NewFake().Ledger })
}

var errCut = errors.New("cut off")

// TestRecordGoesOn cuts Record off before and after each of its writes; called
// again, by this request or another, it must come out as if nothing had been.
func TestRecordGoesOn(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"request.", "lock."} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%safter=%t", key, after), func(t *testing.T) {
				t.Parallel()
				f := ledgertest.NewFake()
				f.FailOnce(ledgertest.Write, key, errCut, after)
				if _, _, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("1")), new(ledgertest.Decide(approval.Accept))); !errors.Is(err, errCut) {
					t.Fatalf("cut off: %v", err)
				}
				// Another request comes in between. If the first got as far as
				// its lock it stands, else the other may act.
				_, other, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("2")), new(ledgertest.Decide(approval.Reject)))
				if err != nil {
					t.Fatal(err)
				}
				locked := key == "lock." && after
				if (other != nil) != locked {
					t.Fatalf("the other request got the lock %+v", other)
				}
				e, other, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("1")), new(ledgertest.Decide(approval.Hold)))
				if err != nil {
					t.Fatal(err)
				}
				decided := key == "lock." || after
				if want := map[bool]approval.Verdict{true: approval.Accept, false: approval.Hold}[decided]; e.Decision.Verdict != want {
					t.Errorf("the decision that stands is %s, want %s", e.Decision.Verdict, want)
				}
				if (other == nil) != locked {
					t.Errorf("the first request got the lock %+v", other)
				}
			})
		}
	}
}

// TestALockEndsWithItsRequest: nothing but the entry is written then.
func TestALockEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	f := ledgertest.NewFake()
	e, _, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("1")), new(ledgertest.Decide(approval.Accept)))
	if err != nil {
		t.Fatal(err)
	}
	f.FailOnce(ledgertest.Write, "lock.", errCut, false)
	if err := f.Put(t.Context(), ledgertest.End(e, approval.OutcomeGone)); err != nil {
		t.Fatal(err)
	}
	f.Inject(nil)
	c, ok, err := f.Lock(t.Context(), e.Request.Subject())
	if err != nil || !ok || c.Outcome != approval.OutcomeGone {
		t.Errorf("the lock is %+v, %t, %v", c, ok, err)
	}
	if _, other, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("2")), new(ledgertest.Decide(approval.Accept))); other != nil || err != nil {
		t.Errorf("the next request got %+v, %v", other, err)
	}
}

func TestLockWithoutItsRequestDoesNotBlock(t *testing.T) {
	t.Parallel()
	f := ledgertest.NewFake()
	subject := ledgertest.Request("1").Subject()
	f.PutRaw("lock."+subject, []byte(`{"v":1,"RequestID":"`+approval.RequestID("lost", "1")+`","Verdict":"accept"}`))
	if c, ok, err := f.Lock(t.Context(), subject); err != nil || !ok || c.Blocks() {
		t.Errorf("the lock is %+v, %t, %v", c, ok, err)
	}
	if _, other, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("1")), new(ledgertest.Decide(approval.Accept))); other != nil || err != nil {
		t.Errorf("got %+v, %v", other, err)
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	id := ledgertest.Request("1").ID
	for _, damaged := range []string{``, `{`, `{"v":2}`, `{}`, `null`, `[]`, `{"v":1,"Request":7}`, `{"v":1,"v":1}`} {
		f := ledgertest.NewFake()
		f.PutRaw(ledgertest.RequestKey(id), []byte(damaged))
		check := func(what string, err error) {
			t.Helper()
			var bad *ledger.UnreadableError
			if !errors.As(err, &bad) || !bad.Retryable() || !strings.Contains(err.Error(), ledgertest.RequestKey(id)) {
				t.Errorf("%s of %q: %v", what, damaged, err)
			}
		}
		_, err := f.Get(t.Context(), id)
		check("Get", err)
		_, _, err = ledgertest.Record(t.Context(), f, new(ledgertest.Request("1")), new(ledgertest.Decide(approval.Accept)))
		check("Record", err)
		_, err = f.History(t.Context(), id)
		check("History", err)
		// A list reports it and continues.
		if _, _, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("2")), new(ledgertest.Decide(approval.Hold))); err != nil {
			t.Fatal(err)
		}
		good := 0
		for _, err := range f.List(t.Context(), ledger.Filter{}) {
			if err == nil {
				good++
				continue
			}
			check("List", err)
		}
		if good != 1 {
			t.Errorf("%d good entries listed in addition to %q, want 1", good, damaged)
		}
	}
}

type conflicts struct{ n atomic.Int64 }

func (c *conflicts) LedgerConflict()    { c.n.Add(1) }
func (c *conflicts) LedgerWriteFailed() {}

func TestConflictsAreCounted(t *testing.T) {
	t.Parallel()
	var seen conflicts
	f := ledgertest.NewFakeWith(&seen)
	e, _, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("1")), new(ledgertest.Decide(approval.Hold)))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		stale := *e
		_ = f.Put(t.Context(), &stale)
	}
	if got := seen.n.Load(); got != 2 {
		t.Errorf("counted %d conflicts, want 2", got)
	}
}

var updateGolden = flag.Bool("update", false, "rewrite the golden files")

// TestFormat guards what is stored: other versions of the worker must read it.
func TestFormat(t *testing.T) {
	t.Parallel()
	f := ledgertest.NewFake()
	e, _, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("1")), new(ledgertest.Decide(approval.Accept)))
	if err != nil {
		t.Fatal(err)
	}
	e.ActedAt = e.Decision.At.Add(time.Second)
	e.Intent = &approval.Intent{At: e.ActedAt, Sends: 1, Before: []string{"a"}, Created: &approval.Created{ID: "c", EndpointID: ledgertest.Endpoint}}
	e = ledgertest.End(e, approval.OutcomeAccepted)
	e.Result.Created = e.Intent.Created
	e.Result.Failure = &approval.Failure{Code: "EndPoint.0005", Text: "It is not there.", RequestID: "r"}
	if err := f.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, key := range []string{ledgertest.RequestKey(e.Request.ID), "lock." + e.Request.Subject()} {
		v, err := f.Store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s\n%s\n", key, v.Value())
	}
	const file = "testdata/format.golden"
	if *updateGolden {
		if err := os.WriteFile(file, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("what is stored changed (-want +got); old entries must stay readable, then -update:\n%s", d)
	}
}

func BenchmarkRecord(b *testing.B) {
	l := ledger.New(natstest.Start(b).Bucket("ledger"), nil)
	n := 0
	for b.Loop() {
		n++
		r := ledgertest.Request(fmt.Sprint(n))
		r.EndpointID = fmt.Sprintf("705290f3-0d00-41f2-aedc-%012d", n)
		if _, _, err := ledgertest.Record(b.Context(), l, &r, new(ledgertest.Decide(approval.Accept))); err != nil {
			b.Fatal(err)
		}
	}
}

// TestWhatCannotBeStoredIsTold: it is refused however often it comes, so that
// the caller must not retry.
func TestWhatCannotBeStoredIsTold(t *testing.T) {
	t.Parallel()
	s := natstest.StartWith(t, broker.Options{MaxPayload: 16 << 10})
	kv := s.Bucket("ledger")
	small, err := s.JetStream().CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "small", History: 8, MaxValueSize: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	year := ledgertest.Request("1")
	year.Time = time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600)).UTC()
	number := ledgertest.Request("2")
	number.Claims = approval.Claims{"n": math.NaN()}
	large := ledgertest.Request("3")
	large.Claims = approval.Claims{"text": strings.Repeat("x", 20<<10)}
	fits := ledgertest.Request("4")
	fits.Claims = approval.Claims{"text": strings.Repeat("x", 8<<10)}
	for _, tt := range []struct {
		name string
		kv   jetstream.KeyValue
		req  approval.Request
		ok   bool
	}{
		{"a time in the year 10000", kv, year, false},
		{"a number that is none", kv, number, false},
		{"larger than a message", kv, large, false},
		{"larger than the bucket takes", small, fits, false},
		{"as large as it may be", kv, fits, true},
	} {
		_, _, err := ledgertest.Record(t.Context(), ledger.New(tt.kv, nil), &tt.req, new(ledgertest.Decide(approval.Accept)))
		unstorable, ok := errors.AsType[*ledger.UnstorableError](err)
		if tt.ok != (err == nil) || ok == tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if ok && !unstorable.Unstorable() {
			t.Errorf("%s: it may pass", tt.name)
		}
	}
	// What has begun waits until the broker takes more: it is not given up.
	l := ledger.New(kv, nil)
	entry, _, err := ledgertest.Record(t.Context(), l, new(ledgertest.Request("5")), new(ledgertest.Decide(approval.Accept)))
	if err != nil {
		t.Fatal(err)
	}
	entry.Decision.Contact = strings.Repeat("x", 20<<10)
	err = l.Put(t.Context(), entry)
	if _, ok := errors.AsType[*ledger.UnstorableError](err); err == nil || ok {
		t.Errorf("an entry that grew: %v, want an error that may pass", err)
	}
}

// TestReadsLeaveNoConsumer: lists and histories use one of the broker's each.
func TestReadsLeaveNoConsumer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	l := ledger.New(s.Bucket("ledger"), nil)
	for _, id := range []string{"1", "2"} {
		if _, _, err := ledgertest.Record(t.Context(), l, new(ledgertest.Request(id)), new(ledgertest.Decide(approval.Accept))); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range l.List(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Error(err)
		}
	}
	for _, err := range l.List(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range l.List(ctx, ledger.Filter{}) {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel()
	}
	if _, err := l.History(t.Context(), ledgertest.Request("1").ID); err != nil {
		t.Fatal(err)
	}
	stream, err := s.JetStream().Stream(t.Context(), "KV_ledger")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Consumers; n > 0 {
		t.Errorf("%d consumers are left behind", n)
	}
}
