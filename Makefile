# Everything a person does with this repository; `make` alone lists it.
# Needs Python 3.11 or newer, pip, make and, for the tests, apt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip --disable-pip-version-check --no-input

.PHONY: list demo test check bench docs clean

list:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/demo.stamp  ## watch a good change go out and a bad one come back by itself
	@$(BIN)/inprod demo $(ARGS)

test: $(VENV)/dev.stamp $(VENV)/packages.stamp  ## run every test; ARGS="tests/guards -k ramp" narrows
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/dev.stamp  ## format, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright

bench: $(VENV)/dev.stamp  ## measure; not part of the tests
	@for script in tests/bench/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(VENV)/dev.stamp  ## write docs/reference from the code's own tables
	@$(BIN)/python docs/generate.py

clean:  ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) .ruff_cache .hypothesis .pytest_cache build dist

# A stamp is newer than what it was made from, or it is made again.
$(BIN)/python:
	@sh .ci/packages python $(PYTHON)
	@$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing inprod into $(VENV) (about 1 GB, most of it the event store) ..."
	@$(PIP) install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing inprod and its tools into $(VENV) ..."
	@$(PIP) install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/packages.stamp: .ci/packages | $(BIN)/python
	@sh .ci/packages test
	@touch $@
