# Everything from a fresh clone. Each target makes what it needs (.venv, engine, packages) and skips what is fresh:
# stamps lie in .venv/, so removing .venv starts over.
#
#   make lab  [KEEP=1]          rehearse examples/three-sites on this machine
#   make test [PYTEST="-k x"]   every test, peers included (root: namespaces)
#   make lint | bench | fuzz | wheel | lock | clean

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
KEEP ?=
PYTEST ?=
BENCH ?=
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 20
# Where the generated and fetched lies: kernel, peers' builds, the unencrypted build of the bench.
CACHE := .cache
# The load generators of the bench: a workspace of their own, never in a wheel.
LOAD := bench/load/Cargo.toml
# What raw protocols cost by each way of sending and receiving: the same.
UNDERLAY := bench/underlay/Cargo.toml

RUST_SOURCES := $(shell find rust -name target -prune -o \( -name '*.rs' -o -name Cargo.toml \) -print)

.PHONY: help
help:
	@sed -n '2,7s/^# \{0,1\}//p' Makefile

# ---------------------------------------------------------------- set-up

.PHONY: toolchain packages-lab packages-test packages-bench setup

toolchain:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@command -v cargo >/dev/null \
	  || { echo "make: no cargo on the PATH; install a Rust toolchain (1.89 or newer) from https://rustup.rs" >&2; exit 1; }

packages-lab packages-test packages-bench: packages-%:
	@scripts/install-packages $*

.venv/.python: requirements/dev.txt | toolchain
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

.venv/.engine: $(RUST_SOURCES) Cargo.lock pyproject.toml .venv/.python
	VIRTUAL_ENV=$(CURDIR)/.venv PIP_QUIET=1 $(BIN)/maturin develop --release --quiet
	@touch $@

setup: .venv/.engine

# ---------------------------------------------------------------- use

.PHONY: lab test test-rust test-python bench fuzz wheel lock clean

lab: packages-lab setup
	$(BIN)/ginnel lab examples/three-sites/network.toml $(if $(KEEP),--keep)

test: packages-test setup test-rust test-python

test-rust: | toolchain
	cargo test --workspace --locked
	cargo test --manifest-path $(LOAD) --target-dir $(CACHE)/load --locked
	cargo test --manifest-path $(UNDERLAY) --target-dir $(CACHE)/underlay --locked

test-python: setup
	$(BIN)/python -m pytest $(PYTEST)

bench: packages-bench setup
	$(BIN)/python bench/run.py $(BENCH)

fuzz: | toolchain
	scripts/fuzz $(FUZZ_SECONDS)

wheel: .venv/.python
	scripts/wheel

# Regenerates the pins; the only target that looks for newer versions.
lock: .venv/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	scripts/lock

clean:
	rm -rf target .venv $(CACHE) dist bench/load/target bench/underlay/target rust/*/fuzz/target
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f src/ginnel/_native*.so

# ---------------------------------------------------------------- lint

.PHONY: lint lint-python lint-rust
lint: lint-python lint-rust

lint-python: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint-rust: | toolchain
	cargo fmt --all --check
	cargo fmt --manifest-path $(LOAD) --check
	cargo fmt --manifest-path $(UNDERLAY) --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --manifest-path $(LOAD) --target-dir $(CACHE)/load --all-targets --locked -- -D warnings
	cargo clippy --manifest-path $(UNDERLAY) --target-dir $(CACHE)/underlay --all-targets --locked -- -D warnings
