package cloud

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// shelf is a list of connections with small pages. A fault changes a page before it is
// answered.
type shelf struct {
	rows  []connection
	cut   int // most rows of a page; 0: as asked for
	takes time.Duration
	fault func(shown []connection, total int) ([]connection, int)

	mu    sync.Mutex
	calls []filter
}

func newShelf(states ...approval.State) *shelf {
	s := &shelf{}
	for i, id := range ids(len(states)) {
		s.rows = append(s.rows, connection{ID: id, DomainID: domainID, MarkerID: wireInt(i + 1), Status: string(states[i])})
	}
	return s
}

func (s *shelf) read(ctx context.Context, f filter) (page[connection], time.Time, error) {
	sent := time.Now()
	_ = sleep(ctx, s.takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, f)
	var shown []connection
	for _, r := range s.rows {
		if (f.id == "" || r.ID == f.id) && (f.status == "" || r.Status == string(f.status)) {
			shown = append(shown, r)
		}
	}
	total := len(shown)
	shown = shown[min(f.offset, total):]
	if f.limit > 0 {
		shown = shown[:min(f.limit, len(shown))]
	}
	if s.cut > 0 {
		shown = shown[:min(s.cut, len(shown))]
	}
	shown = slices.Clone(shown)
	if s.fault != nil {
		shown, total = s.fault(shown, total)
	}
	return page[connection]{shown, total}, sent, nil
}

func (s *shelf) reader(size int) *connectionReader {
	return newConnectionReader(size, func() float64 { return 1000 }, s.read, func(err error) error { return err })
}

// find asks for connections with one read and returns what shows of each. It is called in a
// bubble of synctest.
func find(ctx context.Context, l *connectionReader, what need, ids ...string) ([]connection, []error) {
	rows, errs := make([]connection, len(ids)), make([]error, len(ids))
	var wg sync.WaitGroup
	q := &l.rows
	if what == needList {
		q = &l.whole
	}
	q.reading <- struct{}{}
	for i, id := range ids {
		wg.Go(func() {
			shown, err := l.read(ctx, id, what)
			rows[i], _ = shown.row(id)
			errs[i] = err
		})
	}
	synctest.Wait()
	<-q.reading
	wg.Wait()
	return rows, errs
}

func many(n int, s approval.State) []approval.State { return slices.Repeat([]approval.State{s}, n) }

// TestFewCallsForManyConnections: what several callers want to know costs few pages, and
// what these do not show is read by its id.
func TestFewCallsForManyConnections(t *testing.T) {
	t.Parallel()
	const size = 10
	middle := append(append(many(40, approval.Accepted), many(20, approval.Pending)...), many(40, approval.Accepted)...)
	absent := "705290f3-0d00-41f2-aedc-ffffffffffff"
	tests := []struct {
		name   string
		states []approval.State
		cut    int
		what   need
		rows   []int // asked for
		other  string
		calls  int // of the second read, when the length of the list is known
	}{
		{"one", many(100, approval.Accepted), 0, needState, []int{7}, "", 1},
		{"the newest", many(100, approval.Accepted), 0, needState, []int{0, 1, 2, 3, 9}, "", 1},
		{"the newest of two pages", many(100, approval.Accepted), 0, needState, []int{0, 1, 2, 13, 14, 15}, "", 2},
		{"the newest and one that is old", many(100, approval.Accepted), 0, needState, []int{0, 1, 2, 99}, "", 2},
		{"the newest and one that is not there", many(100, approval.Accepted), 0, needState, []int{0, 1, 2}, absent, 2},
		{"pending in the middle", middle, 0, needFacts, []int{41, 42, 43, 44, 45}, "", 1},
		{"the oldest of many that are pending", many(100, approval.Pending), 0, needFacts, []int{91, 92, 93, 99}, "", 1},
		{"pending and no more", middle, 0, needFacts, []int{41, 42, 43, 99}, "", 2},
		{"few that are old", many(100, approval.Accepted), 0, needState, []int{70, 80, 90}, "", 3},
		{"many that are old", many(100, approval.Accepted), 0, needState, []int{19, 29, 39, 49, 50, 59, 60, 69, 70, 79, 80, 90, 99}, "", 10},
		{"a short list", many(8, approval.Accepted), 0, needState, []int{0, 1, 7}, absent, 1},
		{"pages that are cut", many(40, approval.Accepted), 5, needState, []int{0, 1, 2, 3}, "", 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newShelf(tt.states...)
				s.cut = tt.cut
				l := s.reader(size)
				var asked []string
				for _, i := range tt.rows {
					asked = append(asked, s.rows[i].ID)
				}
				if tt.other != "" {
					asked = append(asked, tt.other)
				}
				for round := range 3 {
					s.calls = nil
					rows, errs := find(t.Context(), l, tt.what, asked...)
					for i, row := range rows {
						want := connection{}
						if i < len(tt.rows) {
							want = s.rows[tt.rows[i]]
						}
						if row != want || errs[i] != nil {
							t.Errorf("%s: %+v, %v", asked[i], row, errs[i])
						}
					}
					if round == 1 && len(s.calls) != tt.calls {
						t.Errorf("%d calls, want %d: %+v", len(s.calls), tt.calls, s.calls)
					}
				}
			})
		})
	}
}

// TestOnePageShowsDecidedAndPending: requests come in the order in which their connections
// were made, so what was decided is next to what is to be decided, behind all that is
// pending still. One page shows both, and it is found without a look at the others.
func TestOnePageShowsDecidedAndPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(append(append(many(75, approval.Pending), many(15, approval.Accepted)...), many(200, approval.Accepted)...)...)
		l := s.reader(10)
		ids := func(from, to int) (out []string) {
			for _, row := range s.rows[from:to] {
				out = append(out, row.ID)
			}
			return out
		}
		find(t.Context(), l, needFacts, ids(71, 75)...)
		for round, want := range []int{2, 1, 1} { // page 0, and then the right one
			s.calls = nil
			var both sync.WaitGroup
			l.rows.reading <- struct{}{}
			for i, id := range ids(71, 79) {
				both.Go(func() {
					shown, err := l.read(t.Context(), id, []need{needFacts, needState}[i/4])
					if row, ok := shown.row(id); !ok || err != nil || row.ID != id {
						t.Errorf("%s: %+v, %v", id, row, err)
					}
				})
			}
			synctest.Wait()
			<-l.rows.reading
			both.Wait()
			if len(s.calls) != want {
				t.Errorf("round %d: %d calls, want %d: %+v", round, len(s.calls), want, s.calls)
			}
		}
	})
}

// TestALongQueueTakesFewCalls: requests that are decided in the order of their creation take
// about one page for each batch, also where a whole batch is on the page before the last one
// and the number of pending rows has changed since it was read.
func TestALongQueueTakesFewCalls(t *testing.T) {
	t.Parallel()
	for _, per := range []int{5, 7, 10, 13, 25} {
		synctest.Test(t, func(t *testing.T) {
			const size, n = 50, 1000
			s := newShelf(many(n, approval.Pending)...)
			l := s.reader(size)
			for first := n; first > 0; first -= per { // the newest come first in the list
				var asked []string
				for i := max(first-per, 0); i < first; i++ {
					asked = append(asked, s.rows[i].ID)
				}
				if first == n {
					find(t.Context(), l, needFacts, asked...)
				}
				for i := max(first-per, 0); i < first; i++ {
					s.rows[i].Status = string(approval.Accepted)
				}
				rows, errs := find(t.Context(), l, needState, asked...)
				for i := range asked {
					if errs[i] != nil || rows[i].Status != string(approval.Accepted) {
						t.Fatalf("batches of %d, %d left: %s is %+v: %v", per, first, asked[i], rows[i], errs[i])
					}
				}
			}
			batches := (n + per - 1) / per
			if most := batches + 2*n/size + 10; len(s.calls) > most {
				t.Errorf("%d batches of %d took %d calls, want at most %d", batches, per, len(s.calls), most)
			}
		})
	}
}

// TestPendingRowsStayFresh: while decisions wait for their turn, each read shows their
// rows, also if nobody asks for them.
func TestPendingRowsStayFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(append(many(40, approval.Accepted), many(20, approval.Pending)...)...)
		l := s.reader(10)
		for _, r := range s.rows[40:60] {
			defer l.act(r.ID)()
		}
		for range 5 {
			find(t.Context(), l, needState, s.rows[0].ID, s.rows[1].ID)
			for _, r := range s.rows[40:60] {
				if seen, ok := l.latestPending(r.ID); !ok || time.Since(seen.at) > refreshAfter || seen.row != r {
					t.Fatalf("%s: %+v, %v", r.ID, seen, ok)
				}
			}
			_ = sleep(t.Context(), refreshAfter)
		}
	})
}

// TestManyReadsOfListsThatLie: whatever the pages and the faults of a list, what callers
// learn together without an error is true.
func TestManyReadsOfListsThatLie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lists = 1000
		good, bad := 0, 0
		for seed := range uint64(lists) {
			dice := rand.New(rand.NewPCG(seed, 2))
			states := []approval.State{approval.Pending, approval.Pending, approval.Accepted, approval.Accepted, approval.Creating, approval.Rejected}
			var of []approval.State
			for range 1 + dice.IntN(40) {
				of = append(of, states[dice.IntN(len(states))])
			}
			s := newShelf(of...)
			if dice.IntN(4) == 0 {
				s.cut = 1 + dice.IntN(6)
			}
			often := 2 + dice.IntN(10)
			s.fault = func(shown []connection, total int) ([]connection, int) {
				if len(shown) == 0 || dice.IntN(often) > 0 {
					return shown, total
				}
				i := dice.IntN(len(shown))
				switch dice.IntN(6) {
				case 0: // a row is left out
					return slices.Delete(shown, i, i+1), total
				case 1: // a row stands in the place of another
					shown[i] = shown[dice.IntN(len(shown))]
				case 2: // a row contradicts another
					lie := shown[i]
					lie.DomainID = otherDomain
					return append(shown, lie), total
				case 3: // and stands in the place of a third
					lie := shown[i]
					lie.DomainID = otherDomain
					shown[dice.IntN(len(shown))] = lie
				case 4:
					return shown, total + 1 + dice.IntN(3)
				case 5:
					return nil, total
				}
				return shown, total
			}
			l := s.reader(4 + dice.IntN(4))
			gone := strings.Replace(s.rows[0].ID, "7", "8", 1)
			for range 2 {
				asked := []string{gone}
				for _, i := range dice.Perm(len(s.rows))[:dice.IntN(len(s.rows)+1)] {
					asked = append(asked, s.rows[i].ID)
				}
				rows, errs := find(t.Context(), l, need(dice.IntN(2)), asked...)
				for i, row := range rows {
					if errs[i] != nil {
						bad++
						continue
					}
					good++
					var want connection
					if at := slices.IndexFunc(s.rows, func(r connection) bool { return r.ID == asked[i] }); at >= 0 {
						want = s.rows[at]
					}
					if row != want && !row.contradicted && row.DomainID != otherDomain {
						t.Fatalf("seed %d: %s shows as %+v, want %+v", seed, asked[i], row, want)
					}
				}
			}
		}
		if good < bad {
			t.Errorf("%d good and %d bad answers: the test proves little", good, bad)
		}
		t.Logf("%d good answers, %d errors", good, bad)
	})
}

// TestTurns: acts come first, and reads that have waited long take turns with them.
func TestTurns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		wait time.Duration
		want string
	}{
		{"just now", 0, "aaaacrcrr"},
		{"for long", readPatience, "caracarar"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var q turns
			if err := q.enter(t.Context(), laneAct); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var got []byte
			var wg sync.WaitGroup
			for _, name := range "rrrccaaaa" {
				wg.Go(func() {
					of := map[rune]lane{'a': laneAct, 'c': laneConfirm, 'r': laneRead}[name]
					if err := q.enter(t.Context(), of); err != nil {
						t.Error(err)
					}
					mu.Lock()
					got = append(got, byte(name))
					mu.Unlock()
					q.leave()
				})
				synctest.Wait()
			}
			left, cancel := context.WithCancel(t.Context())
			wg.Go(func() {
				if q.enter(left, laneAct) == nil {
					t.Error("a caller that left has passed")
				}
			})
			synctest.Wait()
			cancel()
			synctest.Wait()
			_ = sleep(t.Context(), tt.wait)
			q.leave()
			wg.Wait()
			if string(got) != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
			if err := q.enter(t.Context(), laneRead); err != nil {
				t.Error(err)
			}
		})
	}
}
