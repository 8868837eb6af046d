package console

import (
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
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
