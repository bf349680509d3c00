# Everything runs in .venv; a target that needs it makes it first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=

.PHONY: demo test check check-static bench clean

demo: $(VENV)/.runtime  ## set up, then run the main job: on generated phantoms, or on DATA=path
	$(BIN)/segpref demo $(if $(DATA),--data "$(DATA)")

test: $(VENV)/.dev  ## set up, then pass every test
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: check-static  ## format, lint, types, import direction, fast tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

check-static: $(VENV)/.dev  ## the same without the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## side-by-side ratios
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) runs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.runtime
