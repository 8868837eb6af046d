package cloud

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestSweepCost: a sweep of m pending connections over k gateways takes at most
// k × ceil(m / 500) calls, wherever the connections are.
func TestSweepCost(t *testing.T) {
	t.Parallel()
	const page = 500
	tests := []struct {
		name string
		at   []int // pending connections of each gateway
	}{
		{"nothing anywhere but one", []int{1, 0, 0}},
		{"one gateway, one short of a page", []int{page - 1}},
		{"one gateway, a page to the brim", []int{page}},
		{"one gateway, one more than a page", []int{page + 1}},
		{"one gateway, pages to the brim", []int{4 * page}},
		{"spread evenly", []int{700, 700, 700, 700}},
		{"all at one of many", []int{3 * page, 0, 0, 0, 0, 0, 0, 0}},
		{"a few at each of many", []int{3, 1, 4, 1, 5, 9, 2, 6, 5, 3}},
		{"large and small", []int{1201, 17, 500, 0, 2999}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				connections, most := 0, 0
				for _, n := range tt.at {
					connections += n
				}
				most = len(tt.at) * ((connections + page - 1) / page)
				worlds := map[string]*world{} // by the path of the list
				var targets []approval.Target
				for i, n := range tt.at {
					g := gateway()
					g.Name, g.ID = fmt.Sprintf("gateway-%d", i), fmt.Sprintf("%032x", i+1)
					targets = append(targets, g)
					worlds["/v2/"+project+"/apigw/instances/"+g.ID+"/vpc-endpoint/connections"] = newWorld(ids(n)...)
				}
				var called atomic.Int64 // pages are read side by side
				c := client(t, script(func(r *http.Request, body string) (*http.Response, error) {
					called.Add(1)
					w, ok := worlds[r.URL.Path]
					if !ok || r.Method != http.MethodGet {
						t.Errorf("called %s %s", r.Method, r.URL)
						return says(404, errorJSON("APIG.3030"))
					}
					return w.answer(r, body)
				}))
				found := 0
				for i, target := range targets {
					pending, err := c.Pending(t.Context(), target)
					if err != nil || len(pending) != tt.at[i] {
						t.Errorf("%s: %d pending, %v, want %d", target.Name, len(pending), err, tt.at[i])
					}
					found += len(pending)
				}
				calls := int(called.Load())
				if found != connections || calls > most {
					t.Errorf("%d connections in %d calls, want %d in at most %d", found, calls, connections, most)
				}
				t.Logf("%d connections over %d gateways: %d calls of %d", found, len(targets), calls, most)
			})
		})
	}
}
