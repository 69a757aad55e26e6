# `make` alone lists the targets. VENV=<folder> uses an environment that is there (with torch it takes
# several GB); without it, .venv is made here.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup rename quickstart test test-slow test-browser test-gpu check lint format format-check types bench bench-data bench-start bench-sampling clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: ## Install everything into VENV (only if something changed)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@cmp -s pyproject.toml $(VENV)/installed.toml && $(BIN)/python -c \
	  'import importlib.util as u, sys; sys.exit(u.find_spec("forger").origin != "$(CURDIR)/src/forger/__init__.py")' \
	  2>/dev/null || { $(BIN)/python -m pip install -e '.[dev,text,explore,export,tensorboard,mlflow,optuna,joblib,submitit]' \
	  && cp pyproject.toml $(VENV)/installed.toml; }

rename: ## Make this clone a project of your own: make rename NAME=<name>
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) scripts/rename.py "$(NAME)"
	-@test ! -x $(BIN)/python || $(BIN)/python -m pip uninstall --quiet --yes forger-gan 2>/dev/null

quickstart: setup ## Train on the embedded digits, offline, and say where the pictures are
	$(BIN)/python train.py experiment=quickstart

# Files of tests are dealt out, the longest first, to processes of one thread each: make test WORKERS=8
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup ## Run the tests (minutes; no network, no GPU)
	$(PYTEST)

test-slow: setup ## Run the slow tests too
	$(PYTEST) -m 'not browser and not gpu'

test-browser: setup ## Run the tests that drive a browser (needs chromium)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser tests/browser

# One process: a GPU is one. DEVICE=cpu runs the same tests on the CPU, which tells whether they work.
DEVICE ?= cuda
test-gpu: setup ## Run the tests that are for a GPU (docs/gpu.md)
	@if [ "$(DEVICE)" = cpu ] || $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; \
	then FORGER_TEST_DEVICE=$(DEVICE) $(BIN)/python -m pytest -m gpu tests/gpu; \
	else echo 'test-gpu: torch finds no GPU here, so that no test was run; DEVICE=cpu runs them on the CPU'; fi

check: lint format-check types test ## All that a change must pass

lint: setup ## Look for mistakes (ruff)
	$(BIN)/ruff check .

format: setup ## Format the code (ruff)
	$(BIN)/ruff format .

format-check: setup ## Check the format
	$(BIN)/ruff format --check .

types: setup ## Check the types (mypy, strict)
	$(BIN)/mypy

bench: setup ## Time training beside a loop by hand and a tutorial (three quarters of an hour)
	$(BIN)/python benchmarks/throughput.py --output logs/throughput

bench-data: setup ## Time a folder of very many images (a quarter of an hour, 6 GB)
	$(BIN)/python benchmarks/large_folder.py --output logs/large_folder

bench-start: setup ## Time the start of each command beside its imports
	$(BIN)/python benchmarks/start_up.py --output logs/start_up

bench-sampling: setup ## Time sampling beside the bare generator
	$(BIN)/python benchmarks/sampling.py --output logs/sampling

clean: ## Remove caches; keeps .venv, data and logs
	rm -rf build .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
