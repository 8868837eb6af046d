package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/review"
)

// fixed is a set that does not change.
type fixed struct{ *policy.Set }

func (f fixed) Current() *policy.Set { return f.Set }

// clock is a time that tests set.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func heldBoard(t testing.TB, n int) (*board, *clock) {
	t.Helper()
	target := approval.Target{Name: "payments", Kind: approval.Service, ID: "4189d3c2-8882-4871-a3c2-d380272eed88"}
	set, err := policy.Load(fstest.MapFS{
		"p.yaml":         {Data: []byte("version: 1\npolicy: p\ntargets: [payments]\nreview: {by: [ann], within: 2h}\n")},
		"reviewers.yaml": {Data: []byte("version: 1\nreviewers:\n  - {name: ann, email: ann@example.org}\n")},
	}, approval.Targets{target})
	if err != nil {
		t.Fatal(err)
	}
	at := &clock{time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)}
	b := newBoard(fixed{set}, at.now)
	for i := range n {
		id := fmt.Sprintf("705290f3-0d00-41f2-aedc-%012d", i)
		b.put(&approval.ReviewRecord{
			Request: approval.Request{ID: approval.RequestID("test", id), Source: "test", EventID: id, Target: target, EndpointID: id},
			Facts:   approval.Facts{EndpointID: id, DomainID: "6e9dfd51d1124e8d8498dce894923a0d", MarkerID: int64(i + 1), State: approval.Pending},
			Reviews: approval.Reviews{HeldAt: at.Add(-time.Duration(i) * time.Millisecond)}, Revision: uint64(i + 1),
		})
	}
	b.keep(func() map[string]bool {
		all := map[string]bool{}
		for _, subject := range b.subjects() {
			all[subject] = true
		}
		return all
	}())
	return b, at
}

// TestManyHeldRequests: what is kept is bounded and counted, and a list that was judged
// is not judged again until something can have changed.
func TestManyHeldRequests(t *testing.T) {
	t.Parallel()
	b, at := heldBoard(t, maxRecords+5)
	list := b.list("", "ann")
	if len(list.Items) != maxRecords || list.More != 5 || len(b.records) != maxRecords {
		t.Fatalf("%d are listed, %d more, %d kept", len(list.Items), list.More, len(b.records))
	}
	for i := 1; i < len(list.Items); i++ {
		if list.Items[i].Reviews.HeldAt.Before(list.Items[i-1].Reviews.HeldAt) {
			t.Fatal("the oldest is not the first")
		}
	}
	judgedAt := func() (n int) {
		for _, j := range b.records {
			if j.at.Equal(at.Time) {
				n++
			}
		}
		return n
	}
	at.Time = at.Add(time.Second)
	b.list("", "ann")
	if n := judgedAt(); n != 0 {
		t.Errorf("a second later %d are judged again", n)
	}
	at.Time = at.Add(judgeAgain)
	b.list("", "ann")
	if n := judgedAt(); n != maxRecords {
		t.Errorf("a minute later %d are judged again", n)
	}
	at.Time = at.Add(2 * time.Hour)
	if list := b.list("", ""); len(list.Items) != 0 {
		t.Errorf("after their time %d are listed", len(list.Items))
	}
	b.removed(list.Items[0].Request.Subject(), list.Items[0].Revision)
	if len(b.records) != maxRecords-1 {
		t.Errorf("%d are kept after one was removed", len(b.records))
	}
}

// heldConsole is a console with n held requests, and the request of ann for the page.
func heldConsole(t testing.TB, n int) (c *Console, board *board, page func(path string) *httptest.ResponseRecorder) {
	t.Helper()
	c, _ = rateConsole(t)
	board, at := heldBoard(t, n)
	c.board, c.cfg.Policies = board, board.policies
	c.cfg.Now, c.sessions.now = at.now, at.now
	token := c.sessions.start("ann", review.SignIn{Method: "link", Subject: "ann"})
	return c, board, func(path string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:8090"+path, nil)
		r.AddCookie(&http.Cookie{Name: c.cookieName(), Value: token})
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		return w
	}
}

// TestManyHeldRequestsOnPages: however many requests wait, a page has some of them, and
// all pages have all of them.
func TestManyHeldRequestsOnPages(t *testing.T) {
	t.Parallel()
	const all = 2030
	_, _, page := heldConsole(t, all)
	row, seen := regexp.MustCompile(`<tr id="r-([0-9a-f]{32})"`), map[string]bool{}
	for n := range (all + pageSize - 1) / pageSize {
		got := page(fmt.Sprintf("/reviews?page=%d", n+1))
		rows := row.FindAllStringSubmatch(got.Body.String(), -1)
		if got.Code != http.StatusOK || len(rows) > pageSize || got.Body.Len() > 100<<10 || !strings.Contains(got.Body.String(), "Waiting: 2030,") {
			t.Fatalf("page %d: status %d, %d rows, %d bytes", n+1, got.Code, len(rows), got.Body.Len())
		}
		for _, r := range rows {
			seen[r[1]] = true
		}
	}
	if len(seen) != all {
		t.Errorf("the pages have %d requests, want %d", len(seen), all)
	}
}

// BenchmarkHeldPage is the whole page of 10,000 held requests, as a browser gets it: after
// a change of the policies, and from then on.
func BenchmarkHeldPage(b *testing.B) {
	for _, again := range []bool{false, true} {
		b.Run(fmt.Sprintf("judged=%v", again), func(b *testing.B) {
			_, board, page := heldConsole(b, 10_000)
			for b.Loop() {
				if !again {
					for _, j := range board.records {
						j.digest = ""
					}
				}
				if got := page("/reviews?page=3"); got.Code != http.StatusOK || strings.Count(got.Body.String(), "<tr id=") != pageSize {
					b.Fatalf("status %d: %s", got.Code, got.Body)
				}
			}
		})
	}
}

// BenchmarkHeldRequests is a list of 10,000 held requests: judged for the first time,
// and from then on.
func BenchmarkHeldRequests(b *testing.B) {
	for _, again := range []bool{false, true} {
		b.Run(fmt.Sprintf("judged=%v", again), func(b *testing.B) {
			board, at := heldBoard(b, 10_000)
			for b.Loop() {
				if !again {
					at.Time = at.Add(judgeAgain / 1000)
					for _, j := range board.records {
						j.digest = ""
					}
				}
				if n := len(board.list("", "ann").Items); n != 10_000 {
					b.Fatalf("%d are listed", n)
				}
			}
		})
	}
}
