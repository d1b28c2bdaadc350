# Everything a developer types. `make help` lists it. Needs python3 (3.11 or newer, with venv) and make.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := UV_NO_PROGRESS=1 $(BIN)/uv --quiet
READY := $(VENV)/.ready
# protoc finds its mypy plug-in on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export GRPC_VERBOSITY ?= ERROR

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The lock is the only list of packages: uv itself is installed from its own stanza in it.
$(READY): requirements.lock pyproject.toml
	@echo "Setting up $(VENV) (once, about a minute) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version)." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv-only.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv-only.lock
	@echo "  installing the locked packages ..."
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip sync --require-hashes --compile-bytecode requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: $(READY) ## Set up the virtual environment

.PHONY: demo
demo: $(READY) ## Take one card payment from session to captured, on a local Antom
	@$(BIN)/antom-payments demo

# Workers show nothing of what a test prints, and have no terminal for a debugger.
WORKERS ?= $(if $(filter -s --capture=no --pdb --trace,$(PYTEST_ARGS)),0,2)
.PHONY: test
test: $(READY) ## Run every test, on SQLite and on a real PostgreSQL
	@$(BIN)/python -m pytest --numprocesses=$(WORKERS) $(PYTEST_ARGS)

.PHONY: docs
docs: $(READY) ## Rewrite the tables in README.md and docs/ that are made from code
	@$(BIN)/python tests/docs_tables.py

.PHONY: soak
soak: $(READY) ## Append 100,000 events from 16 writers that are killed, and lose none
	@$(BIN)/python -m pytest tests/soak -s --timeout=3600 --events=100000

.PHONY: drain
drain: $(READY) ## Restart replicas under 200 streams and steady calls, and print the cost
	@$(BIN)/python -m pytest tests/drain -s -p no:logging --timeout=3600 --restarts=12

.PHONY: check
check: $(READY) ## Check formatting, lint, types, imports, spelling, protos, generated code
	@echo "ruff";          $(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@echo "mypy";          $(BIN)/mypy --no-error-summary
	@echo "import-linter"; $(BIN)/lint-imports > $(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }
	@echo "codespell";     $(BIN)/codespell
	@echo "buf lint";      $(BIN)/buf lint proto && $(BIN)/buf format proto --diff --exit-code
	@echo "buf breaking";  tools=$$(git describe --tags --abbrev=0 2>/dev/null || true); if [ -n "$$tools" ]; then $(BIN)/buf breaking proto --against ".git#tag=$$tools,subdir=proto"; else echo "  no release tag yet: nothing to break"; fi
	@echo "generated code is fresh"; $(MAKE) proto OUT=$(VENV)/proto-check && diff -r -x __pycache__ -x __init__.py -x py.typed $(VENV)/proto-check/antom_payments/v1 service/antom_payments/v1
	@echo "make check: all good"

OUT ?= service
.PHONY: proto
proto: $(READY) ## Generate service/antom_payments/v1 from proto/
	@mkdir -p $(OUT)
	@$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=$(OUT) --grpc_python_out=$(OUT) --mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) proto/antom_payments/v1/*.proto

.PHONY: lock
lock: $(READY) ## Resolve the newest allowed packages into requirements.lock
	@$(UV) pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --custom-compile-command "make lock" --output-file requirements.lock
	@$(UV) pip compile tests/official_sdk/requirements.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --custom-compile-command "make lock" --output-file tests/official_sdk/requirements.lock

.PHONY: format
format: $(READY) ## Format the code and the protos
	@$(BIN)/ruff check --fix-only --quiet .; $(BIN)/ruff format --quiet . ; $(BIN)/buf format proto --write

.PHONY: clean
clean: ## Remove the virtual environment and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
