# Everything a newcomer needs. `make` alone lists the targets.
.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/bash

# The first interpreter that is new enough and can make environments, else the first that is new enough. The system's
# is faster than one that pyenv has compiled; an unselected pyenv shim fails the check and is passed over.
PYTHON ?= $(shell for needs in sys,ensurepip sys; do for p in /usr/bin/python3 python3 python3.11 python3.12 python3.13; do \
	$$p -c "import $$needs; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $$p && exit; done; done)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
LOCKING := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra build
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
DOCS := $(VENV)-docs
DOCS_STAMP := $(DOCS)/.installed
APT := DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends

PORT ?= 8080
DATA ?= data
# The shell takes it from its environment, as it is: a name may have spaces and quotes.
export DATA
ARGS ?=

.PHONY: help setup run cluster packages lint test soak bench report docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(RUN_STAMP) ## prepare everything that `run` and `cluster` need, without starting

# apt-get update only when the lists at hand are missing or outdated.
define install_packages
	@if [ "$$(id -u)" != 0 ]; then echo "missing: run as root: apt-get install -y $(1)" >&2; exit 1; fi; \
	echo "installing $(1)"; $(APT) $(1) >/dev/null 2>&1 || { apt-get update -qq && $(APT) $(1) >/dev/null; }
endef

$(PY):
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is missing: apt-get install python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip; ensurepip.version()' 2>/dev/null || $(MAKE) --no-print-directory venv-package
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

.PHONY: venv-package
venv-package:
	$(call install_packages,python3-venv)

# What is installed is locked, with hashes, what builds this package too: nothing else is fetched, and nothing need work
# out what belongs together. uv fetches and unpacks packages side by side. It does not read pip's configuration, so where
# only that knows the way to the packages, pip installs them.
define install
	@echo "installing $(1)"; \
	$(PIP) --require-hashes --only-binary uv -r <(sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock) && \
	$(PY) -m uv pip install --quiet --no-cache --system-certs --python $(PY) --no-deps --require-hashes $(2) -r $(1) || \
	{ echo "pip tries it:"; $(PIP) --no-deps --require-hashes -r $(1); }
endef

$(RUN_STAMP): pyproject.toml requirements.lock | $(PY)
	$(call install,requirements.lock,--compile-bytecode)
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# Of what only tests need, what they import is compiled when they do.
$(DEV_STAMP): $(RUN_STAMP) requirements-dev.lock
	$(call install,requirements-dev.lock)
	@touch $@

.PHONY: lock
lock: $(PY) ## choose the newest versions within the bounds of pyproject.toml anew
	$(PIP) uv
	$(PY) -m uv pip compile $(LOCKING) pyproject.toml -o requirements.lock
	$(PY) -m uv pip compile $(LOCKING) --extra dev --constraint requirements.lock pyproject.toml -o requirements-dev.lock
	$(PY) -m uv pip compile $(LOCKING) --extra docs --constraint requirements.lock pyproject.toml -o requirements-docs.lock

run: $(RUN_STAMP) ## start a cluster on http://127.0.0.1:8080 (PORT=, DATA=, ARGS=) and keep it running
	@mode=""; \
	if [ ! -e "$$DATA/layout.json" ] && ! found="$$($(PY) -m wallet_engine.dev.binaries)"; then \
		mode=--embedded; echo "$$found" | sed 's/, or start with --embedded//'; \
		echo "so this is the embedded mode: bundled Valkey, partition map in a file"; \
	fi; \
	exec $(PY) -m wallet_engine dev --data-dir "$$DATA" --port $(PORT) $$mode $(ARGS)

cluster: $(RUN_STAMP) ## the same on 3 Redis shards and a real ZooKeeper, in data/cluster
	@exec $(PY) -m wallet_engine dev --data-dir "$$DATA/cluster" --port $(PORT) --shards 3 $(ARGS)

packages: $(RUN_STAMP)
	@$(PY) -m wallet_engine.dev.binaries >/dev/null || $(MAKE) --no-print-directory system-packages

.PHONY: system-packages
system-packages:
	$(call install_packages,redis-server zookeeper default-jre-headless)

# One test preloads what moves the wall clocks of processes; it is compiled when it runs.
.PHONY: promtool promtool-package
promtool:
	@command -v promtool >/dev/null || $(MAKE) --no-print-directory promtool-package

promtool-package:
	$(call install_packages,prometheus)

.PHONY: compiler compiler-package
compiler:
	@command -v cc >/dev/null || $(MAKE) --no-print-directory compiler-package

compiler-package:
	$(call install_packages,gcc libc6-dev)

lint: style ## ruff, mypy and the import contract
	$(PY) -m mypy

.PHONY: style
style: $(DEV_STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports

# Programs that tests start compile the package anew each time unless they may keep what they compiled.
test soak: export PYTHONDONTWRITEBYTECODE :=

# Five at a time on two cores: tests that kill and stop processes wait more than they compute. mypy takes half a minute
# without its cache, and has it beside them. What is collected first is compiled once, not by each of the five.
test: $(DEV_STAMP) packages compiler promtool style ## lint and every test, for two cores (ARGS= goes to pytest; -s needs -n0)
	@types=$$(mktemp); $(PY) -m mypy >"$$types" 2>&1 & typing=$$!; \
	$(PY) -m pytest --collect-only -qq $(ARGS) >/dev/null 2>&1; \
	$(PY) -m pytest -n5 --dist worksteal $(ARGS); tested=$$?; \
	wait $$typing; typed=$$?; cat "$$types"; rm -f "$$types"; exit $$((tested ? tested : typed))

soak: $(DEV_STAMP) packages compiler ## the long, seeded runs
	$(PY) -m pytest -m soak $(ARGS)

bench: $(DEV_STAMP) ## transfers per second and CPU per transfer (ARGS="--help" lists all it can do)
	$(PY) -m bench $(or $(ARGS),quick)

.PHONY: postgresql
postgresql: $(DEV_STAMP)
	@$(PY) -m bench.peers.postgresql || $(MAKE) --no-print-directory postgresql-package

.PHONY: postgresql-package
postgresql-package:
	$(call install_packages,postgresql)

report: $(DEV_STAMP) packages postgresql ## all of bench/report, peers included, in 20 minutes (ARGS=--quick: 7)
	$(PY) -m bench report $(ARGS)

# Theme and builder are in an environment of their own: nothing else needs them, and no test waits for them.
$(DOCS_STAMP): pyproject.toml requirements-docs.lock | $(PY)
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

docs: $(DOCS_STAMP) ## the documentation, in site/index.html; once installed, without the internet
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(DOCS)/bin/python -m mkdocs build --quiet --clean --strict

clean: ## remove the environment and all caches; data directories stay
	rm -rf $(VENV) $(DOCS) site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
