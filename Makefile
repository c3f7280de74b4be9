# make run    builds gomq and starts a nameserver and a broker to play with
# make test   passes the tests that need nothing but Go (and a C compiler for the race detector)
# make help   lists everything
#
# .ci/run is what a change has to pass: check, test, faults, interop.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS     := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 20000x
SUITE       := .ci/suite

.PHONY: help build run cluster cluster-stop check fmt vet staticcheck house fuzz test unit e2e faults interop interop-all torture mutants bench docs clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1|/' | column -t -s '|'

build: ## bin/gomq: one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/gomq ./cmd/gomq

run: build ## build, then run nameserver and broker in one process
	./bin/gomq standalone

cluster: build ## build, then run conf/2m-2s-sync here: two nameservers, two masters, two slaves; Ctrl-C stops all
	conf/cluster.sh run

cluster-stop: ## stop what conf/cluster.sh started, in the foreground or with start
	conf/cluster.sh stop

check: fmt vet staticcheck house fuzz ## format, vet, staticcheck, house rules, docs current, short fuzz (3 minutes)

fmt:
	@bad=$$(gofmt -l cmd internal test); if [ -n "$$bad" ]; then echo "not formatted, run gofmt -w:"; echo "$$bad"; exit 1; fi
	@echo "fmt: ok"

vet:
	go vet ./...
	go vet -tags failpoints ./...
	cd test && go vet ./... && go vet -tags faults,interop_all,mutants ./...

staticcheck:
	@if go run $(STATICCHECK) -version >/dev/null 2>&1; then \
		go run $(STATICCHECK) ./... && (cd test && go run $(STATICCHECK) -tags faults,interop_all,mutants ./...) && echo "staticcheck: ok"; \
	else echo "SKIP staticcheck: $(STATICCHECK) cannot be had here"; fi

house:
	go test -count=1 ./internal/house

fuzz: ## every fuzz target for FUZZTIME (20000x: so many inputs; or a time)
	@$(SUITE) fuzz $(FUZZTIME)

test: unit e2e ## unit tests with the race detector, end-to-end tests (8 minutes)

unit:
	@$(SUITE) unit

e2e:
	@$(SUITE) go e2e -timeout 8m ./...

faults: ## kills, failing disks and networks, full disks; needs root, loop devices, strace, ip, tc, ss (12 minutes)
	@$(SUITE) go faults -tags faults -timeout 14m ./faults/...

interop: ## official Java and Node clients; needs JDK 17, Maven, Node, the network (10 minutes)
	@$(SUITE) go interop -tags interop -timeout 14m ./interop/...

interop-all: ## what does not fit into interop
	@$(SUITE) go interop-all -tags interop_all -timeout 60m ./interop/...

torture: ## hours of kills and power cuts: make torture, ends with Ctrl-C or the first violation
	@$(SUITE) go torture -tags faults,torture -timeout 0 ./faults/...

mutants: ## deliberate bugs, each of which a named test has to find (some minutes)
	@$(SUITE) go mutants -tags mutants -timeout 30m ./mutants/...

bench: ## every row of docs/BENCHMARKS.md in one run; PROBES and GOMQ_TEST_JAVA_LIB add rows
	cd test && go run ./bench $(BENCH)

docs: ## write docs/CONFIG.md, docs/REQUESTS.md and the codes of docs/COMPAT.md from the tables
	go test -count=1 ./internal/house -run TestDocsCurrent -update

clean: ## remove what was built
	rm -rf bin
