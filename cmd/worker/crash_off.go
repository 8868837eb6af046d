//go:build !crashpoints

package main

import "github.com/vpcep-approver/vpcep-approver/internal/worker"

// instrument does nothing: the crash points of crash_on.go are for the failure
// tests only and are not in the shipped binary.
func instrument(*worker.Worker) {}
