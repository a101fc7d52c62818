# `make` alone lists what there is. Every target prepares what it needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HOST := $(VENV)/.host
PROJECT := -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
# Without its library, which its tests do not need.
BRIDGE := --editable whatsapp_bridge

.PHONY: help setup host chat demo-channels demo-approvals test test-unit check docs transcripts crash mutants image bench \
	clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

host: $(HOST) ## make .venv and install what runs, with hashes and without the tools for development

$(HOST): pyproject.toml requirements/host.txt requirements/build.txt
	@$(PYTHON) -m venv $(VENV)
	@$(PYTHON) scripts/install $(BIN)/python requirements/host.txt requirements/build.txt
	@$(BIN)/python $(PROJECT)
	@touch $@

setup: $(STAMP) ## make .venv and install everything, with hashes

$(STAMP): pyproject.toml whatsapp_bridge/pyproject.toml requirements/dev.txt
	@$(PYTHON) -m venv $(VENV)
	@$(PYTHON) scripts/install $(BIN)/python requirements/dev.txt
	@$(BIN)/python $(PROJECT) $(BRIDGE)
	@touch $(HOST) $@

chat: $(HOST) ## talk to your assistant in this terminal
	@$(BIN)/python scripts/agent_beside_host
	@command -v nanohost >/dev/null || echo "Where nanohost is named below, type $(BIN)/nanohost, or once: . $(BIN)/activate"
	@$(BIN)/nanohost chat

demo-channels: setup ## one agent on every platform, all of them simulated, and what people see there
	@$(BIN)/python scripts/demo_channels

demo-approvals: setup ## a stranger writes, the owner is asked and lets them in: what each person sees
	@$(BIN)/python scripts/demo_approvals

test: setup ## run the test suite
	@# Many of them wait for processes and clocks: three at once keep a core at work.
	@# What takes longest comes first (tests/conftest.py), so that no worker is left alone with it.
	$(BIN)/python scripts/test -n $$((3 * $$(nproc))) --dist loadfile --no-loadscope-reorder

test-unit: setup ## run the tests that start no process and open no socket
	$(BIN)/python scripts/test -n 2 --dist loadfile -m unit

check: setup ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: setup ## write the parts of docs/ that are made of the code and of what the tests see
	$(BIN)/python scripts/reference
	$(BIN)/python scripts/translations
	$(BIN)/python -m tests.pages

transcripts: setup ## play a first hour and a night, three minutes, and write what is seen into docs/
	$(BIN)/python scripts/transcripts --write

crash: setup ## kill hosts and containers at every point, print one table, write crash.json
	$(BIN)/python -m tests.crash

mutants: setup $(VENV)/.mutants ## change every decision in every small way: a test has to fail for each
	$(BIN)/python -m tests.mutants

$(VENV)/.mutants: $(STAMP) requirements/mutants.txt
	@$(PYTHON) scripts/install $(BIN)/python requirements/mutants.txt
	@touch $@

image: setup ## build the agent's container image
	$(BIN)/nanohost image build

bench: setup ## measure speed and size, print one table, write bench.json
	$(BIN)/python -m benchmarks

clean: ## remove what the build made; your data stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis bench.json crash.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
