package inspect

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/events"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
	"github.com/vpcep-approver/vpcep-approver/internal/natstest"
)

// findFixture is a ledger of requests with their results.
type findFixture struct {
	bus  *events.Bus
	book *ledger.Ledger
	js   jetstream.JetStream
}

func newFindFixture(t *testing.T) findFixture {
	t.Helper()
	server := natstest.Start(t)
	bus, err := events.Connect(t.Context(), events.Config{InProcess: server, Create: true, Slots: 16, Targets: approval.Targets{ledgertest.Request("").Target}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := bus.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	bucket, err := bus.Bucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return findFixture{bus, ledger.New(bucket, nil), server.JetStream()}
}

// add records a request; an outcome ends it, and it is published if told so.
func (f findFixture) add(t *testing.T, n int, outcome approval.Outcome, published bool) {
	t.Helper()
	e := &approval.Entry{Request: ledgertest.Another(fmt.Sprint(n)), Decision: ledgertest.Decide(approval.Accept)}
	e.Decision.ID, e.Decision.At = approval.DecisionID(e.Request.ID), time.Now()
	if outcome != "" {
		e = ledgertest.End(e, outcome)
	}
	if err := f.book.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if !published {
		return
	}
	if err := f.bus.Publish(t.Context(), *e.Result); err != nil {
		t.Fatal(err)
	}
}

// find looks at no more than changes, and returns the numbers of the requests.
func (f findFixture) find(t *testing.T, filter ledger.Filter, limit, changes int) (ids []string, more bool) {
	t.Helper()
	finder := newFinder(f.bus, f.book, filter, limit)
	finder.changes = changes
	found, err := finder.find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range found.Entries {
		ids = append(ids, e.Request.EventID)
	}
	return ids, found.More
}

// TestFindReadsBackwards: it finds the same whatever part of the ledger it reads
// backwards, and the rest by the results or forward.
func TestFindReadsBackwards(t *testing.T) {
	t.Parallel()
	f := newFindFixture(t)
	for n := range 60 {
		switch n {
		case 5:
			f.add(t, n, approval.OutcomeFailed, true)
		case 10:
			f.add(t, n, approval.OutcomeHeld, true)
		case 20:
			f.add(t, n, "", false)
		default:
			f.add(t, n, approval.OutcomeAccepted, true)
		}
	}
	held, failed := []approval.Outcome{approval.OutcomeHeld}, []approval.Outcome{approval.OutcomeHeld, approval.OutcomeFailed}
	other := ledgertest.Another("7").EndpointID
	for _, tt := range []struct {
		name   string
		filter ledger.Filter
		limit  int
		want   []string
		more   bool
	}{
		{"the latest", ledger.Filter{}, 3, []string{"59", "58", "57"}, true},
		{"all", ledger.Filter{Outcomes: failed}, 0, []string{"10", "5"}, false},
		{"of a rare outcome", ledger.Filter{Outcomes: held}, 5, []string{"10"}, false},
		{"of two", ledger.Filter{Outcomes: failed}, 1, []string{"10"}, true},
		{"of another target", ledger.Filter{Outcomes: failed, Target: "other"}, 5, nil, false},
		{"about one endpoint", ledger.Filter{EndpointID: other}, 5, []string{"7"}, false},
		{"about one endpoint, by outcome", ledger.Filter{EndpointID: other, Outcomes: failed}, 5, nil, false},
		{"open", ledger.Filter{Open: true}, 5, []string{"20"}, false},
		{"of the last hour", ledger.Filter{Since: time.Now().Add(-time.Hour), Outcomes: failed}, 0, []string{"10", "5"}, false},
		{"of the future", ledger.Filter{Since: time.Now().Add(time.Hour)}, 5, nil, false},
	} {
		for _, changes := range []int{1, 30, 1000} {
			if got, more := f.find(t, tt.filter, tt.limit, changes); !slices.Equal(got, tt.want) || more != tt.more {
				t.Errorf("%s, looking at %d changes: %v, more %v; want %v, %v", tt.name, changes, got, more, tt.want, tt.more)
			}
		}
	}
}

// TestOpenIsWhatHasNoResult: an entry is open by its last version, and one that cannot be
// read is told, with direct reads and without.
func TestOpenIsWhatHasNoResult(t *testing.T) {
	t.Parallel()
	f := newFindFixture(t)
	f.add(t, 0, "", false)
	f.add(t, 1, approval.OutcomeAccepted, true)
	f.add(t, 2, "", false)
	ended, err := f.book.Get(t.Context(), ledgertest.Another("2").ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.book.Put(t.Context(), ledgertest.End(ended, approval.OutcomeHeld)); err != nil {
		t.Fatal(err)
	}
	named := ledgertest.Another("3") // no result, whatever its claims are called
	named.Claims = approval.Claims{"result": map[string]any{"result": "x"}}
	if err := f.book.Put(t.Context(), &approval.Entry{Request: named, Wait: &approval.Wait{Since: time.Now(), Code: "x"}}); err != nil {
		t.Fatal(err)
	}
	broken := "request.abcd.abcd0000000000000000000000000001"
	if _, err := f.js.Publish(t.Context(), "$KV."+events.LedgerBucket+"."+broken, []byte(`{"v":1,`)); err != nil {
		t.Fatal(err)
	}
	look := func() {
		t.Helper()
		found, err := FindOpen(t.Context(), f.bus, f.book, ledger.Filter{Open: true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, r := range found.rows {
			ids = append(ids, r.entry.Request.EventID)
		}
		slices.Sort(ids)
		if !slices.Equal(ids, []string{"0", "3"}) || len(found.unreadable) != 1 || found.unreadable[0].Key != broken {
			t.Errorf("open are %v, unreadable %v", ids, found.unreadable)
		}
	}
	look()
	f.withoutDirectReads(t)
	look()
}

// TestListsNeedNoConsumer: whatever is looked for, and also where results are not stored any
// more. The broker looks at the whole ledger to make one, and answers nobody meanwhile.
func TestListsNeedNoConsumer(t *testing.T) {
	t.Parallel()
	f := newFindFixture(t)
	f.add(t, 0, approval.OutcomeHeld, true)
	f.add(t, 1, "", false)
	f.purgeResults(t)
	for n := range 10 {
		f.add(t, 2+n, approval.OutcomeAccepted, true)
	}
	made, err := f.js.Conn().SubscribeSync("$JS.API.CONSUMER.CREATE.>")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		filter ledger.Filter
		limit  int
		want   int
	}{
		{ledger.Filter{}, 0, 12},
		{ledger.Filter{Target: "rare"}, 5, 0},
		{ledger.Filter{EndpointID: ledgertest.Another("0").EndpointID}, 5, 1},
		{ledger.Filter{Open: true}, 5, 1},
		{ledger.Filter{Open: true}, 0, 1},
		{ledger.Filter{Outcomes: []approval.Outcome{approval.OutcomeHeld}}, 5, 1},
	} {
		if got, _ := f.find(t, tt.filter, tt.limit, 1); len(got) != tt.want {
			t.Errorf("%+v: %v, want %d", tt.filter, got, tt.want)
		}
	}
	if err := f.js.Conn().FlushTimeout(natstest.Hang); err != nil {
		t.Fatal(err)
	}
	if n, _, err := made.Pending(); n != 0 || err != nil {
		t.Errorf("%d consumers were made: %v", n, err)
	}
	f.withoutDirectReads(t)
	if got, _ := f.find(t, ledger.Filter{}, 5, 1); len(got) != 5 {
		t.Errorf("without direct reads: %v", got)
	}
	if err := f.js.Conn().FlushTimeout(natstest.Hang); err != nil {
		t.Fatal(err)
	}
	if n, _, err := made.Pending(); n == 0 || err != nil {
		t.Errorf("a consumer would not have been seen: %v", err)
	}
}

// TestFindMissesNoResult: requests whose results are not stored any more, or not yet, are
// found all the same.
func TestFindMissesNoResult(t *testing.T) {
	t.Parallel()
	f := newFindFixture(t)
	held := ledger.Filter{Outcomes: []approval.Outcome{approval.OutcomeHeld}}
	want := func(ids ...string) {
		t.Helper()
		if got, _ := f.find(t, held, 10, 1); !slices.Equal(got, ids) {
			t.Errorf("got %v, want %v", got, ids)
		}
	}
	f.add(t, 0, approval.OutcomeHeld, true)
	f.add(t, 1, approval.OutcomeAccepted, true)
	f.purgeResults(t)
	f.add(t, 2, approval.OutcomeHeld, true)
	f.add(t, 3, approval.OutcomeAccepted, true)
	want("2", "0")

	// A worker has a request, has ended it, and cannot publish its result.
	if err := f.bus.SubmitRaw(t.Context(), "payments", nil, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	consumer, err := f.js.Consumer(t.Context(), events.RequestsStream, events.ConsumerName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Next(); err != nil {
		t.Fatal(err)
	}
	f.add(t, 4, approval.OutcomeHeld, false)
	for n := range 5 {
		f.add(t, 5+n, approval.OutcomeAccepted, true)
	}
	want("4", "2", "0")
}

func (f findFixture) purgeResults(t *testing.T) {
	t.Helper()
	stream, err := f.js.Stream(t.Context(), events.ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f findFixture) withoutDirectReads(t *testing.T) {
	t.Helper()
	stream, err := f.js.Stream(t.Context(), "KV_"+events.LedgerBucket)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.AllowDirect = false
	if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// TestFindWithoutDirectReads lists the ledger forward.
func TestFindWithoutDirectReads(t *testing.T) {
	t.Parallel()
	f := newFindFixture(t)
	for n := range 20 {
		f.add(t, n, approval.OutcomeAccepted, true)
	}
	f.withoutDirectReads(t)
	if got, more := f.find(t, ledger.Filter{}, 2, 1000); !slices.Equal(got, []string{"19", "18"}) || !more {
		t.Errorf("got %v, more %v", got, more)
	}
}

// TestFindHistoryByPrefix: four digits choose what the broker sends, more of them choose
// among that.
func TestFindHistoryByPrefix(t *testing.T) {
	t.Parallel()
	f := newFindFixture(t)
	put := func(id string) {
		t.Helper()
		e := &approval.Entry{Request: ledgertest.Request(id), Decision: ledgertest.Decide(approval.Hold)}
		e.Request.ID = id
		if err := f.book.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	one, two, three := "abcd0000000000000000000000000001", "abcd0000000000000000000000000002", "abce0000000000000000000000000003"
	for _, id := range []string{one, two, three} {
		put(id)
	}
	for prefix, want := range map[string]string{"abce": three, one[:31] + "2": two, three[:10]: three, one: one} {
		h, err := FindHistory(t.Context(), f.book, prefix)
		if err != nil || h.Latest().Request.ID != want {
			t.Errorf("%s: %v, %v; want %s", prefix, h, err, want)
		}
	}
	for _, prefix := range []string{"abcd", "abcf", "0000"} {
		if _, err := FindHistory(context.WithoutCancel(t.Context()), f.book, prefix); err == nil {
			t.Errorf("%s names no one request, and there is no error", prefix)
		}
	}
}
