# Everything a checkout needs. `make help` lists the targets.
PY ?= python3
VENV ?= .venv
EXTRAS ?= dev
PEER ?=
# The Chromium of make test-browser; where none is installed, playwright fetches its own
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
CONFIG ?= configs/dqn_cartpole.yaml
# On a Linux machine without an NVIDIA card: make setup TORCH_INDEX=<the PyTorch CPU wheel index>
TORCH_INDEX ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.ok

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow test-browser check bench format lint types docs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install rltrain and its tools into .venv

$(STAMP): pyproject.toml constraints.txt
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

train: $(STAMP) ## train DQN on CartPole (CONFIG=... for another)
	$(BIN)/rltrain train $(CONFIG)

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n 2 -m "not slow and not browser"

test-slow: $(STAMP) ## run the learning and endurance tests, those on Ray too
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[distributed]'
	$(BIN)/python -m pytest -m slow --timeout 3600 --ignore tests/test_ray.py
	$(BIN)/python -m pytest -m slow --timeout 3600 tests/test_ray.py  # by itself: a process reads Ray's token once

test-browser: $(STAMP) ## open a report in Chromium (CHROMIUM=... for one that is there)
	$(BIN)/python -m pip install --quiet 'playwright>=1.50,<2'
	$(if $(CHROMIUM),,$(BIN)/python -m playwright install chromium)
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest -m browser tests/browser

check: lint types ## format check, lint and types

lint: $(STAMP) ## lint, and check the format
	$(BIN)/ruff check rltrain tests benchmarks
	$(BIN)/ruff format --check rltrain tests benchmarks

types: $(STAMP) ## check the types
	$(BIN)/mypy

format: $(STAMP) ## format the code
	$(BIN)/ruff check --fix rltrain tests benchmarks
	$(BIN)/ruff format rltrain tests benchmarks

bench: $(STAMP) ## measure speed and learning, see benchmarks/README.md
	$(BIN)/python benchmarks/speed.py $(if $(PEER),--peer $(PEER))

docs: $(STAMP) ## build the documentation into docs/_build
	$(BIN)/python -m pip install --quiet -c constraints.txt sphinx furo myst-parser
	$(BIN)/python -m sphinx -q -b html docs docs/_build

clean: ## remove what was built; runs/ stays
	rm -rf $(VENV) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache
