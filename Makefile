# Everything a newcomer runs. `make` alone lists the targets; CI runs `make ci` and nothing else.
#
# Needed: Rust (cargo), Go, a C compiler, GNU make. scripts/demo-check.sh says what is missing.

SHELL := /bin/sh
PREFIX ?= /usr/local
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
GO_MODULES := $(patsubst %/go.mod,%,$(wildcard go/go.mod go/*/go.mod go/cmd/*/go.mod))
# What rustc says a program that links the static library needs beside it (make native-libs).
NATIVE_LIBS := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build demo demo-10m test soak fuzz lint ci
.PHONY: bench-txmap bench-txmap-full bench-ram bench-index bench-hash bench-subtree
.PHONY: install clean
.PHONY: library-release library-checked header native-libs

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: library-release ## Build the library and the command line tool (build/blocktier)
	cd go/cmd/blocktier && go build -o "$(CURDIR)/build/blocktier" .
	@echo "built build/blocktier"

demo: ## Assemble and validate real blocks, and 1M synthetic transactions beside the Go heap
	@scripts/demo-check.sh 1000000
	@$(MAKE) --no-print-directory build
	build/blocktier demo --scratch build

demo-10m: ## The same with 10M synthetic transactions
	@scripts/demo-check.sh 10000000
	@$(MAKE) --no-print-directory build
	build/blocktier demo --scratch build --txs 10000000

test: library-checked ## All tests, Rust and Go, with counts of passed, failed and skipped
	go run scripts/run-suites.go

soak: ## Maps of processes that are killed, 300 rounds each; locations of 24 bits used again a hundred times (some minutes)
	BLOCKTIER_TEST_ROUNDS=300 cargo test --release --test diskmap_killed \
	  --test diskmap_process_killed --test diskmap_wrap -- --nocapture

fuzz: ## Fuzz each parser of subtrees for a minute, guided by coverage, under the address sanitizer
	scripts/fuzz.sh

lint: library-checked ## Formatting, clippy, vet, header, style
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --all-targets -- -D warnings
	cargo test --quiet --test header --test tidy
	@unformatted=$$(gofmt -l go scripts); \
	  if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	@set -e; for module in $(GO_MODULES); do \
	  echo "go vet and go mod tidy in $$module"; \
	  (cd $$module && go vet ./... && go mod tidy -diff); \
	done
	go vet scripts/run-suites.go

ci: ## Every check: lint, test, then some thousand inputs of the fuzzer
	@start=$$(date +%s); $(MAKE) --no-print-directory lint; \
	  status=$$?; echo "lint: $$(($$(date +%s) - start)) s"; exit $$status
	@start=$$(date +%s); $(MAKE) --no-print-directory test; \
	  status=$$?; echo "test: $$(($$(date +%s) - start)) s"; exit $$status
	@if ! command -v "$${CXX:-c++}" >/dev/null; then echo "fuzz: SKIPPED, it needs a C++ compiler"; exit 0; fi; \
	  start=$$(date +%s); scripts/fuzz.sh runs 20000; \
	  status=$$?; echo "fuzz: $$(($$(date +%s) - start)) s"; exit $$status

bench-txmap: library-release ## Benchmark the transaction map through Go, with baselines
	go/bench/run.sh
	cargo bench --bench directories

bench-txmap-full: library-release ## The rows at 100M entries, without baselines (an hour, 60 GB of disk)
	go/bench/run.sh full -baselines=false -reps 1 -rows A1,A2,A5,A11,A13,A17,limit

bench-ram: ## Benchmark the map in RAM from Rust, beside crossbeam-skiplist and dashmap
	cargo bench --bench ram

bench-index: ## Benchmark the index alone
	cargo bench --bench index

bench-hash: ## Benchmark sha256d, Merkle roots and BLAKE3, beside sha2, bitcoin_hashes and blake3
	cargo bench --bench hash
	cargo bench --bench blake3

bench-subtree: library-release ## Benchmark subtrees: roots, proofs, changes, files from Rust; appends from Go
	cargo bench --bench subtree
	cd go/bench && go run ./cmd/bench-subtree -dir ../../target/bench

# A profile with optimisation, debug assertions and overflow checks: what the Go tests link. Tools
# and benchmarks link the release build; each target puts the one it needs in place first.
library-checked:
	cargo build --profile checked --lib
	@scripts/place-library.sh target/checked

library-release:
	cargo build --release --lib
	@scripts/place-library.sh target/release

header: ## Make include/blocktier.h anew from src/ffi
	UPDATE_HEADER=1 cargo test --quiet --test header

native-libs: ## Print the system libraries that the static library needs
	cargo rustc --release --lib --crate-type staticlib -- --print native-static-libs

install: library-release ## Install header, libraries and pkg-config file; PREFIX=/usr/local
	install -d "$(DESTDIR)$(PREFIX)/include" "$(DESTDIR)$(PREFIX)/lib/pkgconfig"
	install -m 644 include/blocktier.h "$(DESTDIR)$(PREFIX)/include/blocktier.h"
	install -m 644 target/release/libblocktier.a "$(DESTDIR)$(PREFIX)/lib/libblocktier.a"
	install -m 755 target/release/libblocktier.so "$(DESTDIR)$(PREFIX)/lib/libblocktier.so"
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' \
	  -e 's|@NATIVE_LIBS@|$(NATIVE_LIBS)|' scripts/blocktier.pc.in \
	  > "$(DESTDIR)$(PREFIX)/lib/pkgconfig/blocktier.pc"

clean: ## Remove everything that was built
	cargo clean
	rm -f go/internal/ffi/build_id.h go/internal/ffi/lib/*/libblocktier.a
	rm -rf build
