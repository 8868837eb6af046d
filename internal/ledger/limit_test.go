package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger"
	"github.com/vpcep-approver/vpcep-approver/internal/ledger/ledgertest"
)

// TestLimitTrustsTheCloudOnceItCanKnow lets connections be removed by others.
func TestLimitTrustsTheCloudOnceItCanKnow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := ledgertest.NewFake()
		reserve := func(n string, counted int) bool {
			t.Helper()
			ok, err := f.Reserve(t.Context(), ledgertest.Another(n), "d1", 1, ledgertest.Counted(counted))
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		e, _, err := ledgertest.Record(t.Context(), f, new(ledgertest.Request("1")), new(ledgertest.Decide(approval.Accept)))
		if err != nil {
			t.Fatal(err)
		}
		if !reserve("1", 0) {
			t.Fatal("no reservation")
		}
		e = ledgertest.End(e, approval.OutcomeAccepted)
		e.Result.At = time.Now()
		if err := f.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if reserve("2", 0) {
			t.Error("a slot of the limit is free immediately, although the list may lag behind")
		}
		<-time.After(2 * time.Minute)
		if reserve("2", 1) {
			t.Error("a slot of the limit is free although the cloud counts the limit")
		}
		if !reserve("2", 0) {
			t.Error("no reservation is free long after the connection was removed")
		}
		// The second request died before it was recorded.
		<-time.After(2 * time.Hour)
		if !reserve("3", 0) {
			t.Error("a reservation was lost with its worker")
		}
	})
}

// TestACountOfAnEarlierReadFreesNothing: a count that is shared may be of a read that began
// when the list did not show the last accept yet.
func TestACountOfAnEarlierReadFreesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bookOf{Fake: ledgertest.NewFake(), limit: 1}
		first := ledgertest.Another("1")
		if !b.reserve(t, first, 0) {
			t.Fatal("no reservation")
		}
		b.end(t, first, approval.OutcomeAccepted)
		<-time.After(time.Second)
		early := ledgertest.Counted(0)
		<-time.After(2 * time.Minute)
		if ok, err := b.Reserve(t.Context(), ledgertest.Another("2"), "d1", b.limit, early); ok || err != nil {
			t.Errorf("a count of a read just after the accept: %t, %v", ok, err)
		}
		if ok, err := b.Reserve(t.Context(), ledgertest.Another("2"), "d1", b.limit, ledgertest.Counted(0)); !ok || err != nil {
			t.Errorf("a count of now, after the connection was removed: %t, %v", ok, err)
		}
	})
}

// TestWhatPeopleAcceptCountsNextToReservations: a connection that a person accepted is none of
// those that have reservations.
func TestWhatPeopleAcceptCountsNextToReservations(t *testing.T) {
	t.Parallel()
	for _, shown := range []approval.State{approval.Pending, approval.Creating, approval.Accepted} {
		const limit = 10
		f := ledgertest.NewFake()
		byPeople, ours := 5, map[string]approval.State{}
		for n := range 2 * limit {
			counted := approval.AccountCount{Accepted: byPeople, At: time.Now(), State: func(id string) approval.State { return ours[id] }}
			switch shown {
			case approval.Accepted:
				counted.Accepted += len(ours)
			case approval.Creating:
				counted.Creating += len(ours)
			default:
			}
			req := ledgertest.Another(fmt.Sprint(n))
			ok, err := f.Reserve(t.Context(), req, "d1", limit, counted)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				ours[approval.UUID(req.EndpointID)] = shown
			}
			if n == 2 {
				byPeople++
			}
		}
		if byPeople != 6 || len(ours) != limit-byPeople {
			t.Errorf("list shows %s: %d reservations next to %d connections of people, with a limit of %d", shown, len(ours), byPeople, limit)
		}
	}
}

// TestALimitIsUnclearWhileConnectionsAreCreated: a list shows the same of a connection that
// a person has just accepted, and of one that waits for nothing yet.
func TestALimitIsUnclearWhileConnectionsAreCreated(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		accepted, creating int
		ok, unclear        bool
	}{
		{0, 0, true, false},
		{0, 2, true, false},
		{0, 3, false, true},
		{1, 1, true, false},
		{2, 1, false, true},
		{2, 7, false, true},
		{3, 0, false, false},
		{3, 1, false, false},
	} {
		f := ledgertest.NewFake()
		counted := approval.AccountCount{Accepted: tt.accepted, Creating: tt.creating, At: time.Now()}
		ok, err := f.Reserve(t.Context(), ledgertest.Another("1"), "d1", 3, counted)
		if ok != tt.ok || errors.Is(err, approval.ErrCountUnclear) != tt.unclear || err != nil && !tt.unclear {
			t.Errorf("%d accepted, %d being created, of 3: %t, %v", tt.accepted, tt.creating, ok, err)
		}
	}
	// Those that have reservations are counted by these while they are being created.
	b := &bookOf{Fake: ledgertest.NewFake(), limit: 3}
	for n := range 3 {
		if !b.reserve(t, ledgertest.Another(fmt.Sprint(n)), 0) {
			t.Fatal("no reservation")
		}
	}
	counted := approval.AccountCount{Creating: 3, At: time.Now()}
	if ok, err := b.Reserve(t.Context(), ledgertest.Another("4"), "d1", b.limit, counted); ok || err != nil {
		t.Errorf("all are reserved: %t, %v", ok, err)
	}
}

// TestAnAcceptThatWasNotConfirmedKeepsItsPlace: it may be accepted any moment, and
// no list counts it while it is under way.
func TestAnAcceptThatWasNotConfirmedKeepsItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := ledgertest.NewFake()
		reserve := func(n string, counted int) bool {
			t.Helper()
			ok, err := f.Reserve(t.Context(), ledgertest.Another(n), "d1", 1, ledgertest.Counted(counted))
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		first := ledgertest.Another("1")
		e, _, err := ledgertest.Record(t.Context(), f, &first, new(ledgertest.Decide(approval.Accept)))
		if err != nil || !reserve("1", 0) {
			t.Fatal("no reservation", err)
		}
		e = ledgertest.End(e, approval.OutcomeUnknown)
		e.Result.At = time.Now()
		if err := f.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		for _, wait := range []time.Duration{0, 2 * time.Minute, 20 * time.Hour} {
			if <-time.After(wait); reserve("2", 0) {
				t.Errorf("its reservation is free after %s", wait)
			}
		}
		if <-time.After(5 * time.Hour); !reserve("2", 0) {
			t.Error("its reservation is not free after a day in which nobody counted it")
		}
	})
}

// bookOf is a ledger of one domain that has a limit.
type bookOf struct {
	*ledgertest.Fake
	limit   int
	fillers int
}

// end records req as accepted by the policies, unless it is, and ends it.
func (b *bookOf) end(t *testing.T, req approval.Request, o approval.Outcome) {
	t.Helper()
	e, _, err := ledgertest.Record(t.Context(), b, &req, new(ledgertest.Decide(approval.Accept)))
	if err != nil {
		t.Fatal(err)
	}
	e = ledgertest.End(e, o)
	e.Result.At = time.Now()
	if err := b.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func (b *bookOf) reserve(t *testing.T, req approval.Request, counted int) bool {
	t.Helper()
	ok, err := b.Reserve(t.Context(), req, "d1", b.limit, ledgertest.Counted(counted))
	if err != nil {
		t.Fatalf("Reserve for %s: %v", req.EventID, err)
	}
	return ok
}

// free is how many more connections get a reservation now. They are given back.
func (b *bookOf) free(t *testing.T) int {
	t.Helper()
	var got []approval.Request
	for len(got) <= b.limit {
		b.fillers++
		r := ledgertest.Another(fmt.Sprint("filler ", b.fillers))
		if !b.reserve(t, r, 0) {
			break
		}
		got = append(got, r)
	}
	for _, r := range got {
		b.end(t, r, approval.OutcomeFailed)
	}
	return len(got)
}

// TestLimitOfTwoRequestsForOneConnection is every order in which two requests
// for one connection get a reservation and end, with a limit of two.
func TestLimitOfTwoRequestsForOneConnection(t *testing.T) {
	t.Parallel()
	type step struct {
		request, does string // "asks", "accepted" or "failed"
		free          int    // reservations for other connections afterwards
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"both fail", []step{{"1", "asks", 1}, {"2", "asks", 1}, {"1", "failed", 1}, {"2", "failed", 2}}},
		{"both end accepted", []step{{"1", "asks", 1}, {"2", "asks", 1}, {"1", "accepted", 1}, {"2", "accepted", 1}}},
		{"the first is accepted, the second fails", []step{{"1", "asks", 1}, {"2", "asks", 1}, {"1", "accepted", 1}, {"2", "failed", 1}}},
		{"the first fails, the second is accepted", []step{{"1", "asks", 1}, {"2", "asks", 1}, {"1", "failed", 1}, {"2", "accepted", 1}}},
		{"the second comes when the first has failed", []step{{"1", "asks", 1}, {"1", "failed", 2}, {"2", "asks", 1}, {"2", "accepted", 1}}},
		{"and fails too", []step{{"1", "asks", 1}, {"1", "failed", 2}, {"2", "asks", 1}, {"2", "failed", 2}}},
		{"the second still takes it for pending when it is accepted", []step{{"1", "asks", 1}, {"1", "accepted", 1}, {"2", "asks", 1}, {"2", "accepted", 1}}},
		{"and fails", []step{{"1", "asks", 1}, {"1", "accepted", 1}, {"2", "asks", 1}, {"2", "failed", 1}}},
		{"one alone", []step{{"1", "asks", 1}, {"1", "accepted", 1}}},
	}
	for _, tt := range tests {
		for _, each := range []bool{false, true} { // whether others ask after each step, which settles what has ended
			for _, pause := range []time.Duration{0, 20 * time.Second} {
				t.Run(fmt.Sprintf("%s/each=%t/pause=%s", tt.name, each, pause), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						b := &bookOf{Fake: ledgertest.NewFake(), limit: 2}
						for i, s := range tt.steps {
							req := ledgertest.Request(s.request)
							switch s.does {
							case "asks":
								if !b.reserve(t, req, 0) {
									t.Fatalf("request %s got no reservation", s.request)
								}
							case "accepted":
								b.end(t, req, approval.OutcomeAccepted)
							case "failed":
								b.end(t, req, approval.OutcomeFailed)
							}
							if each || i == len(tt.steps)-1 {
								if got := b.free(t); got != s.free {
									t.Errorf("after %s %s %d slots of the limit are free, want %d", s.request, s.does, got, s.free)
								}
							}
							<-time.After(pause)
						}
						// The connection is counted once by every worker.
						<-time.After(time.Hour)
						if got, want := b.free(t), tt.steps[len(tt.steps)-1].free; got != want && got != 2 {
							t.Errorf("in the end %d slots of the limit are free, want %d, or 2 by the cloud's count", got, want)
						}
					})
				})
			}
		}
	}
}

// TestALoweredLimitHoldsForTheNextRequest: who shares a reservation must be allowed by
// the limit of now, not only by that of then.
func TestALoweredLimitHoldsForTheNextRequest(t *testing.T) {
	t.Parallel()
	b := &bookOf{Fake: ledgertest.NewFake(), limit: 2}
	if !b.reserve(t, ledgertest.Another("x"), 0) || !b.reserve(t, ledgertest.Request("1"), 0) {
		t.Fatal("no reservation")
	}
	b.limit = 1
	if b.reserve(t, ledgertest.Request("2"), 0) {
		t.Error("a request got a share of the second reservation of one")
	}
	if !b.reserve(t, ledgertest.Request("1"), 0) {
		t.Error("a request lost the reservation that it had")
	}
}

// TestPeopleAcceptToo: what the cloud counts beyond our own takes reservations, and no
// more than once.
func TestPeopleAcceptToo(t *testing.T) {
	t.Parallel()
	b := &bookOf{Fake: ledgertest.NewFake(), limit: 3}
	for n, counted := range []int{0, 2, 3} {
		if got, want := b.reserve(t, ledgertest.Another(fmt.Sprint(n)), counted), counted < b.limit; got != want {
			t.Errorf("a reservation in addition to %d that are accepted, of 3: %t, want %t", counted, got, want)
		}
	}
}

// TestAnAcceptByASlowClock: a worker whose clock is behind had a connection
// accepted just now, whatever it says.
func TestAnAcceptByASlowClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bookOf{Fake: ledgertest.NewFake(), limit: 1}
		req := ledgertest.Request("1")
		e, _, err := ledgertest.Record(t.Context(), b, &req, new(ledgertest.Decide(approval.Accept)))
		if err != nil || !b.reserve(t, req, 0) {
			t.Fatalf("no reservation: %v", err)
		}
		e = ledgertest.End(e, approval.OutcomeAccepted)
		e.Result.At = time.Now().Add(-time.Hour)
		if err := b.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if got := b.free(t); got != 0 {
			t.Errorf("%d slots of the limit are free before the list can show the accept, want none", got)
		}
	})
}

// TestFewShareAPlace: requests without end for one connection wait for one
// another, and keep no other connection out.
func TestFewShareAPlace(t *testing.T) {
	t.Parallel()
	b := &bookOf{Fake: ledgertest.NewFake(), limit: 2}
	const most = 8
	for n := range most {
		if !b.reserve(t, ledgertest.Request(fmt.Sprint(n)), 0) {
			t.Fatalf("request %d got no reservation", n)
		}
	}
	if ok, err := b.Reserve(t.Context(), ledgertest.Request("late"), "d1", b.limit, ledgertest.Counted(0)); ok || err == nil || !strings.Contains(err.Error(), ledgertest.Endpoint) {
		t.Errorf("one more request for the connection: %t, %v; want it to wait", ok, err)
	}
	if got := b.free(t); got != 1 {
		t.Errorf("%d slots of the limit are free for others, want 1", got)
	}
	b.end(t, ledgertest.Request("3"), approval.OutcomeFailed)
	if !b.reserve(t, ledgertest.Request("late"), 0) {
		t.Error("no share of the reservation once another request has ended")
	}
}

const limitKey = "limit.payments.d1"

// TestLimitFormat guards what is stored of a limit.
func TestLimitFormat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bookOf{Fake: ledgertest.NewFake(), limit: 2}
		for _, r := range []approval.Request{ledgertest.Request("1"), ledgertest.Request("2")} {
			if !b.reserve(t, r, 1) {
				t.Fatal("no reservation")
			}
		}
		b.end(t, ledgertest.Request("1"), approval.OutcomeAccepted)
		<-time.After(time.Second)
		b.limit = 3
		for n, want := range []bool{true, false} { // the first fills the limit, the second asks how all ended
			if got := b.reserve(t, ledgertest.Another(fmt.Sprint("other ", n)), 1); got != want {
				t.Fatalf("other %d got a reservation: %t", n, got)
			}
		}
		b.end(t, ledgertest.Another("other 0"), approval.OutcomeFailed)
		if !b.reserve(t, ledgertest.Another("next"), 1) {
			t.Fatal("no reservation")
		}
		v, err := b.Store.Get(t.Context(), limitKey)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%s\n%s\n", limitKey, v.Value())
		const file = "testdata/limit.golden"
		if *updateGolden {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("what is stored changed (-want +got); old values must stay readable, then -update:\n%s", d)
		}
	})
}

// TestPlacesByRequestAreRefused: a value that counts by request, as was once
// stored, must not be taken for one without reservations.
func TestPlacesByRequestAreRefused(t *testing.T) {
	t.Parallel()
	f := ledgertest.NewFake()
	f.PutRaw(limitKey, []byte(`{"v":1,"Base":1,"Reserved":{"`+approval.RequestID("a", "b")+`":"2026-11-21T08:00:00Z"}}`))
	ok, err := f.Reserve(t.Context(), ledgertest.Request("1"), "d1", 9, ledgertest.Counted(0))
	if _, bad := errors.AsType[*ledger.UnreadableError](err); ok || !bad {
		t.Errorf("Reserve: %t, %v; want it unreadable", ok, err)
	}
}

// turn is one thing that happens to the connections of a domain. Which one is
// counted round by On.
type turn struct {
	Do    string
	On    int
	After time.Duration
	Stale bool // the list lags as far as it may
}

// history is what happens, drawn before it does.
type history struct {
	Limit, Connections int
	Turns              []turn
}

func drawHistory(t *rapid.T) history {
	return history{
		Limit:       rapid.IntRange(1, 3).Draw(t, "limit"),
		Connections: rapid.IntRange(1, 5).Draw(t, "connections"),
		Turns: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) turn {
			return turn{
				Do:    rapid.SampledFrom([]string{"ask", "ask", "ask", "accept", "accept", "fail", "ask again", "remove"}).Draw(t, "do"),
				On:    rapid.IntRange(0, 20).Draw(t, "on"),
				After: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 20, 50, 70}).Draw(t, "after")) * time.Second,
				Stale: rapid.Bool().Draw(t, "stale"),
			}
		}), 1, 40).Draw(t, "turns"),
	}
}

// domain is the model: what the cloud has of the connections of one domain, and
// the requests for them.
type domain struct {
	bookOf
	accepted map[string]time.Time // by endpoint id; zero: removed
	underWay []approval.Request   // requests with a reservation that have not ended
	asked    int
	removed  bool
}

// counted is what the list shows in addition to endpoint: a minute late if it is stale.
func (d *domain) counted(endpoint string, stale bool) int {
	n := 0
	for id, at := range d.accepted {
		if id != endpoint && !at.IsZero() && (!stale || time.Since(at) >= time.Minute) {
			n++
		}
	}
	return n
}

func (d *domain) ask(t *testing.T, req approval.Request, stale bool) bool {
	t.Helper()
	ok := d.reserve(t, req, d.counted(req.EndpointID, stale))
	if ok {
		d.underWay = append(d.underWay, req)
	}
	return ok
}

// finish ends the nth request under way; one that is accepted is so immediately.
func (d *domain) finish(t *testing.T, n int, o approval.Outcome) {
	t.Helper()
	req := d.underWay[n]
	if _, before := d.accepted[req.EndpointID]; o == approval.OutcomeAccepted && !before {
		d.accepted[req.EndpointID] = time.Now()
	}
	d.end(t, req, o)
	d.underWay = slices.Delete(d.underWay, n, n+1)
}

// wrong tells if more connections are accepted, or may yet be, than the limit
// allows.
func (d *domain) wrong() string {
	may := map[string]bool{}
	for id, at := range d.accepted {
		if !at.IsZero() {
			may[id] = true
		}
	}
	for _, r := range d.underWay {
		if _, before := d.accepted[r.EndpointID]; !before {
			may[r.EndpointID] = true
		}
	}
	if len(may) > d.limit {
		return fmt.Sprintf("%d connections are or may be accepted, the limit is %d", len(may), d.limit)
	}
	return ""
}

// live runs a history and returns what is wrong with it.
func live(t *testing.T, h history) (wrong string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &domain{bookOf: bookOf{Fake: ledgertest.NewFake(), limit: h.Limit}, accepted: map[string]time.Time{}}
		connection := func(n int) string { return fmt.Sprintf("705290f3-0d00-41f2-aedc-%012d", n) }
		request := func(endpoint string) approval.Request {
			d.asked++
			r := ledgertest.Request(fmt.Sprint(d.asked))
			r.EndpointID = endpoint
			return r
		}
		for n, s := range h.Turns {
			<-time.After(s.After)
			switch endpoint := connection(s.On % h.Connections); s.Do {
			case "ask":
				at, before := d.accepted[endpoint]
				maxShared := 0
				for _, r := range d.underWay {
					if r.EndpointID == endpoint {
						maxShared++
					}
				}
				// Facts are some seconds old at most: a connection that was
				// accepted just now may still be taken for pending.
				if maxShared < 8 && (!before || !at.IsZero() && time.Since(at) <= 20*time.Second) {
					if ok := d.ask(t, request(endpoint), s.Stale); !ok && (maxShared > 0 || before) {
						wrong = "a request got no share of the reservation that its connection has"
					}
				}
			case "ask again":
				if len(d.underWay) > 0 {
					if r := d.underWay[s.On%len(d.underWay)]; !d.reserve(t, r, d.counted(r.EndpointID, s.Stale)) {
						wrong = fmt.Sprintf("request %s lost its reservation", r.EventID)
					}
				}
			case "accept", "fail":
				if len(d.underWay) > 0 {
					d.finish(t, s.On%len(d.underWay), map[string]approval.Outcome{"accept": approval.OutcomeAccepted, "fail": approval.OutcomeFailed}[s.Do])
				}
			case "remove":
				if at, ok := d.accepted[endpoint]; ok && !at.IsZero() {
					d.accepted[endpoint], d.removed = time.Time{}, true
				}
			}
			if wrong == "" {
				wrong = d.wrong()
			}
			if wrong != "" {
				wrong = fmt.Sprintf("turn %d: %s", n, wrong)
				return
			}
		}

		// All end, and then each connection that is not accepted gets its chance.
		for len(d.underWay) > 0 {
			d.finish(t, 0, approval.OutcomeFailed)
		}
		for n := range h.Connections {
			if d.removed { // that a removal freed a reservation is known a while later
				<-time.After(2 * time.Minute)
			}
			endpoint := connection(n)
			if _, before := d.accepted[endpoint]; before {
				continue
			}
			if have := d.counted("", false); d.ask(t, request(endpoint), !d.removed) {
				d.finish(t, 0, approval.OutcomeAccepted)
			} else if have < h.Limit {
				wrong = fmt.Sprintf("in the end a connection gets no reservation although %d are accepted of %d", have, h.Limit)
				return
			}
		}
		wrong = d.wrong()
	})
	return wrong
}

// TestLimitProperty: whatever requests come and end in whatever order, never are
// more connections accepted than the limit allows, and in the end as many as it
// allows can be.
func TestLimitProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		h := drawHistory(rt)
		if wrong := live(t, h); wrong != "" {
			rt.Fatalf("%s\n%+v", wrong, h)
		}
	})
}
