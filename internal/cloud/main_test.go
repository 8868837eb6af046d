package cloud

import (
	"flag"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	// The long tests wait for the pauses of the client.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err) // there is no such flag any more
	}
	m.Run()
}

// Counted skips what a plain go test leaves out to be quick. .ci/run sets FAULT_COUNTS.
func Counted(t *testing.T) {
	t.Helper()
	if os.Getenv("FAULT_COUNTS") == "" {
		t.Skip("takes long: FAULT_COUNTS=short")
	}
}
