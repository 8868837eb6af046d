//go:build !race

package cloud_test

// withRace is false: the order of goroutines is that of the shipped worker.
const withRace = false
