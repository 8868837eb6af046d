package policy

import "os"

// Tries is how often to try what is drawn: n times in .ci/run, which sets FAULT_COUNTS, and
// a fifth of it in a plain go test.
func Tries(n int) int {
	if os.Getenv("FAULT_COUNTS") == "" {
		return n / 5
	}
	return n
}
