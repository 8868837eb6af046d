package cloud

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// spent returns how many tokens can be taken within d, at a rate of requests that come so
// many together.
func spent(ctx context.Context, b *readBudget, d time.Duration, requestsPerSecond, together int) int {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if requestsPerSecond > 0 {
		go func() {
			for sleep(ctx, time.Duration(together)*time.Second/time.Duration(requestsPerSecond)) == nil {
				for range together {
					b.Credit(factsCredit)
				}
				for range together {
					b.Credit(actCredit)
				}
			}
		}()
	}
	n := 0
	for b.Take(ctx) == nil {
		n++
	}
	return n
}

func TestReadBudget(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name               string
		rate               float64
		requests, together int
		pages              int
		least, most        int // reads in 100 s
	}{
		{"at rest", 10, 0, 1, 1, 45, 47},
		{"at rest, a slow API", 1, 0, 1, 1, 15, 17},
		{"at rest, many pages", 10, 0, 1, 20, 105, 107},
		{"ten requests a second", 10, 10, 1, 1, 74, 77},
		{"ten requests a second, ten together", 10, 10, 10, 1, 74, 77},
		{"five requests a second", 10, 5, 1, 1, 45, 47},
		{"five requests a second, fifty together", 10, 5, 50, 1, 44, 47},
		{"a hundred requests a second", 1000, 100, 1, 1, 700, 707},
		{"few requests", 10, 1, 1, 1, 45, 47},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newReadBudget(func() float64 { return tt.rate })
				b.SetPages(tt.pages)
				if n := spent(t.Context(), b, 100*time.Second, tt.requests, tt.together); n < tt.least || n > tt.most {
					t.Errorf("%d reads, want %d to %d", n, tt.least, tt.most)
				}
			})
		})
	}
}

func TestReadBudgetBorrow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newReadBudget(func() float64 { return 10 })
		for range minCapacity + 2 {
			b.Borrow()
		}
		begin := time.Now()
		if err := b.Take(t.Context()); err != nil || time.Since(begin) < maxDebt-time.Second || time.Since(begin) > maxDebt+time.Second/2 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}
