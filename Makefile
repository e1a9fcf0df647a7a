# SSE Gateway. `make help` lists what can be done.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO        ?= go
TOOL      := $(GO) tool -modfile=tools.mod
BIN       := bin/ssegateway
FUZZTIME  ?= 20s   # for each fuzz target
BENCH     ?= .     # which benchmarks: a regular expression
COUNT     ?= 1     # how often each test or benchmark runs
VERSION   ?= $(shell git describe --tags --dirty 2>/dev/null) # without a tag the program names its commit
TESTFLAGS ?=       # more flags for go test, such as -v or -run NAME

# With the race detector a program, each package's tests among them, lives on for a second once main has returned, so
# that races of goroutines left behind are seen. This is enough for these; harness.ExitSoon says the same to gateways.
export GORACE ?= atexit_sleep_ms=20

.PHONY: help build release demo demo-cluster test test-deps test-portable test-release test-deploy vet-others lint fmt bench compare simulate growth stress screenshots docs chaos kills hostile fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Without cgo the binary is static: it runs in an empty container image.
build: ## build bin/ssegateway
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(strip $(VERSION))' -o $(BIN) ./cmd/ssegateway

release: ## build everything that a release has, into dist/: binaries, images, SBOM, checksums
	cd release && $(GO) run .

demo: build ## build, then run the gateway with a small backend and a page to open
	$(BIN) demo

demo-cluster: build ## the same with three nodes, a NATS server and nginx in front, which root gets through apt-get
	@scripts/demo-cluster

# The first three mostly compile, and one of them mostly waits: the longest begins first, and none waits for another.
# The hostile peers keep both cores busy, so they get no other package beside them. The plain run is the last one, so that
# a reader finds its result at the end.
test: test-deps ## install what the tests need where it is missing, then run every test
	@$(MAKE) -j3 --output-sync=target test-release test-portable vet-others
	$(GO) test -race -count=$(strip $(COUNT)) -timeout 10m $(TESTFLAGS) ./e2e/hostile
	$(GO) test -race -count=$(strip $(COUNT)) -timeout 15m $(TESTFLAGS) $$($(GO) list ./... | grep -v /e2e/hostile)

# Chromium, nginx, Node and its packages: looked for first, installed through apt-get and npm where missing.
test-deps:
	@scripts/test-deps

# What macOS and Windows run, on Linux: the tag leaves the detached sockets out. Only
# packages above those sockets are another program with it.
ON_SOCKETS = $(shell GOOS=linux $(GO) list -f '{{range .Deps}}{{if eq . "ssegateway/internal/epoll"}}{{$$.ImportPath}}{{end}}{{end}}' ./internal/... ./cmd/...)
test-portable:
	$(GO) test -race -count=$(strip $(COUNT)) -timeout 10m -tags portable $(TESTFLAGS) $(ON_SOCKETS)

# A module of its own, since the program needs none of what builds a release.
test-release:
	cd release && $(GO) test -count=$(strip $(COUNT)) -timeout 10m ./...

# Traefik takes minutes to build, so these tests are no part of `make test`. Nor is each spoilt configuration that the probe has to name.
test-deploy: test-deps ## build Traefik where it is missing, run the tests of proxies with it, and the probe through each spoilt configuration; minutes
	scripts/traefik
	PATH=$(CURDIR)/bin:$$PATH FRONTS=traefik $(GO) test -race -count=$(strip $(COUNT)) -timeout 15m -run 'Front|TestPagesComeBack' $(TESTFLAGS) ./e2e/proxy ./e2e/browser
	PATH=$(CURDIR)/bin:$$PATH FRONTS='nginx haproxy caddy apache traefik' $(GO) test -race -count=$(strip $(COUNT)) -timeout 15m -run TestProxies $(TESTFLAGS) ./e2e/probe -all

# Type checks everything, tests included, as the other systems compile it.
vet-others:
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...

# No go vet: golangci-lint runs its analysers, and more of them (govet in .golangci.yml), on the same packages.
lint: test-deps ## golangci-lint (govet and gofumpt included), for both builds; redocly for the OpenAPI document
	$(TOOL) golangci-lint run ./...
	$(TOOL) golangci-lint run --build-tags portable $(ON_SOCKETS:ssegateway/%=./%)
	cd release && $(GO) tool -modfile=../tools.mod golangci-lint run --config ../.golangci.yml ./...
	REDOCLY_TELEMETRY=off scripts/openapi/node_modules/.bin/redocly lint --config scripts/openapi/redocly.yaml internal/api/openapi.yaml

fmt: ## format the Go files
	$(TOOL) golangci-lint fmt ./...

bench: build ## run the benchmarks (BENCH=regexp COUNT=n), and, if all of them, the program under load; minutes
	$(GO) test -run '^$$' -bench '$(strip $(BENCH))' -benchtime 0.5s -benchmem -count=$(strip $(COUNT)) ./...
ifeq ($(strip $(BENCH)),.)
	$(BIN) bench --streams 1000 --duration 2s
endif

compare: ## measure this program beside nchan, Pushpin and others, installed where missing; writes docs/benchmarks.md; 50 minutes
	$(GO) run ./bench/compare

simulate: ## measure a gateway with up to 1,000,000 connections in memory; minutes; writes docs/scale.md and .svg
	$(GO) test -tags simulate -run '^TestSimulation$$' -count=1 -timeout 15m -v ./internal/gateway -docs $(CURDIR)/docs

growth: ## measure what a publish costs with 1 to 5 gateways on NATS, with each NATS_READ; writes a section of docs/scale.md; 5 minutes
	$(GO) run ./bench/growth --docs docs

screenshots: test-deps ## make the pictures of docs/console.md anew; minutes
	$(GO) test -count=1 -run TestScreenshots -timeout 15m ./e2e/browser -screenshots $(CURDIR)/docs/console

docs: ## build docs/ as a site into dist/docs, for any file server
	@[ site/node_modules/.package-lock.json -nt site/package-lock.json ] || (cd site && npm ci --no-audit --no-fund)
	node site/build.mjs

# SCENARIOS="kills …" runs only these, changed or not.
stress: test-deps build ## run each promise's scenario at full size where its code has changed; writes docs/guarantees.md; hours; needs root
	$(GO) run ./bench/stress $(SCENARIOS)

CHAOS = -strict -clients 3000 -lease 10 -drain 20
chaos: test-deps ## three nodes, NATS and nginx on hosts of their own, 50 faults under load; needs root, takes half an hour
	$(GO) mod download # the hosts reach no module proxy
	$(GO) test -count=1 -timeout 10m -v -run 'TestFanout|TestRelay|TestRollingRestart' $(TESTFLAGS) ./e2e/cluster $(CHAOS) # measures, so without -race
	$(GO) test -race -count=1 -timeout 60m -v -run TestChaos $(TESTFLAGS) ./e2e/cluster $(CHAOS) -faults 50 -longest 30s

# A failure prints the seed: make kills TESTFLAGS=-seed=N repeats what it decided.
kills: ## kill a gateway with STATE_DIR 300 times at random moments; a full disk needs root; minutes
	$(GO) test -race -count=1 -timeout 60m -v -run TestKills ./e2e/state -kills 300 -staying 100 $(TESTFLAGS)

# It measures, so without the race detector.
hostile: test-deps ## 5,000 hostile connections of each kind, with 1,024 descriptors: what everybody else has to wait; minutes
	$(GO) test -count=1 -timeout 20m -v ./e2e/hostile -descriptors 1024 -peers 5000 -requests 200 -limit 1s -recovery 1s

fuzz: ## fuzz each target for FUZZTIME, two at a time
	$(GO) test -count=1 -timeout 0 -v -run TestFuzz ./e2e/fuzz -targets . -each $(strip $(FUZZTIME)) $(TESTFLAGS)

clean: ## remove what was built
	rm -rf bin dist site/.pages site/.vitepress/cache
