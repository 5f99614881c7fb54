# Every target that needs Python needs `setup`, which does nothing when nothing changed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
LOCKED := requirements/base.txt requirements/dev.txt

# uv reads no pip settings, so whoever told only pip about a mirror or a CA is understood here.
PIP_SETTING = $(BIN)/python -m pip config list 2>/dev/null | \
	sed -n "s/^[^=]*\.$(1)='\(.*\)'\$$/\1/p" | tail -1
UV = index="$$($(call PIP_SETTING,index-url))"; ca="$$($(call PIP_SETTING,cert))"; \
	[ -z "$$index" ] || export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; \
	[ -z "$$ca" ] || export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$ca}"; \
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.12 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

.PHONY: help
help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

.PHONY: setup
setup: $(STAMP)  ## Make .venv and install everything at its locked version

$(STAMP): requirements/dev.txt pyproject.toml .python-version
	@python=; for one in python3 python3.13 python3.12; do \
		if "$$one" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
			python=$$one; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "setup: no Python 3.12 or newer as python3, python3.13 or python3.12;" \
			"install one (see .python-version), with its venv module" >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
		"$$python" -m venv --clear $(VENV); \
	fi
	@awk '/^[a-z]/ { wanted = /^uv==/ } wanted' requirements/dev.txt > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --no-user --no-deps --require-hashes -r $(VENV)/uv.txt
	@$(UV) pip sync --quiet --require-hashes requirements/dev.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "setup: ready; 'make demo' shows what it does"

.PHONY: demo
demo: $(STAMP)  ## Carry a task about the README to its end: own NATS server, no key needed
	$(BIN)/atlas task run --standalone --input README.md \
		--goal "Read the README and tell a newcomer what this project promises, how it keeps each promise, and what to try first"

.PHONY: up
up: $(STAMP)  ## Run NATS (unless NATS_URL is set) and every service until Ctrl-C
	$(BIN)/atlas up

.PHONY: test
test: $(STAMP)  ## Run every test but those that need Docker
	$(BIN)/pytest -n 3 -m "not containers and not deploy and not release" tests

SEEDS ?= 1 2 3
STREAMS ?= 200
TASKS ?= 500
.PHONY: chaos
chaos: $(STAMP)  ## Streams and tasks under SIGKILL, SIGSTOP and cut lines: SEEDS="1 2 3" STREAMS=200 TASKS=500
	$(BIN)/pytest -q --show-capture=no tests/chaos --chaos-seeds "$(SEEDS)" --chaos-streams $(STREAMS) --chaos-tasks $(TASKS)

.PHONY: check
check: $(STAMP)  ## Formatting, linting, types and import rules, without changing anything
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: lint
lint: $(STAMP)  ## Lint, and check who imports whom
	$(BIN)/ruff check
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP)  ## Format, and fix what can be fixed
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

.PHONY: types
types: $(STAMP)  ## Check types, strictly
	$(BIN)/mypy

.PHONY: test-containers
test-containers: $(STAMP)  ## Build the image, start the composition, run a task in it (needs Docker)
	$(BIN)/pytest -m containers tests/containers

# Helm's own code and the schemas of Kubernetes, KEDA and the Prometheus operator: 370 MB.
DEPLOY := deploy/.tools
$(DEPLOY)/.ready: $(STAMP)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DEPLOY)
	@$(UV) pip install --quiet --python $(DEPLOY)/bin/python "helm-python-sdk>=0.2.2" \
		"kubernetes-validate>=1.37" cloudcoil-models-keda cloudcoil-models-prometheus-operator pyyaml
	@touch $@

.PHONY: test-deploy
test-deploy: $(STAMP) $(DEPLOY)/.ready  ## Check the Helm chart and the plain manifests, without a cluster
	$(BIN)/pytest -m deploy tests/deploy

VALUES ?= deploy/helm/values/minimal.yaml
MANIFESTS ?= deploy/kubernetes
.PHONY: manifests
manifests: $(DEPLOY)/.ready  ## Render the chart into plain manifests: VALUES=FILE MANIFESTS=FOLDER
	@$(DEPLOY)/bin/python deploy/chart.py manifests $(VALUES) $(MANIFESTS)

.PHONY: bench
bench: $(STAMP)  ## Measure streams through Atlas beside others (under three minutes)
	$(BIN)/python -m benchmarks.streams --rounds 2

.PHONY: bench-full
bench-full: bench-peers $(VENV)/.bench  ## Measure everything, LiteLLM, TensorZero and DBOS among the peers (most of an hour)
	$(BIN)/python -m benchmarks.streams --rounds 5 --chunks 50000 --first-tokens 100 --save
	$(BIN)/python -m benchmarks.crowd --save
	$(BIN)/python -m benchmarks.extras --save
	$(BIN)/python -m benchmarks.tasks --subtasks 5000 --rounds 30 --finished 100000 --queued 1000 --save
	$(BIN)/python -m benchmarks.scale --save
	$(BIN)/python -m benchmarks.transports
	$(BIN)/python -m benchmarks.strategies
	$(BIN)/python -m benchmarks.leaks

$(VENV)/.bench: requirements/bench.txt $(STAMP)
	@$(UV) pip install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

PEERS := benchmarks/.peers
.PHONY: bench-peers
bench-peers: $(PEERS)/litellm/.ready $(PEERS)/tensorzero/.ready $(PEERS)/dbos/.ready  ## Install the peers to measure against

$(PEERS)/litellm/.ready: $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)/litellm
	$(UV) pip install --quiet --python $(PEERS)/litellm/bin/python "litellm[proxy]"
	@touch $@

$(PEERS)/tensorzero/.ready: $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)/tensorzero
	$(UV) pip install --quiet --python $(PEERS)/tensorzero/bin/python tensorzero
	@touch $@

$(PEERS)/dbos/.ready: $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)/dbos
	$(UV) pip install --quiet --python $(PEERS)/dbos/bin/python dbos
	@touch $@

.PHONY: goldens
goldens: $(STAMP)  ## Write the golden files of the wire format anew, for review
	WRITE_GOLDENS=1 $(BIN)/pytest -q tests/unit/contracts/test_goldens.py

.PHONY: task-logs
task-logs: $(STAMP)  ## Record logs of tasks as this version writes them, at a release
	$(BIN)/python -m tests.support.task_logs

COMMIT ?= HEAD
.PHONY: snapshot
snapshot: $(STAMP)  ## Record what a commit says on the wire, at a release: COMMIT=HEAD
	$(BIN)/python -m tests.support.releases $(COMMIT)

.PHONY: contract
contract: $(STAMP)  ## Write docs/contract.md, docs/asyncapi.json and docs/schemas anew from the models
	$(BIN)/python -m docs.generate_contract

.PHONY: dashboards
dashboards: $(STAMP)  ## Write Grafana's dashboards, Prometheus' alerts and their table in docs/operate.md anew
	$(BIN)/python -m deploy.observability.generate

# The time of everything in an archive is that of the commit, so that whoever builds it gets the same.
RELEASE_TIME = SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct)"
RELEASED := build/released
.PHONY: release
release: $(VENV)/.release  ## Build wheel, source archive and bill of materials into dist/
	@$(BIN)/python -m tests.support.releases --check
	rm -rf dist $(RELEASED)
	$(RELEASE_TIME) $(BIN)/python -m hatchling build -t wheel -t sdist
	@$(UV) venv --quiet $(RELEASED)
	@$(UV) pip install --quiet --python $(RELEASED) --require-hashes -r requirements/base.txt
	@$(UV) pip install --quiet --python $(RELEASED) --no-deps dist/*.whl
	$(RELEASE_TIME) $(BIN)/cyclonedx-py environment $(RELEASED)/bin/python --pyproject pyproject.toml \
		--mc-type application --output-reproducible --output-file dist/atlas-llm.cdx.json
	@cd dist && sha256sum *

OLDER := build/older
.PHONY: release-check
release-check: release  ## Check what `make release` built: the same bytes again, complete, it runs, also beside the last release
	rm -rf $(OLDER)
	$(BIN)/python -m tests.support.releases --export-older $(OLDER)/tree
	@$(UV) venv --quiet $(OLDER)/venv
	@$(UV) pip install --quiet --python $(OLDER)/venv --require-hashes -r $(OLDER)/tree/requirements/base.txt
	@cd $(OLDER)/tree && $(CURDIR)/$(BIN)/python -m hatchling build -t wheel
	@$(UV) pip install --quiet --python $(OLDER)/venv --no-deps $(OLDER)/tree/dist/*.whl
	$(BIN)/pytest -m release tests/release

$(VENV)/.release: requirements/release.txt $(STAMP)
	@$(UV) pip install --quiet --require-hashes -r requirements/release.txt
	@touch $@

.PHONY: docs
docs: $(STAMP)  ## Render the documents, and the subjects from docs/asyncapi.json, into docs/build/index.html
	$(BIN)/python -m docs.pages

.PHONY: lock
lock: $(STAMP)  ## Resolve pyproject.toml into requirements/*.txt; UPGRADE=--upgrade for the newest
	$(COMPILE) pyproject.toml --extra grpc --extra mcp -o requirements/base.txt
	$(COMPILE) pyproject.toml --extra dev -c requirements/base.txt -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra dev --extra bench -c requirements/dev.txt -o requirements/bench.txt
	$(COMPILE) pyproject.toml --extra dev --extra release -c requirements/dev.txt -o requirements/release.txt
