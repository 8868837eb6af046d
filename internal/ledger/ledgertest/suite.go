package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
)

// Endpoint is what the requests of the suite are about.
const Endpoint = "705290f3-0d00-41f2-aedc-71f09844e879"

// Request is a request for Endpoint; another n is another request.
func Request(n string) approval.Request {
	return approval.Request{
		ID: approval.RequestID("suite", n), Source: "suite", EventID: n,
		Time:       time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC),
		Target:     approval.Target{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88", ProjectID: "p", Region: "cn-north-4"},
		EndpointID: Endpoint,
		Claims:     approval.Claims{"domain_id": "d1", "tags": map[string]any{"env": "prod", "n": 1.5}, "list": []any{"a", true, nil}},
	}
}

// RequestKey is the key of a request's entry in the bucket.
func RequestKey(id string) string { return "request." + id[:4] + "." + id }

// Counted is a count of n accepted connections by a read of now.
func Counted(n int) approval.AccountCount { return approval.AccountCount{Accepted: n, At: time.Now()} }

// Another is the request of that n for an endpoint of its own.
func Another(n string) approval.Request {
	r := Request(n)
	r.EndpointID = "705290f3-0d00-41f2-aedc-" + r.ID[:12]
	return r
}

// Decide is a decision with the verdict v.
func Decide(v approval.Verdict) approval.Decision {
	at := time.Date(2026, 11, 21, 8, 0, 1, 500, time.UTC)
	return approval.Decision{
		Verdict: v, Policy: "payments", Rule: "acme", Contact: "network@example.org", Digest: "sha256:00", At: at,
		Reasons: []approval.Reason{{Code: approval.ReasonAllowed, Text: "The domain is on the list."}},
		Facts:   approval.Facts{EndpointID: Endpoint, MarkerID: 16777510, DomainID: "d1", State: approval.Pending, ReadAt: at, CreatedAt: at},
	}
}

// End returns the entry e with a result, and leaves e as it is.
func End(e *approval.Entry, o approval.Outcome) *approval.Entry {
	ended := *e
	ended.Result = &approval.Result{
		Request: e.Request, Decision: e.Decision, Outcome: o, State: approval.Accepted, Attempts: 1, Reversible: true,
		Seconds: map[approval.Stage]float64{approval.StageQueued: 0.25, approval.StageAct: 1}, Version: "v1", At: e.Decision.At.Add(time.Minute),
	}
	return &ended
}

// Suite holds l to what a ledger promises; open returns an empty one each time.
func Suite(t *testing.T, open func(t *testing.T) *ledger.Ledger) {
	tests := []struct {
		name string
		run  func(t *testing.T, l *ledger.Ledger)
	}{
		{"an entry comes back as it was stored", comesBack},
		{"the first decision stands", firstStands},
		{"a decision is replaced", redecided},
		{"an entry is kept before it is decided", undecided},
		{"a stale write is refused", staleWrite},
		{"one of many writers wins", oneWins},
		{"one of many takes a lock over", oneTakesOver},
		{"an acting lock blocks others until it ends without settling", lockBlocks},
		{"a lock of what does not act is replaced", lockReplaced},
		{"one of many requests gets the subject", oneLocks},
		{"lists by filter", lists},
		{"keeps the history", keepsHistory},
		{"a lease is one holder's", leases},
		{"a limit holds for concurrent requests", limitConcurrently},
		{"a limit counts what ended", limitCounts},
		{"a limit counts connections, not requests", limitShared},
		{"an id that is none is refused", badID},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, open(t))
		})
	}
}

// Recorder is what Record needs; *ledger.Ledger provides it.
type Recorder interface {
	Get(ctx context.Context, requestID string) (*approval.Entry, error)
	Record(ctx context.Context, e *approval.Entry) (*approval.Lock, error)
	Acquire(ctx context.Context, e *approval.Entry) (*approval.Lock, error)
}

// Record records d as the decision on req unless an earlier one stands, as a worker
// does, and returns the entry with the one that stands, and the lock of another request.
func Record(ctx context.Context, l Recorder, req *approval.Request, d *approval.Decision) (*approval.Entry, *approval.Lock, error) {
	for {
		e, err := l.Get(ctx, req.ID)
		switch {
		case err != nil:
			return nil, nil, err
		case e == nil:
			e = &approval.Entry{Request: *req}
		case e.Decided() || e.Request.Subject() != req.Subject():
			other, err := l.Acquire(ctx, e)
			return e, other, err
		}
		e.Decision = *d
		e.Decision.ID = approval.DecisionID(req.ID)
		other, err := l.Record(ctx, e)
		if !errors.Is(err, approval.ErrConflict) {
			return e, other, err
		}
	}
}

func record(t *testing.T, l *ledger.Ledger, n string, v approval.Verdict) (*approval.Entry, *approval.Lock) {
	t.Helper()
	e, other, err := Record(t.Context(), l, new(Request(n)), new(Decide(v)))
	if err != nil {
		t.Fatalf("Record(%s, %s): %v", n, v, err)
	}
	return e, other
}

func update(t *testing.T, l *ledger.Ledger, e *approval.Entry) *approval.Entry {
	t.Helper()
	if err := l.Put(t.Context(), e); err != nil {
		t.Fatalf("Update: %v", err)
	}
	return e
}

func lockOf(t *testing.T, l *ledger.Ledger) approval.Lock {
	t.Helper()
	c, ok, err := l.Lock(t.Context(), Request("").Subject())
	if err != nil || !ok {
		t.Fatalf("Lock: %t, %v", ok, err)
	}
	return c
}

func comesBack(t *testing.T, l *ledger.Ledger) {
	if e, err := l.Get(t.Context(), Request("1").ID); e != nil || err != nil {
		t.Fatalf("an empty ledger has %+v, %v", e, err)
	}
	if c, ok, err := l.Lock(t.Context(), Request("1").Subject()); ok || err != nil {
		t.Fatalf("an empty ledger has the lock %+v, %v", c, err)
	}
	e, _ := record(t, l, "1", approval.Accept)
	e.ActedAt = e.Decision.At.Add(time.Second)
	e.Intent = &approval.Intent{At: e.ActedAt, Sends: 1, Before: []string{"a"}, Created: &approval.Created{ID: "c", Addresses: []string{"10.0.0.1"}}}
	e = End(update(t, l, e), approval.OutcomeAccepted)
	e.Result.Failure = &approval.Failure{Code: "c", Text: "t", RequestID: "r"}
	e.Result.Created = e.Intent.Created
	update(t, l, e)
	got, err := l.Get(t.Context(), e.Request.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(e, got); d != "" {
		t.Errorf("stored (-) and read (+) differ:\n%s", d)
	}
	want := approval.Lock{
		RequestID: e.Request.ID, Verdict: approval.Accept, Digest: e.Decision.Digest, Outcome: approval.OutcomeAccepted,
		At: e.Result.At, Created: e.Intent.Created,
	}
	c := lockOf(t, l)
	c.Revision = 0
	if d := cmp.Diff(want, c); d != "" {
		t.Errorf("the lock differs from what was wanted (-):\n%s", d)
	}
}

func firstStands(t *testing.T, l *ledger.Ledger) {
	first, other := record(t, l, "1", approval.Accept)
	if other != nil || first.Decision.ID != first.Request.ID || first.Revision == 0 {
		t.Fatalf("first: %+v, %+v", first, other)
	}
	again, other := record(t, l, "1", approval.Reject)
	if other != nil || again.Decision.Verdict != approval.Accept {
		t.Errorf("again: %s, %+v", again.Decision.Verdict, other)
	}
	if c := lockOf(t, l); c.Verdict != approval.Accept || c.RequestID != first.Request.ID || c.Outcome != "" {
		t.Errorf("the lock is %+v", c)
	}
}

func staleWrite(t *testing.T, l *ledger.Ledger) {
	old, _ := record(t, l, "1", approval.Accept)
	finished := update(t, l, End(old, approval.OutcomeAccepted))
	late := *old
	late.ActedAt = time.Now()
	if err := l.Put(t.Context(), &late); !errors.Is(err, approval.ErrConflict) {
		t.Errorf("a stale write: %v, want ErrConflict", err)
	}
	got, err := l.Get(t.Context(), old.Request.ID)
	if d := cmp.Diff(finished, got); err != nil || d != "" {
		t.Errorf("after a stale write: %v\n%s", err, d)
	}
	fresh := *old
	fresh.Revision = 0
	if err := l.Put(t.Context(), &fresh); !errors.Is(err, approval.ErrConflict) {
		t.Errorf("an entry that is there, written as new: %v, want ErrConflict", err)
	}
}

// concurrently runs f n times concurrently and returns how often it was true.
func concurrently(t *testing.T, n int, f func(i int) (bool, error)) int {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	yes := 0
	for i := range n {
		wg.Go(func() {
			ok, err := f(i)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
			if ok {
				yes++
			}
		})
	}
	wg.Wait()
	return yes
}

func oneWins(t *testing.T, l *ledger.Ledger) {
	e, _ := record(t, l, "1", approval.Accept)
	won := concurrently(t, 16, func(int) (bool, error) {
		mine := *e
		err := l.Put(t.Context(), &mine)
		if errors.Is(err, approval.ErrConflict) {
			return false, nil
		}
		return err == nil, err
	})
	if won != 1 {
		t.Errorf("%d of 16 writers of one revision won, want 1", won)
	}
	first := concurrently(t, 16, func(i int) (bool, error) {
		v := []approval.Verdict{approval.Accept, approval.Reject}[i%2]
		d := Decide(v)
		d.Rule = fmt.Sprint(i)
		e, _, err := Record(t.Context(), l, new(Request("2")), &d)
		return err == nil && e.Decision.Rule == d.Rule, err
	})
	if first != 1 {
		t.Errorf("%d of 16 decisions on one request stand, want 1", first)
	}
}

func oneTakesOver(t *testing.T, l *ledger.Ledger) {
	first, _ := record(t, l, "1", approval.Accept)
	update(t, l, End(first, approval.OutcomeCreated))
	won := concurrently(t, 16, func(i int) (bool, error) {
		e, other, err := Record(t.Context(), l, new(Request(fmt.Sprint("later ", i))), new(Decide(approval.Accept)))
		if err != nil || other == nil {
			return false, err
		}
		err = l.Steal(t.Context(), e, other)
		if errors.Is(err, approval.ErrConflict) {
			return false, nil
		}
		return err == nil, err
	})
	c := lockOf(t, l)
	if won < 1 || c.RequestID == first.Request.ID || c.Outcome != "" || !c.Blocks() {
		t.Errorf("%d took the lock over, which is %+v; want one of them to hold it", won, c)
	}
}

func lockBlocks(t *testing.T, l *ledger.Ledger) {
	first, _ := record(t, l, "1", approval.Accept)
	for _, v := range approval.Verdicts() {
		_, other := record(t, l, "other "+string(v), v)
		if other == nil || other.RequestID != first.Request.ID {
			t.Errorf("%s against a lock under way got %+v", v, other)
		}
	}
	first = update(t, l, End(first, approval.OutcomeFailed))
	second, other := record(t, l, "2", approval.Reject)
	if other != nil {
		t.Errorf("against a lock that failed got %+v", other)
	}
	update(t, l, End(second, approval.OutcomeRejected))
	for _, v := range approval.Verdicts() {
		_, other := record(t, l, "later "+string(v), v)
		if other == nil || other.RequestID != second.Request.ID || other.Outcome != approval.OutcomeRejected {
			t.Errorf("%s against a lock that settled got %+v", v, other)
		}
	}
	// The end of a request that lost its lock does not touch the new holder's.
	lost, _ := record(t, l, "other accept", approval.Accept)
	update(t, l, End(lost, approval.OutcomeSuperseded))
	update(t, l, first)
	if c := lockOf(t, l); c.RequestID != second.Request.ID || c.Outcome != approval.OutcomeRejected {
		t.Errorf("the lock is %+v", c)
	}
}

func lockReplaced(t *testing.T, l *ledger.Ledger) {
	held, other := record(t, l, "1", approval.Hold)
	if other != nil {
		t.Fatalf("got %+v", other)
	}
	update(t, l, End(held, approval.OutcomeHeld))
	if c := lockOf(t, l); c.RequestID != held.Request.ID || c.Outcome != approval.OutcomeHeld || c.Digest != held.Decision.Digest {
		t.Errorf("the lock of what is held is %+v", c)
	}
	again, other := record(t, l, "2", approval.Accept)
	if c := lockOf(t, l); other != nil || c.RequestID != again.Request.ID || c.Verdict != approval.Accept {
		t.Errorf("got %+v; the lock is %+v", other, c)
	}
	// The request that was held comes once more, which changes nothing.
	_, other = record(t, l, "1", approval.Accept)
	if other == nil || other.RequestID != again.Request.ID {
		t.Errorf("what ended got %+v", other)
	}
	if c := lockOf(t, l); c.RequestID != again.Request.ID {
		t.Errorf("what ended took the lock: %+v", c)
	}
}

func oneLocks(t *testing.T, l *ledger.Ledger) {
	free := concurrently(t, 16, func(i int) (bool, error) {
		v := []approval.Verdict{approval.Accept, approval.Reject}[i%2]
		_, other, err := Record(t.Context(), l, new(Request(fmt.Sprint(i))), new(Decide(v)))
		return other == nil, err
	})
	if free != 1 {
		t.Errorf("%d of 16 requests may act on one endpoint, want 1", free)
	}
}

func lists(t *testing.T, l *ledger.Ledger) {
	open, _ := record(t, l, "open", approval.Accept)
	held, _ := record(t, l, "held", approval.Hold)
	held = update(t, l, End(held, approval.OutcomeHeld))
	tests := []struct {
		name   string
		filter ledger.Filter
		want   []string
	}{
		{"all", ledger.Filter{}, []string{"open", "held"}},
		{"open", ledger.Filter{Open: true}, []string{"open"}},
		{"by outcome", ledger.Filter{Outcomes: []approval.Outcome{approval.OutcomeHeld, approval.OutcomeGone}}, []string{"held"}},
		{"by target", ledger.Filter{Target: "payments"}, []string{"open", "held"}},
		{"by another target", ledger.Filter{Target: "orders"}, nil},
		{"by endpoint", ledger.Filter{EndpointID: Endpoint}, []string{"open", "held"}},
		{"by another endpoint", ledger.Filter{EndpointID: "x"}, nil},
		{"since", ledger.Filter{Since: open.Decision.At}, []string{"open", "held"}},
		{"since later", ledger.Filter{Since: open.Decision.At.Add(1)}, nil},
		{"until", ledger.Filter{Until: held.Decision.At}, nil},
	}
	for _, tt := range tests {
		var got []string
		for e, err := range l.List(t.Context(), tt.filter) {
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			got = append(got, e.Request.EventID)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("List %s (-want +got):\n%s", tt.name, d)
		}
	}
	for _, err := range l.List(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Errorf("List, stopped early: %v", err)
		}
		break // the reader may stop at any time
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range l.List(ended, ledger.Filter{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("List under a context that ended: %v", err)
		}
	}
}

func keepsHistory(t *testing.T, l *ledger.Ledger) {
	e, _ := record(t, l, "1", approval.Accept)
	acted := *e
	acted.ActedAt = e.Decision.At
	update(t, l, &acted)
	end := update(t, l, End(&acted, approval.OutcomeAccepted))
	got, err := l.History(t.Context(), e.Request.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]approval.Entry{*e, acted, *end}, got); d != "" {
		t.Errorf("History (-want +got):\n%s", d)
	}
	if got, err := l.History(t.Context(), Request("none").ID); err != nil || got != nil {
		t.Errorf("the history of nothing: %v, %v", got, err)
	}
}

func leases(t *testing.T, l *ledger.Ledger) {
	lease := func(holder string, ttl time.Duration) bool {
		t.Helper()
		ok, err := l.Lease(t.Context(), "sweep", holder, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	for _, what := range []string{"get", "keep"} {
		if !lease("a", time.Hour) {
			t.Errorf("the holder does not %s the lease", what)
		}
	}
	if lease("b", time.Hour) {
		t.Error("another gets a lease that is held")
	}
	// a's clock was ahead by a day; b must not wait that long for it.
	if !lease("b", time.Minute) {
		t.Error("a lease that ends further away than any does is not free")
	}
	if !lease("b", -time.Second) || !lease("a", time.Hour) {
		t.Error("a lease whose time is up is not free")
	}
	got := concurrently(t, 16, func(i int) (bool, error) {
		return l.Lease(t.Context(), "other", fmt.Sprint(i), time.Hour)
	})
	if got != 1 {
		t.Errorf("%d of 16 got a free lease, want 1", got)
	}
}

func limitConcurrently(t *testing.T, l *ledger.Ledger) {
	got := concurrently(t, 100, func(i int) (bool, error) {
		ok, err := l.Reserve(t.Context(), Another(fmt.Sprint(i)), "d1", 10, Counted(0))
		if err == nil && ok { // again is the same place
			ok, err = l.Reserve(t.Context(), Another(fmt.Sprint(i)), "d1", 10, Counted(0))
		}
		return ok, err
	})
	if got != 10 {
		t.Errorf("%d of 100 got one of 10 places", got)
	}
	if ok, err := l.Reserve(t.Context(), Another("x"), "d2", 1, Counted(0)); !ok || err != nil {
		t.Errorf("another domain has its own limit: %t, %v", ok, err)
	}
	if ok, err := l.Reserve(t.Context(), Another("x"), "strange domain/*", 1, Counted(1)); ok || err != nil {
		t.Errorf("the cloud counts the limit already: %t, %v", ok, err)
	}
}

func limitCounts(t *testing.T, l *ledger.Ledger) {
	reserve := func(n string, counted int) bool {
		t.Helper()
		ok, err := l.Reserve(t.Context(), Another(n), "d1", 2, Counted(counted))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	// Two places: one is accepted now, of the other the request fails.
	good, _ := record(t, l, "good", approval.Accept)
	bad, _ := record(t, l, "bad", approval.Accept)
	if !reserve("good", 0) || !reserve("bad", 0) || reserve("third", 0) {
		t.Fatal("two of three did not get the two places")
	}
	good = End(good, approval.OutcomeAccepted)
	good.Result.At = time.Now()
	update(t, l, good)
	if reserve("third", 0) {
		t.Error("a place was free although the list merely lags behind the accept")
	}
	update(t, l, End(bad, approval.OutcomeFailed))
	if !reserve("third", 1) {
		t.Error("the place of a request that failed is not free")
	}
	third, _ := record(t, l, "third", approval.Accept)
	update(t, l, End(third, approval.OutcomeFailed))
	if !reserve("fourth", 1) || reserve("fifth", 1) {
		t.Error("the place of the next that failed is not free, or freed twice")
	}
}

func limitShared(t *testing.T, l *ledger.Ledger) {
	got := concurrently(t, 6, func(i int) (bool, error) {
		r := Request(fmt.Sprint(i))
		if i%2 == 1 {
			r.EndpointID = strings.ToUpper(r.EndpointID)
		}
		return l.Reserve(t.Context(), r, "d1", 2, Counted(0))
	})
	if got != 6 {
		t.Errorf("%d of 6 requests for one connection share its place, want all", got)
	}
	if ok, err := l.Reserve(t.Context(), Another("x"), "d1", 2, Counted(0)); !ok || err != nil {
		t.Errorf("the second of two places: %t, %v", ok, err)
	}
	if ok, err := l.Reserve(t.Context(), Another("y"), "d1", 2, Counted(0)); ok || err != nil {
		t.Errorf("a third place of two: %t, %v", ok, err)
	}
	if ok, err := l.Reserve(t.Context(), Request("late"), "d1", 2, Counted(0)); !ok || err != nil {
		t.Errorf("a share of a place when all are taken: %t, %v", ok, err)
	}
}

func redecided(t *testing.T, l *ledger.Ledger) {
	e, _ := record(t, l, "1", approval.Accept)
	stale := *e
	e.Decision.Verdict, e.Decision.Facts.DomainID = approval.Reject, "d2"
	if other, err := l.Record(t.Context(), e); other != nil || err != nil {
		t.Fatalf("decided again: %+v, %v", other, err)
	}
	if lock := lockOf(t, l); lock.Verdict != approval.Reject {
		t.Errorf("the lock is %+v", lock)
	}
	if _, err := l.Record(t.Context(), &stale); !errors.Is(err, approval.ErrConflict) {
		t.Errorf("a stale decision: %v", err)
	}
	// Recorded again, as after a crash before the lock was written, it stands.
	again, other := record(t, l, "1", approval.Accept)
	if other != nil || again.Decision.Verdict != approval.Reject {
		t.Errorf("recorded again it is %+v, %+v", again, other)
	}
}

func undecided(t *testing.T, l *ledger.Ledger) {
	at := Decide(approval.Accept).At
	e := &approval.Entry{
		Request:  Request("1"),
		Progress: approval.Progress{Seconds: map[approval.Stage]float64{approval.StageQueued: 2}, Until: at, Next: approval.StageOutage},
		Wait:     &approval.Wait{Since: at, Stage: approval.StageOutage, Code: "EndPoint.0004", Operator: &approval.OperatorFault{API: "vpcep"}},
	}
	if err := l.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	got, err := l.Get(t.Context(), e.Request.ID)
	if d := cmp.Diff(e, got); d != "" || err != nil {
		t.Errorf("it came back otherwise, %v (-want +got):\n%s", err, d)
	}
	if _, ok, err := l.Lock(t.Context(), e.Request.Subject()); ok || err != nil {
		t.Errorf("what is not decided has a lock on its subject: %t, %v", ok, err)
	}
	for _, tt := range []struct {
		filter ledger.Filter
		want   int
	}{{ledger.Filter{}, 0}, {ledger.Filter{Open: true}, 1}} {
		n := 0
		for _, err := range l.List(t.Context(), tt.filter) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != tt.want {
			t.Errorf("List(%+v) yields %d, want %d", tt.filter, n, tt.want)
		}
	}
	stale := *e
	decided, _ := record(t, l, "1", approval.Accept)
	if !decided.Decided() || decided.Wait == nil || decided.Progress.Seconds[approval.StageQueued] != 2 {
		t.Errorf("decided, it is %+v", decided)
	}
	if err := l.Put(t.Context(), &stale); !errors.Is(err, approval.ErrConflict) {
		t.Errorf("a stale Note = %v", err)
	}
	other := Request("1")
	other.EndpointID = Another("x").EndpointID
	if kept, _, err := Record(t.Context(), l, &other, new(Decide(approval.Reject))); err != nil || kept.Request.EndpointID != Endpoint {
		t.Errorf("another request with the id got %+v, %v", kept, err)
	}
}

func badID(t *testing.T, l *ledger.Ledger) {
	for _, id := range []string{"", "a.b", "*", ">", "a b", string(make([]byte, 200))} {
		if _, err := l.Get(t.Context(), id); err == nil {
			t.Errorf("Get(%q) is no error", id)
		}
		if _, err := l.Record(t.Context(), &approval.Entry{Request: approval.Request{ID: id}}); err == nil {
			t.Errorf("Record(%q) is no error", id)
		}
		if err := l.Put(t.Context(), &approval.Entry{Request: approval.Request{ID: id}, Revision: 1}); err == nil {
			t.Errorf("Update(%q) is no error", id)
		}
		if _, err := l.History(t.Context(), id); err == nil {
			t.Errorf("History(%q) is no error", id)
		}
	}
}
