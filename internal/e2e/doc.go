// Package e2e tests the images that are shipped: the worker from the project's
// Dockerfile, against a NATS server and the simulated cloud in containers of
// their own, seen from outside as a producer of requests sees them. It imports
// nothing of the project.
//
// The tests need a Docker engine and skip without one, or without a way to get
// its images. The environment decides:
//
//	APPROVER_TEST_DOCKER        require: what would skip fails; skip: skip always
//	APPROVER_TEST_NATS_IMAGE    default nats:2; its entry point is the server
//	APPROVER_TEST_WORKER_IMAGE  default: built from the Dockerfile
package e2e
