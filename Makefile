# Steadfast: two commands for a newcomer, `make demo` and `make test`. Both set everything up.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo test test-zoo check-style bench lock lock-zoo clean-demo
PYTHON ?= python3
BIN := .venv/bin
PROCESSES ?= 2

help:
	@echo "make demo   the whole workflow on phantoms, to tables, figures and a report"
	@echo "make test   all checks and tests"
	@echo "make bench  the benchmarks, with ratios and equality checks"
	@echo "make test-zoo  converters against TensorFlow and JAX themselves (installs them in .venv-zoo)"
	@echo "make lock   resolve envs/requirements.in into envs/requirements.lock"

demo: .venv/ready
	$(BIN)/snakemake --profile profiles/demo report
	@cat results/demo/summary.txt

test: .venv/ready
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

# TensorFlow and JAX write checkpoints and features; our readers, without them, must agree.
test-zoo: .venv/ready .venv-zoo/ready
	ZOO_PYTHON=.venv-zoo/bin/python $(BIN)/python -m pytest tests/zoo

bench: .venv/ready
	$(BIN)/python -m benchmarks.run --out docs/reference/benchmarks.md

# The lock holds versions and hashes, no addresses; it serves every Python from 3.11 on.
lock: .venv/ready
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header envs/requirements.in --output-file envs/requirements.lock

lock-zoo: .venv/ready
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header envs/zoo.in --output-file envs/zoo.lock

clean-demo:
	rm -rf results/demo logs/demo benchmarks/results/demo

# The stamp is written last: an install that was cut off is done again.
.venv/ready: envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, found $$($(PYTHON) --version); next step: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up .venv (about 7 GB on disk, a minute with a fast network) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip sync --quiet --require-hashes envs/requirements.lock
	@touch .venv/ready

# --python: without it uv would install into .venv, the one it finds in this folder.
.venv-zoo/ready: envs/zoo.lock | .venv/ready
	@echo "Setting up .venv-zoo (2 GB on disk) ..."
	$(PYTHON) -m venv .venv-zoo
	$(BIN)/uv pip sync --quiet --python .venv-zoo/bin/python --require-hashes envs/zoo.lock
	@touch $@
