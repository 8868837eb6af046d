# Short names for the commands of CONTRIBUTING.md; nothing here is needed to build.
VERSION ?= dev
IMAGE   ?= vpcep-approver:$(VERSION)

.PHONY: help test race lint fuzz bench bench-compare demo docs e2e image faults ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: ## the whole suite, offline
	go test ./...

race: ## the suite with the race detector
	go test -race ./...

lint: ## golangci-lint, built at the pinned version
	.ci/run lint

fuzz: ## every fuzz target for some seconds each
	.ci/run fuzz

bench: ## the benchmarks
	go test -run '^$$' -bench . ./...

ROW ?= held,accept
bench-compare: ## the worker against others; ROW=all for every row
	cd internal/tools/bench && go run . -row $(ROW)

demo: ## the whole thing on this machine
	go run ./cmd/worker demo

docs: ## rewrite the tables and transcripts that tests compare with the code
	go build -o /dev/null ./cmd/worker
	go test ./internal/events ./internal/ledger -run 'Schema|Format' -update
	go run ./cmd/worker policy schema > policies/schema/policy.v1.json
	go run ./cmd/worker policy schema test > policies/schema/policy-test.v1.json
	go run ./cmd/worker policy schema reviewers > policies/schema/reviewers.v1.json
	go test ./internal/policy ./internal/policy/workbench ./internal/config -update
	go test ./cmd/worker ./internal/metrics -update
	go -C internal/tools/dashboard run .
	go -C internal/tools/k8s test . -update

image: ## the container image
	docker build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

e2e: ## the images in containers, against a real NATS server; needs Docker
	APPROVER_TEST_DOCKER=require go test -count=1 -v ./internal/e2e

faults: ## the long failure suite; takes hours
	FAULT_COUNTS=full go test -p 1 -count=1 -timeout 3h -v ./internal/faulttest ./internal/e2e

ci: ## all that a change must pass
	.ci/run
