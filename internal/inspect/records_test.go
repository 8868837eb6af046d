package inspect

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// TestBacktestSkipsWhatWasNeverDecided holds the choice of records by their reasons.
func TestBacktestSkipsWhatWasNeverDecided(t *testing.T) {
	t.Parallel()
	for code, want := range map[approval.ReasonCode]bool{
		approval.ReasonAllowed: true, approval.ReasonFactMissing: true, approval.ReasonNotDecided: false, approval.ReasonNotVisible: false,
	} {
		if decided(approval.Decision{Reasons: []approval.Reason{{Code: code}}}) != want {
			t.Errorf("%s: %v, want %v", code, !want, want)
		}
	}
}

// TestRecordsKeepReviews: a decision by reviews is decided alike from the ledger and
// from a file of records.
func TestRecordsKeepReviews(t *testing.T) {
	t.Parallel()
	held := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for name, request := range map[string]approval.Request{
		"a connection": {Target: approval.Target{Name: "payments", Kind: approval.Service}, EndpointID: "705290f3-0d00-41f2-aedc-71f09844e879"},
		"a creation": {Target: approval.Target{Name: "functions", Kind: approval.FunctionGraph}, Creation: approval.Creation{
			FunctionGraph: &approval.FunctionGraphEndpoint{VPCID: "aaaaaaaa-0000-4000-8000-000000000001", SubnetID: "bbbbbbbb-0000-4000-8000-000000000001"},
		}},
	} {
		request.ID = approval.RequestID("test", name)
		var facts approval.Facts
		if !request.Creates() {
			facts = approval.Facts{EndpointID: request.EndpointID, DomainID: "6e9dfd51d1124e8d8498dce894923a0d", MarkerID: 7, State: approval.Pending}
		}
		reviews := &approval.Reviews{HeldAt: held, Said: []approval.Review{{
			Reviewer: "ann", Approve: true, Reason: "known", At: held.Add(time.Minute), Console: "ops", SignIn: "oidc", Facts: approval.FactsToReview(&request, &facts),
		}}}
		entry := approval.Entry{Request: request, Decision: approval.Decision{
			Verdict: approval.Accept, Rule: "review", Reasons: []approval.Reason{{Code: approval.ReasonApproved, Text: "Approved."}}, At: held.Add(time.Minute), Facts: facts, Reviews: reviews,
		}}
		var b bytes.Buffer
		if err := WriteRecords(&b, []approval.Entry{entry}); err != nil {
			t.Fatal(err)
		}
		for r, err := range ReadRecords("records", b.Bytes()) {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(reviews, r.Input.Reviews); diff != "" {
				t.Errorf("%s (-ledger +record):\n%s", name, diff)
			}
		}
	}
}

// TestProgressBeforeTheDecision: an entry without a decision is no decision.
func TestProgressBeforeTheDecision(t *testing.T) {
	t.Parallel()
	var e approval.Entry
	if got := progress(e); got != "taken, and not decided yet" {
		t.Errorf("%q", got)
	}
	e.Decision = approval.Decision{ID: "1", Verdict: approval.Hold}
	if got := progress(e); got != "decided to hold" {
		t.Errorf("%q", got)
	}
}
