# "make lab" and "make test" set up all they need; "make help" lists the rest.

export PATH := $(CURDIR)/bin/goroot/bin:/usr/local/go/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin
export GOTOOLCHAIN ?= auto

# The rule that "make lab" shows.
RULE ?= rule tcp-mss-clamp value=1360
# How long "make fuzz" tries each fuzz target.
FUZZTIME ?= 30s

TOOLS := bin/tools

.DEFAULT_GOAL := help
.PHONY: help setup build lab test lint fuzz bench golden clean

help: ## print this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

setup: ## install what is missing: nft, iptables, ipset, ip, Go
	@internal/tools/setup

build: setup ## make bin/richwall
	go build -o bin/ ./cmd/...

lab: build ## show what a rule does to packets on both back ends: make lab RULE='rule service name=ssh drop'
	bin/richwall lab '$(RULE)'

test: lint ## lint, then run all tests; those that load rules do so in network namespaces of their own
	go test -count=1 ./...

lint: setup $(TOOLS)/installed ## gofmt, go vet, staticcheck (with unused code), depguard (who imports whom)
	@unformatted=$$(gofmt -l $$(go list -f '{{.Dir}}/*.go' ./...)); \
	  if [ -n "$$unformatted" ]; then echo "not formatted; run gofmt -w on:" $$unformatted; exit 1; fi
	go vet ./...
	$(TOOLS)/staticcheck ./...
	$(TOOLS)/depguard ./...

$(TOOLS)/installed: internal/tools/go.mod internal/tools/go.sum | setup
	GOBIN=$(CURDIR)/$(TOOLS) go -C internal/tools install tool
	@touch $@

fuzz: setup ## try each fuzz target for FUZZTIME (30s)
	@set -e; for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep ^Fuzz); do \
	    echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
	  done; done

bench: setup ## measure; docs/performance.md says what
	go test -run '^$$' -bench . -benchmem ./bench

golden: setup ## accept what the code does now as what it should do; look at git diff afterwards
	go test -count=1 ./compile ./zones -update

clean: ## remove what was built
	rm -rf bin
