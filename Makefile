# `make` alone lists what there is. Every target prepares what it needs.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup chat demo-channels demo-approvals test check docs crash image bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install everything, with hashes

$(STAMP): pyproject.toml requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

chat: setup ## talk to your assistant in this terminal
	@$(BIN)/nanohost chat

demo-channels: setup ## one agent on every platform, all of them simulated, and what people see there
	@$(BIN)/python scripts/demo_channels

demo-approvals: setup ## a stranger writes, the owner is asked and lets them in: what each person sees
	@$(BIN)/python scripts/demo_approvals

test: setup ## run the test suite
	@# A folder of its own: pytest's shared one is tidied by every run, also under one that is at work.
	@# Most of them wait for processes and clocks most of the time: three at once are no load for two cores.
	tmp=$$(mktemp -d) && $(BIN)/python -m pytest -n 3 --dist loadfile --basetemp="$$tmp/t" && rm -rf "$$tmp"

check: setup ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: setup ## write the parts of docs/ that are made of the code and of what the tests see
	$(BIN)/python scripts/reference
	$(BIN)/python -m tests.pages

crash: setup ## kill hosts and containers at every point, print one table, write crash.json
	$(BIN)/python -m tests.crash

image: setup ## build the agent's container image
	$(BIN)/nanohost image build

bench: setup ## measure speed and size, print one table, write bench.json
	$(BIN)/python -m benchmarks

clean: ## remove what the build made; your data stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis bench.json crash.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
