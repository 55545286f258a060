# "make lab" and "make test" set up all they need; "make help" lists the rest.

export PATH := $(CURDIR)/bin/.go/bin:/usr/local/go/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin
export GOTOOLCHAIN ?= auto
# Without C, whose threads reserve 8 MB each: the daemon lives within 100 MB of data memory.
export CGO_ENABLED := 0
# What is installed names no folder of the machine that built it. With the flag everywhere, lint and tests find compiled what a build has compiled.
export GOFLAGS := $(GOFLAGS) -trimpath

# The rule that "make lab" shows.
RULE ?= rule tcp-mss-clamp value=1360
# How long "make fuzz" tries each fuzz target.
FUZZTIME ?= 30s

# The first seed of "make oracle-random", 0 for one from the clock; how many steps; and the load: 0 a few rules, 1 hundreds,
# 2 thousands.
SEED ?= 0
STEPS ?= 2000
LOAD ?= 0

# How long "make race" lets a package take.
RACETIME ?= 40m
# The packages that it runs.
RACE ?= ./...

# What "make bench" is told.
BENCH ?= --write

TOOLS := bin/tools

.DEFAULT_GOAL := help
.PHONY: help setup build lab run test race unit bare lint fuzz bench oracle-random gobench golden install stage deb rpm apk dist clients clean

help: ## print this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

setup: ## install what is missing: nft, iptables, ipset, ip, Go
	@internal/tools/setup

build: setup ## make bin/richwall
	go build -ldflags '-s -w -X richwall/internal/cli/release.own=$(VERSION)' -o bin/ ./cmd/...

lab: build ## show what a rule does to packets on both back ends: make lab RULE='rule service name=ssh drop'
	bin/richwall lab '$(RULE)'

run: build ## try the daemon in a network namespace with a bus of its own, and leave you in a shell there
	internal/tools/run

test: lint ## lint, then run all tests; those that load rules do so in network namespaces of their own
	go test -vet=off -count=1 -timeout 30m ./...

race: ## run all tests, or those of the packages RACE, under the race detector; a package that takes longer than RACETIME (40m) fails
	@internal/tools/setup race
	CGO_ENABLED=1 go test -race -vet=off -count=1 -timeout $(RACETIME) $(RACE)

unit: ## boot a machine of its own, and try every feature under the restrictions of packaging/firewalld.service; as root
	@internal/tools/setup unit
	rm -rf bin/stage
	$(MAKE) install DESTDIR="$(CURDIR)/bin/stage"
	internal/tools/unit/machine

bare: ## run "make lab" and "make test" in a fresh Debian 12 and 13 with make and git alone; as root
	@internal/tools/setup unit
	internal/tools/bare

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

bench: build ## measure beside firewalld and nft, and write docs/performance.md; BENCH=--help says what else
	go run ./bench/compare $(BENCH)

oracle-random: build ## random sessions beside firewalld: make oracle-random FIREWALLD_REFERENCE=FOLDER SEED=1 STEPS=2000 LOAD=0
	go run ./internal/oracle -seed $(SEED) -steps $(STEPS) -load $(LOAD)

gobench: setup ## measure the parts, in Go benchmarks; docs/performance.md says which
	go test -run '^$$' -bench . -benchmem ./bench

golden: setup ## accept what the code does now as what it should do; look at git diff afterwards
	go test -count=1 ./compile ./zones -update

# Where things go; DESTDIR stands before all of it.
PREFIX ?= /usr
SYSCONFDIR ?= /etc

install: build ## install programs, unit, bus policy, polkit actions, configuration, man pages and completions below DESTDIR
	packaging/install "$(DESTDIR)" "$(PREFIX)" "$(SYSCONFDIR)"

VERSION ?= 0.1.0
# Who answers for a package: whoever makes it, by the variables that Debian's tools read. The project has no address to write to, so the
# address that stands there otherwise is of a domain that nobody can have (RFC 2606).
MAINTAINER ?= $(or $(DEBFULLNAME),richwall developers) <$(or $(DEBEMAIL),developers@richwall.invalid)>
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0

deb: stage ## make bin/richwall_VERSION_ARCH.deb, which takes the place of the package firewalld
	$(call package,deb)

rpm: stage ## make bin/richwall-VERSION-1.ARCH.rpm
	$(call package,rpm)

apk: stage ## make bin/richwall_VERSION_ARCH.apk
	$(call package,apk)

stage: ## put what a package holds into bin/stage
	rm -rf bin/stage
	$(MAKE) install DESTDIR="$(CURDIR)/bin/stage"
	mkdir -p bin/package
	packaging/copyright >bin/package/copyright
	sed 's/@MAINTAINER@/$(MAINTAINER)/' packaging/changelog | gzip -9n >bin/package/changelog.gz
	set -e; for script in packaging/deb/*; do packaging/include $$script >bin/package/$${script##*/}; done

# package makes a package of a kind that nfpm knows from what is in bin/stage.
package = VERSION=$(VERSION) MAINTAINER='$(MAINTAINER)' ARCH=$$(go env GOARCH) go run $(NFPM) package --config packaging/nfpm.yaml --packager $(1) --target bin/

dist: stage ## make bin/richwall-VERSION-linux-ARCH.tar.gz, whose install.sh installs it on any Linux
	rm -rf bin/dist
	mkdir -p bin/dist/richwall-$(VERSION)
	cp -a bin/stage bin/dist/richwall-$(VERSION)/files
	cp packaging/dist/install.sh packaging/dist/README packaging/LICENSE bin/dist/richwall-$(VERSION)/
	cp bin/package/copyright bin/dist/richwall-$(VERSION)/LICENSES
	tar -C bin/dist --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -c richwall-$(VERSION) | gzip -9n \
	  >bin/richwall-$(VERSION)-linux-$$(go env GOARCH).tar.gz

clients: setup ## try the package and real clients, each on a machine of its own: dpkg, NetworkManager, dockerd and so on; as root
	@internal/tools/setup unit
	rm -f bin/richwall_*+next_*.deb
	$(MAKE) deb VERSION=$(VERSION)+next
	$(MAKE) deb rpm apk dist
	rm -rf bin/beside
	$(MAKE) install DESTDIR=$(CURDIR)/bin/beside PREFIX=
	internal/clients/clients
	internal/clients/package

clean: ## remove what was built
	rm -rf bin

# How long "make fuzzbus" sends, on each of its buses: an hour by hand, while "make test" takes some seconds.
BUSTIME ?= 1h
# Whether fuzzbus fails when a call of root takes more than twice its usual time meanwhile: only where nothing else runs.
CLOCKED ?= true

.PHONY: fuzzbus
fuzzbus: setup ## send hostile messages to the daemon on private buses for BUSTIME (1h) each
	go test -count=1 -timeout 0 -run '^TestHostileMessages$$' -v ./internal/bus -hostile $(BUSTIME) -clocked=$(CLOCKED)
