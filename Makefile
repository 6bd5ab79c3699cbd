# npcnix: make help

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .cache/bin
TEST_FLAGS ?=
# What a fresh Debian machine lacks: Nix, a C compiler for the race detector, git, zstd.
PACKAGES := nix-bin:nix tzdata:/usr/share/zoneinfo/Europe/Berlin strace:strace gcc:cc libc6-dev:/usr/include/stdio.h git:git zstd:zstd iproute2:ip

# Nix as root, without a build group, a sandbox or the network: for the
# demonstration and the tests alone. Their builders are the machine's own
# /bin/sh, so every platform will do.
define NIX_SETTINGS
experimental-features = nix-command flakes
sandbox = false
build-users-group =
substituters =
extra-platforms = x86_64-linux aarch64-linux
endef
demo test e2e stable soak fuzz bench golden: export NIX_CONFIG := $(NIX_SETTINGS)

.PHONY: help
help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: packages build ## three hosts from nothing to Ready and to a new revision, in a directory
	@PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh "$(CURDIR)/.cache/demo"

# What the tests need is installed before they begin; while they run there is no
# network but loopback, where the machine lets us (as root, on Linux).
OFFLINE := $(shell [ "$$(id -u)" = 0 ] && unshare --net true 2>/dev/null && echo unshare --net -- tools/loopback.sh)

.PHONY: test
test: packages tools ## every test there is: unit, property, conformance, scripts, end to end
	go mod download && go -C tools/schemas mod download
	CGO_ENABLED=1 $(OFFLINE) $(BIN)/gotestsum --format pkgname --jsonfile .cache/test.json -- \
	  -race -shuffle=on -parallel 6 -timeout 20m -skip '^(TestKilled|TestOnHosts|TestSimulation|TestMutations)' $(TEST_FLAGS) ./...
	$(OFFLINE) go -C tools/schemas test ./...
	$(OFFLINE) go test -count=1 -timeout 20m -v -run '^TestKilled' ./cmd/e2e
	$(MAKE) --no-print-directory simulate
	@echo "The slowest tests:"; $(BIN)/gotestsum tool slowest --jsonfile .cache/test.json --threshold 5s | sed -n 1,15p

# Four shards of HISTORIES each, without the race detector, which would take ten times as long.
HISTORIES ?= 1250
.PHONY: simulate
simulate: ## months of a host's life, 5,000 times over: whatever happens, what must never be is never seen
	GOGC=1600 go test -count=1 -timeout 60m -v -run '^TestSimulation' ./reconciler/host -rapid.checks=$(HISTORIES)
	GOGC=800 go test -count=1 -timeout 20m -v -run '^TestMutations' ./reconciler/host

# Systemd hosts with real Nix, 2.8 and 2.26, under systemd-nspawn: as root, on Linux.
.PHONY: e2e
e2e: hosts ## the agent on three real systemd hosts: switches, rollbacks, kills, power cuts
	NPCNIX_E2E=1 $(OFFLINE) go test -count=1 -timeout 30m -v -run '^TestOnHosts' ./cmd/e2e/onhosts

.PHONY: hosts
hosts: packages tools
	@tools/packages.sh systemd-container:systemd-nspawn mmdebstrap:mmdebstrap procps:pgrep
	@$(MAKE) --no-print-directory .cache/rootfs/bookworm/lab-init .cache/rootfs/trixie/lab-init

.cache/rootfs/%/lab-init: tools/lab/rootfs.sh
	rm -rf --one-file-system .cache/rootfs/$*
	mkdir -p .cache/rootfs
	tools/lab/rootfs.sh .cache/rootfs/$* $* 2>&1 | tail -3

.PHONY: stable
stable: packages tools ## the tests twenty times, in ever other orders
	CGO_ENABLED=1 $(OFFLINE) $(BIN)/gotestsum --format pkgname -- -race -shuffle=on -count=20 -parallel 6 -timeout 90m -skip '^(TestKilled|TestProgramsBuild|TestOnHosts|TestSimulation|TestMutations)' ./...

.PHONY: soak
soak: hosts ## kill the agent at 100 seeded moments instead of 10, and on real hosts at 200 instead of 20
	NPCNIX_SOAK=100 go test -count=1 -timeout 60m -v -run '^TestKilled' ./cmd/e2e
	NPCNIX_E2E=1 NPCNIX_SOAK=200 $(OFFLINE) go test -count=1 -timeout 120m -v -run '^TestOnHostsKilledAtRandom' ./cmd/e2e/onhosts

FUZZTIME ?= 20s
.PHONY: fuzz
fuzz: packages tools ## every fuzz target for FUZZTIME (20s); what fails is kept as a seed
	for package in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -hoP '(?<=^func )Fuzz\w+' $$package/*_test.go); do \
	    echo "== $$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$package; \
	  done; done

.PHONY: bench
bench: packages tools ## measure this machine and write docs/performance.md; some minutes
	@tools/packages.sh awscli:aws
	cd tools/bench && go run . "$(CURDIR)/docs/performance.md"

.PHONY: lint
lint: $(BIN)/golangci-lint ## the linter, and the layers that it holds
	$(BIN)/golangci-lint run ./...

.PHONY: fmt
fmt: $(BIN)/golangci-lint ## format the code
	$(BIN)/golangci-lint fmt ./...

.PHONY: build
build: ## both programs for this machine, in .cache/bin
	CGO_ENABLED=0 go build -buildvcs=auto -trimpath -ldflags '-s -w' -o $(BIN)/ ./cmd/npcnix ./cmd/npcnix-reconciler

.PHONY: cross
cross: ## both programs for every platform that they run on, in .cache/dist
	for os in linux darwin; do for arch in amd64 arm64; do \
	  GOOS=$$os GOARCH=$$arch CGO_ENABLED=0 go build -buildvcs=auto -trimpath -ldflags '-s -w' -o .cache/dist/$$os-$$arch/ ./cmd/npcnix; \
	  [ $$os = darwin ] || GOOS=$$os GOARCH=$$arch CGO_ENABLED=0 go build -buildvcs=auto -trimpath -ldflags '-s -w' -o .cache/dist/$$os-$$arch/ ./cmd/npcnix-reconciler; \
	done; done

.PHONY: golden
golden: packages tools schemas ## write the golden files anew
	go test ./nixos -update
	go test -run '^(TestProgramsConsistOf|TestOperatingPage)' ./cmd/e2e -update

.PHONY: schemas
schemas: ## write the JSON Schemas of the documents anew
	cd tools/schemas && go run . ../../apis/v1alpha1/schemas

.PHONY: packages
packages:
	@tools/packages.sh $(PACKAGES)

.PHONY: tools
tools: $(BIN)/versitygw $(BIN)/toxiproxy $(BIN)/gotestsum $(BIN)/golangci-lint ## the S3 server, the bad network and the linter of the tests

$(BIN)/toxiproxy: tools/toxiproxy/go.mod
	go -C tools/toxiproxy build -trimpath -buildvcs=false -o "$(CURDIR)/$@" github.com/Shopify/toxiproxy/v2/cmd/server

$(BIN)/versitygw: tools/versitygw/go.mod
	go -C tools/versitygw build -trimpath -buildvcs=false -o "$(CURDIR)/$@" github.com/versity/versitygw/cmd/versitygw

$(BIN)/gotestsum: tools/gotestsum/go.mod
	go -C tools/gotestsum build -trimpath -buildvcs=false -o "$(CURDIR)/$@" gotest.tools/gotestsum

$(BIN)/golangci-lint: tools/golangci-lint/go.mod
	go -C tools/golangci-lint build -trimpath -buildvcs=false -o "$(CURDIR)/$@" github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: clean
clean: ## remove what was built
	rm -rf .cache
