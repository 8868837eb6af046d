package cloud

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestCountIsShared: requests share a count that took long to read, for as long again. What
// is read quickly is read for each, unless they come together.
func TestCountIsShared(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		takes time.Duration // each of three pages, one after another
		used  time.Duration
	}{
		{"a short list", time.Millisecond, 3 * time.Millisecond},
		{"a long list", time.Second, 3 * time.Second},
		{"a longer one", 10 * time.Second, maxCountValid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const pages = 3
				all := ids(2500)
				w := newWorld(all...)
				for _, id := range all[:10] {
					w.rows[id] = approval.Accepted
				}
				turn := make(chan struct{}, 1)
				c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
					turn <- struct{}{}
					defer func() { <-turn }()
					_ = sleep(r.Context(), tt.takes)
					return w.answer(r, body)
				}))
				// The calls wait for their rate, too.
				count := func(id string, want, reads int) time.Duration {
					t.Helper()
					began := time.Now()
					n, err := c.Accepted(t.Context(), service(), domainID, id)
					if err != nil || n.Accepted != want || n.At.IsZero() {
						t.Errorf("%+v, %v, want %d", n, err, want)
					}
					if w.lists != reads*pages {
						t.Errorf("%d calls, want %d reads of %d pages", w.lists, reads, pages)
					}
					return time.Since(began)
				}
				var wg sync.WaitGroup
				for _, id := range all[100:164] {
					wg.Go(func() {
						if n, err := c.Accepted(t.Context(), service(), domainID, id); err != nil || n.Accepted != 10 {
							t.Errorf("%+v, %v", n, err)
						}
					})
				}
				wg.Wait()
				if w.lists > 2*pages { // the first may have begun before the others came
					t.Errorf("%d calls for 64 at a time", w.lists)
				}
				_ = sleep(t.Context(), time.Minute)
				w.lists = 0
				took := count(all[20], 10, 1)
				used := min(took, maxCountValid)
				if used < tt.used {
					t.Errorf("it took %s", took)
				}
				_ = sleep(t.Context(), used-time.Millisecond)
				w.rows[all[30]] = approval.Accepted // by a person
				count(all[21], 10, 1)
				_ = sleep(t.Context(), 2*time.Millisecond)
				count(all[22], 11, 2)
				added := ids(2501)[2500]
				w.rows[added], w.order = approval.Pending, append(w.order, added)
				count(added, 11, 3)
				count(all[23], 11, 3)
			})
		})
	}
}

// TestFactsDoNotWaitForACount: a long list is counted next to the reads of single
// connections.
func TestFactsDoNotWaitForACount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(many(50, approval.Pending)...)
		l := s.reader(10)
		all := ids(len(s.rows))
		l.whole.reading <- struct{}{} // a count is being read
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		counted := make(chan error, 1)
		go func() {
			_, err := l.read(ctx, all[0], needList)
			counted <- err
		}()
		synctest.Wait()
		if _, err := l.read(t.Context(), all[1], needFacts); err != nil {
			t.Error(err)
		}
		select {
		case err := <-counted:
			t.Errorf("two counts side by side: %v", err)
		default:
		}
		<-l.whole.reading
		if err := <-counted; err != nil {
			t.Error(err)
		}
	})
}

// TestFailedCountIsNotKept: what a list that failed showed is no count.
func TestFailedCountIsNotKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(many(50, approval.Accepted)...)
		l := s.reader(10)
		all := ids(len(s.rows))
		s.takes = time.Second
		if _, err := l.read(t.Context(), all[0], needList); err != nil || l.latestCount() == nil {
			t.Fatal(err)
		}
		_ = sleep(t.Context(), maxCountValid)
		s.fault = func(shown []connection, total int) ([]connection, int) { return shown[1:], total }
		if _, err := l.read(t.Context(), all[0], needList); err == nil || l.latestCount() != nil {
			t.Errorf("error %v, kept %+v", err, l.latestCount())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.read(ctx, all[0], needList); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}
