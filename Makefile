# Everything runs in .venv; a target that needs it makes it first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NNUNET := .venv-nnunet
DATA ?=

.PHONY: demo test test-nnunet check check-static bench clean

demo: $(VENV)/.runtime  ## set up, then run the main job: on generated phantoms, or on DATA=path
	$(BIN)/segpref demo $(if $(DATA),--data "$(DATA)")

test: $(VENV)/.dev  ## set up, then pass every test
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-nnunet: $(NNUNET)/.made  ## nnU-Net in and out, in an environment of its own
	OMP_NUM_THREADS=1 $(NNUNET)/bin/python -m pytest -q tests/nnunet tests/policies/test_bundle.py

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
	rm -rf $(VENV) $(NNUNET) runs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.runtime

# nnunetv2 asks for packages that have no build for the CPU: the list is installed as it stands.
$(NNUNET)/.made: pyproject.toml constraints.txt constraints-nnunet.txt
	$(PYTHON) -m venv $(NNUNET)
	$(NNUNET)/bin/python -m pip install -q --no-deps -r constraints-nnunet.txt
	$(NNUNET)/bin/python -m pip install -q -c constraints.txt hatchling editables
	$(NNUNET)/bin/python -m pip install -q --no-deps -e .
	touch $@
