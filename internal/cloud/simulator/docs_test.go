package simulator_test

import (
	"os"
	"strings"
	"testing"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
)

// TestDocs checks docs/simulator.md against the code.
func TestDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Join(strings.Fields(string(text)), " ")
	for _, kind := range simulator.FaultKinds() {
		if !strings.Contains(page, "| `"+string(kind)+"` |") {
			t.Errorf("the table of faults has no row for %s", kind)
		}
	}
	for _, api := range simulator.APIs() {
		if want := "- " + api + ": " + strings.Join(simulator.Operations(api), ", "); !strings.Contains(page, want) {
			t.Errorf("the operations of %s are missing: %s", api, want)
		}
	}
}
