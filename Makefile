# Steadfast: two commands for a newcomer, `make demo` and `make test`. Both set everything up.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help install demo test test-slurm test-zoo bench lock lock-zoo graph pages plans clean-demo
PYTHON ?= python3
BIN := .venv/bin
PROCESSES ?= 2
LOCK ?= envs/requirements.lock

help:
	@echo "make demo   the whole workflow on phantoms, to tables, figures and a report"
	@echo "make test   all checks and tests"
	@echo "make test-slurm  the LEONARDO profile on a throw-away SLURM (Debian, root; ten minutes and more)"
	@echo "make install LOCK=envs/requirements-cuda12.lock  libraries for an older GPU driver"
	@echo "make bench  the benchmarks, with ratios and equality checks"
	@echo "make test-zoo  converters against TensorFlow and JAX themselves (installs them in .venv-zoo)"
	@echo "make plans  the stored plans that tests compare with, docs/dag.svg, and the pages below"
	@echo "make pages  the reference pages that are made from code and configuration"
	@echo "make lock   resolve envs/requirements.in into envs/requirements.lock"

install:
	rm -f .venv/ready
	$(MAKE) .venv/ready LOCK=$(LOCK)

demo: .venv/ready
	$(BIN)/snakemake --profile profiles/demo report
	@cat results/demo/summary.txt
	@echo && echo "The report, one file that opens without network: results/demo/report.html"

test: .venv/ready
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

# TensorFlow and JAX write checkpoints and features; our readers, without them, must agree.
test-zoo: .venv/ready .venv-zoo/ready
	ZOO_PYTHON=.venv-zoo/bin/python $(BIN)/python -m pytest tests/zoo

# SLURM, its database and its authentication come from Debian; nothing is started by the install,
# and the tests see only what they start themselves.
SLURM_PACKAGES := slurmctld slurmd slurmdbd slurm-client munge mariadb-server iproute2
test-slurm: .venv/ready
	@for one in slurmctld slurmd slurmdbd munged mariadbd ip; do \
	  command -v $$one > /dev/null || { apt-get update && DEBIAN_FRONTEND=noninteractive \
	    apt-get install --yes --no-install-recommends $(SLURM_PACKAGES); break; }; done
	tests/slurm/isolated.sh $(BIN)/python -m pytest tests/slurm

# Snapshots that tests compare with: look at what changed before committing it.
plans: .venv/ready graph pages
	$(BIN)/python -m tests.workflow.plans

graph: .venv/ready
	$(BIN)/python -m workflow_scripts.report.rule_graph all training_smoke --profile profiles/slurm --out docs/dag.svg

REFERENCE := docs/reference
pages: .venv/ready
	$(BIN)/python -m workflow_scripts.report.configuration_page --config config.yaml \
	  --schemas rules/schemas --out $(REFERENCE)/configuration.md
	$(BIN)/python -m workflow_scripts.report.commands_page --out $(REFERENCE)/commands.md
	$(BIN)/python -m workflow_scripts.report.metric_definitions \
	  --out $(REFERENCE)/metric_definitions.md
	$(BIN)/python -m workflow_scripts.report.metrics_page --out $(REFERENCE)/metrics.md
	$(BIN)/python -m workflow_scripts.report.protocols_page --out $(REFERENCE)/protocols.md

bench: .venv/ready
	$(BIN)/python -m benchmarks.run --out docs/reference/benchmarks.md

# The lock holds versions and hashes, no addresses; it serves every Python from 3.11 on.
lock: .venv/ready
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header envs/requirements.in --output-file envs/requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --override envs/cuda12-override.txt envs/requirements.in \
	  --output-file envs/requirements-cuda12.lock

lock-zoo: .venv/ready
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header envs/zoo.in --output-file envs/zoo.lock

clean-demo:
	rm -rf results/demo logs/demo state/demo benchmarks/results/demo

# The stamp is written last: an install that was cut off is done again.
.venv/ready: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, found $$($(PYTHON) --version); next step: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up .venv (about 7 GB on disk, a minute with a fast network) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes $(LOCK)
	@touch .venv/ready

# --python: without it uv would install into .venv, the one it finds in this folder.
.venv-zoo/ready: envs/zoo.lock | .venv/ready
	@echo "Setting up .venv-zoo (2 GB on disk) ..."
	$(PYTHON) -m venv .venv-zoo
	$(BIN)/uv pip sync --quiet --python .venv-zoo/bin/python --require-hashes envs/zoo.lock
	@touch $@
