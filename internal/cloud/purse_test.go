package cloud

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// spent is how many reads a purse pays for within d, while acts come evenly.
func spent(ctx context.Context, p *purse, d time.Duration, actsPerSecond int) int {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if actsPerSecond > 0 {
		go func() {
			for sleep(ctx, time.Second/time.Duration(actsPerSecond)) == nil {
				p.earn()
			}
		}()
	}
	n := 0
	for p.pay(ctx) == nil {
		n++
	}
	return n
}

func TestPurse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		rate        float64
		acts, pages int
		least, most int // reads in 100 s
	}{
		{"at rest", 10, 0, 1, 39, 41},
		{"at rest, a slow API", 1, 0, 1, 19, 21},
		{"at rest, many pages", 10, 0, 20, 109, 111},
		{"ten acts a second", 10, 10, 1, 78, 81},
		{"five acts a second", 10, 5, 1, 43, 46},
		{"a hundred acts a second", 1000, 100, 1, 700, 711},
		{"few acts", 10, 1, 1, 39, 41},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPurse(tt.rate)
				p.widen(tt.pages)
				if n := spent(t.Context(), p, 100*time.Second, tt.acts); n < tt.least || n > tt.most {
					t.Errorf("%d reads, want %d to %d", n, tt.least, tt.most)
				}
			})
		})
	}
}

func TestPurseDebt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPurse(10)
		for range readsInStock + 2 {
			p.owe()
		}
		begin := time.Now()
		if err := p.pay(t.Context()); err != nil || time.Since(begin) < 9*time.Second || time.Since(begin) > 11*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.pay(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}
