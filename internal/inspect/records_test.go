package inspect

import (
	"testing"

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
