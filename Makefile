# The verbs of this project, the same by hand and in CI.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core-installed
DEV := $(VENV)/.dev-installed
# The first Python of a supported version that starts (a pyenv shim can exist and not start).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
# dev is everything. TFX's wheels need glibc 2.39 (Debian 13, Ubuntu 24.04); elsewhere it is everything but TFX.
EXTRAS = $(shell $(PYTHON) -c 'import platform as p; l, v = p.libc_ver(); print("dev" if l == "glibc" and tuple(map(int, v.split("."))) >= (2, 39) else "tools,kafka,pubsub,feast,beam,grpc")')
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
SERVE ?= 1
export MPLBACKEND ?= agg

.PHONY: help install demo test test-slow lint format docs lock reference clean

help: ## Show this list.
	@grep -hE '^[a-z%-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo "OneHull needs Python 3.11, 3.12 or 3.13 on the PATH, or make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

$(CORE): pyproject.toml constraints.txt | $(BIN)/uv
	@echo "Installing OneHull into $(VENV) …"
	@$(UV) --editable .
	@touch $@

$(DEV): $(CORE) pyproject.toml constraints.txt
	@echo "Installing everything that its tests need: $(EXTRAS) …"
	@$(UV) --editable '.[$(EXTRAS)]'
	@touch $@

install: $(DEV) ## Make .venv with OneHull and everything for development (repeats cheaply).

demo: $(CORE) ## From a simulated event log to a ranked feed, with its page; SERVE=0 ends without the page.
	@$(BIN)/onehull demo $(if $(filter 0,$(SERVE)),--no-serve,--serve)

test: $(DEV) ## Run the tests that are not slow.
	@$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(DEV) ## Run the slow tests.
	@$(BIN)/pytest -n 2 --dist worksteal -m slow

lint: $(DEV) ## Formatting, lint, types, direction of imports.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(DEV) ## Format the code and sort imports.
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench-%: $(DEV) ## Run one benchmark: make bench-NAME [PROFILE=full].
	@$(BIN)/python -m benchmarks.$* --profile $(or $(PROFILE),fast)

docs: $(DEV) ## Build the documentation into site/.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "Documentation: site/index.html"

reference: $(CORE) ## Write what is generated from the code: spec.schema.json and two pages of docs/reference.
	@$(BIN)/python scripts/reference.py

lock: $(DEV) ## Resolve constraints.txt anew.
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-index-url --no-annotate --no-header --upgrade pyproject.toml --output-file constraints.txt

clean: ## Remove what was built, but not runs/.
	@rm -rf $(VENV) site build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
