# Bursar. `make demo` and `make test` set everything up from Python >= 3.11, git and make alone.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
export UV_NO_PROGRESS := 1
export UV_PYTHON_DOWNLOADS := never
# Else each of the hundreds of processes that the tests start compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo drill quick test check docs diagrams install bench money mutants simulate upstream real-model lock clean

help:  ## Show what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: .venv/.ready  ## Make .venv with everything that is locked

.venv/.ready: requirements.lock pyproject.toml .uv/bin/uv
	@echo "Setting up .venv (about a minute on a new machine)"
	@test -x $(BIN)/python || .uv/bin/uv venv --quiet --python $(PYTHON) .venv
	@.uv/bin/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@.uv/bin/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit("Bursar needs Python 3.11 or newer; this is " + sys.version.split()[0] + "; try make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

demo: setup  ## Ask Genie three questions about the sample household: no key, no server, no network
	@$(BIN)/bursar demo

drill: setup  ## Make each of Genie's agents fail in every way (a minute)
	@$(BIN)/bursar drill --deadline 2 $(ARGS)

quick: setup  ## Run the tests that need no server and no process (a minute); says what it left out
	@$(BIN)/python -m pytest -q -m quick -n 2 --dist loadgroup $(ARGS)

test: setup  ## Run the tests
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup $(ARGS)

check: setup  ## Lint, types, layers, notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/python -m pytest -q -p no:xdist --nbmake --nbmake-timeout=120 notebooks

docs: setup  ## Build the pages in docs/ as a site in build/site, without a warning
	@$(BIN)/python -m mkdocs build --quiet --strict
	@echo "Read build/site/index.html"

diagrams: setup  ## Draw the pages' diagrams anew (needs Node.js, Chromium and the package index)
	@PUPPETEER_SKIP_DOWNLOAD=1 $(BIN)/python docs/diagrams/diagrams.py

install: setup  ## Try the wheel in empty environments, as a new user would (a minute, needs the package index)
	@$(BIN)/python tests/install/run.py

bench: setup  ## Measure against peers, as ratios from interleaved rounds
	@$(BIN)/python -m benchmarks $(ARGS)

money: setup  ## Compare dollars over the limit and work lost with four peers (five minutes, needs the package index)
	@$(BIN)/python -m benchmarks.money $(ARGS)

mutants: setup  ## Plant faults in gateway and ledger; the tests must catch each
	@$(BIN)/python tests/mutation/mutants.py

simulate: setup  ## Play the money rules in a million interleavings from seeds (ten minutes)
	@$(BIN)/python tests/simulation/run.py $(ARGS)

upstream: setup  ## Run LangGraph's own tests with our checkpointer and with its own (ten minutes, needs the package index)
	@$(BIN)/python tests/upstream/run.py

real-model: setup  ## Ask Genie with a real, small model on loopback (compiles its server first, needs the package index)
	@$(BIN)/python tests/real_model/run.py

lock: .uv/bin/uv  ## Resolve requirements.lock anew from pyproject.toml
	.uv/bin/uv pip compile --quiet pyproject.toml --group dev --all-extras --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements.lock

clean:  ## Remove what was made
	rm -rf .venv .uv build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .langgraph_api
