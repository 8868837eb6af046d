package service

import (
	"errors"
	"iter"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
	"github.com/vpcep-approver/vpcep-approver/internal/metrics"
	"github.com/vpcep-approver/vpcep-approver/internal/policy"
)

// TestWhatWaitsForAReviewIsMeasured: what is decided does not count, and if a record
// cannot be read, nothing is known.
func TestWhatWaitsForAReviewIsMeasured(t *testing.T) {
	t.Parallel()
	targets := approval.Targets{{Name: "payments", Kind: approval.Service}, {Name: "orders", Kind: approval.Service}}
	set, err := policy.Load(fstest.MapFS{
		"payments.yaml":  {Data: []byte("version: 1\npolicy: payments\ntargets: [payments]\nreview: {by: [ann]}\n")},
		"reviewers.yaml": {Data: []byte("version: 1\nreviewers:\n  - {name: ann, email: ann@example.org}\n")},
	}, targets)
	if err != nil {
		t.Fatal(err)
	}
	held := time.Now().Add(-time.Hour).Truncate(time.Second)
	record := func(id string, closed string, held time.Time) *approval.ReviewRecord {
		return &approval.ReviewRecord{
			Request: approval.Request{ID: id, Target: targets[0], EndpointID: "705290f3-0d00-41f2-aedc-71f09844e879"},
			Facts:   approval.Facts{EndpointID: "705290f3-0d00-41f2-aedc-71f09844e879", DomainID: "6e9dfd51d1124e8d8498dce894923a0d", MarkerID: 1, State: approval.Pending},
			Reviews: approval.Reviews{HeldAt: held}, Closed: closed,
		}
	}
	records := func(last error) iter.Seq2[*approval.ReviewRecord, error] {
		return func(yield func(*approval.ReviewRecord, error) bool) {
			_ = yield(record("new", "", held.Add(time.Minute)), nil) && yield(record("old", "", held), nil) &&
				yield(record("done", approval.ReviewDecided, held.Add(-time.Minute)), nil) && last != nil && yield(nil, last)
		}
	}
	reg := prometheus.NewRegistry()
	m := metrics.New(reg, LabelsOf(targets), metrics.Build{})
	expect := func(what, orders, payments string) {
		t.Helper()
		const name = "vpcep_approver_reviews_waiting"
		text := "# HELP " + name + " Held requests that people may decide. Set as pending_connections.\n# TYPE " + name + " gauge\n" +
			name + `{target="orders"} ` + orders + "\n" + name + `{target="payments"} ` + payments + "\n"
		if err := testutil.GatherAndCompare(reg, strings.NewReader(text), name); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	expect("before a sweep", "NaN", "NaN")
	measureReviews(t.Context(), records(nil), set, targets, m)
	expect("two are open", "0", "2")
	measureReviews(t.Context(), records(errors.New("the ledger is away")), set, targets, m)
	expect("not all could be read", "NaN", "NaN")
}
