package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// approve handles a request as a worker does.
func approve(ctx context.Context, c *Client, req approval.Request) error {
	f, err := c.Facts(ctx, req)
	if err != nil {
		return fmt.Errorf("facts: %w", err)
	}
	if f.State != approval.Pending {
		return fmt.Errorf("state %q", f.State)
	}
	if err := c.Act(ctx, &req, approval.Accept); err != nil {
		return fmt.Errorf("act: %w", err)
	}
	state, err := c.Await(ctx, req, approval.Accepted, time.Now())
	if err == nil && state != approval.Accepted {
		err = fmt.Errorf("await: state %q", state)
	}
	return err
}

// TestCostOfAThousand: 1,000 pending connections on one target cost at most 1.1
// calls each, for any number of concurrent requests.
func TestCostOfAThousand(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct {
		target approval.Target
		slots  int
		rate   float64
		within time.Duration
	}{
		{service(), 1000, 10, 2 * time.Minute},
		{service(), 500, 1000, 30 * time.Second},
		{gateway(), 256, 10, 2 * time.Minute},
		{service(), 256, 10, 2 * time.Minute},
		{service(), 64, 10, 3 * time.Minute},
		{service(), 128, 100, 2 * time.Minute},
		{gateway(), 256, 100, 2 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%s, %d concurrent, %v a second", tt.target.Kind, tt.slots, tt.rate), func(t *testing.T) {
			t.Parallel()
			if i > 2 {
				Counted(t)
			}
			synctest.Test(t, func(t *testing.T) {
				all := ids(1000)
				w := newWorld(all...)
				w.takes = 3 * time.Second
				c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
					_ = sleep(r.Context(), 50*time.Millisecond)
					return w.answer(r, body)
				}), func(cfg *Config) { cfg.RatePerSecond = tt.rate })
				begin := time.Now()
				slots := make(chan struct{}, tt.slots)
				var wg sync.WaitGroup
				for _, id := range all {
					slots <- struct{}{}
					wg.Go(func() {
						defer func() { <-slots }()
						if err := approve(t.Context(), c, approval.Request{Target: tt.target, EndpointID: id}); err != nil {
							t.Errorf("%s: %v", id, err)
						}
					})
				}
				wg.Wait()
				t.Logf("%d calls in %v, %d of them lists", len(w.calls), time.Since(begin), w.lists)
				if took := time.Since(begin); len(w.calls) > 1100 || took > tt.within {
					t.Errorf("%d calls in %v, %d of them lists", len(w.calls), took, w.lists)
				}
			})
		})
	}
}

// TestLoneRequestIsAnsweredAtOnce: a single request does not wait for the read budget.
func TestLoneRequestIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(endpoint)
		c := client(t, w, func(cfg *Config) { cfg.RatePerSecond = 10 })
		begin := time.Now()
		if err := approve(t.Context(), c, connect(service())); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 500*time.Millisecond || len(w.calls) != 3 {
			t.Errorf("%d calls in %v", len(w.calls), took)
		}
	})
}

// TestNoAnswerIsOlderThanItsQuestion: a caller that arrives during a read gets the
// next one.
func TestNoAnswerIsOlderThanItsQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(endpoint)
		c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
			res, err := w.answer(r, body) // what is shown is of now, and arrives a second later
			_ = sleep(r.Context(), time.Second)
			return res, err
		}), func(cfg *Config) { cfg.RatePerSecond = 10 })
		var wg sync.WaitGroup
		ask := func(want approval.State) {
			asked := time.Now()
			wg.Go(func() {
				f, err := c.Facts(t.Context(), connect(service()))
				if err != nil || f.State != want || f.ReadAt.Before(asked) {
					t.Errorf("asked at %v: %+v, %v, want %s", asked, f, err, want)
				}
			})
		}
		ask(approval.Pending)
		_ = sleep(t.Context(), 100*time.Millisecond)
		w.set(endpoint, approval.Rejected)
		for range 50 {
			ask(approval.Rejected)
		}
		wg.Wait()
		if w.lists != 2 {
			t.Errorf("%d reads", w.lists)
		}
	})
}

// TestWaitersMayLeave: a read continues while there are waiters, and is canceled with
// the last.
func TestWaitersMayLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, ended := 0, 0
		c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
			began++
			if err := sleep(r.Context(), 10*time.Second); err != nil {
				ended++
				return nil, err
			}
			return says(200, rowsJSON(1, rowJSON(endpoint, approval.Pending)))
		}))
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Facts(t.Context(), connect(service())) })
		synctest.Wait() // it is being read, so that all who ask now share the next read
		short, cancel := context.WithTimeout(t.Context(), 11*time.Second)
		defer cancel()
		wg.Go(func() {
			if _, err := c.Facts(short, connect(service())); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one who began it: %v", err)
			}
		})
		wg.Go(func() {
			if f, err := c.Facts(t.Context(), connect(service())); err != nil || f.State != approval.Pending {
				t.Errorf("the one who stayed: %+v, %v", f, err)
			}
		})
		wg.Wait()
		if began != 2 || ended != 0 {
			t.Errorf("%d reads began, %d were broken off", began, ended)
		}
		short, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Facts(short, connect(service()))
		synctest.Wait()
		if e, ok := asError(err); !ok || !e.Retryable() || ended != 1 {
			t.Errorf("alone: %v, %d broken off", err, ended)
		}
		if f, err := c.Facts(t.Context(), connect(service())); err != nil || f.State != approval.Pending {
			t.Errorf("the next: %+v, %v", f, err)
		}
	})
}

func TestFactsCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := ids(1700)
		w := newWorld(all...)
		for _, id := range all[:1200] {
			w.rows[id] = approval.Accepted
		}
		for _, tt := range []struct {
			target approval.Target
			pages  int
		}{{service(), 2}, {gateway(), 4}} {
			c := client(t, w)
			w.lists = 0
			for _, at := range []struct{ row, accepted int }{{1699, 1200}, {0, 1199}} {
				req := approval.Request{Target: tt.target, EndpointID: strings.ToUpper(all[at.row])}
				n, err := c.Accepted(t.Context(), tt.target, domainID, req.EndpointID)
				if err != nil || n.Accepted != at.accepted {
					t.Errorf("row %d: %+v, %v, want %d", at.row, n, err, at.accepted)
				}
				f, err := c.Facts(t.Context(), req)
				if err != nil || f.DomainID != domainID || f.MarkerID != 422321321312321321 || f.EndpointID != all[at.row] || f.CreatedAt.IsZero() {
					t.Errorf("row %d: %+v, %v", at.row, f, err)
				}
			}
			if w.lists != 2*tt.pages+2 {
				t.Errorf("%s: %d calls for two counts over %d pages and two reads by id", tt.target.Kind, w.lists, tt.pages)
			}
			f, err := c.Facts(t.Context(), connect(tt.target))
			if err != nil || f.Found() || f.ReadAt.IsZero() {
				t.Errorf("a connection that is not there: %+v, %v", f, err)
			}
		}
	})
}

// TestIgnoredFilter: a server that ignores the filter by id is detected.
func TestIgnoredFilter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := ids(40)
		w := newWorld(all...)
		c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
			q := r.URL.Query()
			q.Del("id")
			r.URL.RawQuery = q.Encode()
			return w.answer(r, body)
		}))
		w.rows[all[39]] = approval.Accepted
		req := approval.Request{Target: service(), EndpointID: all[39]}
		for range 2 {
			if s, err := c.Await(t.Context(), req, approval.Accepted, time.Time{}); err != nil || s != approval.Accepted {
				t.Errorf("%q, %v", s, err)
			}
		}
		if w.lists != 3 {
			t.Errorf("%d calls: it should be found out once", w.lists)
		}
	})
}

// TestGoneNeedsAListThatWorks: an endpoint is absent only if a list that works
// does not show it. A list that does not know its own service is an operator fault.
func TestGoneNeedsAListThatWorks(t *testing.T) {
	t.Parallel()
	type answer struct {
		status int
		body   string
	}
	missing := func(code string) answer { return answer{404, errorJSON(code)} }
	empty, shows := answer{200, rowsJSON(0)}, answer{200, rowsJSON(1, rowJSON(endpoint, approval.Accepted))}
	tests := []struct {
		name        string
		byID, whole answer
		want        approval.State
		operator    bool
	}{
		{"the endpoint is not found, nor listed", missing("EndPoint.2006"), empty, approval.Absent, false},
		{"an unknown code, nor listed", missing("EndPoint.9876"), empty, approval.Absent, false},
		{"the endpoint is not found, but listed", missing("EndPoint.2006"), shows, approval.Accepted, false},
		{"the service is not found", missing("EndPoint.0005"), missing("EndPoint.0005"), "", true},
		{"nothing is ever found", missing("EndPoint.2006"), missing("EndPoint.2006"), "", true},
		{"the whole list is refused with an unknown code", missing("EndPoint.0005"), missing("EndPoint.9876"), "", true},
		{"an id that the cloud does not take", missing("EndPoint.0005"), answer{400, errorJSON("EndPoint.0002")}, "", true},
		{"no such address", answer{404, "<html>"}, empty, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
					if r.URL.Query().Get("id") != "" {
						return says(tt.byID.status, tt.byID.body)
					}
					return says(tt.whole.status, tt.whole.body)
				}))
				got, err := c.Facts(t.Context(), connect(service()))
				if tt.operator {
					e, ok := asError(err)
					if !ok || e.Class != ClassOperator || !e.Retryable() || e.Gone() || e.Target != service().Name {
						t.Errorf("facts: %v", err)
					}
					return
				}
				if err != nil || got.State != tt.want {
					t.Errorf("%q, %v; want %q", got.State, err, tt.want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c := client(t, script(func(*http.Request, string) (*http.Response, error) { return says(404, errorJSON("EndPoint.0005")) }))
		if _, err := c.Pending(t.Context(), service()); !is(err, ClassOperator) {
			t.Errorf("pending: %v", err)
		}
	})
}

func TestPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := ids(1300)
		w := newWorld(all...)
		w.rows[all[0]], w.rows[all[1]] = approval.Accepted, "brandNew"
		for target, pages := range map[approval.Target]int{service(): 2, gateway(): 3} {
			c := client(t, w)
			w.lists = 0
			got, err := c.Pending(t.Context(), target)
			if err != nil || len(got) != 1298 || w.lists != pages {
				t.Errorf("%s: %d connections, %v, %d calls", target.Kind, len(got), err, w.lists)
			}
			for _, f := range got {
				if f.State != approval.Pending || f.ReadAt.IsZero() || f.DomainID != domainID {
					t.Fatalf("%+v", f)
				}
			}
		}
		c := client(t, script(func(*http.Request, string) (*http.Response, error) {
			return says(200, rowsJSON(3, rowJSON(all[0], approval.Accepted), rowJSON("../x", approval.Pending), rowJSON(all[2], approval.Pending)))
		}))
		got, err := c.Pending(t.Context(), service())
		if err != nil || len(got) != 1 || got[0].EndpointID != all[2] {
			t.Errorf("a server that ignores the status: %+v, %v", got, err)
		}
		if _, err := c.Pending(t.Context(), creation(approval.HSS).Target); err == nil {
			t.Error("a place to create has pending connections")
		}
	})
}

// TestShrinkingList: rows that are deleted between two pages do not hide other rows.
func TestShrinkingList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := ids(1500)
		w := newWorld(all...)
		w.onList = func(n int, _ *http.Request) (*http.Response, error, bool) {
			if n == 2 { // between the first page and the second
				for _, id := range all[:100] {
					delete(w.rows, id)
				}
			}
			return nil, nil, false
		}
		c := client(t, w)
		got, err := c.Pending(t.Context(), service())
		if err != nil || len(got) != 1400 {
			t.Errorf("%d connections, %v", len(got), err)
		}
	})
}

// TestMovingList: of a list that changes at each read, Pending returns what it has seen,
// and says that it is not all. Pages that are broken in themselves show nothing.
func TestMovingList(t *testing.T) {
	t.Parallel()
	all := ids(2500)
	row := func(ids []string) (rows []string) {
		for _, id := range ids {
			rows = append(rows, rowJSON(id, approval.Pending))
		}
		return rows
	}
	for name, tt := range map[string]struct {
		second string // the second of three pages
		want   int
	}{
		"another total":    {rowsJSON(2499, row(all[1000:2000])...), 2500},
		"a row once more":  {rowsJSON(2500, row(all[999:1999])...), 2499},
		"a short page":     {rowsJSON(2500, row(all[1000:1900])...), 2400},
		"total is missing": {strings.Replace(rowsJSON(2500, row(all[1000:2000])...), "total_count", "count", 1), 0},
		"too many rows":    {rowsJSON(2500, row(all[1000:2001])...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
					switch r.URL.Query().Get("offset") {
					case "1000":
						return says(200, tt.second)
					case "2000", "1900":
						return says(200, rowsJSON(2500, row(all[2000:])...))
					default:
						return says(200, rowsJSON(2500, row(all[:1000])...))
					}
				}))
				got, err := c.Pending(t.Context(), service())
				if !isIncomplete(err) {
					t.Errorf("%v, want that the list is incomplete", err)
				}
				if len(got) != tt.want {
					t.Errorf("%d connections, want %d", len(got), tt.want)
				}
				if n := c.Connections(service()).Pending; !n.At.IsZero() {
					t.Errorf("%d connections are counted", n.N)
				}
			})
		})
	}
}

// word is a row that consists of its key.
type word string

func (w word) key() string     { return string(w) }
func (w word) merge(word) word { return w }

func TestCollect(t *testing.T) {
	t.Parallel()
	rows := func(from, n int) []word {
		var out []word
		for i := range n {
			out = append(out, word(fmt.Sprint(from+i)))
		}
		return out
	}
	tests := []struct {
		name  string
		read  func(call, offset int) page[word]
		want  int
		calls int
		fails bool
	}{
		{"empty", func(int, int) page[word] { return page[word]{nil, 0} }, 0, 1, false},
		{"one page", func(int, int) page[word] { return page[word]{rows(0, 10), 10} }, 10, 1, false},
		{"a server that cuts the pages", func(_, o int) page[word] { return page[word]{rows(o, 4), 12} }, 12, 3, false},
		{"a row that slips once", func(n, o int) page[word] {
			if n == 1 {
				return page[word]{rows(o, 9), 20}
			}
			return page[word]{rows(o, 10), 20}
		}, 20, 5, false},
		{"no total", func(_, o int) page[word] { return page[word]{rows(o, max(0, min(10, 25-o))), -1} }, 0, 2, true},
		{"a total that is too high", func(_, o int) page[word] { return page[word]{rows(o, max(0, 5-o)), 7} }, 0, 4, true},
		{"a total that is too low", func(int, int) page[word] { return page[word]{rows(0, 10), 9} }, 0, 2, true},
		{"a page with more than was asked for", func(int, int) page[word] { return page[word]{rows(0, 11), 11} }, 0, 2, true},
		{"a server that ignores the offset", func(int, int) page[word] { return page[word]{rows(0, 10), 30} }, 0, 6, true},
		{"a row that is on two pages", func(_, o int) page[word] { return page[word]{rows(max(0, o-1), 10), 20} }, 0, 4, true},
		{"a total that changes", func(_, o int) page[word] { return page[word]{rows(o, 10), o + 100} }, 0, 20, true},
		{"a list without end", func(_, o int) page[word] { return page[word]{rows(o, 1), maxRows} }, 0, 2 * maxPages, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			var mu sync.Mutex
			list, err := collect(t.Context(), 10, func(_ context.Context, offset int) (page[word], error) {
				mu.Lock()
				defer mu.Unlock()
				calls++
				return tt.read(calls-1, offset), nil
			})
			var got []word
			if err == nil {
				got = list.rows
			}
			if len(got) != tt.want || calls != tt.calls || (err != nil) != tt.fails || err != nil && !isIncomplete(err) {
				t.Errorf("%d rows in %d calls, %v", len(got), calls, err)
			}
		})
	}
	broken := errors.New("x")
	if _, err := collect(t.Context(), 1, func(context.Context, int) (page[word], error) { return page[word]{}, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// TestAlike: a name is compared with a known one without case, dashes and underscores.
func TestAlike(t *testing.T) {
	t.Parallel()
	known := []string{"created_at", "id", "marker_id"}
	for _, name := range []string{"createdAt", "CREATED-AT", "_i_d", "Id", "markerId", "mar\u212aerid"} {
		if !alike(known, name) || !slices.ContainsFunc(known, func(k string) bool { return folded(k) == folded(name) }) {
			t.Errorf("%q is like none", name)
		}
	}
	for _, name := range []string{"", "_", "created", "created_at_", "i", "idd", "description", "größe"} {
		want := slices.ContainsFunc(known, func(k string) bool { return folded(k) == folded(name) })
		if alike(known, name) != want {
			t.Errorf("%q: want %t", name, want)
		}
	}
}

func BenchmarkDecodeList(b *testing.B) {
	var rows []string
	for _, id := range ids(1000) {
		row := strings.TrimSuffix(rowJSON(id, approval.Pending), "}")
		rows = append(rows, row+`,"updated_at":"2018-01-30T07:42:01Z","description":"of the team payments","region":"cn-north-4"}`)
	}
	data := []byte(rowsJSON(1000, rows...))
	if !json.Valid(data) {
		b.Fatal("no JSON")
	}
	var cache rowCache
	for name, read := range map[string]func(*jsontext.Decoder) (connection, error){"new": readConnection, "again": cache.read} {
		b.Run(name, func(b *testing.B) {
			var out page[connection]
			decode := decodeList(&out, "connections", "total_count", vpcepPage, read)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := decode(nil, data); err != nil || len(out.rows) != 1000 {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestLatestPendingOfOtherReads: what a read for one request shows as pending is known
// for all others of the target, with its time, until a read shows otherwise.
func TestLatestPendingOfOtherReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := ids(3)
		w := newWorld(all...)
		c := client(t, w)
		other := approval.Request{Target: service(), EndpointID: strings.ToUpper(all[1])}
		if f, ok := c.LatestPending(other); ok {
			t.Errorf("%+v before any read", f)
		}
		began := time.Now()
		if _, err := c.Accepted(t.Context(), service(), domainID, all[0]); err != nil {
			t.Fatal(err)
		}
		if f, ok := c.LatestPending(other); !ok || f.State != approval.Pending || f.DomainID != domainID || f.ReadAt.Before(began) {
			t.Errorf("%+v, %v after a read of the whole list", f, ok)
		}
		w.rows[all[1]] = approval.Accepted
		if _, err := c.Facts(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if f, ok := c.LatestPending(other); ok {
			t.Errorf("%+v after it was accepted", f)
		}
	})
}

// TestConnections: what is read for requests and sweeps counts the connections, without a
// call for it, and what was not read is not known.
func TestConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(approval.Pending, approval.Accepted, approval.Pending, approval.Accepted, approval.Rejected, approval.Accepted, "new")
		l := s.reader(100)
		all := ids(len(s.rows))
		if got := l.counted(); !got.Pending.At.IsZero() || !got.Accepted.At.IsZero() {
			t.Errorf("before any read: %+v", got)
		}
		if _, errs := find(t.Context(), l, needFacts, all[0]); errs[0] != nil {
			t.Fatal(errs[0])
		}
		if got := l.counted(); !got.Pending.At.IsZero() || !got.Accepted.At.IsZero() {
			t.Errorf("after a read of one connection: %+v", got)
		}
		first := time.Now()
		l.countPending(7, true, first) // of a sweep
		<-time.After(time.Second)
		read := time.Now()
		if _, errs := find(t.Context(), l, needList, all[0]); errs[0] != nil {
			t.Fatal(errs[0])
		}
		want := approval.Connections{Pending: approval.ConnectionCount{N: 2, At: read}, Accepted: approval.ConnectionCount{N: 3, At: read}}
		if got := l.counted(); got != want {
			t.Errorf("after a read of the list: %+v, want %+v", got, want)
		}
		l.countPending(9, true, first) // came late
		s.fault = func(shown []connection, total int) ([]connection, int) { return shown[1:], total }
		if _, errs := find(t.Context(), l, needList, all[0]); errs[0] == nil {
			t.Error("a list without a row was taken for complete")
		}
		if got := l.counted(); got != want {
			t.Errorf("after a read that failed: %+v, want %+v", got, want)
		}
	})
}

// TestCountAccepted: the accepted connections are counted with one call for one row. A
// number that the list does not prove is not known.
func TestCountAccepted(t *testing.T) {
	t.Parallel()
	accepted, pending := rowJSON(endpoint, approval.Accepted), rowJSON(endpoint, approval.Pending)
	for _, target := range []approval.Target{service(), gateway()} {
		for _, tt := range []struct {
			name, pending, accepted string
			want                    int // -1: not known
		}{
			{"many", rowsJSON(0), rowsJSON(123_456, accepted), 123_456},
			{"none", rowsJSON(1, pending), rowsJSON(0), 0},
			{"no total", rowsJSON(0), `{"connections":[` + accepted + `]}`, -1},
			{"a row that is not shown", rowsJSON(0), rowsJSON(7), -1},
			{"a row too many", rowsJSON(0), rowsJSON(0, accepted), -1},
			{"a row of another state", rowsJSON(0), rowsJSON(1, pending), -1},
			{"an API that does not filter by state", rowsJSON(2, accepted, rowJSON(serviceID, approval.Pending)), rowsJSON(2, accepted), -1},
			{"a refusal", rowsJSON(0), "", -1},
		} {
			t.Run(target.Name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var queries []string
					c := client(t, script(func(r *http.Request, _ string) (*http.Response, error) {
						queries = append(queries, r.URL.RawQuery)
						if r.URL.Query().Get("status") == string(approval.Pending) {
							return says(200, tt.pending)
						}
						if tt.accepted == "" {
							return says(403, errorJSON("EndPoint.0004"))
						}
						return says(200, tt.accepted)
					}))
					if _, err := c.Pending(t.Context(), target); err != nil {
						t.Fatal(err)
					}
					began := time.Now()
					err := c.CountAccepted(t.Context(), target)
					if (err == nil) != (tt.want >= 0) {
						t.Errorf("the error is %v", err)
					}
					want := approval.ConnectionCount{}
					if tt.want >= 0 {
						want = approval.ConnectionCount{N: tt.want, At: began}
					}
					if got := c.Connections(target).Accepted; got != want {
						t.Errorf("%+v, want %+v", got, want)
					}
					if tt.want >= 0 && (len(queries) != 2 || queries[1] != "limit=1&status=accepted") {
						t.Errorf("called with %q", queries)
					}
				})
			})
		}
	}
	c := client(t, script(func(*http.Request, string) (*http.Response, error) { return nil, errors.New("called") }))
	if err := c.CountAccepted(t.Context(), approval.Target{Name: "functions", Kind: approval.FunctionGraph}); err == nil {
		t.Error("the connections of a place for functions were counted")
	}
}

// TestReadsSideBySide: a read that many wait for does not wait for one with a slow answer,
// and what it shows stays, although that arrives later.
func TestReadsSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := ids(enoughWaiters)
		w, lists := newWorld(all...), atomic.Int32{}
		c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
			res, err := w.answer(r, body) // what is shown is of now
			if lists.Add(1) == 2 {
				_ = sleep(r.Context(), 10*time.Second)
			}
			return res, err
		}))
		ask := func(id string) approval.Facts {
			f, err := c.Facts(t.Context(), approval.Request{Target: service(), EndpointID: id})
			if err != nil {
				t.Error(err)
			}
			return f
		}
		ask(all[0]) // the first call of a credential is made alone
		var slow, quick sync.WaitGroup
		slow.Go(func() { ask(all[0]) })
		_ = sleep(t.Context(), 100*time.Millisecond)
		w.set(all[0], approval.Accepted)
		began := time.Now()
		for _, id := range all {
			quick.Go(func() { ask(id) })
		}
		quick.Wait()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		slow.Wait()
		if f, ok := c.LatestPending(approval.Request{Target: service(), EndpointID: all[0]}); ok {
			t.Errorf("%+v, as the older read shows that arrived last", f)
		}
	})
}
