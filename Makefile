# Everything runs in .venv, which is made when missing. A target that has nothing to do does nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without pinned versions pip may fetch a build of torch several times as large.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install demo test lint docs bench bench-quick clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed  ## .venv/bin/mchmr and nothing for developers

demo: $(VENV)/.installed  ## fetch a short clip with two people and run on it; results in demo/
	$(BIN)/mchmr demo

test: $(VENV)/.installed-dev  ## all tests; make test ARGS="-m 'not slow'" runs the quick ones
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-dev  ## style, types, and that imports run one way
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev  ## docs/api.md from the docstrings of the public names
	$(BIN)/python tools/api_page.py

bench: $(VENV)/.installed-dev  ## every question in benchmarks/ (15 minutes); make bench VALIDATION=dir HEAVY=file.task for accuracy too
	$(BIN)/python benchmarks/all.py $(if $(VALIDATION),--validation $(VALIDATION)) $(if $(HEAVY),--heavy $(HEAVY)) $(ARGS)

bench-quick: $(VENV)/.installed-dev  ## has a ratio fallen since the last results? (3 minutes)
	$(BIN)/python benchmarks/quick.py $(ARGS)

clean:  ## remove results of the demo, builds and caches; .venv stays
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find mchmr_stream examples tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@# A Triton server for the tests. It asks for numpy 1, which only its Python part needs, and that part is never run here.
	$(BIN)/python -m pip install --quiet --no-deps nvidia-pytriton || echo "no Triton server for this system: its tests will skip"
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer, or say where it is: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed; say where it is: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
