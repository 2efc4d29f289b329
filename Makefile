# `make demo` and `make test` are all a fresh machine with Python 3.11 or newer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format setup clean

demo: setup
	rm -rf demo
	$(BIN)/lrm demo --out demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(VENV)/.installed

# Torch first and alone: resolved together with the rest, pip may choose a newer build than need be.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch>=2.10,<2.14"
	$(BIN)/python -m pip install --quiet -e ".[dev,export,ann,service]"
	touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info
