//go:build !failpoints

package service

import "github.com/vpcep-approver/vpcep-approver/internal/worker"

// installFailpoints does nothing: the failpoints of failpoints_on.go are for the failure
// tests only and are not in the shipped binary.
func installFailpoints(*worker.Worker) {}
