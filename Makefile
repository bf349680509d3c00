# Everything runs in .venv; a target that needs it makes it first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NNUNET := .venv-nnunet
DATA ?=
# The test files go to two processes in their own order, so that the longest of them do not come last.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
PYTEST_NNUNET = OMP_NUM_THREADS=1 $(NNUNET)/bin/python -m pytest -q
# pip leaves the packages uncompiled; what is imported is compiled once, and not in every process that a test starts.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-long test-nnunet check check-static bench docs screenshots dist release help clean

demo: $(VENV)/.runtime  ## set up, then run the main job: on generated phantoms, or on DATA=path
	$(BIN)/segpref demo $(if $(DATA),--data "$(DATA)")

test: $(VENV)/.dev  ## set up, then pass every test but those marked long
	$(PYTEST) -m "not long"

test-long: $(VENV)/.dev  ## the tests marked long: whole studies, killed and resumed runs
	$(PYTEST) -m long

test-nnunet: $(NNUNET)/.made  ## nnU-Net in and out, in an environment of its own; none marked long
	$(PYTEST_NNUNET) -m "not long" tests/nnunet

check: check-static  ## format, lint, types, import direction, fast tests
	$(PYTEST) -q -m "not slow and not long" --hypothesis-profile quick

check-static: $(VENV)/.dev  ## the same without the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## side-by-side ratios
	$(BIN)/python -m benchmarks

docs: $(VENV)/.dev  ## the documentation site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

screenshots: $(VENV)/.dev  ## the pictures of docs/gallery.md, from phantoms; needs Chromium
	OMP_NUM_THREADS=2 $(BIN)/python -m tools.screenshots

dist: $(VENV)/.dev  ## the packages of a release in dist/, and checks of them
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

release: $(VENV)/.dev  ## every check before a release; tags and uploads nothing
	$(BIN)/python -m tools.release

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

clean:
	rm -rf $(VENV) $(NNUNET) runs build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --no-compile -c constraints.txt -e ".[dev,docs]"
	touch $@ $(VENV)/.runtime

# An environment of its own on top of .venv, whose packages it sees where it has none itself: what is the
# same is installed once. nnunetv2 asks for packages that have no build for the CPU: hence --no-deps.
$(NNUNET)/.made: pyproject.toml constraints.txt constraints-nnunet.txt | $(VENV)/.dev
	$(PYTHON) -m venv $(NNUNET)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	    > "$$($(NNUNET)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	$(NNUNET)/bin/python -m pip install -q --no-compile --no-deps -r constraints-nnunet.txt
	$(NNUNET)/bin/python -m pip install -q --no-deps -e .
	touch $@
