//go:build race

package cloud_test

// withRace says that the race detector orders the goroutines otherwise.
const withRace = true
